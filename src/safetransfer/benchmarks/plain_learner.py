"""One update of Algorithm 1 as one would write it first, to hold `Agent.update` against.

The same losses by the same networks, each loss from the observations on: the targets, the critics
and the policy each run their encoder and the GRU for themselves, every head is a perceptron of its
own, pictures are floats in PyTorch's usual layout, and optimisers are as they come. It makes the
ratio in `safetransfer bench learner`; the tests hold its gradients against the agent's.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from safetransfer.agent import distribution
from safetransfer.agent.agent import Agent, Batch, scaled_feedback
from safetransfer.agent.losses import masked_mean, n_step_targets
from safetransfer.agent.networks import Encoder, StackedMLP


class Head(nn.Module):
    """One perceptron of a stack."""

    def __init__(self, stack: StackedMLP, index: int):
        super().__init__()
        layers: list[nn.Module] = []
        last = len(stack.weights) - 1
        for i, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            linear.weight.data.copy_(weight[index].detach().t())
            linear.bias.data.copy_(bias[index, 0].detach())
            layers.append(linear)
            if i == 0 and stack.scale is not None:
                norm = nn.LayerNorm(weight.shape[2])
                norm.weight.data.copy_(stack.scale[index, 0].detach())
                norm.bias.data.copy_(stack.shift[index, 0].detach())
                layers.append(norm)
            if i < last:
                layers.append(copy.deepcopy(stack.activation))
        self.layers = nn.Sequential(*layers).to(stack.weights[0].device)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layers(torch.cat(inputs, -1))


class Eye(nn.Module):
    """Convolutions and embedding, over the usual (B, C, H, W) floats."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.convolutions = copy.deepcopy(encoder.convolutions).to(
            memory_format=torch.contiguous_format
        )
        self.embedding = copy.deepcopy(encoder.embedding)

    def forward(self, camera: Tensor) -> Tensor:
        x = camera.permute(0, 3, 1, 2).contiguous().float() / 255.0
        x = self.convolutions(x)
        return self.embedding(x.permute(0, 2, 3, 1).flatten(1))  # the agent's order of the weights


class PlainLearner:
    """The networks of an agent, copied, and their update."""

    def __init__(self, agent: Agent):
        self.agent, self.settings = agent, agent.settings
        n = agent.networks
        self.eye = Eye(n.encoder) if n.encoder else None
        self.policy_eye = Eye(n.policy_encoder) if n.policy_encoder else None
        self.gru = copy.deepcopy(n.gru)
        self.gru.flatten_parameters()  # on a GPU, as it was before it was copied
        self.policy = Head(n.policy, 0)
        self.q1, self.q2, self.qc = (Head(n.q, i) for i in range(3))
        self.targets = [Head(agent.q_target, i).requires_grad_(False) for i in range(3)]
        eyes = [] if self.eye is None else list(self.eye.parameters())
        heads = [p for q in (self.q1, self.q2, self.qc) for p in q.parameters()]
        self.critic_parameters = [*eyes, *self.gru.parameters(), *heads]
        own = [] if self.policy_eye is None else list(self.policy_eye.parameters())
        self.policy_parameters = [*own, *self.policy.parameters()]
        lr = self.settings.lr
        self.critic_optimiser = torch.optim.Adam(self.critic_parameters, lr=lr)
        self.policy_optimiser = torch.optim.Adam(self.policy_parameters, lr=lr)

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the critics' heads and the policy's read, (T + 1, B, Z) each."""
        feedback = scaled_feedback(batch.last_reward, batch.last_cost, self.settings)
        rest = [self.agent.normaliser(batch.obs["proprio"])]
        rest += [feedback] if self.settings.feedback else []

        def embed(eye: Eye | None) -> Tensor:
            if eye is None:
                return torch.cat(rest, -1)
            camera = batch.obs["camera"]
            seen = eye(camera.flatten(0, 1)).unflatten(0, camera.shape[:2])
            return torch.cat([seen, *rest], -1)

        x = embed(self.eye)
        h, _ = self.gru(x, batch.carry.unsqueeze(0))
        own = embed(self.policy_eye) if self.policy_eye is not None else x.detach()
        return torch.cat([h, x], -1), torch.cat([h.detach(), own], -1)

    def losses(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Of the critics and of the policy; `noise` (T + 1, B, A) makes the policy's actions."""
        s, valid = self.settings, batch.valid
        alpha, beta = self.agent.alpha, self.agent.multiplier.value
        with torch.no_grad():
            z, z_policy = self.states(batch)
            action, log_pi = distribution.sample(self.policy(z_policy), noise)
            q1, q2, qc = (target(z, action).squeeze(-1) for target in self.targets)
            value = torch.minimum(q1, q2) - alpha * log_pi
            arguments = batch.terminated, valid
            reward, cost = batch.reward * s.reward_scale, batch.cost * s.cost_scale
            y = n_step_targets(reward, *arguments, value, s.gamma, s.n_step)
            y_c = n_step_targets(cost, *arguments, qc, s.gamma_cost, s.n_step)

        z, _ = self.states(batch)
        loss_critics = sum(
            masked_mean((q(z[:-1], batch.action).squeeze(-1) - target).square(), valid)
            for q, target in ((self.q1, y), (self.q2, y), (self.qc, y_c))
        )
        assert isinstance(loss_critics, Tensor)

        z, z_policy = self.states(batch)
        action, log_pi = distribution.sample(self.policy(z_policy[:-1]), noise[:-1])
        q1, q2, qc = (q(z[:-1].detach(), action).squeeze(-1) for q in (self.q1, self.q2, self.qc))
        objective = torch.minimum(q1, q2) - alpha * log_pi
        if self.agent.constrained:
            objective = objective - beta * qc
            if s.normalise_objective:
                objective = objective / (1.0 + beta)
        return loss_critics, -masked_mean(objective, valid)

    def update(self, batch: Batch) -> None:
        """Gradients, one step of Adam each, and the targets."""
        s = self.settings
        shape = (*batch.last_reward.shape, batch.action.shape[-1])
        noise = torch.randn(shape, device=batch.action.device)
        loss_critics, loss_policy = self.losses(batch, noise)
        self.policy_optimiser.zero_grad()
        loss_policy.backward()
        nn.utils.clip_grad_norm_(self.policy_parameters, s.max_grad_norm)
        self.critic_optimiser.zero_grad()
        loss_critics.backward()
        nn.utils.clip_grad_norm_(self.critic_parameters, s.max_grad_norm)
        self.critic_optimiser.step()
        self.policy_optimiser.step()
        with torch.no_grad():
            for target, q in zip(self.targets, (self.q1, self.q2, self.qc), strict=True):
                for theirs, ours in zip(target.parameters(), q.parameters(), strict=True):
                    theirs.mul_(1.0 - s.tau).add_(s.tau * ours)
