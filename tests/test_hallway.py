"""The hallways: what happens in them, checked against MuJoCo itself and against hand-made cases."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from safetransfer.envs.camera import decode_depth
from safetransfer.envs.hallway import HallwayEnv, HallwayVectorEnv
from safetransfer.envs.mocap import load_clips
from safetransfer.envs.obstacles import take_nearest
from safetransfer.envs.people import Crowd
from safetransfer.envs.robots import Point, robot_names
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import CheckpointError, SettingError, UnknownNameError

COURSES = ("Walls", "Poles", "Humanoids")
ROBOTS = robot_names()
TINY = {"camera_width": 6, "camera_height": 5}


def make(num_envs=1, threads=1, autoreset="SameStep", **settings):
    return HallwayVectorEnv(HallwaySettings(**{**TINY, **settings}), num_envs, threads, autoreset)


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
        rows.append(
            {
                **observation,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                **{k: info[k] for k in ("cost", "touched", "progress", "steps", "full_start")},
            }
        )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def assert_same(a, b, rows=slice(None)):
    for key in a:
        np.testing.assert_array_equal(a[key], b[key][:, rows], err_msg=key)


# --- Point ---------------------------------------------------------------------------------------


def test_point_has_the_figures_of_the_design():
    model = make(obstacles="Empty").model
    assert mujoco.mj_getTotalmass(model) == pytest.approx(0.0052, rel=0.01)
    assert model.dof_damping.tolist() == [0.01, 0.01, 0.005]
    assert model.jnt_type.tolist() == [2, 2, 3]  # slide, slide, hinge
    assert model.actuator_gear[:, 0].tolist() == [0.3, 0.3]
    assert model.actuator_forcerange.tolist() == [[-0.05, 0.05]] * 2
    assert model.actuator_ctrlrange.tolist() == [[-1, 1]] * 2
    assert model.actuator_biasprm[1, 2] == -1.0  # the servo's velocity feedback; the motor has none
    assert not model.actuator_biasprm[0].any()
    ball, nose = model.geom("ball"), model.geom("nose")
    assert ball.size[0] == 0.1 and nose.size.tolist() == [0.05] * 3
    assert nose.pos.tolist() == [0.1, 0, 0] and model.body("robot").pos[2] == 0.1
    assert model.opt.timestep == 0.002 and Point.substeps == 10
    eye, axes = Point().camera_pose(np.zeros((1, 3)))
    np.testing.assert_allclose(eye, [[0, 0, 0.25]], atol=1e-6)
    down = np.degrees(np.arcsin(-axes[0] @ [0, 0, 1.0])[2])
    assert down == pytest.approx(-22, abs=0.01)


def test_point_reaches_its_speeds_at_full_control():
    env = make(num_envs=2, obstacles="Empty", start_heading=0.0)
    env.reset(seed=0)
    for _ in range(250):
        observation = env.step(np.array([[1.0, 0.0], [0.0, 1.0]]))[0]
    assert observation["proprio"][0, 3] == pytest.approx(1.5, rel=0.02)  # velocimeter, forward
    assert observation["proprio"][1, 8] == pytest.approx(3.0, rel=0.02)  # gyro, about z


def test_a_point_at_rest_feels_its_weight_and_where_it_faces():
    env = make(obstacles="Empty")
    env.reset(seed=0)
    env.batch.bind("qpos")[0, 2] = 1.0
    felt = env.step(np.zeros((1, 2)))[0]["proprio"][0]
    north = 0.5 * -np.sin(1.0), 0.5 * -np.cos(1.0), 0  # MuJoCo's magnetic field is (0, -0.5, 0)
    np.testing.assert_allclose(felt, [0, 0, 9.81, *[0] * 6, *north], atol=1e-5)


def test_what_a_robot_feels_stays_in_its_space():
    env = make(obstacles="Empty", autoreset=AutoresetMode.DISABLED)
    env.reset(seed=0)
    env.batch.bind("qfrc_applied")[0, 0] = -1e4
    observation = env.step(np.zeros((1, 2)))[0]
    assert observation in env.observation_space and observation["proprio"].min() == -1e4


def test_hallways_have_the_sizes_that_were_asked_for():
    sizes = {"length": 20.0, "width": 3.0, "wall_height": 0.7, "start_y": 0.5}
    sizes |= {"wall_thickness": 0.3, "pole_radius": 0.1, "walls": 3, "poles": 3}
    for course, slot in (("Walls", (0.15, 0.35)), ("Poles", (0.1, 0.35))):
        model = make(obstacles=course, **sizes).model
        for name, side in (("left", 1), ("right", -1)):
            wall = model.geom(name)
            assert side * wall.pos[1] - wall.size[1] == pytest.approx(1.5)
            assert wall.pos[0] - wall.size[0] <= -1.5 and wall.pos[0] + wall.size[0] > 20
            assert wall.pos[2] - wall.size[2] == 0 and wall.pos[2] + wall.size[2] == 0.7
        size = model.geom_size[model.body("slot0").geomadr[0]]
        np.testing.assert_allclose((size[0], size[2 if course == "Walls" else 1]), slot)


# --- reward, cost, ends --------------------------------------------------------------------------


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_reward_is_a_thousand_times_the_share_of_the_way(robot, course):
    env = make(num_envs=4, robot=robot, obstacles=course)
    start = env.reset(seed=1)[1]["progress"]
    out = roll(env, wander(env, 80))
    way = out["progress"][-1] - start
    np.testing.assert_allclose(out["reward"].sum(axis=0), 1000 * way / 24)


def test_the_whole_way_is_worth_the_reward_that_was_asked_for():
    env = make(obstacles="Empty", length=6.0, progress_reward=60.0)
    start = env.reset(seed=1)[1]["progress"]
    out = roll(env, wander(env, 60))
    way = out["progress"][-1] - start
    assert abs(way) > 0.1
    np.testing.assert_allclose(out["reward"].sum(axis=0), 10 * way)


def contacts_by_hand(env, i, control):
    """Owners of the obstacles in MuJoCo's own contact lists, every 0.02 s of this control step."""
    model, data = env.batch.get_model(i), env.batch.get_data(i)
    data.ctrl[:] = control
    touched = set()
    for _ in range(round(env.robot.control_dt / 0.02)):
        for _ in range(round(0.02 / env.robot.timestep)):
            mujoco.mj_step(model, data)
        for contact in data.contact:
            bodies = [model.body(model.geom_bodyid[g]) for g in contact.geom]
            names = [model.body(body.rootid[0]).name for body in bodies]
            for a, b in (names, names[::-1]):
                if a == "robot" and b.startswith("slot"):
                    touched.add(int(env.course.owner[i, int(b.removeprefix("slot"))]))
    return touched


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", ["Walls", "Poles"])
def test_cost_is_one_in_each_step_with_a_contact_in_mujocos_list(robot, course):
    env = make(num_envs=6, robot=robot, obstacles=course, start_anywhere=1.0)
    env.reset(seed=3)
    total = 0.0
    qvel, rng = env.batch.bind("qvel"), np.random.default_rng(0)
    for t, action in enumerate(wander(env, 120)):
        if robot != "Point" and t % 8 == 0:  # it hasn't learned to walk
            qvel[:, :2] = rng.uniform(-2, 2, (6, 2))
        # The course stands still: what physics sees in this step follows from where the robots are.
        env.course.fill_slots(np.ones(6, bool), env.robot.position(env.batch.bind("qpos")))
        expected = [contacts_by_hand(env, i, action[i]) for i in range(6)]
        info = env.step(action)[-1]
        assert info["cost"].tolist() == [float(bool(e)) for e in expected]
        assert [set(np.flatnonzero(row)) for row in info["touched_mask"]] == expected
        assert info["touched"].tolist() == [len(e) for e in expected]
        total += info["cost"].sum()
    assert total > 5


def test_driving_into_a_wall_costs_in_every_step():
    env = make(obstacles="Walls", start_heading=0.0, start_y=0.0, wall_cover_min=0.6)
    env.reset(seed=0)
    out = roll(env, np.tile([[[1.0, 0.0]]], (200, 1, 1)))
    wall = env.course.places[0, 0, 0] - 0.1
    assert out["cost"][-20:].tolist() == [[1.0]] * 20
    assert out["progress"][-1, 0] == pytest.approx(wall - 0.15, abs=0.02)  # 0.15 m to its nose
    assert not out["cost"][out["progress"] < wall - 0.2].any()
    info = env.reset()[1]
    assert not (info["cost"].any() or info["touched"].any() or info["touched_mask"].any())


def test_a_person_costs_once_per_episode():
    env = make(num_envs=8, obstacles="Humanoids", length=8.0, start_anywhere=1.0, max_steps=150)
    env.reset(seed=0)
    touched, cost, episodes = np.zeros((8, 20), bool), np.zeros(8), 0
    for action in wander(env, 300):
        _, _, terminated, truncated, info = env.step(action)
        touched |= info["touched_mask"]
        cost += info["cost"]
        for i in np.flatnonzero(terminated | truncated):
            assert cost[i] == touched[i].sum()
            episodes += cost[i] > 0
            touched[i], cost[i] = False, 0
    assert episodes >= 3


@pytest.mark.parametrize("robot", ROBOTS)
def test_people_move_by_the_hallway_s_clock(robot):
    env = make(robot=robot, obstacles="Humanoids", people=5)
    env.reset(seed=0)
    alone = Crowd(1, 5, library=load_clips(None, 0.02))
    alone.set_state(env.course.crowd.get_state())
    for _ in range(10):
        env.step(np.zeros(env.action_space.shape))
    alone.step(steps=round(10 * env.robot.control_dt / 0.02))
    np.testing.assert_array_equal(env.course.crowd.capsule_b, alone.capsule_b)


def test_side_walls_cost_only_when_asked_and_hold_the_robot():
    drive = np.tile([[[1.0, 0.0]]], (250, 1, 1))
    for asked in (False, True):
        env = make(obstacles="Empty", side_wall_cost=asked)
        env.reset(seed=0)
        env.batch.bind("qpos")[0, 2] = np.pi / 2
        out = roll(env, drive)
        assert (out["cost"].sum() > 50) == asked
        assert env.batch.bind("qpos")[0, 1] < 2.0


@pytest.mark.parametrize("course", ["Empty", "Humanoids"])
@pytest.mark.parametrize("side", [1, -1])
def test_a_side_wall_costs_in_every_step_in_which_it_is_touched_and_no_other(course, side):
    env = make(obstacles=course, people=0, side_wall_cost=True)
    env.reset(seed=0)
    env.batch.bind("qpos")[0] = 5.0, 0.0, side * np.pi / 2
    there = roll(env, np.tile([[[1.0, 0.0]]], (150, 1, 1)))["cost"]
    assert not there[:50].any() and there[-20:].tolist() == [[1.0]] * 20
    back = roll(env, np.tile([[[-1.0, 0.0]]], (60, 1, 1)))["cost"]
    assert not back[-20:].any()


def test_there_is_no_way_out_behind_the_start():
    env = make(obstacles="Empty", start_heading=0.0)
    env.reset(seed=0)
    out = roll(env, np.tile([[[-1.0, 0.0]]], (250, 1, 1)))
    assert -1.5 < out["progress"].min() < -1.3


def test_episodes_end_at_the_finish_or_after_max_steps():
    env = make(num_envs=2, obstacles="Empty", start_heading=0.0, length=3.0, max_steps=170)
    env.reset(seed=0)
    out = roll(env, np.tile([[[1.0, 0.0], [0.0, 1.0]]], (175, 1, 1)))
    finish = int(np.argmax(out["terminated"][:, 0]))
    assert out["terminated"].sum() == 1 and 1.5 / 0.03 < finish < 170
    assert np.argwhere(out["truncated"]).tolist() == [[169, 1]]
    assert out["steps"][finish, 0] == 0 and out["steps"][finish + 1, 0] == 1


def test_the_finish_in_the_last_step_is_no_truncation():
    env = make(obstacles="Empty", max_steps=2)
    env.reset(seed=0)
    env.step(np.zeros((1, 2)))
    env.batch.bind("qpos")[0, 0] = 24.1
    _, _, terminated, truncated, _ = env.step(np.zeros((1, 2)))
    assert terminated.tolist() == [True] and truncated.tolist() == [False]


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_action_repeat_sums_single_steps(robot, course):
    settings = {"robot": robot, "obstacles": course, "start_anywhere": 1.0, "max_steps": 30}
    fine, coarse = make(num_envs=4, **settings), make(num_envs=4, action_repeat=4, **settings)
    fine.reset(seed=5)
    coarse.reset(seed=5)
    actions = wander(fine, 7)
    one = roll(fine, actions.repeat(4, axis=0))
    four = roll(coarse, actions)
    for key in ("reward", "cost"):
        np.testing.assert_allclose(one[key].reshape(7, 4, 4).sum(axis=1), four[key])
    for key in ("camera", "proprio", "progress", "steps"):
        np.testing.assert_array_equal(one[key][3::4], four[key], err_msg=key)
    # The eighth call ends after two of its four control steps.
    _, _, _, truncated, info = coarse.step(actions[0])
    assert truncated.all() and (info["final_info"]["steps"] == 30).all()


# --- physics sees only what is near --------------------------------------------------------------


@pytest.mark.parametrize("course", COURSES)
def test_physics_of_what_is_near_is_physics_of_everything(course, monkeypatch):
    settings = {"obstacles": course, "start_anywhere": 1.0, "people": 6, "length": 8.0}
    settings |= {"walls": 2, "poles": 20}
    near = make(num_envs=4, **settings)
    monkeypatch.setattr(Point, "max_speed", 1e4)
    monkeypatch.setattr(Point, "near_capsules", 1000)
    everything = make(num_envs=4, **settings)
    near.reset(seed=2)
    everything.reset(seed=2)
    assert (everything.course.owner >= 0).all() and (near.course.owner < 0).any()
    actions = wander(near, 150)
    one, other = roll(near, actions), roll(everything, actions)
    assert one["cost"].sum() > 0
    for key in ("cost", "touched", "terminated", "truncated"):
        np.testing.assert_array_equal(one[key], other[key])
    # Contacts come in another order, so that sums over them differ in the last digits.
    np.testing.assert_allclose(one["progress"], other["progress"], atol=1e-6)


def test_where_slots_are_too_few_the_nearest_get_them():
    distances = np.random.default_rng(0).random(30)
    nearest, chosen, found = np.empty(4), np.empty(4, np.int32), 0
    for k, distance in enumerate(distances):
        found = take_nearest(nearest, chosen, found, distance, k)
    assert found == 4 and chosen.tolist() == np.argsort(distances)[:4].tolist()


@pytest.mark.parametrize("max_depth", [12.0, 4.0])
@pytest.mark.parametrize("course", COURSES)
def test_the_camera_sees_what_physics_holds(course, max_depth, monkeypatch):
    monkeypatch.setattr(Point, "max_speed", 1e4)
    monkeypatch.setattr(Point, "near_capsules", 1000)
    settings = {"walls": 2, "poles": 12, "people": 6, "length": 8.0, "max_depth": max_depth}
    env = make(obstacles=course, camera_width=30, camera_height=30, **settings)
    for seed in range(3):
        image = env.reset(seed=seed)[0]["camera"][0, :, :, 0]
        model, data = env.batch.get_model(0), env.batch.get_data(0)
        mujoco.mj_kinematics(model, data)
        position, rotation = env.robot.camera_pose(env.batch.bind("qpos"))
        offset = (np.arange(30) + 0.5) / 15 - 1
        u, v = np.meshgrid(offset, -offset)
        rays = np.stack([u, v, -np.ones_like(u)], axis=-1) @ rotation[0].astype(float).T
        hit = np.zeros(1, np.int32)
        exact = np.array(
            [
                mujoco.mj_ray(
                    model,
                    data,
                    position[0].astype(float),
                    ray,
                    None,
                    1,
                    model.body("robot").id,
                    hit,
                )
                for ray in rays.reshape(-1, 3)
            ]
        ).reshape(30, 30)
        seen = np.where(image == 255, np.inf, decode_depth(image, max_depth))
        nothing = (exact < 0) | (exact > 0.992 * max_depth)
        assert (np.isinf(seen) == nothing).mean() > 0.98
        both = ~nothing & np.isfinite(seen)
        close = np.abs(seen - exact)[both] < 0.01 * exact[both] + 0.04
        assert close.mean() > 0.99


# --- places --------------------------------------------------------------------------------------


def test_walls_alternate_and_cover_half_to_two_thirds():
    env = make(num_envs=20)
    env.reset(seed=0)
    center, half = env.scene.box_center[:, 3:], env.scene.box_half[:, 3:]
    assert center.shape == (20, 8, 3)
    cover = 2 * half[..., 1] / 4
    assert cover.min() >= 0.5 - 1e-6 and cover.max() <= 0.65 + 1e-6 and np.ptp(cover) > 0.1
    side = np.sign(center[..., 1])
    assert (side[:, 1:] == -side[:, :-1]).all() and len(np.unique(side[:, 0])) == 2
    np.testing.assert_allclose(np.abs(center[..., 1]) + half[..., 1], 2, atol=1e-6)
    assert np.diff(center[..., 0]).mean() == pytest.approx(2.5, abs=0.25)
    assert center[..., 0].min() > 1.5 and center[..., 0].max() < 23
    moved = center[..., 0] - 24 / 9 * np.arange(1, 9)
    assert 0.45 < np.abs(moved).max() <= 0.5 + 1e-5 and abs(moved.mean()) < 0.1
    assert not np.array_equal(center[0], center[1])


def test_poles_leave_room_for_the_robot():
    env = make(num_envs=20, obstacles="Poles")
    env.reset(seed=0)
    for places in env.course.places:
        distance = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(30, 1)]
        assert distance.min() >= 2 * 0.15 + 0.2 + 0.3
        assert np.abs(places[:, 1]).max() <= 1.85 and places[:, 0].min() >= 1.5
    x, y = env.course.places.reshape(-1, 2).T
    assert 23 < x.max() <= 23.5 and x.min() < 2.2 and np.abs(y).max() > 1.8


def test_starts_are_lightly_randomised():
    env = make(num_envs=300, obstacles="Empty")
    info = env.reset(seed=0)[1]
    x, y, heading = env.batch.bind("qpos").T
    for values, limit in ((x, 0.5), (y, 1.0), (heading, 0.5)):
        assert 0.95 * limit < np.abs(values).max() <= limit
        assert abs(values.mean()) < 0.1 * limit
    assert info["full_start"].all()


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_start_anywhere_is_clear_and_pays_only_for_its_own_way(robot, course):
    env = make(num_envs=200, robot=robot, obstacles=course, start_anywhere=0.5)
    info = env.reset(seed=0)[1]
    assert 0.4 < info["full_start"].mean() < 0.6
    elsewhere = info["progress"][~info["full_start"]]
    assert elsewhere.min() < 4 and elsewhere.max() > 19
    aside = env.robot.position(env.batch.bind("qpos"))[~info["full_start"], 1]
    most = 2.0 - env.robot.reach - 0.1
    assert aside.min() < -0.8 * most and aside.max() > 0.8 * most and np.abs(aside).max() <= most
    out = roll(env, np.zeros((1, *env.action_space.shape)))
    assert (
        not out["cost"].any() and np.abs(out["reward"]).max() < 1000 * 0.06 / 24
    )  # Doggo drops on its feet


def test_episodes_that_start_anywhere_may_face_anywhere():
    env = make(400, obstacles="Empty", start_anywhere=0.5, anywhere_heading=3.0)
    there = ~env.reset(seed=0)[1]["full_start"]
    heading = env.batch.bind("qpos")[:, 2]
    assert np.abs(heading[~there]).max() <= 0.5
    assert 2.85 < np.abs(heading[there]).max() <= 3.0 and abs(heading[there].mean()) < 0.4


def test_training_may_cut_off_an_episode_on_its_back_and_evaluation_does_not():
    settings = HallwaySettings(robot="Doggo", obstacles="Empty", fallen_steps=5, **TINY)
    env = HallwayVectorEnv(settings, 3, autoreset_mode="SameStep")
    env.reset(seed=0)
    lie = env.get_state()
    # The first lies on its back, the second on its feet; the third will be set on its feet.
    for i in (0, 2):
        lie["simulation"]["qpos"][i, 2:7] = 0.12, 0, 1, 0, 0
    env.set_state(lie)
    still = np.zeros(env.action_space.shape)
    for _ in range(3):
        assert not env.step(still)[3].any()
    state = env.get_state()
    state["simulation"]["qpos"][2] = state["simulation"]["qpos"][1]
    env.set_state(state)
    ends = []
    for _ in range(4):
        _, reward, terminated, truncated, info = env.step(still)
        assert np.isfinite(reward).all() and not terminated.any()
        ends.append(truncated.tolist())
        if truncated.any():
            assert info["final_info"]["steps"][0] == 5
    assert ends == [[False] * 3, [True, False, False], [False] * 3, [False] * 3]
    assert settings.for_evaluation().fallen_steps == 0


def test_who_leans_does_not_lie_on_the_back_yet():
    env = make(2, robot="Doggo", obstacles="Empty", fallen_steps=3)
    env.reset(seed=0)
    ends = []
    for _ in range(3):
        for i, degrees in enumerate((75, 105)):  # about its length, in the air
            half = np.radians(degrees) / 2
            env.batch.bind("qpos")[i, 2:7] = 0.4, np.cos(half), np.sin(half), 0, 0
        env.batch.bind("qvel")[:] = 0
        ends.append(env.step(np.zeros(env.action_space.shape))[3].tolist())
    assert ends == [[False, False], [False, False], [False, True]]


@pytest.mark.parametrize("few", [0, 1])
@pytest.mark.parametrize("course", COURSES)
def test_courses_may_hold_hardly_anything(course, few):
    env = make(2, obstacles=course, walls=few, poles=few, people=few)
    env.reset(seed=0)
    assert roll(env, wander(env, 3))["cost"].shape == (3, 2)


# --- random streams, threads, exact resume -------------------------------------------------------


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_a_seed_gives_one_stream_at_any_number_of_threads_and_hallways(robot, course):
    settings = {"robot": robot, "obstacles": course, "max_steps": 25, "start_anywhere": 0.5}
    one, other = make(3, **settings), make(5, threads=2, **settings)
    actions = wander(other, 60)
    firsts = []
    for env in (one, other):
        firsts.append(env.reset(seed=11)[0])
    assert_same(
        {k: v[None] for k, v in firsts[0].items()},
        {k: v[None] for k, v in firsts[1].items()},
        slice(3),
    )
    out = roll(one, actions[:, :3])
    assert_same(out, roll(other, actions), slice(3))
    one.reset(seed=11)
    assert_same(out, roll(one, actions[:, :3]))
    one.reset(seed=12)
    assert not np.array_equal(out["progress"], roll(one, actions[:, :3])["progress"])


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_a_restored_state_goes_on_exactly(robot, course):
    settings = {"robot": robot, "obstacles": course, "max_steps": 40, "start_anywhere": 0.5}
    env = make(3, **settings)
    env.reset(seed=0)
    actions = wander(env, 90)
    roll(env, actions[:30])
    state, before = env.get_state(), env.observe()
    out = roll(env, actions[30:])
    fresh = make(3, **settings)
    fresh.set_state(state)
    for key, value in fresh.observe().items():
        np.testing.assert_array_equal(value, before[key])
    assert_same(out, roll(fresh, actions[30:]))
    with pytest.raises(CheckpointError, match="2 hallways"):
        make(2, **settings).set_state(state)


# --- Gymnasium's three ways of resetting ---------------------------------------------------------


def test_autoreset_modes_agree_with_resetting_by_hand():
    settings = {"obstacles": "Walls", "max_steps": 10}
    by_hand = make(3, autoreset=AutoresetMode.DISABLED, **settings)
    same = make(3, **settings)
    following = make(3, autoreset=AutoresetMode.NEXT_STEP, **settings)
    for env in (by_hand, same, following):
        env.reset(seed=4)
    actions = wander(same, 12)
    for action in actions[:10]:
        last = by_hand.step(action)
        a, b = same.step(action), following.step(action)
        np.testing.assert_array_equal(last[1], a[1])
        np.testing.assert_array_equal(last[1], b[1])
    assert last[3].all() and a[3].all() and b[3].all()
    for key, value in last[0].items():
        np.testing.assert_array_equal(a[4]["final_obs"][key], value)
        np.testing.assert_array_equal(b[0][key], value)
    np.testing.assert_array_equal(a[4]["final_info"]["progress"], last[4]["progress"])
    assert (a[4]["steps"] == 0).all() and a[4]["_final_obs"].all()

    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1, 2\]"):
        by_hand.step(actions[10])
    begun = by_hand.reset(options={"reset_mask": np.ones(3, bool)})[0]
    b = following.step(actions[10])  # this action is not used
    assert not b[1].any() and not b[2].any() and not b[3].any()
    for key, value in begun.items():
        np.testing.assert_array_equal(a[0][key], value)
        np.testing.assert_array_equal(b[0][key], value)
    outcome = by_hand.step(actions[11])
    for env in (same, following):
        for key, value in env.step(actions[11])[0].items():
            np.testing.assert_array_equal(value, outcome[0][key])


def test_a_reset_mask_leaves_the_other_hallways_alone():
    env = make(3, autoreset=AutoresetMode.DISABLED, obstacles="Poles")
    env.reset(seed=0)
    roll(env, wander(env, 20))
    before = env.get_state()["simulation"]
    _, info = env.reset(options={"reset_mask": np.array([False, True, False])})
    after = env.get_state()["simulation"]
    for key in before:
        np.testing.assert_array_equal(before[key][[0, 2]], after[key][[0, 2]])
    assert info["steps"].tolist() == [20, 0, 20]


@pytest.mark.parametrize("obstacles", ["Walls", "Humanoids"])
def test_a_hallway_at_rest_stays_as_it_is_and_the_others_go_on(obstacles):
    env, other = (make(3, obstacles=obstacles) for _ in range(2))
    for each in (env, other):
        each.reset(seed=0)
    actions = wander(env, 40)
    assert_same(roll(env, actions[:10]), roll(other, actions[:10]))
    env.rest(np.array([False, True, False]))
    before = env.get_state()["simulation"]
    rested, full = roll(env, actions[10:]), roll(other, actions[10:])
    for key in full:
        np.testing.assert_array_equal(rested[key][:, [0, 2]], full[key][:, [0, 2]], err_msg=key)
    for key, value in env.get_state()["simulation"].items():
        if key != "ctrl":  # what it was told last, which it doesn't follow
            np.testing.assert_array_equal(value[1], before[key][1], err_msg=key)
    assert not rested["reward"][:, 1].any() and not rested["cost"][:, 1].any()
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert roll(env, actions[:5])["reward"][:, 1].any()


def test_gymnasiums_form_of_final_observations():
    env = HallwayVectorEnv(HallwaySettings(max_steps=3, **TINY), 2, object_final_obs=True)
    env.reset(seed=0)
    for action in wander(env, 3):
        observation, *_, info = env.step(action)
    assert info["final_obs"].shape == (2,)
    assert info["final_obs"][1]["camera"].shape == observation["camera"].shape[1:]


# --- pictures, one hallway, bad input ------------------------------------------------------------


def test_rgb_is_an_option():
    env = make(2, camera="rgb", max_steps=2)
    observation = env.reset(seed=0)[0]
    assert observation["camera"].shape == (2, 5, 6, 3)
    assert observation in env.observation_space
    for _ in range(2):  # the second ends the episode
        observation, _, _, truncated, _ = env.step(np.ones((2, 2)))
    assert truncated.all()
    np.testing.assert_array_equal(observation["camera"], env.observe()["camera"])


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("course", COURSES)
def test_films_from_three_views(robot, course):
    env = make(2, robot=robot, obstacles=course)
    env.reset(seed=0)
    frames = [env.film_frame(1, view, 64, 48) for view in ("first", "behind", "above")]
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all(np.ptp(frame) > 30 for frame in frames)
    model = env.model
    parts = model.body_rootid[model.geom_bodyid] == model.body("robot").id
    model.geom_rgba[parts, :3] = (0, 1, 0)
    painted = [env.film_frame(1, view, 64, 48) for view in ("first", "behind", "above")]
    # It is to be seen, but not through its own eye.
    changed = [(a != b).any() for a, b in zip(frames, painted, strict=True)]
    assert changed == [False, True, True]
    with pytest.raises(UnknownNameError, match="behind"):
        env.film_frame(1, "sideways")


def test_a_single_hallway_is_the_first_of_many():
    one, many = HallwayEnv(**TINY), make(2, autoreset=AutoresetMode.DISABLED)
    a, b = one.reset(seed=3)[0], many.reset(seed=3)[0]
    np.testing.assert_array_equal(a["camera"], b["camera"][0])
    action = np.array([1.0, 0.3], np.float32)
    _, reward, terminated, truncated, info = one.step(action)
    assert type(reward) is float and terminated is False and truncated is False
    assert reward == many.step(np.stack([action, action]))[1][0]
    assert info["cost"] == 0.0 and info["steps"] == 1


def test_bad_actions_are_refused_and_large_ones_clipped():
    env = make(2, obstacles="Empty")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 2)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(2,\).*\(2, 2\)"):
        env.step(np.zeros(2))
    with pytest.raises(ValueError, match=r"\[1\].*finite"):
        env.step(np.array([[0, 0], [0, np.nan]]))
    state = env.get_state()
    large = roll(env, np.full((5, 2, 2), 9.0))
    env.set_state(state)
    assert_same(large, roll(env, np.ones((5, 2, 2))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robot": "Poimt"}, "Did you mean 'Point'"),
        ({"obstacles": "Lava"}, "Walls, Poles, Humanoids"),
        ({"camera": "sonar"}, "depth, rgb"),
        ({"length": -1.0}, "length must be greater than 0"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"start_anywhere": 2.0}, "between 0 and 1"),
        ({"anywhere_heading": 4.0}, "between 0 and pi"),
        ({"fallen_steps": -1}, "fallen_steps must be at least 0"),
        ({"start_x": 1.2}, "start_x must be at most 1"),
        ({"wall_cover_max": 1.0}, "both between 0 and 1"),
        ({"wall_cover_min": 0.6, "wall_cover_max": 0.5}, "at least wall_cover_min"),
        ({"max_depth": float("inf")}, "max_depth must be greater than 0"),
        ({"width": 0.0}, "width must be greater than 0"),
        ({"pole_radius": 0.0}, "pole_radius must be greater than 0"),
        ({"wall_height": -1.0}, "wall_height must be greater than 0"),
        ({"wall_thickness": 0.0}, "wall_thickness must be greater than 0"),
        ({"wall_jitter": -0.1}, "wall_jitter must be 0 or greater"),
        ({"start_y": 1.9}, r"start_y must be at most 1\.83 for Point"),
        ({"start_anywhere": 1.0, "length": 0.8}, "start_anywhere needs a hallway longer than 1 m"),
        (
            {"robot": "Doggo", "width": 1.2, "start_y": 0.0, "start_anywhere": 1.0},
            r"wider than 1\.30 m for Doggo",
        ),
        ({"progress_reward": float("nan")}, "progress_reward must be a number of at most"),
        ({"walls": 60}, "too close together"),
        ({"obstacles": "Poles", "poles": 500}, "do not fit"),
        ({"mocpa": "x"}, "Did you mean 'mocap'"),
    ],
)
def test_bad_settings_say_what_is_right(settings, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        HallwayVectorEnv(HallwaySettings.from_kwargs(**settings))


@pytest.mark.parametrize(
    ("robot", "repeat", "rate"), [("Point", 1, 50), ("Point", 4, 12.5), ("Doggo", 25, 0.4)]
)
def test_films_keep_the_hallway_s_time(robot, repeat, rate):
    env = HallwayVectorEnv(HallwaySettings(robot=robot, action_repeat=repeat, obstacles="Empty"))
    assert env.metadata["render_fps"] == pytest.approx(rate)
