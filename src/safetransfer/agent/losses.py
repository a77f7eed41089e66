"""The targets of Algorithm 1's Bellman backups, over sequences that may hold an episode's end."""

from __future__ import annotations

import torch
from torch import Tensor


def n_step_targets(
    reward: Tensor, terminated: Tensor, valid: Tensor, value: Tensor, gamma: float, n: int
) -> Tensor:
    """Backups r_t + gamma r_{t+1} + ... + gamma^k V(s_{t+k}), all shapes time first.

    Args:
        reward: (T, B), reward (or cost) of each transition.
        terminated: (T, B) bool, transitions into a terminal state: nothing is added after them.
        valid: (T, B) bool, a prefix of each column: transitions of the sequence's first episode.
        value: (T + 1, B), the target's value of each state; after the last valid transition it
            must be that of the state which the transition led to.
        gamma: discount per transition.
        n: most rewards before the bootstrap; k is smaller where the sequence, or its episode
            (terminated or truncated), ends before.

    Returns:
        (T, B); meaningless where not valid.
    """
    steps = reward.shape[0]
    total = torch.zeros_like(reward)
    discount = torch.ones_like(reward)
    bootstrap = value[:-1].clone()
    running = torch.ones_like(valid)
    for i in range(min(n, steps)):
        m = steps - i  # transitions whose i-th successor lies in the sequence
        live = running[:m] & valid[i:]
        total[:m] += live * discount[:m] * reward[i:]
        step = gamma * (~terminated[i:])
        discount[:m] = torch.where(live, discount[:m] * step, discount[:m])
        bootstrap[:m] = torch.where(live, value[i + 1 :], bootstrap[:m])
        running[:m] = live
        running[m:] = False
    return total + discount * bootstrap


def masked_mean(x: Tensor, valid: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of x (..., T, B) over the valid steps (T, B) and any leading dimensions.

    `count`: the valid steps of the whole, where (T, B) are a part of it; the parts' add up to the
    whole's mean.
    """
    steps = (valid.sum() if count is None else count).clamp(min=1)
    # where, not a product: an invalid step may hold anything, even infinity
    return torch.where(valid, x, 0.0).sum() / (steps * (x.numel() // valid.numel()))
