"""Bellman targets and masks, against sums done by hand."""

import math

import torch

from safetransfer.agent import distribution
from safetransfer.agent.losses import masked_mean, n_step_targets


def column(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).unsqueeze(1)


def flags(*values):
    return column(*values, dtype=torch.bool)


def targets(reward, value, n, terminated=None, valid=None, gamma=0.5):
    steps = len(reward)
    return n_step_targets(
        column(*reward),
        flags(*(terminated or [False] * steps)),
        flags(*(valid or [True] * steps)),
        column(*value),
        gamma,
        n,
    )[:, 0].tolist()


def test_one_step_is_the_backup_of_algorithm_1():
    # r + gamma V(s')
    assert targets([1, 2, 4], [9, 10, 20, 40], n=1) == [1 + 5, 2 + 10, 4 + 20]


def test_two_steps_and_the_shorter_last_one():
    # r0 + r1/2 + V2/4, r1 + r2/2 + V3/4, and at the sequence's end only r2 + V3/2
    assert targets([1, 2, 4], [9, 10, 20, 40], n=2) == [1 + 1 + 5, 2 + 2 + 10, 4 + 20]


def test_nothing_is_added_after_a_terminal_state():
    # The episode ends with the second transition: V2 is of a terminal state and must not count.
    got = targets([1, 2, 4], [9, 10, 20, 40], n=3, terminated=[False, True, False],
                  valid=[True, True, False])  # fmt: skip
    assert got[:2] == [1 + 1, 2]


def test_a_truncated_episode_bootstraps_from_its_last_state():
    # Same, but cut off by time: V2 is the value of the state that the episode ended in.
    got = targets([1, 2, 4], [9, 10, 20, 40], n=3, valid=[True, True, False])
    assert got[:2] == [1 + 1 + 20 / 4, 2 + 20 / 2]


def test_more_steps_than_the_sequence_has():
    assert targets([1, 2], [9, 10, 20], n=10) == [1 + 1 + 5, 2 + 10]


def test_columns_do_not_mix():
    reward = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    ends = torch.tensor([[False, True], [False, False]])
    valid = torch.tensor([[True, True], [True, False]])
    value = torch.tensor([[0.0, 0.0], [8.0, 80.0], [16.0, 160.0]])
    got = n_step_targets(reward, ends, valid, value, 0.5, 2)
    assert got[0].tolist() == [1 + 1 + 4, 10]
    assert got[1, 0] == 2 + 8


def test_masked_mean_ignores_even_infinity():
    x = torch.tensor([[1.0, 3.0], [float("inf"), 5.0]])
    valid = torch.tensor([[True, True], [False, True]])
    assert masked_mean(x, valid) == 3.0
    assert masked_mean(torch.stack([x, 2 * x]), valid) == 4.5


def test_log_density_of_the_squashed_gaussian_integrates_to_one():
    parameters = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    mean, log_std = distribution.mean_and_log_std(parameters)
    u = torch.linspace(-12, 12, 40001, dtype=torch.float64).unsqueeze(1)
    noise = (u - mean) / log_std.exp()
    action, log_prob = distribution.sample(parameters.expand(len(u), -1), noise)
    integral = torch.trapezoid(log_prob.exp(), action[:, 0]).item()
    assert math.isclose(integral, 1.0, abs_tol=1e-5)


def test_log_density_gradient_by_finite_differences():
    torch.manual_seed(0)
    noise = torch.randn(3, 2, dtype=torch.float64)
    parameters = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: distribution.sample(p, noise), (parameters,))


def test_the_action_alone_is_the_sample_s():
    generator = torch.Generator().manual_seed(0)
    parameters, noise = (torch.randn(50, n, generator=generator) for n in (6, 3))
    action, _ = distribution.sample(parameters, noise)
    assert torch.equal(distribution.action(parameters, noise), action)
