"""The collector against a scripted pair of environments whose every number is known."""

import pickle

import numpy as np

from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.replay import SequenceReplay
from safetransfer.training.collector import Collector
from safetransfer.training.settings import preset

LENGTHS = (3, 5)  # transitions of an episode of each environment
REPEAT = 2  # environment steps of a decision


class Scripted:
    """Two environments. Observations count 100 per episode and 1 per decision (1000 more in the
    second environment). The first one's episodes terminate, the second one's are truncated."""

    num_envs = 2

    def __init__(self):
        self.episode, self.age = np.zeros(2, int), np.zeros(2, int)

    def observe(self):
        value = 100 * self.episode + self.age + np.array([0, 1000])
        return {"proprio": value[:, None].astype(np.float32)}

    def reset(self, *, seed=None):
        return self.observe(), {"full_start": np.array([True, False])}

    def step(self, action):
        self.age += 1
        reward, cost = self.age * 10.0, self.age * 1.0
        over = self.age == LENGTHS
        terminated, truncated = over & [True, False], over & [False, True]
        final = self.observe()
        final_info = {"steps": self.age * REPEAT}
        self.episode[over] += 1
        self.age[over] = 0
        info = {
            "cost": cost,
            "steps": self.age * REPEAT,
            "full_start": np.array([True, False]),
            "final_obs": final,
            "final_info": final_info,
        }
        return self.observe(), reward, terminated, truncated, info


class Stateful(Scripted):
    def get_state(self):
        return {"episode": self.episode.copy(), "age": self.age.copy()}

    def set_state(self, state):
        self.episode, self.age = state["episode"].copy(), state["age"].copy()


class Remembering:
    """An actor whose hidden state counts its decisions since it was last reset."""

    def initial_carry(self, n):
        return np.zeros((n, 1), np.float32)

    def act(self, obs, last_reward, last_cost, carry, rng):
        return obs["proprio"] / 1000, carry + 1


class Noisy(Remembering):
    """Its actions are the factors on its noise."""

    def act(self, obs, last_reward, last_cost, carry, rng, noise_scale):
        return noise_scale[:, None].copy(), carry + 1


def collected(decisions=12):
    collector = Collector(Scripted(), Remembering(), seed=0, reward_scale=0.5, gamma=0.5)
    return collector, collector.collect(decisions)


def test_decisions_feedback_and_hidden_states_stand_in_order():
    _, chunk = collected()
    for env, length in enumerate(LENGTHS):
        age = np.arange(12) % length
        episode = np.arange(12) // length
        expected = 100 * episode + age + 1000 * env
        assert (chunk.obs["proprio"][:, env, 0] == expected).all()
        np.testing.assert_allclose(chunk.action[:, env, 0], expected / 1000, rtol=1e-6)
        assert (chunk.reward[:, env] == 10 * (age + 1)).all()
        assert (chunk.cost[:, env] == age + 1).all()
        # What was earned and cost just before, and nothing at an episode's start.
        assert (chunk.last_reward[:, env] == 10 * age).all()
        assert (chunk.last_cost[:, env] == age).all()
        assert (chunk.hidden[:, env, 0] == age).all()
        assert (chunk.done[:, env] == (age == length - 1)).all()
        assert (chunk.terminated[:, env] == chunk.done[:, env] * (env == 0)).all()
    assert chunk.env_steps == 2 * 12 * REPEAT


def test_the_last_observation_of_an_episode_is_its_own_not_the_next_one_s():
    _, chunk = collected()
    for t in range(12):
        ended = np.nonzero(chunk.done[t])[0]
        got = chunk.final_obs[t]["proprio"][:, 0] if len(ended) else []
        expected = [100 * (t // LENGTHS[e]) + LENGTHS[e] + 1000 * e for e in ended]
        assert list(got) == expected


def test_episodes_are_summed_up():
    _, chunk = collected()
    first = [e for e in chunk.episodes if e.full_start]
    second = [e for e in chunk.episodes if not e.full_start]
    assert (len(first), len(second)) == (4, 2)
    # 10 + 20 + 30; 1 + 2 + 3; discounted and scaled: 5 + 10 / 2 + 15 / 4
    assert {(e.episode_return, e.cost, e.length) for e in first} == {(60.0, 6.0, 3 * REPEAT)}
    assert {e.discounted_return for e in first} == {5 + 10 / 2 + 15 / 4}
    assert {(e.episode_return, e.cost, e.length) for e in second} == {(150.0, 15.0, 5 * REPEAT)}
    assert [e.first_obs["proprio"][0] for e in second] == [1000, 1100]
    assert [float(e.first_action[0]) for e in first] == [0.0, np.float32(0.1), np.float32(0.2),
                                                         np.float32(0.3)]  # fmt: skip


def test_two_calls_are_one_longer_one():
    collector, early = collected(4)
    late = collector.collect(8)
    _, whole = collected(12)
    for name in ("last_reward", "last_cost", "hidden", "action", "reward", "cost", "done"):
        joined = np.concatenate([getattr(early, name), getattr(late, name)])
        assert (joined == getattr(whole, name)).all(), name
    assert early.env_steps + late.env_steps == whole.env_steps
    assert len(early.episodes) + len(late.episodes) == len(whole.episodes)


def test_what_the_replay_makes_of_it():
    """Costs line up with the feedback of the next state; a truncated episode keeps its last one."""
    _, chunk = collected()
    replay = SequenceReplay(Shapes(None, 1, 1), 80, 2, 1, horizon=5, stride=1)
    replay.add(chunk)
    rng = np.random.default_rng(0)
    saw_last_of_truncated = False
    for _ in range(50):
        batch = replay.sample(8, rng)
        valid = batch.valid.numpy()
        assert (batch.last_cost.numpy()[1:][valid] == batch.cost.numpy()[valid]).all()
        assert (batch.last_reward.numpy()[1:][valid] == batch.reward.numpy()[valid]).all()
        x = batch.obs["proprio"].numpy()[..., 0]
        assert (np.diff(x, axis=0)[valid] == 1).all()
        last_of_truncated = (x[1:] >= 1000) & (x[1:] % 100 == LENGTHS[1]) & valid
        assert not batch.terminated.numpy()[last_of_truncated].any()
        saw_last_of_truncated |= bool(last_of_truncated.any())
    assert saw_last_of_truncated


def test_a_share_of_whole_episodes_is_acted_by_the_mode():
    collector = Collector(Scripted(), Noisy(), 0, 1.0, 1.0, mode_episodes=0.25)
    scale = collector.collect(1500).action[:, :, 0]
    episodes = [scale[:, e].reshape(-1, length) for e, length in enumerate(LENGTHS)]
    assert all((x == x[:, :1]).all() for x in episodes)  # all of an episode, or none of it
    firsts = np.concatenate([x[:, 0] for x in episodes])
    assert set(firsts) == {0.0, 1.0}
    assert abs(firsts.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / len(firsts))


def test_which_episodes_are_by_the_mode_is_kept_with_them():
    first = Collector(Stateful(), Noisy(), 0, 1.0, 1.0, mode_episodes=0.5)
    first.collect(4)
    second = Collector(Stateful(), Noisy(), 1, 1.0, 1.0, mode_episodes=0.5)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert (first.collect(50).action == second.collect(50).action).all()


def test_without_noise_the_actor_takes_its_mode():
    agent = Agent(Shapes(None, 3, 2), preset("smoke").agent)
    state = ({"proprio": np.ones((3, 3), np.float32)}, *np.zeros((2, 3), np.float32),
             agent.actor.initial_carry(3))  # fmt: skip
    mode, _ = agent.actor.act(*state)
    scale = np.array([0, 1, 0], np.float32)
    mixed, _ = agent.actor.act(*state, np.random.default_rng(0), scale)
    sampled, _ = agent.actor.act(*state, np.random.default_rng(0))
    assert (mixed[[0, 2]] == mode[[0, 2]]).all()
    assert (mixed[1] == sampled[1]).all() and (mixed[1] != mode[1]).any()
