"""Our hallways in other libraries' hands: six values, a penalty for cost, Stable-Baselines3."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
import toy_environments as toys
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import safetransfer  # noqa: F401  (registers)
from safetransfer.envs.adapters import (
    CostPenalty,
    FiveTuple,
    SixTuple,
    SixTupleVector,
    safety_gymnasium_env,
    safety_gymnasium_vector,
)
from safetransfer.envs.registration import env_id, env_names
from safetransfer.errors import SettingError, UnknownNameError

FORWARD = np.array([1.0, 0.0], np.float32)


def plain(name: str, **settings) -> gymnasium.Env:
    return gymnasium.make(env_id(name), **settings).unwrapped


def test_six_values_are_the_five_with_the_cost_apart():
    six, five = safety_gymnasium_env("PointWalls"), plain("PointWalls")
    assert data_equivalence(six.reset(seed=3), five.reset(seed=3), exact=True)
    costs = []
    for _ in range(160):
        observation, reward, cost, terminated, truncated, info = six.step(FORWARD)
        expected = five.step(FORWARD)
        assert data_equivalence((observation, reward, terminated, truncated, info), expected)
        assert isinstance(cost, float) and cost == expected[4]["cost"]
        costs.append(cost)
    assert sum(costs) > 0, "the walk met no wall: it shows nothing"


def test_six_arrays():
    six = safety_gymnasium_vector("PointWalls", num_envs=2, max_steps=3)
    five = gymnasium.make_vec(env_id("PointWalls"), num_envs=2, max_steps=3)
    six.reset(seed=1)
    five.reset(seed=1)
    for _ in range(3):
        observation, reward, cost, *_, info = six.step(np.zeros((2, 2), np.float32))
        expected = five.step(np.zeros((2, 2), np.float32))
        assert (reward == expected[1]).all() and (cost == expected[4]["cost"]).all()
    final = info["final_observation"][0]
    assert (final["proprio"] == expected[4]["final_obs"][0]["proprio"]).all()
    assert (observation["camera"] == expected[0]["camera"]).all()


def test_the_cost_of_a_last_step_in_gymnasium_s_own_vectors():
    env = SixTupleVector(
        SyncVectorEnv([toys.Counting] * 2, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    )
    env.reset(seed=0)
    costs = [env.step(np.zeros((2, 2), np.float32))[2].tolist() for _ in range(toys.LENGTH)]
    assert costs == [[10.0 * t] * 2 for t in range(1, toys.LENGTH + 1)]


def test_there_and_back_is_the_same():
    env = FiveTuple(SixTuple(toys.Counting()))
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1:] == (1.0, False, False, {"cost": 10.0})


def test_a_penalty_takes_the_place_of_a_constraint():
    env = CostPenalty(toys.Counting(), weight=0.25)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == 2.0 - 0.25 * 20.0
    assert (info["reward"], info["cost"]) == (2.0, 20.0)
    with pytest.raises(SettingError, match="0 or greater"):
        CostPenalty(toys.Counting(), weight=-1.0)


def test_unknown_names_and_missing_costs():
    with pytest.raises(UnknownNameError, match="PointPoles"):
        safety_gymnasium_env("PointPole")
    with pytest.raises(UnknownNameError, match="pole_radius"):
        safety_gymnasium_vector("PointPoles", pole_radios=1.0)
    env = SixTuple(toys.Counting(cost=None))
    env.reset()
    with pytest.raises(SettingError, match="no 'cost'"):
        env.step(env.action_space.sample())


# --- Other people's checks ------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", env_names())
def test_gymnasium_s_checker_with_rendering(name):
    check_env(gymnasium.make(env_id(name), render_mode="rgb_array").unwrapped)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", env_names())
def test_stable_baselines_s_checker(name):
    sb3_check_env(plain(name), warn=True)
    sb3_check_env(CostPenalty(plain(name), 1.0), warn=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", env_names())
def test_the_vector_is_what_gymnasium_s_own_vectors_are(name):
    """Gymnasium has no checker of vectors: held against its Sync- and AsyncVectorEnv instead, in
    spaces, types, autoreset and infos, and against the single environment in numbers."""
    make = lambda: plain(name, max_steps=3)  # noqa: E731
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    ours = gymnasium.make_vec(env_id(name), num_envs=2, max_steps=3)
    for kind in (SyncVectorEnv, AsyncVectorEnv):
        theirs = kind([make, make], autoreset_mode=mode)
        try:
            assert ours.single_observation_space == theirs.single_observation_space
            assert ours.observation_space == theirs.observation_space
            assert ours.action_space == theirs.action_space
            assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
            ours.action_space.seed(0)
            # The same streams: hallway i of a list of seeds is a single hallway of that seed.
            mine, other = ours.reset(seed=[4, 5]), theirs.reset(seed=[4, 5])
            for _ in range(4):
                assert data_equivalence(mine[0], other[0], exact=True)
                action = ours.action_space.sample()
                mine, other = ours.step(action), theirs.step(action)
                assert data_equivalence(mine[1:4], other[1:4], exact=True)
                assert {k for k in other[4] if not k.startswith("_")} <= mine[4].keys()
                if "final_obs" in other[4]:
                    for a, b in zip(mine[4]["final_obs"], other[4]["final_obs"], strict=True):
                        assert data_equivalence(a, b, exact=True)
        finally:
            theirs.close()


def test_stable_baselines_trains_on_a_hallway_as_it_is():
    """Real SB3, MultiInputPolicy, no wrapper of ours but the penalty that stands for a limit."""
    env = CostPenalty(gymnasium.make(env_id("PointWalls"), max_steps=20), weight=1.0)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0)
    before = [p.detach().clone() for p in model.policy.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(total_timesteps=64)
    assert model.num_timesteps == 64
    after = list(model.policy.parameters())
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert len(model.ep_info_buffer) == 3  # episodes of 20 steps that ended in 64
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)
