"""Doggo against the figures of Safety Gym, closed forms, and MuJoCo's own contacts and cameras."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from safetransfer.envs.camera import decode_depth
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.robots import Doggo
from safetransfer.envs.settings import HallwaySettings

TINY = {"camera_width": 6, "camera_height": 5}
DRIVEN = [
    f"{part}_{leg}{axis}"
    for part, axis in (("hip", "_z"), ("hip", "_y"), ("ankle", ""))
    for leg in "1234"
]


def make(num_envs=1, **settings):
    return HallwayVectorEnv(HallwaySettings(robot="Doggo", **{**TINY, **settings}), num_envs)


def flail(env, steps, seed=0):
    """Random actions at full strength (steps, N, 12), each held for some steps."""
    rng = np.random.default_rng(seed)
    actions = rng.choice([-1.0, 1.0], (steps, *env.action_space.shape))
    for t in range(1, steps):
        held = rng.random(env.num_envs) < 0.6
        actions[t, held] = actions[t - 1, held]
    return actions


# --- figures -------------------------------------------------------------------------------------


def test_it_weighs_what_its_shapes_and_densities_give():
    radius, torso_radius = 0.032, 0.075
    torsos = 2 * 0.5 * math.pi * torso_radius**2 * 0.2
    lengths = math.hypot(0.1, 0.1), math.hypot(0.098, 0.0566, 0.05), math.hypot(0.1176, 0.0679, 0.1)
    leg = sum(5.0 * math.pi * radius**2 * (length + 4 / 3 * radius) for length in lengths)
    assert mujoco.mj_getTotalmass(make(obstacles="Empty").model) == pytest.approx(
        torsos + 4 * leg, rel=1e-9
    )


def test_joints_and_motors_have_the_figures_of_the_design():
    model = make(obstacles="Empty").model
    assert (model.opt.timestep, Doggo.substeps, Doggo().control_dt) == (0.01, 10, 0.1)
    assert model.body("robot").pos.tolist() == [0, 0, 0.22]
    assert model.njnt == 14 and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    for leg in "1234":
        front, side = leg in "14", 1.0 if leg in "12" else -1.0
        for name, degrees, spring, axis in (
            (f"hip_{leg}_z", (-10, 30), 0, (0, 0, side)),
            (f"hip_{leg}_y", (-75, 15) if front else (0, 135), -10 if front else 0, (0, 1, 0)),
            (f"ankle_{leg}", (-75, 0), -20, (-0.5 * side, 0.866, 0)),
        ):
            joint = model.joint(name)
            np.testing.assert_allclose(np.degrees(joint.range), degrees, atol=1e-9)
            assert np.degrees(model.qpos_spring[joint.qposadr[0]]) == pytest.approx(spring)
            np.testing.assert_allclose(joint.axis, axis, atol=1e-4)
    waist = model.joint("waist")
    np.testing.assert_allclose(np.degrees(waist.range), (-30, 30))
    assert waist.axis.tolist() == [1, 0, 0]
    assert model.jnt_limited[1:].all() and (model.jnt_stiffness[1:, ...] == 0.01).all()
    assert not model.dof_damping.any() and not model.dof_armature.any()

    assert [model.actuator(i).name for i in range(model.nu)] == DRIVEN
    driven = [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)]
    assert driven == DRIVEN
    assert (model.actuator_gear == [[0.0125, 0, 0, 0, 0, 0]] * 12).all()
    assert (model.actuator_ctrlrange == [[-1, 1]] * 12).all() and model.actuator_ctrllimited.all()
    assert not model.actuator_biasprm.any()  # torque alone, no servo


def test_its_shapes_are_where_safety_gym_has_them():
    model = make(obstacles="Empty").model
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)

    def ends(name):
        geom = model.geom(name)
        axis = data.geom(name).xmat.reshape(3, 3)[:, 2] * geom.size[1]
        center = data.geom(name).xpos - (0, 0, 0.22)
        return center - axis, center + axis

    for name, end in (("front", 0.2), ("rear", -0.2)):
        assert model.geom(name).type == mujoco.mjtGeom.mjGEOM_CYLINDER
        assert model.geom(name).size[0] == 0.075
        np.testing.assert_allclose(sorted(np.array(ends(name))[:, 0]), sorted((0, end)), atol=1e-9)
    for leg, x, side in ((1, 0.2, 1), (2, -0.2, 1), (3, -0.2, -1), (4, 0.2, -1)):
        hip = np.array([x, 0.1 * side, 0])
        knee = hip + np.array([0.098, 0.0566 * side, -0.05])
        foot = knee + np.array([-0.1176, -0.0679 * side, -0.1])
        for name, start, end in (
            ("shoulder", (x / 2, 0, 0), hip), ("upper", hip, knee), ("lower", knee, foot),
        ):  # fmt: skip
            geom = model.geom(f"{name}_{leg}")
            assert geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE and geom.size[0] == 0.032
            one, other = ends(geom.name)  # in either order
            if np.linalg.norm(one - start) > np.linalg.norm(other - start):
                one, other = other, one
            np.testing.assert_allclose((one, other), (start, end), atol=1e-9, err_msg=geom.name)
    parts = [g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] == 1]
    assert len(parts) == 14 and (model.geom_condim[parts] == 6).all()


def test_it_comes_to_rest_on_its_legs():
    env = make(4, obstacles="Empty")
    env.reset(seed=0)
    for _ in range(30):
        env.step(np.zeros((4, 12)))
    position, rotation = env.robot.pose(env.batch.bind("qpos"))
    np.testing.assert_allclose(position[:, 2], 0.165, atol=0.001)
    assert (rotation[:, 2, 2] > 0.99).all()  # upright
    assert np.abs(env.batch.bind("qvel")).max() < 0.05


def test_it_survives_a_thousand_random_steps():
    env = make(4, obstacles="Empty")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for t in range(1000):
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, (4, 12)))
        assert np.abs(observation["proprio"]).max() < 500 and np.isfinite(reward).all()
        assert not info["unstable"].any() and not terminated.any()
        assert truncated.all() == (t == 999)
    height = env.batch.bind("qpos")[:, 2]
    assert (height > 0.05).all() and (height < 0.3).all()


# --- proprioception ------------------------------------------------------------------------------


def rotation_of(quaternion):
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def test_what_it_feels_is_what_it_does():
    """Against finite differences of the states that MuJoCo itself goes through."""
    env = make(obstacles="Empty")
    env.reset(seed=3)
    assert Doggo.proprio_size == 48
    for action in flail(env, 12, seed=1):
        model, data = env.batch.get_model(0), env.batch.get_data(0)
        data.ctrl[:] = action[0]
        states = [data.qpos.copy()]
        for _ in range(10):
            mujoco.mj_step(model, data)
            states.append(data.qpos.copy())
        before, there, after = states[-3:]  # sensors are of the state before the last substep
        felt = env.step(action)[0]["proprio"][0].astype(float)

        inward = rotation_of(there[3:7]).T
        velocity, next_velocity = (there - before)[:3] / 0.01, (after - there)[:3] / 0.01
        np.testing.assert_allclose(felt[3:6], inward @ velocity, atol=1e-5)
        acceleration = (next_velocity - velocity) / 0.01 + (0, 0, 9.81)
        np.testing.assert_allclose(felt[:3], inward @ acceleration, atol=1e-3)
        turn = np.empty(3)
        mujoco.mju_subQuat(turn, there[3:7], before[3:7])
        np.testing.assert_allclose(felt[6:9], turn / 0.01, atol=1e-4)
        np.testing.assert_allclose(felt[9:12], inward @ (0, -0.5, 0), atol=1e-6)

        place = [model.joint(name).qposadr[0] for name in DRIVEN]
        np.testing.assert_allclose(felt[12:24], (there - before)[place] / 0.01, atol=1e-4)
        pairs = np.stack([np.sin(after[place]), np.cos(after[place])], axis=1)
        np.testing.assert_allclose(felt[24:].reshape(12, 2), pairs, atol=1e-6)


# --- camera --------------------------------------------------------------------------------------


def test_its_camera_is_where_mujocos_would_be():
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    Doggo().add_to(spec)
    down = math.radians(22)
    spec.body("robot").add_camera(
        name="eye",
        pos=[0.125, 0, 0.2],
        xyaxes=[0, -1, 0, math.sin(down), 0, math.cos(down)],
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        data.qpos[:7] = rng.normal(size=7)
        data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        position, rotation = Doggo().camera_pose(data.qpos[None])
        np.testing.assert_allclose(position[0], data.cam_xpos[0], atol=1e-6)
        np.testing.assert_allclose(rotation[0].reshape(9), data.cam_xmat[0], atol=1e-6)
    assert Doggo.camera_fovy == 100.0


def test_a_tumbling_doggo_sees_what_mujocos_rays_hit(monkeypatch):
    """The robot itself is left out, in ours as in the rays."""
    monkeypatch.setattr(Doggo, "max_speed", 1e4)  # physics holds all walls
    size = 24
    env = make(obstacles="Walls", walls=2, length=8.0, camera_width=size, camera_height=size)
    offset = ((np.arange(size) + 0.5) * 2 / size - 1) * math.tan(math.radians(50))
    u, v = np.meshgrid(offset, -offset)
    without_robot = np.array([1, 0, 0, 0, 0, 0], np.uint8)
    rng = np.random.default_rng(1)
    for seed in range(6):
        env.reset(seed=seed)
        qpos = env.batch.bind("qpos")
        qpos[0, :3] += 0.5, 0, 0.3
        qpos[0, 3:7] += rng.uniform(-0.4, 0.4, 4)  # rolled and pitched by up to a right angle
        qpos[0, 3:7] /= np.linalg.norm(qpos[0, 3:7])
        seen = decode_depth(env.observe()["camera"][0, :, :, 0], 12.0)

        model, data = env.batch.get_model(0), env.batch.get_data(0)
        model.geom_group[model.body_rootid[model.geom_bodyid] == model.body("robot").id] = 5
        mujoco.mj_kinematics(model, data)
        torso = data.body("robot")
        frame = torso.xmat.reshape(3, 3)
        eye = torso.xpos + frame @ (0.125, 0, 0.2)
        sin, cos = math.sin(math.radians(22)), math.cos(math.radians(22))
        right, up, forward = frame @ (0, -1, 0), frame @ (sin, 0, cos), frame @ (cos, 0, -sin)
        hit = np.zeros(1, np.int32)
        exact = np.empty((size, size))
        for i in range(size):
            for j in range(size):
                ray = u[i, j] * right + v[i, j] * up + forward  # of depth 1: lengths are depths
                exact[i, j] = mujoco.mj_ray(model, data, eye, ray, without_robot, 1, -1, hit)
        exact[(exact < 0) | (exact > 12.0)] = 12.0
        close = np.abs(seen - exact) < 0.01 * exact + 0.04
        assert close.mean() > 0.99 and np.ptp(exact) > 2


# --- contact -------------------------------------------------------------------------------------


def parts_in_contact(env, with_whom):
    """Names of the robot's geoms in MuJoCo's contacts with bodies whose name starts so."""
    model, data = env.batch.get_model(0), env.batch.get_data(0)
    mujoco.mj_forward(model, data)
    parts = set()
    for contact in data.contact:
        for a, b in (contact.geom, contact.geom[::-1]):
            body = model.body(model.geom_bodyid[b]).name
            if model.body_rootid[model.geom_bodyid[a]] == model.body("robot").id and (
                body.startswith(with_whom)
            ):
                parts.add(model.geom(a).name)
    return parts


@pytest.mark.parametrize(
    ("part", "x", "y"),
    [
        ("front", 0.248, 0.0),
        ("rear", -0.248, 0.0),
        ("upper_1", 0.298, 0.237),
        ("upper_2", -0.102, 0.237),
        ("upper_3", -0.102, -0.237),
        ("upper_4", 0.298, -0.237),
    ],
)
def test_every_part_of_it_touches(part, x, y):
    """A thin pole stands 2 mm into the part, and clear of all other legs and halves."""
    env = make(obstacles="Poles", poles=1, pole_radius=0.05)
    env.reset(seed=0)
    env.robot.place(env.batch.bind("qpos")[0], 5.0, 0.0, 0.0)
    env.course.places[0, 0] = 5.0 + x, y
    env.course.fill_slots(np.ones(1, bool), env.robot.position(env.batch.bind("qpos")))
    touching = parts_in_contact(env, "slot")
    leg = part.removeprefix("upper")
    assert part in touching
    assert all(name == part or (leg != part and name.endswith(leg)) for name in touching)
    info = env.step(np.zeros((1, 12)))[-1]
    assert info["cost"].tolist() == [1.0] and info["touched"].tolist() == [1]


def test_a_pole_beyond_its_reach_is_not_touched():
    env = make(obstacles="Poles", poles=1, pole_radius=0.05)
    env.reset(seed=0)
    env.robot.place(env.batch.bind("qpos")[0], 5.0, 0.0, 0.0)
    env.course.places[0, 0] = 5.4, 0.0
    assert env.step(np.zeros((1, 12)))[-1]["cost"].tolist() == [0.0]


def test_touching_the_floor_and_itself_costs_nothing():
    env = make(obstacles="Poles", poles=1)
    env.reset(seed=0)
    env.course.places[0, 0] = 20.0, 0.0
    floor, itself, cost = set(), set(), 0.0
    for action in flail(env, 60):
        cost += env.step(action)[-1]["cost"].sum()
        floor |= parts_in_contact(env, "world")
        legs = tuple(f"{kind}_{leg}" for kind in ("upper", "lower") for leg in "1234")
        itself |= parts_in_contact(env, legs)
    assert {f"lower_{leg}" for leg in "1234"} <= floor and itself and cost == 0.0


@pytest.mark.parametrize("course", ["Walls", "Poles", "Humanoids"])
def test_what_physics_leaves_out_is_out_of_its_reach(course, monkeypatch):
    settings = {"obstacles": course, "start_anywhere": 1.0, "length": 8.0}
    settings |= {"walls": 2, "poles": 20, "people": 6}
    near = make(6, **settings)
    monkeypatch.setattr(Doggo, "max_speed", 1e4)
    monkeypatch.setattr(Doggo, "near_capsules", 1000)
    everything = make(6, **settings)
    near.reset(seed=2)
    everything.reset(seed=2)
    assert (everything.course.owner >= 0).all() and (near.course.owner < 0).any()
    touches, rng = 0, np.random.default_rng(0)
    for t, action in enumerate(flail(near, 60)):
        if t % 6 == 0:  # shoved about, as it doesn't get far by itself
            near.batch.bind("qvel")[:, :2] = rng.uniform(-3, 3, (6, 2))
        for name in ("qpos", "qvel", "qacc_warmstart"):  # walking is chaotic: from equal states
            everything.batch.bind(name)[:] = near.batch.bind(name)
        one, other = near.step(action)[-1], everything.step(action)[-1]
        np.testing.assert_array_equal(one["touched_mask"], other["touched_mask"])
        touches += one["touched"].sum()
        qpos = near.batch.bind("qpos"), everything.batch.bind("qpos")
        np.testing.assert_allclose(*qpos, atol=1e-6)
    assert touches > 0


def test_people_do_not_fling_it():
    env = make(48, obstacles="Humanoids", length=6.0, start_anywhere=1.0)
    env.reset(seed=0)
    before, touched = env.robot.position(env.batch.bind("qpos")).copy(), 0
    for action in flail(env, 60):
        info = env.step(action)[-1]
        position = env.robot.position(env.batch.bind("qpos"))
        assert np.linalg.norm(position - before, axis=1).max() < 0.3  # 3 m/s
        touched += info["touched"].sum()
        before = position.copy()
    assert touched > 30


def test_a_person_is_touched_once():
    env = make(16, obstacles="Humanoids", length=6.0, start_anywhere=1.0)
    env.reset(seed=1)
    ever, cost, steps_in_touch = np.zeros((16, 20), bool), np.zeros(16), 0
    for action in flail(env, 80):
        info = env.step(action)[-1]
        ever |= info["touched_mask"]
        steps_in_touch += info["touched"].sum()
        cost += info["cost"]
    np.testing.assert_array_equal(cost, ever.sum(axis=1))
    assert steps_in_touch > cost.sum() > 3


# --- places, presets -----------------------------------------------------------------------------


def test_poles_leave_room_for_it_and_thirty_find_places():
    env = make(20, obstacles="Poles")
    env.reset(seed=0)
    data = mujoco.MjData(env.model)
    env.robot.place(data.qpos, 0.0, 0.0, 0.0)
    mujoco.mj_kinematics(env.model, data)
    knees = [np.abs(data.body(f"lower_{leg}").xpos[1]) + 0.032 for leg in "1234"]
    assert 2 * max(knees) <= Doggo.width < 2 * max(knees) + 0.01
    for places in env.course.places:
        distance = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(30, 1)]
        assert distance.min() >= 2 * 0.15 + Doggo.width + 0.3
