"""Films of an untrained agent, read back by a decoder."""

from __future__ import annotations

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from safetransfer import cli, settings_io
from safetransfer.errors import CheckpointError, SafeTransferError, SettingError
from safetransfer.report.film import film
from safetransfer.training import checkpoint
from safetransfer.training.build import choose_device, make_agent, make_env, shapes_of
from safetransfer.training.settings import preset

STEPS = 24


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    settings = settings_io.updated(
        preset("smoke"), {"env": {"max_steps": STEPS, "action_repeat": 2, "robot": "Point"}}
    )
    env = make_env(settings.env, 1)
    shapes = shapes_of(env)
    env.close()
    path = tmp_path_factory.mktemp("agent") / checkpoint.FILE_NAME
    checkpoint.save(
        path,
        {
            "settings": settings_io.to_dict(settings),
            "shapes": {
                "camera": list(shapes.camera),
                "proprio": shapes.proprio,
                "actions": shapes.actions,
            },
            "agent": make_agent(settings, shapes, choose_device("cpu")).state_dict(),
        },
    )
    return path


def _frames(path) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]


@pytest.mark.parametrize(("view", "width"), [("both", 672), ("behind", 480), ("first", 720)])
def test_a_film_shows_the_episode_from_start_to_end(agent, tmp_path, view, width):
    path = film(agent, "PointPoles", tmp_path / "film.mp4", view=view, speed=1.0)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    frames = _frames(path)
    # 24 control steps are 12 decisions of 0.04 s: the start, 11 on the way, the end held 0.8 s.
    assert len(frames) == 1 + 11 + 20
    assert frames[0].shape == (400, width, 3)
    assert frames[0][:360].std() > 10  # not blank
    held = np.abs(frames[-1].astype(int) - frames[-2].astype(int))
    assert held.mean() < 2


def test_a_gif_is_a_film_too(agent, tmp_path):
    with Image.open(film(agent, "PointWalls", tmp_path / "film.gif", episodes=2)) as gif:
        assert gif.size == (403, 240) and gif.n_frames > 4
        colours = set()  # of all frames, which one palette holds
        for k in range(gif.n_frames):
            gif.seek(k)
            colours |= {
                colour for _, colour in gif.convert("RGB").getcolors(gif.width * gif.height)
            }
        assert len(colours) <= 256


def test_watch_shows_it_at_the_speed_that_was_asked_for(agent, tmp_path):
    lengths = []
    for speed in ("1", "4"):
        out = tmp_path / f"film{speed}.mp4"
        command = ["watch", str(agent), "--env", "PointPoles", "--out", str(out), "--speed", speed]
        assert cli.main([*command, "--view", "first"]) == 0
        lengths.append(len(_frames(out)))
    # The start and 11 decisions on the way, of 0.04 s in 25 frames a second; then every fourth.
    assert [n - 20 for n in lengths] == [12, 3]
    bad = ["watch", str(agent), "--env", "PointPoles", "--out", str(tmp_path / "a.mp4")]
    assert cli.main([*bad, "--speed", "0"]) == 2


def test_what_cannot_be_filmed_is_refused(agent, tmp_path):
    with pytest.raises(SafeTransferError, match="above"):
        film(agent, "PointPoles", tmp_path / "film.mp4", view="above")
    with pytest.raises(SafeTransferError, match="PointPoles"):
        film(agent, "PointPools", tmp_path / "film.mp4")
    with pytest.raises(SettingError, match=r"mp4 or a \.gif"):
        film(agent, "PointPoles", tmp_path / "film.avi")
    with pytest.raises(CheckpointError):
        film(tmp_path, "PointPoles", tmp_path / "film.mp4")
    with pytest.raises(CheckpointError, match="drives Point"):
        film(agent, "DoggoPoles", tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []
