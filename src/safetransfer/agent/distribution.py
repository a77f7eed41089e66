"""The policy's distribution: a Gaussian squashed by tanh (Haarnoja et al. 2018, appendix C)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LOG_STD_MIN, _LOG_STD_MAX = -5.0, 1.0


def mean_and_log_std(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Split the policy's output (..., 2A); log std is squashed smoothly into its range."""
    mean, log_std = parameters.chunk(2, -1)
    span = _LOG_STD_MAX - _LOG_STD_MIN
    return mean, _LOG_STD_MIN + 0.5 * span * (torch.tanh(log_std) + 1.0)


def sample(parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterised action (..., A) in (-1, 1) and its log density (...), from unit `noise`.

    log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2u)), which does not underflow.
    """
    mean, log_std = mean_and_log_std(parameters)
    u = mean + log_std.exp() * noise
    log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    log_prob = log_prob - 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
    return torch.tanh(u), log_prob.sum(-1)


def action(parameters: Tensor, noise: Tensor) -> Tensor:
    """The action of `sample`, without the log density that only learning needs."""
    mean, log_std = mean_and_log_std(parameters)
    return torch.tanh(mean + log_std.exp() * noise)


def mode(parameters: Tensor) -> Tensor:
    """The action at the Gaussian's mean, (..., A)."""
    return torch.tanh(mean_and_log_std(parameters)[0])
