"""Which hallways are whose: the run's hallways, and the replay's rings, over the actors' slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safetransfer.errors import SettingError
from safetransfer.training.cluster.ledger import actor_name


@dataclass(frozen=True)
class Slot:
    """A share of the hallways, which one actor at a time steps."""

    index: int
    first_ring: int
    num_envs: int

    @property
    def rings(self) -> np.ndarray:
        return self.first_ring + np.arange(self.num_envs)


def slots_of(num_envs: int, num_actors: int) -> list[Slot]:
    """`num_envs` hallways over `num_actors` slots, as evenly as they go.

    The hallways in all are those of the one-machine loop: the same settings mean the same replay
    and the same learning, whatever the number of actors.

    Raises:
        SettingError: there is less than a hallway for each actor.
    """
    if num_actors < 1:
        raise SettingError(f"--num-actors is {num_actors}; it must be 1 or more")
    if num_actors > num_envs:
        raise SettingError(
            f"train.num_envs {num_envs} hallways are too few for {num_actors} actors: each needs "
            "one or more. Give a larger --train.num_envs, or fewer actors by --num-actors"
        )
    shares = np.array_split(np.arange(num_envs), num_actors)
    return [Slot(i, int(share[0]), len(share)) for i, share in enumerate(shares)]


def actor_seed(seed: int, slot: int, incarnation: int) -> int:
    """Seed of an actor's hallways and exploration: its own, also after it was replaced."""
    sequence = np.random.SeedSequence([seed, 3, slot, incarnation])
    return int(sequence.generate_state(1, np.uint32)[0]) >> 1  # below 2**31


__all__ = ["Slot", "actor_name", "actor_seed", "slots_of"]
