"""The viewer without a screen: what it would be given to draw, and what is said where it cannot."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from safetransfer import settings_io
from safetransfer.cli import main
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError
from safetransfer.report import viewer
from safetransfer.training import checkpoint
from safetransfer.training.build import choose_device, make_agent, make_env, shapes_of
from safetransfer.training.settings import preset


@pytest.mark.parametrize(
    ("obstacles", "kind", "count"),
    [
        ("Walls", mujoco.mjtGeom.mjGEOM_BOX, 8),
        ("Poles", mujoco.mjtGeom.mjGEOM_CYLINDER, 30),
        ("Humanoids", mujoco.mjtGeom.mjGEOM_CAPSULE, 3 * 20),
    ],
)
def test_the_whole_course_is_shown_where_it_stands(obstacles, kind, count):
    env = HallwayVectorEnv(HallwaySettings(obstacles=obstacles, people=3))
    env.reset(seed=4)
    env.step(np.ones((1, 2), np.float32))
    data, scene = mujoco.MjData(env.model), mujoco.MjvScene(env.model, maxgeom=500)
    for _ in range(2):  # shown again it is not shown twice
        viewer.show(env, data, scene)
    assert [g.type for g in scene.geoms[: scene.ngeom]] == [kind] * count
    middles = np.array([g.pos for g in scene.geoms[:count]])
    if obstacles == "Poles":
        assert middles[:, :2] == pytest.approx(env.course.places[0], abs=1e-5)
        assert middles[:, 2] == pytest.approx(np.full(30, 0.5))
    if obstacles == "Humanoids":
        crowd = env.course.crowd
        # MuJoCo draws a connector from its middle.
        between = (crowd.capsule_a[0] + crowd.capsule_b[0]) / 2
        assert middles == pytest.approx(between, abs=1e-5)
    assert data.body("robot").xpos[0] == pytest.approx(env.robot.position(env._qpos)[0, 0])
    assert (data.mocap_pos[:, 2] < -5).all()  # the bodies near the robot are not drawn as well
    env.close()


def test_a_scene_that_is_full_drops_the_rest():
    env = HallwayVectorEnv(HallwaySettings(obstacles="Poles"))
    env.reset(seed=0)
    scene = mujoco.MjvScene(env.model, maxgeom=10)
    viewer.show(env, mujoco.MjData(env.model), scene)
    assert scene.ngeom == scene.maxgeom
    env.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    settings = settings_io.updated(preset("smoke"), {"env": {"max_steps": 8}})
    env = make_env(settings.env, 1)
    shapes = shapes_of(env)
    env.close()
    path = tmp_path_factory.mktemp("agent") / checkpoint.FILE_NAME
    stored = {"camera": list(shapes.camera), "proprio": shapes.proprio, "actions": shapes.actions}
    state = make_agent(settings, shapes, choose_device("cpu")).state_dict()
    checkpoint.save(
        path, {"settings": settings_io.to_dict(settings), "shapes": stored, "agent": state}
    )
    return path


class _Window:
    """Takes what a viewer's handle takes, and is closed after `patience` pictures."""

    def __init__(self, model, data, patience=1000):
        self.data, self.places = data, []
        self.cam, self.user_scn = SimpleNamespace(), mujoco.MjvScene(model, maxgeom=200)
        self.texts, self.patience = [], patience

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def is_running(self):
        return len(self.texts) < self.patience

    def lock(self):
        return contextlib.nullcontext()

    def set_texts(self, texts):
        self.texts.append(texts)
        self.places.append(self.data.body("robot").xpos[0])

    def sync(self):
        pass


@pytest.mark.parametrize(("patience", "pictures"), [(1000, 3), (2, 2)])
def test_an_episode_is_shown_with_its_figures_until_the_window_closes(
    agent, monkeypatch, patience, pictures
):
    windows = []

    def launch(model, data):
        windows.append(_Window(model, data, patience))
        return windows[0]

    monkeypatch.setattr(viewer, "_launcher", lambda: launch)
    monkeypatch.setattr(viewer.time, "sleep", lambda seconds: None)
    viewer.watch_live(agent, "PointPoles")
    (window,) = windows
    assert window.closed and len(window.texts) == pictures
    _, _, names, values = window.texts[-1]
    assert names.split()[:3] == ["step", "return", "cost"]
    assert values.split()[0] == str(4 * (pictures - 1))  # an action is held for 4 steps
    way = window.places[-1] - window.places[0]
    assert float(values.split()[1]) == pytest.approx(1000 * way / 24, abs=0.51)
    assert abs(way) > 0.03 or pictures == 2
    assert window.cam.trackbodyid > 0


def test_without_a_screen_it_says_what_to_do(agent, monkeypatch, capsys):
    monkeypatch.setattr(viewer.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SettingError, match=r"screen.*--out film\.mp4"):
        viewer.watch_live(agent, "PointPoles")
    assert main(["watch", str(agent), "--env", "PointPoles", "--viewer"]) == 2
    assert "screen" in capsys.readouterr().err


def test_the_viewer_refuses_what_is_for_films_and_acts_as_asked(agent, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(viewer, "watch_live", lambda *a, **options: given.update(options))
    command = ["watch", str(agent), "--env", "PointPoles", "--viewer"]
    assert main([*command, "--act-by", "0.5"]) == 0
    assert given["noise"] == 0.5
    assert main([*command, "--act-by", "nonsense"]) == 2
    for option in (["--view", "first"], ["--speed", "2"]):
        assert main([*command, *option]) == 2
        assert f"{option[0]} is for films" in capsys.readouterr().err


def test_film_or_viewer_but_not_both_or_neither(agent, capsys):
    both = ["--out", "film.mp4", "--viewer"]
    for options in ([], both):
        assert main(["watch", str(agent), "--env", "PointPoles", *options]) == 2
        assert "one of the two" in capsys.readouterr().err
