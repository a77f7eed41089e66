"""Gymnasium finds, makes and accepts the environments."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import safetransfer  # noqa: F401  (registers)
from safetransfer.envs.registration import env_id, env_names, parse_env_name
from safetransfer.errors import UnknownNameError


@pytest.mark.parametrize("name", env_names())
def test_gymnasiums_checker_passes_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id(name))
        check_env(env.unwrapped)


@pytest.mark.parametrize("name", env_names())
def test_vectors_are_made_step_and_stay_in_their_spaces(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gymnasium.make_vec(
            env_id(name), num_envs=3, vectorization_mode="vector_entry_point", max_steps=4
        )
        envs.action_space.seed(0)
        observation, info = envs.reset(seed=0)
        assert observation in envs.observation_space
        for _ in range(6):
            observation, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
            assert observation in envs.observation_space
            assert np.isfinite(observation["proprio"]).all() and np.isfinite(reward).all()
            assert terminated.dtype == truncated.dtype == np.bool_
            assert info["cost"].shape == (3,)


def test_gymnasiums_own_vector_gives_the_same_first_step():
    settings = {"camera_width": 8, "camera_height": 8}
    ours = gymnasium.make_vec("safetransfer/PointWalls-v0", num_envs=1, **settings)
    theirs = gymnasium.make_vec(
        "safetransfer/PointWalls-v0", num_envs=1, vectorization_mode="sync", **settings
    )
    a, b = ours.reset(seed=5)[0], theirs.reset(seed=5)[0]
    np.testing.assert_array_equal(a["camera"], b["camera"])
    action = np.ones((1, 2), np.float32)
    assert ours.step(action)[1] == theirs.step(action)[1]


def test_gymnasiums_vector_wrappers_work():
    envs = gymnasium.make_vec("safetransfer/PointPoles-v0", num_envs=2, max_steps=3)
    envs = DictInfoToList(RecordEpisodeStatistics(envs))
    envs.reset(seed=0)
    for _ in range(3):
        *_, info = envs.step(np.zeros((2, 2), np.float32))
    assert info[0]["episode"]["l"] == 3
    assert info[1]["final_obs"]["camera"].shape == (50, 50, 1)


def test_names_and_ids():
    assert parse_env_name("PointHumanoids") == ("Point", "Humanoids")
    assert parse_env_name("safetransfer/PointWalls-v0") == ("Point", "Walls")
    assert parse_env_name("PointEmpty") == ("Point", "Empty")
    assert parse_env_name("DoggoHumanoids") == ("Doggo", "Humanoids")
    with pytest.raises(UnknownNameError, match="Did you mean 'PointWalls'"):
        parse_env_name("PointWals")


def test_unknown_settings_list_the_known():
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(UnknownNameError, match="pole_radius"):
            make("safetransfer/PointPoles-v0", pole_radios=0.2)


def test_render_mode_gives_pictures():
    env = gymnasium.make("safetransfer/PointWalls-v0", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (360, 480, 3)


@pytest.mark.parametrize("name", ["PointMixed", "DoggoEmpty"])
def test_an_unknown_hallway_is_answered_with_those_that_need_no_registering_too(name):
    with pytest.raises(UnknownNameError, match=rf"Did you mean '{name}'.*Known: .*PointPoles"):
        parse_env_name(name + "s")


@pytest.mark.parametrize("name", ["PointEmpty", "DoggoEmpty", "PointMixed"])
def test_hallways_for_learning_and_for_studies_are_known_to_gymnasium_too(name):
    env = gymnasium.make(f"safetransfer/{name}-v0")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.close()
