"""A ring of experience per environment, one copy of each frame, sampled as sequences.

An episode of T transitions takes T + 1 slots: the last holds the state that it ended in, which the
critics bootstrap from when the episode was cut off by time. Hidden states are kept for every
`stride`-th slot only, and sequences start at those: a 256-wide state is a tenth of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from safetransfer.agent.agent import Batch
from safetransfer.agent.networks import Shapes
from safetransfer.errors import SettingError
from safetransfer.replay.chunk import Chunk

_EMPTY, _TRANSITION, _FINAL = 0, 1, 2


def replay_bytes(shapes: Shapes, capacity: int, hidden: int, stride: int) -> int:
    """Memory that a replay of `capacity` slots takes, in bytes."""
    frame = int(np.prod(shapes.camera)) if shapes.camera else 0
    slot = frame + 4 * (shapes.proprio + shapes.actions + 4) + 2
    return capacity * slot + (capacity // stride) * 4 * hidden


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
    ):
        """
        Args:
            shapes: of observations and actions.
            capacity: slots (about: decisions) over all rings.
            num_envs: N, the rings.
            hidden: width of the stored hidden states.
            horizon: T, transitions in a sampled sequence.
            stride: slots between stored hidden states.

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
        self.obs: dict[str, np.ndarray] = {"proprio": np.zeros((n, m, shapes.proprio), np.float32)}
        if shapes.camera:
            self.obs["camera"] = np.zeros((n, m, *shapes.camera), np.uint8)
        self.last_reward = np.zeros((n, m), np.float32)
        self.last_cost = np.zeros((n, m), np.float32)
        self.action = np.zeros((n, m, shapes.actions), np.float32)
        self.reward = np.zeros((n, m), np.float32)
        self.cost = np.zeros((n, m), np.float32)
        self.terminated = np.zeros((n, m), bool)
        self.kind = np.zeros((n, m), np.uint8)
        self.hidden = np.zeros((n, m // stride, hidden), np.float32)
        self.head = np.zeros(n, np.int64)  # slots ever written, per ring

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(a.nbytes for a in (*self.obs.values(), *self._arrays().values()))

    def __len__(self) -> int:
        """Slots that hold something."""
        return int(np.minimum(self.head, self.size).sum())

    def _write(self, envs: np.ndarray, obs: Mapping[str, np.ndarray], **values: Any) -> np.ndarray:
        slot = self.head[envs] % self.size
        for name, array in self.obs.items():
            array[envs, slot] = obs[name]
        for name, value in values.items():
            getattr(self, name)[envs, slot] = value
        self.head[envs] += 1
        return slot

    def add(self, chunk: Chunk, first_ring: int = 0) -> None:
        """Append a chunk's decisions, each environment's to its own ring, from `first_ring` on."""
        everyone = first_ring + np.arange(chunk.reward.shape[1])
        for k in range(chunk.reward.shape[0]):
            slot = self._write(
                everyone,
                {name: value[k] for name, value in chunk.obs.items()},
                last_reward=chunk.last_reward[k],
                last_cost=chunk.last_cost[k],
                action=chunk.action[k],
                reward=chunk.reward[k],
                cost=chunk.cost[k],
                terminated=chunk.terminated[k],
                kind=_TRANSITION,
            )
            stored = np.nonzero(slot % self.stride == 0)[0]
            self.hidden[everyone[stored], slot[stored] // self.stride] = chunk.hidden[k, stored]
            ended = np.nonzero(chunk.done[k])[0]
            if len(ended):
                self._write(
                    everyone[ended],
                    chunk.final_obs[k],
                    last_reward=chunk.reward[k, ended],
                    last_cost=chunk.cost[k, ended],
                    action=0.0,
                    reward=0.0,
                    cost=0.0,
                    terminated=False,
                    kind=_FINAL,
                )

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` sequences whose starts are uniform over the stored transitions' grid.

        Raises:
            SettingError: nothing long enough is stored yet.
        """
        envs = np.empty(0, np.int64)
        starts = np.empty(0, np.int64)
        usable = np.minimum(self.head, self.size) - (self.horizon + 1)
        if not (usable >= self.stride).any():
            raise SettingError("the replay holds too little; raise train.learning_starts")
        share = self._shares(usable)
        while len(starts) < batch_size:
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
        slots = (starts + np.arange(self.horizon + 1)[:, None]) % self.size  # (T + 1, B)
        steps = slots[:-1]
        valid = np.logical_and.accumulate(self.kind[envs, steps] == _TRANSITION, axis=0)

        def take(array: np.ndarray, index: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array[envs, index])

        return Batch(
            obs={name: take(array, slots) for name, array in self.obs.items()},
            last_reward=take(self.last_reward, slots),
            last_cost=take(self.last_cost, slots),
            carry=take(self.hidden, slots[0] // self.stride),
            action=take(self.action, steps),
            reward=take(self.reward, steps),
            cost=take(self.cost, steps),
            terminated=take(self.terminated, steps),
            valid=torch.from_numpy(valid),
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
        names = (
            "last_reward", "last_cost", "action", "reward", "cost", "terminated", "kind", "hidden",
            "head",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def close_episodes(self, rings: np.ndarray | None = None) -> None:
        """End the episodes that were open when the contents were stored: what is added next is of
        others. Each ring's newest slot becomes a last state, at the price of its transition.
        `rings` (M,): only in these."""
        rings = np.arange(self.num_envs) if rings is None else rings
        rings = rings[self.head[rings] > 0]
        self.kind[rings, (self.head[rings] - 1) % self.size] = _FINAL

    def state_dict(self) -> dict[str, Any]:
        """All arrays (not copied): save them before the next `add`."""
        return {"obs": dict(self.obs), **self._arrays()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the contents of a replay of the same shape.

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
                array[...] = kept[name]
