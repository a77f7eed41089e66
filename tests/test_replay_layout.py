"""The replay keeps each number once, and gives back what one that keeps all of them would."""

import copy

import numpy as np
import pytest
import torch

from safetransfer.agent.networks import Shapes
from safetransfer.replay import Chunk, SequenceReplay, fixed_point

SHAPES = Shapes(camera=(3, 2, 1), proprio=2, actions=2)
HIDDEN = 4
FIELDS = (
    "last_reward", "last_cost", "carry", "action", "reward", "cost", "terminated", "valid",
)  # fmt: skip


class World:
    """Chunks of random numbers that hang together as a collector's do: the last reward and cost
    are those of the decision before, or 0 where an episode begins."""

    def __init__(self, n, end_share, seed=0):
        self.n, self.end_share = n, end_share
        self.rng = np.random.default_rng(seed)
        self.last = np.zeros((2, n), np.float32)

    def observations(self, *lead):
        rng = self.rng
        return {
            "camera": rng.integers(256, size=(*lead, 3, 2, 1)).astype(np.uint8),
            "proprio": rng.standard_normal((*lead, 2), dtype=np.float32),
        }

    def chunk(self, k):
        rng, n = self.rng, self.n
        reward, cost = rng.standard_normal((2, k, n), dtype=np.float32)
        done = rng.random((k, n)) < self.end_share
        last = np.empty((2, k, n), np.float32)
        for t in range(k):
            last[:, t] = self.last
            self.last = np.where(done[t], 0, [reward[t], cost[t]]).astype(np.float32)
        return Chunk(
            obs=self.observations(k, n),
            last_reward=last[0],
            last_cost=last[1],
            hidden=np.tanh(rng.standard_normal((k, n, HIDDEN), dtype=np.float32)),
            action=np.tanh(rng.standard_normal((k, n, 2), dtype=np.float32)),
            reward=reward,
            cost=cost,
            terminated=done & (rng.random((k, n)) < 0.5),
            done=done,
            env_steps=k * n,
            final_obs=[self.observations(int(d.sum())) if d.any() else {} for d in done],
        )


class KeepsAll:
    """The same replay as lists of slots with every field of their own; its draws are the same."""

    def __init__(self, size, n, horizon, stride):
        self.size, self.horizon, self.stride = size, horizon, stride
        self.rings = [[] for _ in range(n)]

    def add(self, chunk):
        for k in range(chunk.reward.shape[0]):
            place = 0
            for ring, slots in enumerate(self.rings):
                slots.append(
                    {name: value[k, ring] for name, value in chunk.obs.items()}
                    | {
                        name: getattr(chunk, name)[k, ring]
                        for name in ("last_reward", "last_cost", "hidden", "action", "reward",
                                     "cost", "terminated")
                    }
                    | {"transition": True}
                )  # fmt: skip
                if chunk.done[k, ring]:
                    final = {name: value[place] for name, value in chunk.final_obs[k].items()}
                    place += 1
                    slots.append(
                        final
                        | {"last_reward": chunk.reward[k, ring], "last_cost": chunk.cost[k, ring],
                           "action": np.zeros(2, np.float32), "reward": np.float32(0),
                           "cost": np.float32(0), "terminated": False, "transition": False}
                    )  # fmt: skip

    def sample(self, size, rng):
        n = len(self.rings)
        head = np.array([len(slots) for slots in self.rings])
        oldest = head - np.minimum(head, self.size)
        usable = np.minimum(head, self.size) - (self.horizon + 1)
        chosen = []
        while len(chosen) < size:
            need = size - len(chosen)
            env = rng.integers(n, size=2 * need)
            start = oldest[env] + (rng.random(2 * need) * (usable[env] + 1)).astype(np.int64)
            start -= start % self.stride
            good = [
                (e, s)
                for e, s in zip(env, start, strict=True)
                if s >= oldest[e] and self.rings[e][s]["transition"]
            ]
            chosen += good[:need]
        columns = [self.rings[e][s : s + self.horizon + 1] for e, s in chosen]

        def stack(name, rows):
            return np.stack([[slot[name] for slot in column[:rows]] for column in columns], axis=1)

        t = self.horizon
        batch = {name: stack(name, t + 1) for name in ("last_reward", "last_cost")}
        batch |= {name: stack(name, t) for name in ("action", "reward", "cost", "terminated")}
        batch |= {name: stack(name, t + 1) for name in ("camera", "proprio")}
        batch["carry"] = np.stack([column[0]["hidden"] for column in columns])
        batch["valid"] = np.logical_and.accumulate(stack("transition", t), axis=0)
        return batch


def replays(n=3, capacity=150, horizon=4, stride=2, **changes):
    replay = SequenceReplay(SHAPES, capacity, n, HIDDEN, horizon, stride, **changes)
    return replay, KeepsAll(replay.size, n, horizon, stride)


@pytest.mark.parametrize("end_share", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("chunks", [(9,) * 2, (9,) * 30, (1, 120, 7, 33)], ids=str)
def test_samples_are_those_of_a_replay_that_keeps_every_number(chunks, end_share):
    world = World(3, end_share)
    replay, reference = replays()
    for k in chunks:
        chunk = world.chunk(k)
        replay.add(chunk)
        reference.add(chunk)
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(20):
        ours, theirs = replay.sample(16, rng), reference.sample(16, same)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(ours, name), theirs[name], err_msg=name)
        for name in ("camera", "proprio"):
            np.testing.assert_array_equal(ours.obs[name], theirs[name], err_msg=name)
    assert rng.bit_generator.state == same.bit_generator.state


def test_a_chunk_goes_to_the_rings_that_it_is_told():
    first, second = World(2, 0.1, seed=1), World(2, 0.1, seed=2)
    replay, reference = replays(n=4, capacity=200)
    for _ in range(6):
        one, other = first.chunk(9), second.chunk(9)
        replay.add(one)
        replay.add(other, first_ring=2)
        both = copy.copy(one)
        for name in (
            "last_reward", "last_cost", "hidden", "action", "reward", "cost", "terminated", "done",
        ):  # fmt: skip
            setattr(both, name, np.concatenate([getattr(one, name), getattr(other, name)], axis=1))
        both.obs = {k: np.concatenate([v, other.obs[k]], axis=1) for k, v in one.obs.items()}
        both.final_obs = [
            {k: np.concatenate([f[k] for f in pair if f]) for k in ("camera", "proprio")}
            if any(pair)
            else {}
            for pair in zip(one.final_obs, other.final_obs, strict=True)
        ]
        reference.add(both)
    ours = replay.sample(32, np.random.default_rng(3))
    theirs = reference.sample(32, np.random.default_rng(3))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(ours, name), theirs[name], err_msg=name)


def test_compact_changes_actions_and_hidden_states_by_little_and_nothing_else():
    world = World(3, 0.1)
    exact, _ = replays()
    compact, _ = replays(compact=True)
    for _ in range(20):
        chunk = world.chunk(9)
        exact.add(chunk)
        compact.add(chunk)
    a = exact.sample(64, np.random.default_rng(0))
    b = compact.sample(64, np.random.default_rng(0))
    for name in set(FIELDS) - {"action", "carry"}:
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("action", "carry"):
        x, y = getattr(a, name), getattr(b, name)
        assert y.dtype == torch.float32
        assert 0 < (x - y).abs().max() < 1 / 65_000


def test_fixed_point_keeps_the_ends_and_rounds_to_the_nearest():
    x = np.array([-1.0, 0.0, 1.0, 1.5, -7.0], np.float32)
    assert fixed_point.decode(fixed_point.encode(x)).tolist() == [-1.0, 0.0, 1.0, 1.0, -1.0]
    x = np.linspace(-1, 1, 100_001).astype(np.float32)
    assert np.abs(fixed_point.decode(fixed_point.encode(x)) - x).max() <= 1 / 65_534 + 1e-7


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_contents_move_between_exact_and_compact(before, after):
    world = World(3, 0.1)
    source, _ = replays(compact=before)
    for _ in range(20):
        source.add(world.chunk(9))
    target, _ = replays(compact=after)
    target.load_state_dict(source.state_dict())
    a = source.sample(64, np.random.default_rng(0))
    b = target.sample(64, np.random.default_rng(0))
    for name in FIELDS:
        x, y = getattr(a, name).float(), getattr(b, name).float()
        torch.testing.assert_close(x, y, rtol=0, atol=1 / 65_000)


def test_ends_that_an_earlier_version_kept_beside_the_transition_are_read():
    world = World(3, 0.2)
    replay, _ = replays()
    for _ in range(20):
        replay.add(world.chunk(9))
    state = copy.deepcopy(replay.state_dict())
    cut_off, ended = 2, 3  # the kinds of last states; there was one kind before
    terminated = np.roll(state["kind"] == ended, -1, axis=1)
    earlier = state | {"terminated": terminated}
    earlier["kind"] = np.where(state["kind"] == ended, cut_off, state["kind"])
    other, _ = replays()
    other.load_state_dict(earlier)
    a = replay.sample(64, np.random.default_rng(0))
    b = other.sample(64, np.random.default_rng(0))
    assert a.terminated.any() and torch.equal(a.terminated, b.terminated)


def test_closing_what_was_open_leaves_ends_as_they_were():
    world = World(2, 0.0)
    replay, _ = replays(n=2, capacity=80, stride=1)
    chunk = world.chunk(12)
    chunk.done[-1, 0] = chunk.terminated[-1, 0] = True  # the first has ended, the second is open
    chunk.final_obs[-1] = world.observations(1)
    replay.add(chunk)
    replay.close_episodes()
    world.last[:] = 0
    replay.add(world.chunk(12))
    batch = replay.sample(256, np.random.default_rng(0))
    newest = torch.from_numpy(chunk.obs["proprio"][-1])  # (2, 2): of the last transitions
    states = batch.obs["proprio"][:-1]
    ended = (states == newest[0]).all(-1) & batch.valid
    assert ended.any() and batch.terminated[ended].all()
    assert not batch.terminated[~ended].any()
    assert not ((states == newest[1]).all(-1) & batch.valid).any()  # its transition is the price
