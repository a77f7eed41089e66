"""What a collector hands to a learner: K decisions of each of N environments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass
class Episode:
    """One finished episode."""

    episode_return: float
    cost: float
    length: int  # environment steps
    full_start: bool  # began at the start line, and so counts for the mean return
    discounted_return: float  # scaled as the critics see it, from the first decision
    first_obs: dict[str, np.ndarray]
    first_action: np.ndarray

    def copy(self) -> Episode:
        """The same in arrays of its own."""
        obs = {name: array.copy() for name, array in self.first_obs.items()}
        return replace(self, first_obs=obs, first_action=self.first_action.copy())


@dataclass
class Chunk:
    """Arrays lead with (K, N). `hidden` is the actor's hidden state before each decision."""

    obs: dict[str, np.ndarray]
    last_reward: np.ndarray
    last_cost: np.ndarray
    hidden: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    terminated: np.ndarray
    done: np.ndarray  # terminated or truncated
    env_steps: int  # environment steps in all (several to a decision when actions repeat)
    # For each k, the observations in which episodes ended there, one row per env of done[k]
    final_obs: list[dict[str, np.ndarray]] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        return int(self.reward.size)
