"""Any registered environment as collectors see it: right numbers, or refused by name."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import toy_environments as toys
from gymnasium.vector import AutoresetMode

from safetransfer.agent.networks import Shapes
from safetransfer.envs.gym_env import GymVectorEnv
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.naming import canonical, directory_name, settings_for
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError, TrainingError, UnknownNameError
from safetransfer.training.build import check_equal_spaces, shapes_of

HIGH = np.ones((2, 2), np.float32)


def made(entry=toys.Counting, num_envs=2, steps=100, settings=None, **kwargs) -> GymVectorEnv:
    env_id = toys.register("Made", entry, steps, **kwargs)
    return GymVectorEnv(GymSettings(env_id, **(settings or {})), num_envs)


@pytest.mark.parametrize("vector", ["sync", "async"])
def test_steps_costs_and_the_last_observation_of_an_episode(vector):
    env = made(settings={"vector": vector})
    obs, info = env.reset(seed=0)
    assert (obs["proprio"] == 0).all() and "camera" not in obs
    assert info["full_start"].all() and (info["steps"] == 0).all()
    for t in range(1, toys.LENGTH + 1):
        obs, reward, terminated, truncated, info = env.step(HIGH)
        assert (reward == t).all() and (info["cost"] == 10 * t).all()
        assert terminated.all() == (t == toys.LENGTH) and not truncated.any()
        assert (info["steps"] == t % toys.LENGTH).all()
    assert (obs["proprio"] == 0).all()  # the next episode has begun
    assert (info["final_obs"]["proprio"] == [[5, 2.5], [5, 2.5]]).all()
    assert (info["final_info"]["steps"] == 5).all()
    env.close()


def test_actions_are_rescaled_to_the_environment_s_bounds_and_clipped():
    env = made(num_envs=1)
    env.reset(seed=0)
    taken = env._env.envs[0].unwrapped.actions
    taken.clear()
    for action in ([-1, -1], [0, 0], [1, 1], [9, -9], [0.5, 0.1]):
        env.step(np.array([action], np.float32))
    np.testing.assert_allclose(
        taken, [[-2, 0], [0, 5], [2, 10], [2, 0], [1, 5.5]], rtol=1e-6, atol=1e-6
    )
    assert all(a.dtype == np.float32 for a in taken)


def test_action_repeat_sums_up_and_stops_where_the_episode_ends():
    env = made(settings={"action_repeat": 3})
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(HIGH)
    assert (reward == 1 + 2 + 3).all() and (info["cost"] == 60).all() and not terminated.any()
    _, reward, terminated, _, info = env.step(HIGH)
    assert (reward == 4 + 5).all() and (info["cost"] == 90).all() and terminated.all()
    assert (info["final_info"]["steps"] == 5).all()


@pytest.mark.parametrize(
    ("steps", "settings"), [(4, {}), (None, {"max_steps": 4}), (50, {"max_steps": 4})]
)
def test_an_episode_is_truncated_as_registered_or_as_set(steps, settings):
    env = made(steps=steps, settings=settings)
    env.reset(seed=0)
    ends = [env.step(HIGH)[2:4] for _ in range(4)]
    assert [bool(t.all()) for _, t in ends] == [False, False, False, True]
    assert not any(t.any() for t, _ in ends)
    assert env.max_steps == 4


def test_an_episode_that_an_environment_cuts_off_itself_is_truncated():
    class Cut(toys.Counting):
        def step(self, action):
            observation, reward, ended, _, info = super().step(action)
            return observation, reward, False, ended, info

    env = made(Cut)
    env.reset(seed=0)
    for t in range(1, toys.LENGTH + 1):
        _, _, terminated, truncated, info = env.step(HIGH)
        assert not terminated.any() and truncated.all() == (t == toys.LENGTH)
    assert (info["final_info"]["steps"] == toys.LENGTH).all()


def test_each_environment_has_a_seed_of_its_own():
    class Drawing(toys.Counting):
        def observation(self):
            return self.np_random.random(2)

    env = made(Drawing, num_envs=3)
    first = env.reset(seed=1)[0]["proprio"]
    assert len(np.unique(first[:, 0])) == 3
    other = env.reset(seed=2)[0]["proprio"]
    assert not np.isin(other, first).any()
    np.testing.assert_array_equal(env.reset(seed=1)[0]["proprio"], first)


def test_an_episode_that_might_never_end_is_refused():
    with pytest.raises(SettingError, match=r"Made-v0.*--env.max_steps"):
        made(steps=None)


def test_a_dict_is_an_image_and_its_vectors_in_order():
    env = made(observations=toys.BOTH)
    env.reset(seed=0)
    obs, *_ = env.step(HIGH)
    assert obs["camera"].shape == (2, 20, 24, 3) and (obs["camera"] == 1).all()
    assert obs["proprio"].dtype == np.float32
    assert (obs["proprio"] == [1, 0.5, 7]).all()
    assert shapes_of(env) == Shapes((20, 24, 3), 3, 2)


def test_an_image_alone():
    env = made(observations=toys.IMAGE)
    env.reset(seed=0)
    for _ in range(toys.LENGTH):
        obs, *_, info = env.step(HIGH)
    assert (obs["camera"] == 0).all() and (info["final_obs"]["camera"] == 5).all()
    assert shapes_of(env) == Shapes((20, 24, 3), 0, 2)


def test_six_values_in_safety_gymnasium_s_manner():
    env = made(toys.SixValues)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(HIGH)
    assert (reward == 1).all() and (info["cost"] == 10).all()


def test_the_key_of_the_cost_can_be_named_or_be_none():
    env = made(cost="danger", settings={"cost_key": "danger"})
    env.reset(seed=0)
    assert (env.step(HIGH)[4]["cost"] == 10).all()
    env = made(cost=None, settings={"cost_key": None})
    env.reset(seed=0)
    assert (env.step(HIGH)[4]["cost"] == 0).all()


def test_an_environment_s_own_vector_is_used_where_it_resets_in_the_same_step():
    env = made(vector=toys.CountingVector)
    assert isinstance(env._env, toys.CountingVector)
    env.reset(seed=0)
    for _ in range(toys.LENGTH):
        obs, reward, terminated, _, info = env.step(HIGH)
    assert terminated.tolist() == [True, False] and (reward == 5).all()
    assert (info["cost"] == 50).all() and info["steps"].tolist() == [0, 5]
    assert (obs["proprio"] == [[0, 0], [5, 2.5]]).all()
    assert (info["final_obs"]["proprio"][0] == [5, 2.5]).all()
    assert info["final_info"]["steps"][0] == 5


def test_an_own_vector_that_resets_in_the_next_step_gives_way_to_single_ones():
    def next_step(num_envs=1, **kwargs):
        return toys.CountingVector(num_envs, AutoresetMode.NEXT_STEP)

    assert isinstance(made(vector=next_step)._env, gymnasium.vector.SyncVectorEnv)
    with pytest.raises(SettingError, match="only a vector of its own"):
        made(None, vector=next_step)


def test_our_own_hallways_work_through_the_same_door():
    settings = GymSettings("safetransfer/PointPoles-v0", max_steps=1000)
    env = GymVectorEnv(settings, 1)
    obs, _ = env.reset(seed=0)
    assert obs["camera"].shape == (1, 50, 50, 1) and obs["proprio"].shape == (1, 12)


@pytest.mark.parametrize("what", list(toys.UNSUPPORTED))
def test_what_is_not_supported_is_refused_by_name(what):
    kwargs, words = toys.UNSUPPORTED[what]
    with pytest.raises(SettingError, match=f"(?s)toys/Made-v0.*{words}"):
        made(**kwargs)


def test_what_an_environment_raises_comes_with_its_name():
    def broken(**kwargs):
        raise ZeroDivisionError("of its own")

    with pytest.raises(SettingError, match=r"toys/Made-v0: making it failed.*of its own"):
        made(broken)
    with pytest.raises(SettingError, match="no_such"):
        made(settings={"kwargs": {"no_such": 1}})
    with pytest.raises(SettingError, match="step failed"):
        made(length="x")


def test_numbers_that_are_not_finite_stop_the_run():
    env = made()
    env.reset(seed=0)
    env._env.envs[0].unwrapped.t = np.nan
    with pytest.raises(TrainingError, match=r"toys/Made-v0: its observation is not a finite"):
        env.step(HIGH)


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("reward", np.nan, "its reward is not a finite"),
        ("cost", np.inf, "its cost is not a finite"),
        ("cost", -1.0, "its cost is -1, .* not be negative"),
    ],
)
def test_a_reward_or_cost_that_cannot_be_stops_the_run(what, value, words):
    class Sick(toys.Counting):
        def step(self, action):
            observation, reward, *ends, info = super().step(action)
            if self.t == 2:
                reward, info = (value, info) if what == "reward" else (reward, {"cost": value})
            return observation, reward, *ends, info

    env = made(Sick)
    env.reset(seed=0)
    env.step(HIGH)
    with pytest.raises(TrainingError, match=f"toys/Made-v0: {words}"):
        env.step(HIGH)


def test_names():
    assert isinstance(settings_for("PointPoles"), HallwaySettings)
    assert canonical("safetransfer/PointPoles-v0") == "PointPoles"
    like = GymSettings("Pendulum-v1", action_repeat=3, cost_key="c")
    moved = settings_for("MountainCarContinuous-v0", like)
    assert (moved.id, moved.action_repeat, moved.cost_key) == ("MountainCarContinuous-v0", 3, "c")
    assert settings_for("PointPoles", like).action_repeat == 3
    assert directory_name("finetune-my.mod:ns/Env-v0") == "finetune-my.mod_ns_Env-v0"
    with pytest.raises(UnknownNameError, match=r"Pendulum-v1.*module:Name-v0"):
        settings_for("Pendulum-v7")
    with pytest.raises(UnknownNameError, match="Did you mean 'PointPoles'"):
        settings_for("PointPole")
    with pytest.raises(SettingError, match="importing no_such_module failed"):
        settings_for("no_such_module:Env-v0")
    with pytest.raises(SettingError, match="not the name of a Python module"):
        settings_for("a b:Env-v0")


def test_a_module_in_the_directory_of_the_command_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_me.py").write_text(
        "import gymnasium\ngymnasium.register('Beside-v0', 'beside_me:x', max_episode_steps=3)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert settings_for("beside_me:Beside-v0").name == "beside_me:Beside-v0"


def test_equal_spaces_are_told_from_others():
    one = GymSettings(toys.register("One"))
    same = GymSettings(toys.register("Same", length=9))
    check_equal_spaces([one, same])
    wide = gymnasium.spaces.Box(-3.0, 3.0, (2,))
    for kwargs, words in (
        ({"observations": toys.BOTH}, "eye: none, there image of 20 x 24 x 3"),
        ({"actions": wide}, r"actions: 2 within \[-2.0, 0.0\]"),
    ):
        other = GymSettings(toys.register("Other", **kwargs))
        with pytest.raises(SettingError, match=f"(?s)toys/One-v0 to toys/Other-v0.*{words}"):
            check_equal_spaces([one, same, other])
    with pytest.raises(SettingError, match="PointWalls"):
        check_equal_spaces([one, settings_for("PointWalls")])


def test_an_action_that_is_not_finite_is_not_the_environment_s_fault():
    env = made(num_envs=1)
    env.reset(seed=0)
    taken = env._env.envs[0].unwrapped.actions
    taken.clear()
    with pytest.raises(TrainingError, match="the agent's action is not a finite number"):
        env.step(np.array([[np.nan, 0.0]], np.float32))
    assert taken == []
