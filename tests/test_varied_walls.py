"""Varied walls: always passable, and the same blocks for physics, camera and cost."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest

from safetransfer.envs.camera import Camera
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.obstacles import Walls
from safetransfer.envs.robots import Point
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError
from safetransfer.training.evaluate import Policy, environment_settings
from safetransfer.training.settings import preset

SHELL = 3  # boxes of the hallway itself come first in the scene


def make(num_envs=1, threads=1, **settings):
    small = {"camera_width": 6, "camera_height": 5, "wall_variety": 1.0}
    return HallwayVectorEnv(HallwaySettings(**{**small, **settings}), num_envs, threads)


def wander(env, steps, seed=0):
    """Random actions (steps, N, 2) that drive forward more often than back."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, *env.action_space.shape))
    actions[..., 0] = rng.choice([1.0] * 9 + [-1.0], actions.shape[:2])
    return actions.astype(np.float32)


def roll(env, actions):
    """Outcomes of all the steps: a dict of arrays (steps, N, ...)."""
    rows = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        kept = {k: info[k] for k in ("cost", "touched", "progress", "steps")}
        ends = {"terminated": terminated, "truncated": truncated}
        rows.append({**observation, "reward": reward, **ends, **kept})
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def assert_same(a, b, rows=slice(None)):
    for key in a:
        np.testing.assert_array_equal(a[key], b[key][:, rows], err_msg=key)


def blocks_of(env, i):
    """Centres (K, 3) and half sizes (K, 3) of the blocks that the camera is shown, float64."""
    center = env.scene.box_center[i, SHELL:].astype(float)
    half = env.scene.box_half[i, SHELL:].astype(float)
    there = (half > 0).all(axis=1)
    return center[there], half[there]


@pytest.fixture(scope="module")
def many():
    env = make(200)
    env.reset(seed=0)
    return env


def is_standard(env, i):
    """Walls have one thickness, height and spacing; blocks differ."""
    center, half = blocks_of(env, i)
    return len(center) == 8 and np.ptp(half[:, 0]) < 1e-6 and np.ptp(half[:, 2]) < 1e-6


# --- places --------------------------------------------------------------------------------------


def test_without_variety_it_is_walls():
    env = make(wall_variety=0.0)
    assert type(env.course) is Walls
    assert env.settings == HallwaySettings(camera_width=6, camera_height=5)
    env.reset(seed=7)
    # What seed 7 gave before there was any variety.
    first = [[2.4759742924430124, 1.2681436700461577], [5.371982610904197, -0.9451893295420619]]
    assert env.course.places[0, :2].tolist() == first


def test_a_robot_with_room_to_spare_finds_a_way_through(many):
    radius, cell = 0.22, 0.03  # the gaps leave 0.25 m; a slanting way needs a diagonal
    xs = np.arange(0.0, 25.0, cell)
    ys = np.arange(-2 + radius, 2 - radius + 1e-9, cell)
    for i in range(200):
        taken = np.zeros((len(xs), len(ys)), bool)
        for center, half in zip(*blocks_of(many, i), strict=True):
            dx = np.maximum(np.abs(xs - center[0]) - half[0], 0)
            dy = np.maximum(np.abs(ys - center[1]) - half[1], 0)
            taken |= dx[:, None] ** 2 + dy**2 < radius**2
        assert flood_reaches_the_end(~taken), i


def flood_reaches_the_end(free):
    """Whether a way of neighbouring free cells leads from the first column to the last."""
    start = [(0, j) for j in np.flatnonzero(free[0]).tolist()]
    seen = set(start)
    cells = free.tolist()
    while start:
        x, y = start.pop()
        if x == len(cells) - 1:
            return True
        # Forward last, so that it is tried first.
        for step in ((x - 1, y), (x, y - 1), (x, y + 1), (x + 1, y)):
            inside = 0 <= step[0] < len(cells) and 0 <= step[1] < len(cells[0])
            if inside and step not in seen and cells[step[0]][step[1]]:
                seen.add(step)
                start.append(step)
    return False


def test_blocks_keep_apart_and_keep_the_start_clear(many):
    for i in range(200):
        center, half = blocks_of(many, i)
        between = np.abs(center[:, None] - center)[..., :2] - (half[:, None] + half)[..., :2]
        distance = np.linalg.norm(np.maximum(between, 0), axis=-1)
        assert distance[np.triu_indices(len(center), 1)].min() >= 0.5 - 1e-5
        to_side = 2 - np.abs(center[:, 1]) - half[:, 1]
        assert ((np.abs(to_side) < 1e-5) | (to_side >= 0.5 - 1e-5)).all()
        assert (center[:, 0] - half[:, 0]).min() >= 1.5 - 1e-5
        assert (center[:, 0] + half[:, 0]).max() <= 24 + 1e-5


def test_blocks_are_of_many_kinds(many):
    counts = [len(blocks_of(many, i)[0]) for i in range(200)]
    assert min(counts) < 13 and max(counts) > 28
    blocks = [blocks_of(many, i) for i in range(200)]
    center, half = (np.concatenate(part) for part in zip(*blocks, strict=True))
    width, thickness, height = 2 * half[:, 1], 2 * half[:, 0], 2 * half[:, 2]
    for values, low, high in ((width, 0.15, 2.0), (thickness, 0.1, 0.6), (height, 0.3, 1.2)):
        assert low - 1e-6 <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high + 1e-6
    attached = np.abs(center[:, 1]) + half[:, 1] > 2 - 1e-5
    assert 0.1 < attached.mean() < 0.6
    free_and_thin = ~attached & (width <= 0.4)
    assert free_and_thin.mean() > 0.3
    np.testing.assert_allclose(center[:, 2], half[:, 2])  # they stand on the floor
    assert many.scene.cylinder_radius.size == 0 and many.scene.capsule_radius.size == 0


def test_the_share_of_varied_episodes_is_as_asked():
    env = make(300, wall_variety=0.3)
    env.reset(seed=0)
    standard = np.array([is_standard(env, i) for i in range(300)])
    assert 0.22 < 1 - standard.mean() < 0.38
    for i in np.flatnonzero(standard)[:20]:
        center, half = blocks_of(env, i)
        cover = half[:, 1] / 2
        assert cover.min() >= 0.5 - 1e-6 and cover.max() <= 0.65 + 1e-6
        np.testing.assert_allclose(np.abs(center[:, 1]) + half[:, 1], 2, atol=1e-6)
        assert (np.sign(center[1:, 1]) == -np.sign(center[:-1, 1])).all()


def test_starts_anywhere_are_clear():
    env = make(200, start_anywhere=1.0)
    env.reset(seed=0)
    for i, (x, y) in enumerate(env.batch.bind("qpos")[:, :2]):
        center, half = blocks_of(env, i)
        beside = np.maximum(np.abs(center[:, :2] - (x, y)) - half[:, :2], 0)
        assert np.linalg.norm(beside, axis=1).min() > Point.reach
    assert not roll(env, np.zeros((1, 200, 2)))["cost"].any()


@pytest.mark.parametrize(
    "size", [{"length": 8.0, "walls": 2}, {"width": 1.6, "start_y": 0.5}, {"walls": 0}]
)
def test_other_hallways_are_varied_too(size):
    env = make(20, **size)
    env.reset(seed=0)
    assert all(len(blocks_of(env, i)[0]) > 0 for i in range(20))
    for i in range(20):
        center, half = blocks_of(env, i)
        assert (np.abs(center[:, 1]) + half[:, 1]).max() <= env.settings.width / 2 + 1e-5


def test_agents_are_evaluated_among_walls_as_they_are():
    settings = preset("smoke")
    settings.env = dataclasses.replace(settings.env, wall_variety=0.5, start_anywhere=0.5)
    where = environment_settings(Policy(None, settings), "PointWalls")
    assert where.wall_variety == 0 and where.start_anywhere == 0


def test_bad_settings_say_what_is_right():
    with pytest.raises(SettingError, match="wall_variety must be between 0 and 1"):
        make(wall_variety=1.5)
    with pytest.raises(SettingError, match="no room for blocks"):
        make(width=0.8, start_y=0.1)


# --- physics and camera --------------------------------------------------------------------------


def whole_model(env, i):
    """Hallway i's model with every block in it as a fixed geom, and which geom is which block."""
    center, half = blocks_of(env, i)
    spec = mujoco.MjSpec()
    spec.option.timestep = env.robot.timestep
    half_width = env.settings.width / 2
    for y in (-half_width - 0.1, half_width + 0.1):
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=[12, y, 0.5], size=[14, 0.1, 0.5], contype=0
        )
    for k in range(len(center)):
        spec.worldbody.add_geom(
            name=f"block{k}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=center[k], size=half[k], contype=0
        )
    env.robot.add_to(spec)
    return spec.compile()


def test_cost_and_motion_are_those_of_a_model_with_all_blocks():
    env = make(6, start_anywhere=1.0)
    env.reset(seed=3)
    worlds = []
    for i in range(6):
        model = whole_model(env, i)
        worlds.append((model, mujoco.MjData(model)))
    touches = 0
    for action in wander(env, 200):
        for i, (_, data) in enumerate(worlds):  # bumps are chaotic: compare from equal states
            for name in ("qpos", "qvel", "qacc_warmstart"):
                getattr(data, name)[:] = env.batch.bind(name)[i]
        _, _, terminated, truncated, info = env.step(action)
        assert not (terminated | truncated).any()
        for i, (model, data) in enumerate(worlds):
            data.ctrl[:] = action[i]
            for _ in range(env.robot.substeps):
                mujoco.mj_step(model, data)
            names = {model.geom(g).name for contact in data.contact for g in contact.geom}
            blocks = {name for name in names if name.startswith("block")}
            assert info["touched"][i] == len(blocks) and info["cost"][i] == bool(blocks)
            touches += len(blocks)
            np.testing.assert_allclose(env.batch.bind("qpos")[i], data.qpos, atol=1e-9)
    assert touches > 20


def test_a_few_slots_do_as_well_as_one_for_each_block(monkeypatch):
    settings = {"start_anywhere": 1.0, "wall_variety": 0.7, "length": 8.0, "walls": 2}
    near = make(6, **settings)
    monkeypatch.setattr(Point, "max_speed", 1e4)
    everything = make(6, **settings)
    near.reset(seed=2)
    everything.reset(seed=2)
    assert (everything.course.owner >= 0).sum() > (near.course.owner >= 0).sum() + 20
    actions = wander(near, 150)
    one, other = roll(near, actions), roll(everything, actions)
    assert one["cost"].sum() > 0
    for key in ("cost", "touched", "terminated", "truncated"):
        np.testing.assert_array_equal(one[key], other[key])
    np.testing.assert_allclose(one["progress"], other["progress"], atol=1e-6)


def test_the_camera_sees_each_block_where_it_stands(many):
    camera = Camera(3, 3, 1.0, 12.0)
    ahead = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]], np.float32)[None]
    for i in range(0, 200, 10):
        center, half = blocks_of(many, i)
        for c, h in zip(center, half, strict=True):
            eye = np.array([[c[0] - h[0] - 0.2, c[1], c[2]]], np.float32)
            seen = camera.depth(many.scene.select(i), eye, ahead)[0, 1, 1]
            assert seen == pytest.approx(0.2, abs=1e-4)
            eye[0, 2] = 2 * h[2] + 0.05  # just above it
            assert camera.depth(many.scene.select(i), eye, ahead)[0, 1, 1] > 0.3


# --- random streams and exact resume -------------------------------------------------------------


def test_a_seed_gives_one_stream_at_any_number_of_threads_and_hallways():
    settings = {"max_steps": 25, "start_anywhere": 0.5, "wall_variety": 0.6}
    one, other = make(3, **settings), make(5, threads=2, **settings)
    actions = wander(other, 60)
    one.reset(seed=11)
    other.reset(seed=11)
    out = roll(one, actions[:, :3])
    assert_same(out, roll(other, actions), slice(3))
    one.reset(seed=12)
    assert not np.array_equal(out["camera"], roll(one, actions[:, :3])["camera"])


def test_a_restored_state_goes_on_exactly():
    settings = {"max_steps": 40, "start_anywhere": 0.5, "wall_variety": 0.6}
    env, fresh = make(3, **settings), make(3, **settings)
    env.reset(seed=0)
    actions = wander(env, 90)
    roll(env, actions[:30])
    state, before = env.get_state(), env.observe()
    out = roll(env, actions[30:])
    fresh.set_state(state)
    for key, value in fresh.observe().items():
        np.testing.assert_array_equal(value, before[key])
    assert_same(out, roll(fresh, actions[30:]))
