"""What every robot has to hold to, the example of docs/own-robot.md included."""

from __future__ import annotations

import math
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest

from safetransfer.envs import robots
from safetransfer.envs.contacts import ROBOT
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.registration import env_names, parse_env_name
from safetransfer.envs.robots import robot_names
from safetransfer.envs.robots.base import Robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import UnknownNameError
from safetransfer.training.build import make_agent, shapes_of
from safetransfer.training.settings import PRESETS, preset

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "own-robot.md"
TINY = {"camera_width": 6, "camera_height": 5}


@pytest.fixture(params=[*robot_names(), "Puck"])
def robot(request, monkeypatch) -> Robot:
    """Each robot; Puck is the guide's, made from its text and named in ROBOTS as it says."""
    if request.param == "Puck":
        text = GUIDE.read_text(encoding="utf-8")
        module: dict = {}
        exec(compile(re.findall(r"```python\n(.*?)```", text, re.S)[0], str(GUIDE), "exec"), module)
        assert '"Puck": Puck,' in text
        monkeypatch.setitem(robots.ROBOTS, "Puck", module["Puck"])
    return robots.make_robot(request.param)


def make(robot: Robot, num_envs: int = 1, **settings) -> HallwayVectorEnv:
    return HallwayVectorEnv(HallwaySettings(robot=robot.name, **TINY, **settings), num_envs)


def random_pose(model: mujoco.MjModel, rng: np.random.Generator) -> np.ndarray:
    """Joints anywhere in their ranges, those without one anywhere near."""
    qpos = rng.uniform(-3, 3, model.nq)
    for j in range(model.njnt):
        start = model.jnt_qposadr[j]
        if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE:
            qpos[start + 3 : start + 7] /= np.linalg.norm(qpos[start + 3 : start + 7])
        elif model.jnt_limited[j]:
            qpos[start] = rng.choice([*model.jnt_range[j], rng.uniform(*model.jnt_range[j])])
    return qpos


def farthest(model: mujoco.MjModel, data: mujoco.MjData, geom: int, origin: np.ndarray) -> float:
    """Distance from the origin to the farthest point of a sphere, capsule, cylinder or box."""
    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    axes, offset = data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom] - origin
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8)
        return np.linalg.norm(offset[:, None] + axes @ (size[:, None] * signs), axis=0).max()
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        turn = np.linspace(0, 2 * np.pi, 64)
        rim = np.stack([size[0] * np.cos(turn), size[0] * np.sin(turn), np.full(64, size[1])])
        rims = np.concatenate([rim, rim * [[1], [1], [-1]]], axis=1)
        return np.linalg.norm(offset[:, None] + axes @ rims, axis=0).max()
    half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
    ends = (offset + side * half * axes[:, 2] for side in (-1, 1))
    return max(float(np.linalg.norm(end)) for end in ends) + size[0]


def test_its_pose_is_mujocos_and_its_reach_holds_every_part(robot):
    model = make(robot, obstacles="Empty").model
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    root = model.body(ROBOT).id
    parts = np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)
    assert len(parts) > 0 and model.body_weldid[root] == root
    for _ in range(300):
        data.qpos[:] = random_pose(model, rng)
        mujoco.mj_kinematics(model, data)
        position, rotation = robot.pose(data.qpos[None])
        np.testing.assert_allclose(position[0], data.xpos[root], atol=1e-9)
        np.testing.assert_allclose(rotation[0].reshape(9), data.xmat[root], atol=1e-9)
        np.testing.assert_array_equal(robot.position(data.qpos[None]), position)
        assert data.qpos[0] == position[0, 0]
        for geom in parts:
            part = farthest(model, data, geom, data.xpos[root])
            assert part <= robot.reach + 1e-9, model.geom(geom).name


def test_it_is_set_down_where_and_facing_as_asked(robot):
    model = make(robot, obstacles="Empty").model
    for x, y, heading in ((0.0, 0.0, 0.0), (3.0, -1.0, 0.5), (20.0, 0.5, -2.0)):
        qpos = np.full(model.nq, np.nan)
        robot.place(qpos, x, y, heading)
        position, rotation = robot.pose(qpos[None])
        assert position[0, :2].tolist() == [x, y]
        ahead = math.cos(heading), math.sin(heading), 0
        np.testing.assert_allclose(rotation[0] @ (1, 0, 0), ahead, atol=1e-9)


@pytest.mark.parametrize("obstacles", ["Empty", "Walls", "Poles", "Humanoids"])
def test_it_lives_in_every_hallway(robot, obstacles):
    env = make(robot, 2, obstacles=obstacles, start_anywhere=0.5)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    assert observation["proprio"].shape == (2, robot.proprio_size)
    moved = 0.0
    for _ in range(20):
        before = env.robot.position(env.batch.bind("qpos")).copy()
        observation, *_, info = env.step(env.action_space.sample())
        assert observation in env.observation_space and not info["unstable"].any()
        now = env.robot.position(env.batch.bind("qpos"))
        speed = np.linalg.norm(now - before, axis=1).max() / robot.control_dt
        assert speed <= robot.max_speed
        moved += speed
    assert moved > 0
    out = np.full((2, robot.proprio_size), np.nan, np.float32)
    robot.proprio(env.batch.bind("sensordata"), env.batch.bind("qpos"), out)
    np.testing.assert_array_equal(out, observation["proprio"])  # all of it is written


def test_slices_are_whole_substeps_and_short(robot):
    assert robot.substeps % robot.slices == 0
    slice_seconds = robot.control_dt / robot.slices
    assert slice_seconds <= 0.02 + 1e-9 or robot.slices == robot.substeps


@pytest.mark.parametrize(
    ("timestep", "substeps", "slices"),
    [(0.002, 10, 1), (0.01, 10, 5), (0.01, 7, 7), (0.05, 2, 2), (0.002, 15, 3), (0.001, 20, 1)],
)
def test_a_control_step_has_as_few_slices_as_are_short_enough(
    monkeypatch, timestep, substeps, slices
):
    monkeypatch.setattr(robots.Point, "timestep", timestep)
    monkeypatch.setattr(robots.Point, "substeps", substeps)
    assert robots.Point().slices == slices


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_make_an_agent_for_it(robot, name):
    settings = preset(name, robot.name)
    assert settings.env.robot == robot.name
    env = HallwayVectorEnv(settings.env)
    assert make_agent(settings, shapes_of(env), "cpu").networks.shapes.actions == robot.action_size


def test_a_preset_that_only_a_robot_knows_is_refused(monkeypatch):
    monkeypatch.setattr(robots.Point, "presets", {"labtop": {}})
    with pytest.raises(UnknownNameError, match="labtop"):
        preset("laptop", "Point")


def test_naming_it_in_robots_is_all_it_takes(robot):
    names = [f"{robot.name}{obstacles}" for obstacles in ("Walls", "Poles", "Humanoids")]
    assert set(names) <= set(env_names())
    assert [parse_env_name(name)[0] for name in names] == [robot.name] * 3
