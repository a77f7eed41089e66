"""What an update is made of: operations, bytes and time of each of its parts.

Each part is made by itself, forward and backward, on tensors of the shapes that it has in
`Agent.update`; bytes are those of all tensors that its operations read and write, as if nothing
stayed in a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from safetransfer.agent import distribution
from safetransfer.agent.agent import Agent, Batch, scaled_feedback
from safetransfer.agent.losses import masked_mean, n_step_targets
from safetransfer.agent.networks import StateQs


def budget(agent: Agent, batch: Batch, repeats: int = 5) -> dict[str, dict[str, float]]:
    """Of each part of an update on the CPU, in its order, and of "whole", the update itself.

    Returns {part: {"gflop", "mbyte", "operations", "ms" (the least of `repeats`)}}; "whole" is
    `Agent.update`, and more than the sum by what lies between the parts.
    """
    out = {name: _measure(do, repeats) for name, do in _parts(agent, batch).items()}
    return out | {"whole": _measure(lambda: agent.update(batch, 0.01), repeats)}


def _parts(agent: Agent, batch: Batch) -> dict[str, Callable[[], Any]]:
    n, s, valid = agent.networks, agent.settings, batch.valid
    obs = dict(batch.obs)
    obs["proprio"] = agent.normaliser(obs["proprio"])
    feedback = scaled_feedback(batch.last_reward, batch.last_cost, s)
    with torch.no_grad():
        x = n.embed(n.encoder, obs, feedback)
        z, z_policy, _ = n.state(obs, feedback, batch.carry)
        noise = torch.randn(*z.shape[:2], n.shapes.actions)
        parameters = n.policy(z_policy.flatten(0, 1))[0].unflatten(0, z.shape[:2])
        a_pi, log_pi = distribution.sample(parameters, noise)
        first_layer = StateQs(n.q, z[:-1])  # the critics have made it already
    learned = agent._critic_parameters, agent._policy_parameters

    def backward(y: Tensor, to: Iterable[Tensor], needs_input: Tensor | None = None) -> None:
        wanted = [*to] if needs_input is None else [*to, needs_input]
        torch.autograd.grad(y, wanted, torch.ones_like(y))

    def encoders() -> None:
        for encoder in (n.encoder, n.policy_encoder):
            if encoder is not None:
                pictures = obs["camera"].flatten(0, 1)
                backward(encoder(pictures), encoder.parameters())

    def gru() -> None:
        given = x.clone().requires_grad_()
        h, _ = n.gru(given.view_as(given), batch.carry.unsqueeze(0))  # counters know no leaves
        backward(h, n.gru.parameters(), given)

    def policy() -> None:
        given = z_policy.flatten(0, 1).requires_grad_(n.policy_encoder is not None)
        made = n.policy(given.view_as(given))[0].unflatten(0, z.shape[:2])
        action, log_density = distribution.sample(made, noise)
        backward(
            action.sum(-1) + log_density,
            n.policy.parameters(),
            given if given.requires_grad else None,
        )

    @torch.no_grad()
    def targets() -> None:
        q1, q2, qc = StateQs(agent.q_target, z).of(a_pi)
        value = torch.minimum(q1, q2) - agent.alpha * log_pi
        ends = batch.terminated
        for signal, there, gamma in (
            (batch.reward, value, s.gamma), (batch.cost, qc, s.gamma_cost),
        ):  # fmt: skip
            n_step_targets(signal, ends, valid, there, gamma, s.n_step)

    def critics() -> None:
        given = z[:-1].clone().requires_grad_()
        q = StateQs(n.q, given).of(batch.action)
        backward(masked_mean(q.square(), valid), n.q.parameters(), given)

    def through_critics() -> None:
        given = a_pi[:-1].clone().requires_grad_()
        q1, q2, qc = first_layer.of(given)
        backward(masked_mean(torch.minimum(q1, q2) - qc, valid), [], given)

    def steps() -> None:
        for parameters in learned:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            torch.nn.utils.clip_grad_norm_(parameters, s.max_grad_norm, foreach=True)
        agent.critic_optimiser.step()
        agent.policy_optimiser.step()
        with torch.no_grad():
            own: list[Tensor] = list(n.q.parameters())
            theirs: list[Tensor] = list(agent.q_target.parameters())
            torch._foreach_lerp_(theirs, own, s.tau)

    return {
        "convolutions and embedding": encoders,
        "GRU": gru,
        "policy": policy,
        "targets": targets,
        "critics": critics,
        "policy's loss through the critics": through_critics,
        "clipping, Adam, targets' step": steps,
    }


class _Traffic(TorchDispatchMode):
    """Counts operations, and the bytes of the tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.operations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
            for x in tree_leaves((args, kwargs, result)):
                if isinstance(x, Tensor):
                    self.bytes += x.numel() * x.element_size()
        return result


def _measure(do: Callable[[], Any], repeats: int) -> dict[str, float]:
    times = []
    do()
    for _ in range(repeats):
        started = time.perf_counter()
        do()
        times.append(time.perf_counter() - started)
    with FlopCounterMode(display=False) as flop:
        do()
    with _Traffic() as traffic:
        do()
    return {
        "gflop": flop.get_total_flops() / 1e9,
        "mbyte": traffic.bytes / 1e6,
        "operations": traffic.operations,
        "ms": 1e3 * float(np.min(times)),
    }
