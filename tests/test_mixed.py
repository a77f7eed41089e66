"""Hallways between walls and poles: their ends are those courses, and between all is in step."""

from __future__ import annotations

import numpy as np
import pytest

from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.mixed import _AWAY
from safetransfer.envs.robots import make_robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError

SHELL = 3  # boxes of the hallway itself come first in the scene


def make(num_envs=1, threads=1, **settings):
    small = {"camera_width": 8, "camera_height": 6, "obstacles": "Mixed", "action_repeat": 2}
    return HallwayVectorEnv(HallwaySettings(**{**small, **settings}), num_envs, threads)


def roll(env, steps=150, seed=3):
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    rows = [observation["camera"].copy()]
    outcomes = []
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        action[:, 0] = 1.0
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append(observation["camera"].copy())
        outcomes.append([reward, terminated, truncated, info["cost"], info["touched"]])
    env.close()
    return np.array(rows), np.array(outcomes, dtype=float)


@pytest.mark.parametrize(("likeness", "course"), [(1.0, "Walls"), (0.0, "Poles")])
@pytest.mark.parametrize("anywhere", [0.0, 1.0])
def test_at_its_ends_it_is_the_other_course_to_the_last_digit(likeness, course, anywhere):
    settings = {"start_anywhere": anywhere, "num_envs": 4, "max_steps": 120}
    pictures, outcomes = roll(make(likeness=likeness, **settings))
    expected_pictures, expected = roll(make(obstacles=course, **settings))
    np.testing.assert_array_equal(pictures, expected_pictures)
    np.testing.assert_array_equal(outcomes, expected)
    assert expected[:, 3].sum() > 0  # something was touched, or this says little


def standing(env, i=0):
    walls, poles = env.course.walls.places[i], env.course.poles.places[i]
    return walls[walls[:, 0] != _AWAY], poles[poles[:, 0] != _AWAY]


@pytest.mark.parametrize("likeness", [0.25, 0.5, 0.8])
def test_between_its_ends_walls_give_way_to_poles_in_proportion(likeness):
    env = make(num_envs=400, likeness=likeness)
    env.reset(seed=1)
    walls, poles = np.array([[len(kind) for kind in standing(env, i)] for i in range(400)]).T
    assert walls.mean() == pytest.approx(8 * likeness, abs=0.06)
    assert set(np.unique(walls)) <= {np.floor(8 * likeness), np.ceil(8 * likeness)}
    # Poles are 30 in 8 stretches, some of which have more room than others.
    assert poles.mean() == pytest.approx(30 * (1 - likeness), abs=4 * poles.std() / 20)
    env.close()


def test_a_stretch_has_its_wall_or_its_poles_and_there_is_always_room_to_pass():
    env = make(num_envs=100, likeness=0.5)
    env.reset(seed=2)
    course, robot = env.course, env.robot
    for i in range(100):
        walls, poles = standing(env, i)
        away = np.abs(poles[:, None] - walls[None])
        assert (away[..., 0] > 0.5 * course.walls.spacing - 0.5).all()
        beside = np.maximum(away - (course.walls.half_x, course.walls.half_y), 0)
        gaps = np.hypot(beside[..., 0], beside[..., 1]) - env.settings.pole_radius
        assert gaps.min() >= robot.width + env.settings.pole_gap
    env.close()


def test_the_camera_sees_what_stands_and_nothing_else():
    env = make(num_envs=20, likeness=0.5)
    env.reset(seed=5)
    for i in range(20):
        walls, poles = standing(env, i)
        half, radius = env.scene.box_half[i, SHELL:], env.scene.cylinder_radius[i]
        assert (half.min(axis=1) > 0).sum() == len(walls)
        assert (radius > 0).sum() == len(poles)
        np.testing.assert_allclose(env.scene.cylinder_a[i, radius > 0, :2], poles, atol=1e-5)
    # Poles that come back in a later episode are seen again.
    shown = env.scene.cylinder_radius > 0
    for seed in range(6, 16):
        env.reset(seed=seed)
        shown |= env.scene.cylinder_radius > 0
    assert shown.all()
    env.close()


def _driven_into(env, place):
    """Cost and what was touched when the robot is set down before `place` and drives into it."""
    x, y = place[0] - 0.4, place[1]
    env.robot.place(env._qpos[0], x, y, 0.0)
    env.batch.forward(np.array([0]))
    touched = np.zeros(env.course.count, bool)
    cost = 0.0
    for _ in range(30):
        _, _, _, _, info = env.step(np.array([[1.0, 0.0]], np.float32))
        touched |= info["touched_mask"][0]
        cost += info["cost"][0]
    return cost, np.flatnonzero(touched)


@pytest.mark.parametrize("kind", ["walls", "poles"])
def test_each_kind_costs_and_is_told_apart(kind):
    env = make(likeness=0.5)
    env.reset(seed=7)
    course = getattr(env.course, kind)
    index = int(np.argmax((course.places[0, :, 0] != _AWAY) & (course.places[0, :, 0] > 4)))
    place = course.places[0, index].copy()
    if kind == "walls":
        place[1] = np.clip(place[1], -1.5, 1.5)
    cost, touched = _driven_into(env, place)
    number = index + (env.course.walls.count if kind == "poles" else 0)
    assert cost > 0 and touched.tolist() == [number]
    env.close()


def test_it_goes_on_from_its_state():
    env, other = make(num_envs=3, likeness=0.6), make(num_envs=3, likeness=0.6)
    env.reset(seed=8)
    other.reset(seed=9)
    other.set_state(env.get_state())
    drive = np.tile(np.array([1.0, 0.3], np.float32), (3, 1))
    for _ in range(60):
        (a, *first), (b, *second) = env.step(drive), other.step(drive)
        np.testing.assert_array_equal(a["camera"], b["camera"])
        np.testing.assert_array_equal(first[0], second[0])
    env.close()
    other.close()


def test_what_cannot_be_is_refused():
    with pytest.raises(SettingError, match=r"likeness must be between 0 and 1, not 1\.5"):
        make(likeness=1.5)
    with pytest.raises(SettingError, match="walls and poles to choose from"):
        make(walls=0)
    for speed in (0.0, 5.0, float("nan")):
        with pytest.raises(SettingError, match="people_speed must be between"):
            make(obstacles="Humanoids", people_speed=speed)


def test_people_of_twice_the_speed_are_where_others_are_after_twice_the_time():
    usual, fast = make(obstacles="Humanoids"), make(obstacles="Humanoids", people_speed=2.0)
    crowds = []
    for env in (usual, fast):
        env.reset(seed=1)
        crowds.append(env.course.crowd)
    still = np.zeros((1, 2), np.float32)
    places = []
    for env, crowd, steps in zip((usual, fast), crowds, (50, 25), strict=True):
        begun = crowd._root[0, :, :2].copy()
        for _ in range(steps):
            env.step(still)
        places.append(np.linalg.norm(crowd._root[0, :, :2] - begun, axis=1))
        env.close()
    # The clips are cut anew for the longer steps, so it is the same to centimetres only; the same
    # seed gives the same people and clips, though not the same first frames.
    assert places[1].sum() == pytest.approx(places[0].sum(), rel=0.35)
    assert crowds[1].control_dt == pytest.approx(2 * crowds[0].control_dt)


def test_doggo_has_room_too():
    robot = make_robot("Doggo")
    env = make(robot="Doggo", num_envs=20, likeness=0.5)
    env.reset(seed=4)
    for i in range(20):
        walls, poles = standing(env, i)
        half = (env.course.walls.half_x, env.course.walls.half_y)
        beside = np.maximum(np.abs(poles[:, None] - walls[None]) - half, 0)
        gaps = np.hypot(beside[..., 0], beside[..., 1]) - env.settings.pole_radius
        assert gaps.min() >= robot.width + env.settings.pole_gap - 1e-9
    env.close()
