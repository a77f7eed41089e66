"""Hallways that keep a count of their own, which outlives the process that steps them.

A count that training makes of itself cannot show that nothing was forgotten or counted twice. These
hallways write down every step and every cost where it happens, into a memory-mapped file: a process
that is killed in the middle of anything leaves it as it was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.settings import HallwaySettings

DIRECTORY = "SAFETRANSFER_WITNESS"  # environment variable: where the counts are written
LENGTH = 250  # steps of an episode at most
ID = "safetransfer.benchmarks.witness:WitnessedPointWalls-v0"


class WitnessedHallways(HallwayVectorEnv):
    """Point among walls; counts since the last `reset`, in ``<process id>.f8``: steps, cost."""

    def __init__(self, num_envs: int = 1, max_episode_steps: int = LENGTH, **_: Any):
        # Beginning anywhere, even an untrained robot soon meets a wall: there is cost to count.
        settings = HallwaySettings(max_steps=max_episode_steps, start_anywhere=1.0)
        super().__init__(settings, num_envs=num_envs, object_final_obs=True)
        path = Path(os.environ[DIRECTORY]) / f"{os.getpid()}.f8"
        self._counts = np.memmap(path, np.float64, "w+", shape=(2,))

    def reset(self, **kwargs: Any) -> Any:  # type: ignore[override]
        self._counts[:] = 0.0
        return super().reset(**kwargs)

    def step(self, action: np.ndarray) -> Any:
        out = super().step(action)
        self._counts += (self.num_envs, out[4]["cost"].sum())
        return out


def read_counts(directory: Path) -> dict[int, tuple[int, float]]:
    """By process id, environment steps and cost."""
    found = {}
    for path in directory.glob("*.f8"):
        steps, cost = np.fromfile(path, np.float64, 2)
        found[int(path.stem)] = (int(steps), float(cost))
    return found


gymnasium.register(
    "WitnessedPointWalls-v0",
    vector_entry_point=WitnessedHallways,
    entry_point="safetransfer.envs.hallway:HallwayEnv",
    max_episode_steps=LENGTH,
)
