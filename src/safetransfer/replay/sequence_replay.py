"""A ring of experience per environment, one copy of each frame, sampled as sequences.

A slot is a state: its observation, and the reward and cost that were given on the way into it,
which the agent sees there as its last ones. A transition is two slots in a row, so it needs no
reward, cost or end of its own: they stand in the slot that it led to. An episode of T transitions
takes T + 1 slots: the last holds the state that it ended in, which the critics bootstrap from when
the episode was cut off by time. Hidden states are kept for every `stride`-th slot only, and
sequences start at those: a 256-wide state is a tenth of a frame or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from safetransfer.agent.agent import Batch
from safetransfer.agent.networks import Shapes
from safetransfer.errors import SettingError
from safetransfer.replay import fixed_point
from safetransfer.replay.chunk import Chunk

_TRIES = 100  # rounds of drawing, in each of which one of two starts is expected to be good

# What a slot is: nothing yet, a state in which an action was taken, the last state of an episode
# that was cut off, that of one that terminated.
_EMPTY, _TRANSITION, _FINAL, _TERMINAL = 0, 1, 2, 3


class SequenceReplay:
    """Replay of `capacity` slots in all over `num_envs` rings."""

    def __init__(
        self,
        shapes: Shapes,
        capacity: int,
        num_envs: int,
        hidden: int,
        horizon: int,
        stride: int = 4,
        compact: bool = False,
    ):
        """
        Args:
            shapes: of observations and actions.
            capacity: slots (about: decisions) over all rings.
            num_envs: N, the rings.
            hidden: width of the stored hidden states.
            horizon: T, transitions in a sampled sequence.
            stride: slots between stored hidden states.
            compact: keep actions and hidden states, both within [-1, 1], in 16 bits
                (`fixed_point`) in place of 32.

        Raises:
            SettingError: a ring cannot hold two sequences.
        """
        per_env = capacity // num_envs // stride * stride
        if per_env < 2 * (horizon + 1):
            raise SettingError(
                f"train.replay_size {capacity} over {num_envs} environments leaves {per_env} steps "
                f"each; sequences of agent.horizon {horizon} need {2 * (horizon + 1)} or more"
            )
        self.shapes, self.num_envs, self.size = shapes, num_envs, per_env
        self.horizon, self.stride = horizon, stride
        n, m = num_envs, per_env
        number = np.int16 if compact else np.float32
        self.obs: dict[str, np.ndarray] = {"proprio": np.zeros((n, m, shapes.proprio), np.float32)}
        if shapes.camera:
            self.obs["camera"] = np.zeros((n, m, *shapes.camera), np.uint8)
        self.last_reward = np.zeros((n, m), np.float32)
        self.last_cost = np.zeros((n, m), np.float32)
        self.action = np.zeros((n, m, shapes.actions), number)
        self.kind = np.zeros((n, m), np.uint8)
        self.hidden = np.zeros((n, m // stride, hidden), number)
        self.head = np.zeros(n, np.int64)  # slots ever written, per ring

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(a.nbytes for a in (*self.obs.values(), *self._arrays().values()))

    def __len__(self) -> int:
        """Slots that hold something."""
        return int(np.minimum(self.head, self.size).sum())

    def add(self, chunk: Chunk, first_ring: int = 0) -> None:
        """Append a chunk's decisions, each environment's to its own ring, from `first_ring` on.

        Its last rewards and costs must be those of the decisions before, as a collector's are:
        those of the newest decision are known to the replay only with the next chunk.
        """
        whole = self.size // 2  # of a longer one the beginning could not be told from the end
        for begin in range(0, chunk.reward.shape[0], whole):
            self._add(chunk, slice(begin, begin + whole), first_ring)

    def _add(self, chunk: Chunk, steps: slice, first_ring: int) -> None:
        """Append decisions `steps` of a chunk: their slots first, then all arrays at once."""
        done = chunk.done[steps]
        k, n = done.shape
        ring = first_ring + np.arange(n)
        ends_before = np.cumsum(done, axis=0) - done  # last states take a slot each
        slot = (self.head[ring] + np.arange(k)[:, None] + ends_before) % self.size  # (K, N)
        self._write(
            np.broadcast_to(ring, (k, n)),
            slot,
            {name: value[steps] for name, value in chunk.obs.items()},
            last_reward=chunk.last_reward[steps],
            last_cost=chunk.last_cost[steps],
            action=chunk.action[steps],
            kind=_TRANSITION,
        )
        row, env = np.nonzero(slot % self.stride == 0)
        hidden = fixed_point.as_type(chunk.hidden[steps][row, env], self.hidden.dtype)
        self.hidden[ring[env], slot[row, env] // self.stride] = hidden
        row, env = np.nonzero(done)
        if len(row):
            finals = [f for f in chunk.final_obs[steps] if f]
            self._write(
                ring[env],
                (slot[row, env] + 1) % self.size,
                {name: np.concatenate([f[name] for f in finals]) for name in self.obs},
                last_reward=chunk.reward[steps][row, env],
                last_cost=chunk.cost[steps][row, env],
                action=np.zeros((len(row), self.shapes.actions), np.float32),
                kind=np.where(chunk.terminated[steps][row, env], _TERMINAL, _FINAL),
            )
        self.head[ring] += k + done.sum(axis=0)

    def _write(
        self, ring: np.ndarray, slot: np.ndarray, obs: Mapping[str, np.ndarray], **values: Any
    ) -> None:
        for name, array in self.obs.items():
            array[ring, slot] = obs[name]
        values["action"] = fixed_point.as_type(values["action"], self.action.dtype)
        for name, value in values.items():
            getattr(self, name)[ring, slot] = value

    def sample(self, batch_size: int, rng: np.random.Generator, pinned: bool = False) -> Batch:
        """`batch_size` sequences whose starts are uniform over the stored transitions' grid.

        Each frame is copied once, out of its ring into the batch. With `pinned` the batch lies in
        memory that a GPU can fetch from while everything goes on.

        Raises:
            SettingError: nothing long enough is stored yet.
        """
        envs = np.empty(0, np.int64)
        starts = np.empty(0, np.int64)
        usable = np.minimum(self.head, self.size) - (self.horizon + 1)
        if not (usable >= self.stride).any():
            raise SettingError("the replay holds too little; raise train.learning_starts")
        share = self._shares(usable)
        tries = 0
        while len(starts) < batch_size:
            tries += 1
            if tries > _TRIES:
                return self._batch(*self._of_all_starts(usable, batch_size, rng), pinned)
            need = batch_size - len(starts)
            if share is None:
                env = rng.integers(self.num_envs, size=2 * need)
            else:
                env = rng.choice(self.num_envs, size=2 * need, p=share)
            oldest = self.head[env] - np.minimum(self.head[env], self.size)
            start = oldest + (rng.random(2 * need) * (usable[env] + 1)).astype(np.int64)
            start -= start % self.stride  # a ring's length is a multiple of stride
            good = (start >= oldest) & (self.kind[env, start % self.size] == _TRANSITION)
            envs = np.concatenate([envs, env[good][:need]])
            starts = np.concatenate([starts, start[good][:need]])
        return self._batch(envs, starts, pinned)

    def _of_all_starts(
        self, usable: np.ndarray, batch_size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rings and starts (B,) as `sample` draws them, from a list of all. It is slow, and sure to
        end where nearly all of the grid are last states, as of episodes as long as a stride."""
        oldest = self.head - np.minimum(self.head, self.size)
        envs, starts = [], []
        for env in np.flatnonzero(usable >= self.stride):
            first = -(-oldest[env] // self.stride) * self.stride
            start = np.arange(first, oldest[env] + usable[env] + 1, self.stride)
            start = start[self.kind[env, start % self.size] == _TRANSITION]
            envs.append(np.full(len(start), env))
            starts.append(start)
        all_envs, all_starts = np.concatenate(envs), np.concatenate(starts)
        if not len(all_starts):
            raise SettingError(
                f"no sequence of the replay can begin at a stored hidden state: of those, one to "
                f"train.replay_stride {self.stride} decisions, all are ends of episodes; another "
                "train.replay_stride, such as 1, has more"
            )
        chosen = rng.integers(len(all_starts), size=batch_size)
        return all_envs[chosen], all_starts[chosen]

    def _batch(self, envs: np.ndarray, starts: np.ndarray, pinned: bool) -> Batch:
        """The sequences of rings envs (B,) that begin at starts (B,)."""
        slots = (starts + np.arange(self.horizon + 1)[:, None]) % self.size  # (T + 1, B)

        def tensor(array: np.ndarray) -> torch.Tensor:
            own = torch.from_numpy(array)
            return own.pin_memory() if pinned else own

        def take(array: np.ndarray, index: np.ndarray) -> torch.Tensor:
            rows = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
            at = envs * array.shape[1] + index
            if array.dtype == np.int16:
                return tensor(fixed_point.decode(rows[at]))
            kind = torch.from_numpy(rows[:0]).dtype
            out = torch.empty((*at.shape, *rows.shape[1:]), dtype=kind, pin_memory=pinned)
            # Of the modes, "clip" is the one that writes straight into `out`.
            np.take(rows, at, axis=0, out=out.numpy(), mode="clip")
            return out

        here, there = slots[:-1], slots[1:]  # a transition leads from one to the other
        valid = np.logical_and.accumulate(self.kind[envs, here] == _TRANSITION, axis=0)
        return Batch(
            obs={name: take(array, slots) for name, array in self.obs.items()},
            last_reward=take(self.last_reward, slots),
            last_cost=take(self.last_cost, slots),
            carry=take(self.hidden, slots[0] // self.stride),
            action=take(self.action, here),
            reward=take(self.last_reward, there),
            cost=take(self.last_cost, there),
            terminated=tensor(self.kind[envs, there] == _TERMINAL),
            valid=tensor(valid),
        )

    def _shares(self, usable: np.ndarray) -> np.ndarray | None:
        """Chance of each ring, (N,), in proportion to what it holds; None where all are as good as
        alike. Rings of one collector always are: only last states of episodes, at most one to a
        decision, tell their lengths apart. Those of several actors may not be."""
        filled = np.minimum(self.head, self.size)
        if (usable >= self.stride).all() and 2 * filled.min() >= filled.max():
            return None
        weight = np.where(usable >= self.stride, usable, 0)
        share: np.ndarray = weight / weight.sum()
        return share

    def _arrays(self) -> dict[str, np.ndarray]:
        names = ("last_reward", "last_cost", "action", "kind", "hidden", "head")
        return {name: getattr(self, name) for name in names}

    def close_episodes(self, rings: np.ndarray | None = None) -> None:
        """End the episodes that were open when the contents were stored: what is added next is of
        others. Each ring's newest slot becomes a last state, at the price of its transition.
        `rings` (M,): only in these."""
        rings = np.arange(self.num_envs) if rings is None else rings
        rings = rings[self.head[rings] > 0]
        newest = rings, (self.head[rings] - 1) % self.size
        self.kind[newest] = np.where(self.kind[newest] == _TERMINAL, _TERMINAL, _FINAL)

    def state_dict(self) -> dict[str, Any]:
        """All arrays (not copied): save them before the next `add`."""
        return {"obs": dict(self.obs), **self._arrays()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the contents of a replay of the same shape, compact or not.

        Raises:
            SettingError: it was of another shape.
        """
        for own, kept in ((self.obs, state["obs"]), (self._arrays(), state)):
            for name, array in own.items():
                if array.shape != tuple(kept[name].shape):
                    raise SettingError(
                        f"the stored replay's {name} has shape {tuple(kept[name].shape)}, this "
                        f"run's has {array.shape}: num_envs, replay_size and observations must be "
                        "equal"
                    )
                array[...] = fixed_point.as_type(kept[name], array.dtype)
        if "terminated" in state:  # of an earlier version, where it stood in the transition's slot
            ring, slot = np.nonzero(state["terminated"])
            self.kind[ring, (slot + 1) % self.size] = _TERMINAL
