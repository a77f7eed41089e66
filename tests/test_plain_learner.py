"""The plain update that benchmarks compare with is the same update: losses, gradients, targets."""

import pytest
import torch

from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.agent.settings import AgentSettings
from safetransfer.benchmarks.learner import random_batch
from safetransfer.benchmarks.plain_learner import PlainLearner


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cnn": "nature", "encoders": "separate", "activation": "selu", "layer_norm": False},
    ],
    ids=["laptop", "paper"],
)
def test_gradients_are_those_of_the_agent(changes, parts):
    settings = AgentSettings(
        embedding=24, hidden=16, mlp=(20, 12), horizon=5, batch_size=4, multiplier_init=0.7,
        max_grad_norm=1e9, **changes,
    )  # fmt: skip
    shapes = Shapes((50, 50, 1), 3, 2)
    agent = Agent(shapes, settings, seed=1, batch_parts=parts)
    with torch.no_grad():  # targets that are not the critics themselves
        for parameter in agent.q_target.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    plain = PlainLearner(agent)
    batch = random_batch(shapes, 5, 4, 16)
    batch.valid[3:, 1] = False
    noise = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(1))

    loss_critics, loss_policy = plain.losses(batch, noise)
    critics = torch.autograd.grad(loss_critics, plain.critic_parameters)
    policy = torch.autograd.grad(loss_policy, plain.policy_parameters)
    metrics = agent.update(batch, 0.0)  # draws the same noise: its generator's first numbers

    assert float(loss_policy.detach()) == pytest.approx(metrics["loss_pi"], rel=1e-4)
    assert float(loss_critics.detach()) == pytest.approx(
        2.0 * metrics["loss_q"] + metrics["loss_qc"], rel=1e-4
    )
    norm = torch.stack([g.square().sum() for g in critics]).sum().sqrt()
    assert float(norm) == pytest.approx(metrics["grad_norm"], rel=1e-3)
    norm_pi = torch.stack([g.square().sum() for g in policy]).sum().sqrt()
    assert float(norm_pi) == pytest.approx(metrics["grad_norm_pi"], rel=1e-3)
    # One by one, where both keep them in the same shape: convolutions, embedding and GRU.
    assert agent.networks.encoder is not None and plain.eye is not None
    ours = [*agent.networks.encoder.parameters(), *agent.networks.gru.parameters()]
    for own, theirs in zip(ours, critics, strict=False):
        torch.testing.assert_close(own.grad, theirs, rtol=2e-3, atol=2e-5)
    heads = agent.networks.q
    first = [q.layers[0].weight for q in (plain.q1, plain.q2, plain.qc)]
    index = {id(p): i for i, p in enumerate(plain.critic_parameters)}
    for i, weight in enumerate(first):
        theirs = critics[index[id(weight)]].t()
        torch.testing.assert_close(heads.weights[0].grad[i], theirs, rtol=2e-3, atol=2e-5)


def test_it_learns_a_batch_by_heart():
    settings = AgentSettings(embedding=16, hidden=16, mlp=(16,), horizon=4, batch_size=4, lr=3e-3)
    agent = Agent(Shapes((50, 50, 1), 3, 2), settings)
    plain = PlainLearner(agent)
    batch = random_batch(agent.shapes, 4, 4, 16)
    noise = torch.zeros(5, 4, 2)
    before = float(plain.losses(batch, noise)[0].detach())
    target = plain.targets[0].layers[0].weight.clone()
    for _ in range(60):
        plain.update(batch)
    assert float(plain.losses(batch, noise)[0].detach()) < 0.7 * before
    assert not torch.equal(plain.targets[0].layers[0].weight, target)
