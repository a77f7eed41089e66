"""A simulation that breaks down ends its episode, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from safetransfer.envs.hallway import HallwayEnv, HallwayVectorEnv
from safetransfer.envs.robots import robot_names
from safetransfer.envs.settings import HallwaySettings

BROKEN = 1


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """MuJoCo writes its warning to a file in the working directory."""
    monkeypatch.chdir(tmp_path)


def make(robot, mode=AutoresetMode.SAME_STEP, **settings):
    settings = HallwaySettings(robot=robot, start_anywhere=1.0, **settings)
    env = HallwayVectorEnv(settings, 3, autoreset_mode=mode)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.ones(env.action_space.shape))
    return env


def push(env, force=1e16):
    """Push hallway BROKEN's robot so hard that MuJoCo gives up and resets it to the defaults."""
    env.batch.bind("qfrc_applied")[BROKEN, 0] = force


@pytest.mark.parametrize("course", ["Walls", "Humanoids"])
@pytest.mark.parametrize("robot", robot_names())
def test_its_episode_is_truncated_where_the_step_began(robot, course):
    env, twin = make(robot, obstacles=course), make(robot, obstacles=course)
    qpos = env.batch.bind("qpos").copy()
    before = env.observe()
    push(env)
    action = np.ones(env.action_space.shape)
    observation, reward, terminated, truncated, info = env.step(action)
    assert truncated.tolist() == info["unstable"].tolist() == [False, True, False]
    assert not terminated.any() and reward[BROKEN] == 0.0
    assert info["final_info"]["progress"][BROKEN] == qpos[BROKEN, 0]
    final = info["final_obs"]
    assert all(np.isfinite(value).all() for value in (*final.values(), *observation.values()))
    if course == "Walls":  # people have moved on
        np.testing.assert_array_equal(final["camera"][BROKEN], before["camera"][BROKEN])

    # The others go on as if nothing had happened, and so does the next episode.
    expected = twin.step(action)
    others = [0, 2]
    np.testing.assert_array_equal(reward[others], expected[1][others])
    for key, value in observation.items():
        np.testing.assert_array_equal(value[others], expected[0][key][others])
    assert info["steps"][BROKEN] == 0
    for _ in range(3):
        _, _, _, truncated, info = env.step(action)
        assert not truncated.any() and not info["unstable"].any()
    assert info["steps"][BROKEN] == 3


def test_numbers_that_are_none_are_caught_as_well():
    env = make("Doggo")
    push(env, np.nan)
    *_, truncated, info = env.step(np.zeros(env.action_space.shape))
    assert truncated.tolist() == info["unstable"].tolist() == [False, True, False]


def test_an_action_that_is_repeated_ends_with_the_control_step_that_broke():
    env = make("Doggo", action_repeat=4, obstacles="Empty")
    advance, slices = env.course.advance, []

    def push_in_the_third_control_step(active):
        slices.append(active.copy())
        if len(slices) == 2 * env.robot.slices + 1:
            push(env)
        advance(active)

    env.course.advance = push_in_the_third_control_step
    before = env.batch.bind("qpos")[BROKEN, 0]
    _, reward, _, _, info = env.step(np.ones(env.action_space.shape))
    assert info["unstable"].tolist() == [False, True, False]
    assert info["final_info"]["steps"].tolist() == [24, 23, 24]
    progress = info["final_info"]["progress"][BROKEN] - before  # of the first two
    assert reward[BROKEN] == pytest.approx(1000 * progress / 24) and progress != 0


def test_without_automatic_reset_it_waits_for_the_caller():
    env = make("Doggo", AutoresetMode.DISABLED)
    qpos = env.batch.bind("qpos").copy()
    push(env)
    env.step(np.ones(env.action_space.shape))
    np.testing.assert_array_equal(env.batch.bind("qpos")[BROKEN], qpos[BROKEN])
    _, info = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert not info["unstable"].any()
    assert not env.step(np.zeros(env.action_space.shape))[4]["unstable"].any()


def test_a_single_hallway_says_so_too():
    env = HallwayEnv(robot="Doggo")
    env.reset(seed=0)
    env.hallway.batch.bind("qfrc_applied")[0, 0] = 1e16
    *_, terminated, truncated, info = env.step(np.zeros(12))
    assert truncated and not terminated and info["unstable"]
