"""The replay gives back what was put in, in order, and knows where episodes end."""

import numpy as np
import pytest

from safetransfer.agent.networks import Shapes
from safetransfer.errors import SettingError
from safetransfer.replay import Chunk, SequenceReplay
from safetransfer.replay.memory import replay_bytes

SHAPES = Shapes(camera=(2, 2, 1), proprio=1, actions=1)


class Feed:
    """Chunks of a made-up world: the proprioception counts all observations of an environment, the
    reward of a transition is the count before it, an episode ends after `lengths[env]` of them."""

    def __init__(self, lengths, terminate=True):
        self.lengths = np.array(lengths)
        self.n = len(lengths)
        self.count = np.zeros(self.n)
        self.age = np.zeros(self.n, int)
        self.terminate = terminate

    def chunk(self, k):
        c = {name: np.zeros((k, self.n), np.float32) for name in ("reward", "cost", "lr", "lc")}
        proprio = np.zeros((k, self.n, 1), np.float32)
        camera = np.zeros((k, self.n, 2, 2, 1), np.uint8)
        hidden = np.zeros((k, self.n, 3), np.float32)
        done = np.zeros((k, self.n), bool)
        finals = []
        for t in range(k):
            proprio[t, :, 0] = self.count
            camera[t] = (self.count % 256)[:, None, None, None]
            hidden[t] = self.count[:, None]
            c["reward"][t] = self.count
            c["cost"][t] = self.count % 2
            c["lr"][t] = np.where(self.age > 0, self.count - 1, 0)
            self.count += 1
            self.age += 1
            done[t] = self.age == self.lengths
            ended = np.nonzero(done[t])[0]
            finals.append(
                {
                    "proprio": self.count[ended, None].astype(np.float32),
                    "camera": np.zeros((len(ended), 2, 2, 1), np.uint8),
                }
                if len(ended)
                else {}
            )
            self.count[ended] += 1
            self.age[ended] = 0
        return Chunk(
            obs={"proprio": proprio, "camera": camera},
            last_reward=c["lr"],
            last_cost=c["lc"],
            hidden=hidden,
            action=proprio.copy(),
            reward=c["reward"],
            cost=c["cost"],
            terminated=done if self.terminate else np.zeros_like(done),
            done=done,
            env_steps=k * self.n,
            final_obs=finals,
        )


def replay_of(feed, capacity=400, horizon=5, stride=2, chunks=30, k=7):
    replay = SequenceReplay(SHAPES, capacity, feed.n, 3, horizon, stride)
    for _ in range(chunks):
        replay.add(feed.chunk(k))
    return replay


@pytest.mark.parametrize("chunks", [4, 40])  # before and after the rings have wrapped
def test_sequences_are_consecutive_and_stop_at_an_episode_s_end(chunks):
    lengths = [3, 11]
    replay = replay_of(Feed(lengths), capacity=100, chunks=chunks)
    rng = np.random.default_rng(0)
    ends_seen = 0
    for _ in range(20):
        batch = replay.sample(16, rng)
        x = batch.obs["proprio"][..., 0].numpy()
        valid = batch.valid.numpy()
        assert valid[0].all()
        # Observations of one ring are numbered without gaps, final ones included.
        assert (np.diff(x, axis=0)[valid] == 1).all()
        assert (batch.reward.numpy()[valid] == x[:-1][valid]).all()
        assert (batch.action.numpy()[..., 0][valid] == x[:-1][valid]).all()
        # The feedback at the next state is this transition's reward (the final state's too).
        assert (batch.last_reward.numpy()[1:][valid] == x[:-1][valid]).all()
        # The stored hidden state is that of the first step.
        assert (batch.carry.numpy() == x[0][:, None]).all()
        # A terminal transition is the last valid one of its sequence.
        terminal = batch.terminated.numpy() & valid
        assert not (terminal[:-1] & valid[1:]).any()
        ends_seen += terminal.sum()
        # Every third (or eleventh) transition ends an episode; the next number is its final state.
        position = x[:-1] % (lengths[0] + 1), x[:-1] % (lengths[1] + 1)
        assert (((position[0] == 2) | (position[1] == 10))[terminal]).all()
    assert ends_seen > 20


def test_old_experience_is_overwritten():
    feed = Feed([11])
    replay = replay_of(feed, capacity=100, chunks=60)
    batch = replay.sample(64, np.random.default_rng(0))
    newest = feed.count[0]
    assert batch.obs["proprio"].min() >= newest - replay.size
    assert batch.obs["proprio"].max() <= newest
    assert len(replay) == replay.size


def test_starts_are_spread_evenly():
    replay = replay_of(Feed([11, 11]), capacity=400, chunks=60)
    rng = np.random.default_rng(0)
    starts = np.concatenate([replay.sample(64, rng).carry[:, 0].numpy() for _ in range(100)])
    counts, _ = np.histogram(starts, bins=5)
    assert counts.min() > 0.7 * counts.max()


def test_too_small_a_replay_is_refused_and_so_is_an_empty_one():
    with pytest.raises(SettingError, match=r"train\.replay_size 20"):
        SequenceReplay(SHAPES, 20, 2, 3, horizon=5)
    with pytest.raises(SettingError, match="learning_starts"):
        SequenceReplay(SHAPES, 400, 2, 3, horizon=5).sample(4, np.random.default_rng(0))


def test_state_round_trip_and_size():
    feed = Feed([5, 9])
    replay = replay_of(feed)
    other = SequenceReplay(SHAPES, 400, 2, 3, 5, 2)
    other.load_state_dict(replay.state_dict())
    a = replay.sample(8, np.random.default_rng(1))
    b = other.sample(8, np.random.default_rng(1))
    assert (a.obs["proprio"] == b.obs["proprio"]).all() and (a.valid == b.valid).all()
    smaller = SequenceReplay(SHAPES, 200, 2, 3, 5, 2)
    with pytest.raises(SettingError, match="replay_size"):
        smaller.load_state_dict(replay.state_dict())
    predicted = replay_bytes(SHAPES, replay.size * 2, 3, 2)
    assert abs(replay.nbytes - predicted) <= 0.05 * predicted


def test_experience_of_another_world_does_not_join_open_episodes():
    feed = Feed([50, 50])  # long enough to be open when the contents are stored
    replay = replay_of(feed, capacity=400, chunks=4)
    seam = feed.count.copy()
    replay.close_episodes()
    feed.count += 1000  # the new run starts elsewhere
    feed.age[:] = 0
    for _ in range(4):
        replay.add(feed.chunk(7))
    rng = np.random.default_rng(0)
    for _ in range(50):
        batch = replay.sample(16, rng)
        x = batch.obs["proprio"][..., 0].numpy()
        assert (np.diff(x, axis=0)[batch.valid.numpy()] == 1).all()
    assert seam.max() < 100


def test_rings_that_hold_more_are_drawn_in_proportion_and_empty_ones_never():
    """Three rings of 0, 40 and 160 decisions, as of actors that began at different times."""
    replay = SequenceReplay(Shapes(None, 1, 1), 600, 3, 1, horizon=4, stride=1)
    for ring, steps in ((1, 40), (2, 160)):
        flat = np.zeros((steps, 1), np.float32)
        replay.add(
            Chunk(
                obs={"proprio": np.full((steps, 1, 1), float(ring), np.float32)},
                last_reward=flat, last_cost=flat, hidden=flat[..., None], action=flat[..., None],
                reward=flat, cost=flat, terminated=flat > 0, done=flat > 0, env_steps=steps,
                final_obs=[{} for _ in range(steps)],
            ),
            first_ring=ring,
        )  # fmt: skip
    batch = replay.sample(4000, np.random.default_rng(0))
    drawn = batch.obs["proprio"][0, :, 0]
    assert set(drawn.tolist()) == {1.0, 2.0}
    share = float((drawn == 2.0).float().mean())  # starts: 40 - 5 and 160 - 5
    assert abs(share - 155 / 190) < 0.03


def episodes_of(lengths, ends):
    """Rings of two hallways filled with episodes of `lengths` decisions, without pictures; `ends`:
    how many of the last decisions end one."""
    steps = sum(lengths)
    flat = np.zeros((steps, 2), np.float32)
    done = np.zeros((steps, 2), bool)
    done[np.cumsum(lengths)[len(lengths) - ends :] - 1] = True
    return Chunk(
        obs={"proprio": np.zeros((steps, 2, 1), np.float32)}, last_reward=flat, last_cost=flat,
        hidden=np.zeros((steps, 2, 4), np.float32), action=np.zeros((steps, 2, 1), np.float32),
        reward=flat, cost=flat, terminated=flat > 0, done=done, env_steps=2 * steps,
        final_obs=[{"proprio": np.zeros((2, 1), np.float32)} if d.any() else {} for d in done],
    )  # fmt: skip


@pytest.mark.parametrize("rare", [False, True])
def test_drawing_ends_where_hardly_any_sequence_can_begin(rare):
    """Episodes of three decisions and a last state, in step with a grid of four: all that is on the
    grid are last states, but for one where a longer episode comes first."""
    replay = SequenceReplay(Shapes(None, 1, 1), 4000, 2, 4, horizon=3, stride=4)
    if rare:
        replay.add(episodes_of([4], 1))  # 0 to 3 and a last state at 4
        replay.add(episodes_of([2], 1))  # 5, 6 and a last state at 7
    replay.add(episodes_of([1], 0))
    replay.close_episodes()
    replay.add(episodes_of([3] * 400, 400))
    on_grid = replay.kind[:, ::4] == 1  # transitions
    if rare:
        assert on_grid.sum() == 2
        batch = replay.sample(5, np.random.default_rng(0))
        assert batch.valid[0].all() and batch.valid.shape == (3, 5)
    else:
        assert not on_grid.any()
        with pytest.raises(SettingError, match=r"train\.replay_stride 4 decisions"):
            replay.sample(5, np.random.default_rng(0))
