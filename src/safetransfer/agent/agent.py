"""Algorithm 1 of the paper: Lagrangian actor-critic on stored sequences."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safetransfer.agent import distribution
from safetransfer.agent.losses import masked_mean, n_step_targets
from safetransfer.agent.multiplier import Multiplier
from safetransfer.agent.networks import Networks, Shapes, StateQs, policy_weights
from safetransfer.agent.normaliser import Normaliser
from safetransfer.agent.parts import Helper
from safetransfer.agent.precision import PRECISIONS, arithmetic
from safetransfer.agent.recording import Recorded
from safetransfer.agent.settings import CARRY, AgentSettings
from safetransfer.errors import CheckpointError, UnknownNameError

SCALARS = (
    "loss_q", "loss_qc", "loss_pi", "q", "qc", "entropy", "alpha", "grad_norm", "grad_norm_pi",
)  # fmt: skip
MUST_BE_FINITE = ("loss_q", "loss_qc", "loss_pi", "grad_norm", "grad_norm_pi")


@dataclass
class Batch:
    """B sequences of T transitions, time first; the states at 0..T, the rest at 0..T-1."""

    obs: dict[str, Tensor]  # camera (T+1, B, H, W, C) uint8, proprio (T+1, B, P)
    last_reward: Tensor  # (T+1, B), unscaled
    last_cost: Tensor  # (T+1, B)
    carry: Tensor  # (B, hidden), the actor's hidden state before the first step
    action: Tensor  # (T, B, A)
    reward: Tensor  # (T, B)
    cost: Tensor  # (T, B)
    terminated: Tensor  # (T, B) bool
    valid: Tensor  # (T, B) bool, transitions of the sequence's first episode

    def tensors(self) -> list[Tensor]:
        """All of them."""
        return [*self.obs.values(), *(getattr(self, f.name) for f in fields(self)[1:])]

    @staticmethod
    def of_tensors(tensors: Sequence[Tensor], names: Sequence[str]) -> Batch:
        """The batch whose `tensors` these are, with observations of these names."""
        n = len(names)
        return Batch(dict(zip(names, tensors, strict=False)), *tensors[n:])

    def split(self, parts: int) -> list[Batch]:
        """As many batches, or one per sequence where there are fewer, of about as many sequences
        each."""
        parts = min(parts, len(self.carry))
        if parts == 1:
            return [self]
        along = [0 if x is self.carry else 1 for x in self.tensors()]
        columns = [
            torch.tensor_split(x, parts, dim) for x, dim in zip(self.tensors(), along, strict=True)
        ]
        names = list(self.obs)
        return [Batch.of_tensors(tensors, names) for tensors in zip(*columns, strict=True)]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        obs = {name: move(x) for name, x in self.obs.items()}
        rest = [move(getattr(self, f.name)) for f in fields(self)[1:]]
        return Batch(obs, *rest)


class Actor(nn.Module):
    """The part of the agent that acts: what collectors and evaluations need, and nothing more."""

    def __init__(
        self,
        networks: Networks,
        normaliser: Normaliser,
        settings: AgentSettings,
        cuda_graphs: bool = False,
    ):
        super().__init__()
        self.networks, self.normaliser, self.settings = networks, normaliser, settings
        self.hidden = settings.hidden
        self._recorded = Recorded([]) if cuda_graphs else None

    def initial_carry(self, n: int) -> np.ndarray:
        """Hidden states at an episode's start, (n, hidden)."""
        return np.zeros((n, self.hidden), np.float32)

    @torch.inference_mode()
    def act(
        self,
        obs: Mapping[str, np.ndarray],
        last_reward: np.ndarray,
        last_cost: np.ndarray,
        carry: np.ndarray,
        rng: np.random.Generator | None = None,
        noise_scale: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One decision for each of n environments.

        Args:
            obs: camera (n, H, W, C) uint8 and/or proprio (n, P).
            last_reward, last_cost: (n,), as the environment gave them (0 at an episode's start).
            carry: (n, hidden).
            rng: source of exploration; None takes the distribution's mode.
            noise_scale: (n,) factors on the exploration, 0 for the mode; None: 1.

        Returns:
            action (n, A) float32 in [-1, 1], and the next carry.
        """
        inputs = [*obs.values(), last_reward, last_cost, carry]
        actions = self.networks.shapes.actions
        if rng is not None:
            drawn = rng.standard_normal((len(carry), actions), dtype=np.float32)
            if noise_scale is not None:
                drawn *= noise_scale[:, None]
            inputs.append(drawn)
        device = self.normaliser.mean.device
        names = tuple(obs)
        tensors = [torch.as_tensor(x, device=device) for x in inputs]

        def decide(tensors: list[Tensor]) -> Tensor:
            return torch.cat(self._decide(names, tensors), -1)

        if self._recorded is not None and device.type == "cuda":
            out = self._recorded((names, rng is None), tensors, decide)
            both = out.cpu().numpy()
            return both[:, :actions], both[:, actions:]
        action, h = self._decide(names, tensors)
        return action.cpu().numpy(), h.cpu().numpy()

    def _decide(self, names: tuple[str, ...], inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Actions and hidden states from `act`'s arguments as tensors, noise last if at all."""
        last_reward, last_cost, carry, *noise = inputs[len(names) :]
        obs = {name: x.unsqueeze(0) for name, x in zip(names, inputs, strict=False)}
        obs["proprio"] = self.normaliser(obs["proprio"])
        feedback = scaled_feedback(last_reward[None], last_cost[None], self.settings)
        _, z, h = self.networks.state(obs, feedback, carry)
        parameters = self.networks.policy(z[0])[0]
        if noise:
            return distribution.action(parameters, noise[0]), h
        return distribution.mode(parameters), h


def scaled_feedback(last_reward: Tensor, last_cost: Tensor, settings: AgentSettings) -> Tensor:
    """The two feedback inputs (..., 2) in the units that the critics see."""
    return torch.stack(
        [last_reward * settings.reward_scale, last_cost * settings.cost_scale], -1
    ).float()


class Agent:
    """Networks, targets, optimisers and multiplier, and one update of each (Algorithm 1)."""

    def __init__(
        self,
        shapes: Shapes,
        settings: AgentSettings,
        seed: int = 0,
        device: str | torch.device = "cpu",
        steps_per_decision: int = 1,
        precision: str = "float32",
        cuda_graphs: bool = False,
        batch_parts: int = 1,
    ):
        """
        Args:
            shapes, settings: of the networks, and everything else.
            seed: of weights and noise.
            device: where the agent lives.
            steps_per_decision: environment steps in which one action is repeated.
            precision: of an update's products, one of `precision.PRECISIONS`.
            cuda_graphs: launch an update's kernels as one CUDA graph; on a GPU only.
            batch_parts: in which an update's gradients are made, and summed; a `helper` may
                make some of them. Not with CUDA graphs.

        Raises:
            UnknownNameError: there is no such precision.
        """
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        self.settings, self.shapes = settings, shapes
        self.device = torch.device(device)
        self.precision = precision
        self.batch_parts = batch_parts
        self.helper: Helper | None = None
        self.steps_per_decision = steps_per_decision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = Networks(shapes, settings).to(self.device)
        self.normaliser = Normaliser(shapes.proprio).to(self.device)
        self.actor = Actor(self.networks, self.normaliser, settings, cuda_graphs)
        self.q_target = copy.deepcopy(self.networks.q).requires_grad_(False)
        self.core_target: Networks | None = None  # whose encoder and GRU the targets read
        if settings.target_encoder:
            self.core_target = self._copied_networks()
        self.log_alpha = torch.tensor(float(np.log(settings.alpha)), device=self.device)
        self.log_alpha.requires_grad_(settings.tune_alpha)
        self.multiplier = Multiplier(settings)
        self.target_entropy = self._target_entropy(0.0)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.updates = 0
        # The policy, averaged over updates (Polyak & Juditsky 1992), by which it acts when trained.
        self._acting = policy_weights(self.networks.state_dict())  # as they are at any time
        self.averaged: dict[str, Tensor] | None = None
        if settings.average:
            self.averaged = {name: value.clone() for name, value in self._acting.items()}
        self._groups()
        self._recorded = (
            Recorded([*self._critic_parameters, *self._policy_parameters]) if cuda_graphs else None
        )
        self._beta = torch.zeros((), device=self.device)  # the multiplier, where a graph reads it

    def _copied_networks(self) -> Networks:
        copied = copy.deepcopy(self.networks).requires_grad_(False)
        copied.gru.flatten_parameters()
        return copied

    def _groups(self) -> None:
        n = self.networks
        s = self.settings
        core = _core(n)
        self._critic_parameters = [*core, *n.q.parameters()]
        eyes = list(n.policy_encoder.parameters()) if n.policy_encoder else []
        self._policy_parameters = [*eyes, *n.policy.parameters()]
        self.critic_optimiser = torch.optim.Adam(
            [{"params": core, "lr": s.lr_encoder}, {"params": list(n.q.parameters()), "lr": s.lr}],
            fused=True,
        )
        groups = [{"params": list(n.policy.parameters()), "lr": s.lr}]
        if eyes:
            groups.append({"params": eyes, "lr": s.lr_encoder})
        self.policy_optimiser = torch.optim.Adam(groups, fused=True)
        self.alpha_optimiser = torch.optim.Adam([self.log_alpha], lr=s.lr_alpha)

    def anneal(self, share: float) -> None:
        """Set the learning rates, the entropy that alpha is tuned towards and beta's highest value
        to what they are after `share` (0 to 1) of the run; the rates rise over its first
        ``lr_warmup`` updates."""
        s, share = self.settings, min(max(share, 0.0), 1.0)
        self.multiplier.anneal(share)
        self.target_entropy = self._target_entropy(share)
        left = 1.0 - (1.0 - s.lr_end) * share
        left *= min(1.0, (self.updates + 1) / max(s.lr_warmup, 1))
        self.critic_optimiser.param_groups[0]["lr"] = s.lr_encoder * left
        self.critic_optimiser.param_groups[1]["lr"] = s.lr * left
        policy = self.policy_optimiser.param_groups  # the heads, and the policy's own encoder
        for group, lr in zip(policy, (s.lr, s.lr_encoder), strict=False):
            group["lr"] = lr * left

    def _target_entropy(self, share: float) -> float:
        s = self.settings
        first = -float(self.shapes.actions) if s.target_entropy is None else s.target_entropy
        last = first if s.target_entropy_end is None else s.target_entropy_end
        return first + (last - first) * share

    @property
    def alpha(self) -> float:
        return float(self.log_alpha.detach().exp())

    @property
    def constrained(self) -> bool:
        """Whether the constraint acts now: it is on and its warm-up is over."""
        s = self.settings
        return s.constraint == "on" and self.updates >= s.constraint_warmup

    def update(
        self, batch: Batch, measured_cost: float | None = None, noise: Tensor | None = None
    ) -> dict[str, float]:
        """One step of every part of Algorithm 1.

        Args:
            batch: sequences from the replay.
            measured_cost: cost per environment step of recent experience, which drives the
                multiplier when ``multiplier_signal == "measured"``; None leaves it as it is.
            noise: (T + 1, B, A), unit normal, that makes the policy's actions; None draws it.

        Returns:
            Scalars by name. Where one of MUST_BE_FINITE is not, nothing has been changed, and the
            caller should stop.
        """
        s, n = self.settings, self.networks
        if noise is None:
            shape = (*batch.last_reward.shape, self.shapes.actions)
            noise = torch.randn(shape, generator=self.generator, device=self.device)
        # One transfer: each would have the CPU wait for a GPU.
        values = self._gradients(batch, noise).tolist()
        metrics: dict[str, float] = dict(zip(SCALARS, values, strict=True))
        if not all(np.isfinite(metrics[name]) for name in MUST_BE_FINITE):
            return metrics  # nothing has been changed: the weights are still good
        self.critic_optimiser.step()
        self.policy_optimiser.step()

        if s.tune_alpha:
            slope = metrics["alpha"] * (metrics["entropy"] - self.target_entropy)
            self.log_alpha.grad = torch.tensor(slope, device=self.device)
            self.alpha_optimiser.step()
            with torch.no_grad():
                self.log_alpha.clamp_(-12.0, 3.0)

        if self.constrained:
            if s.multiplier_signal == "critic":
                # (1 - gamma) Qc is the discounted mean cost of a decision
                rate = (1.0 - s.gamma_cost) * metrics["qc"] / s.cost_scale
                self.multiplier.step(rate / self.steps_per_decision)
            elif measured_cost is not None:
                self.multiplier.step(measured_cost)

        with torch.no_grad():
            torch._foreach_lerp_(list(self.q_target.parameters()), list(n.q.parameters()), s.tau)
            if self.core_target is not None:
                torch._foreach_lerp_(_core(self.core_target), _core(n), s.tau)
            if self.averaged is not None:
                # At first the mean of all updates: nothing of the beginning weighs more than that.
                share = max(s.average, 1.0 / (self.updates + 1))
                averaged, now = list(self.averaged.values()), list(self._acting.values())
                torch._foreach_lerp_(averaged, now, share)
        self.updates += 1
        return metrics | {"multiplier": self.multiplier.value}

    def _gradients(self, batch: Batch, noise: Tensor) -> Tensor:
        """Leave the losses' clipped gradients in the parameters; SCALARS, (9,)."""
        constrained = self.constrained
        if self._recorded is None:
            return self._gradients_by_parts(batch, noise, constrained)
        self._beta.fill_(self.multiplier.value)
        names = list(batch.obs)

        def compute(inputs: list[Tensor]) -> Tensor:
            *tensors, own_noise = inputs
            own_batch = Batch.of_tensors(tensors, names)
            count = own_batch.valid.sum()
            with arithmetic(self.device, self.precision):
                gradients, scalars = self._losses(
                    own_batch, own_noise, count, self._beta, constrained
                )
            return self._clip(gradients, scalars)

        return self._recorded((constrained, *names), [*batch.tensors(), noise], compute)

    def _gradients_by_parts(self, batch: Batch, noise: Tensor, constrained: bool) -> Tensor:
        """`_gradients`, each part's by this thread or by the helper's: the sum is the same."""
        count, beta = batch.valid.sum(), self.multiplier.value

        def make(part: tuple[Batch, Tensor]) -> tuple[list[Tensor], Tensor]:
            with arithmetic(self.device, self.precision):  # of each thread's own
                return self._losses(*part, count, beta, constrained)

        batches = batch.split(self.batch_parts)
        parts = list(zip(batches, torch.tensor_split(noise, len(batches), 1), strict=True))
        if self.helper is None:
            made = [make(part) for part in parts]
        else:
            made = self.helper.map(make, parts)
        (gradients, scalars), *others = made
        for more, figures in others:
            torch._foreach_add_(gradients, more)
            scalars += figures
        return self._clip(gradients, scalars)

    def _clip(self, gradients: list[Tensor], scalars: Tensor) -> Tensor:
        """Leave gradients in the parameters, scaled down where they are too large; SCALARS."""
        critic, policy = self._critic_parameters, self._policy_parameters
        for parameter, gradient in zip([*critic, *policy], gradients, strict=True):
            parameter.grad = gradient
        largest = self.settings.max_grad_norm
        norm = nn.utils.clip_grad_norm_(critic, largest, foreach=True)
        norm_pi = nn.utils.clip_grad_norm_(policy, largest, foreach=True)
        alpha = self.log_alpha.detach().exp()
        return torch.cat([scalars, torch.stack([alpha, norm, norm_pi])])

    def _losses(
        self,
        batch: Batch,
        noise: Tensor,
        count: Tensor,
        beta: float | Tensor,
        constrained: bool,
    ) -> tuple[list[Tensor], Tensor]:
        """Algorithm 1's losses on a batch: what it contributes to them as means over the `count`
        valid transitions of the batch that it is a part of. Their gradients, of the critics'
        parameters and then of the policy's, and the first six of SCALARS."""
        s, n = self.settings, self.networks
        obs = dict(batch.obs)
        obs["proprio"] = self.normaliser(obs["proprio"])
        feedback = scaled_feedback(batch.last_reward, batch.last_cost, s)
        z, z_policy, _ = n.state(obs, feedback, batch.carry)

        # a' ~ pi, used both as the next action of the backups and in the policy's own loss
        a_pi, log_pi = distribution.sample(
            n.policy(z_policy.flatten(0, 1))[0].float().unflatten(0, z.shape[:2]), noise
        )
        alpha = self.log_alpha.detach().exp()

        valid = batch.valid

        def mean(x: Tensor) -> Tensor:
            return masked_mean(x, valid, count)

        # Q1, Q2: entropy-regularised backup; Qc: cost backup (with c where the paper prints r)
        with torch.no_grad():
            z_target = z
            if self.core_target is not None:
                z_target, _, _ = self.core_target.critics_state(obs, feedback, batch.carry)
            q1, q2, qc = StateQs(self.q_target, z_target).of(a_pi)
            value = torch.minimum(q1, q2) - alpha * log_pi
            ends = batch.terminated
            y = n_step_targets(batch.reward * s.reward_scale, ends, valid, value, s.gamma, s.n_step)
            y_c = n_step_targets(batch.cost * s.cost_scale, ends, valid, qc, s.gamma_cost, s.n_step)
            targets = torch.stack([y, y, y_c])
        qs = StateQs(n.q, z[:-1])
        q = qs.of(batch.action)
        errors = (q - targets).square()
        loss_q, loss_qc = mean(errors[:2]), mean(errors[2])

        # pi: maximise min Q_i - alpha log pi - beta Qc
        q1, q2, qc = qs.detached().of(a_pi[:-1])
        objective = torch.minimum(q1, q2) - alpha * log_pi[:-1]
        if constrained:
            objective = objective - beta * qc
            if s.normalise_objective:
                objective = objective / (1.0 + beta)
        loss_pi = -mean(objective)
        policy_gradients = torch.autograd.grad(loss_pi, self._policy_parameters)
        gradients = torch.autograd.grad(2.0 * loss_q + loss_qc, self._critic_parameters)
        figures = [loss_q, loss_qc, loss_pi, mean(q[0]), mean(q[2]), -mean(log_pi[:-1])]
        return [*gradients, *policy_gradients], torch.stack([x.detach() for x in figures])

    @torch.no_grad()
    def q_at_start(self, obs: Mapping[str, np.ndarray], action: np.ndarray) -> np.ndarray:
        """min(Q1, Q2) of first decisions of episodes, (M,), to hold against measured returns."""
        tensors = {k: torch.as_tensor(v, device=self.device).unsqueeze(0) for k, v in obs.items()}
        tensors["proprio"] = self.normaliser(tensors["proprio"])
        m = action.shape[0]
        zeros = torch.zeros(m, self.settings.hidden, device=self.device)
        feedback = torch.zeros(1, m, 2, device=self.device)
        z, _, _ = self.networks.state(tensors, feedback, zeros)
        q = StateQs(self.networks.q, z[0]).of(torch.as_tensor(action, device=self.device))
        return torch.minimum(q[0], q[1]).cpu().numpy()

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by the names of Table 2 (targets not counted, as there)."""
        n = self.networks
        encoders = [e for e in (n.encoder, n.policy_encoder) if e is not None]
        return {
            "Vision CNN": sum(_size(e.convolutions.parameters()) for e in encoders),
            "CNN Embedding": sum(_size(e.embedding.parameters()) for e in encoders),
            "RNN (GRU)": _size(n.gru.parameters()),
            "Policy MLP": _size(n.policy.parameters()),
            "Q MLP": _size(n.q.parameters()) // 3,
            "Total": _size(n.parameters()),
        }

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "normaliser": self.normaliser.state_dict(),
            "q_target": self.q_target.state_dict(),
            "core_target": self.core_target and self.core_target.state_dict(),
            "averaged": self.averaged,
            "log_alpha": self.log_alpha.detach().clone(),
            "multiplier": self.multiplier.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "alpha_optimiser": self.alpha_optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any], carry: str | None = None) -> None:
        """Go on from `state` exactly, or, with `carry`, start anew from parts of it.

        `carry` is one of CARRY: "policy" (encoder, GRU, policy and normaliser, with fresh critics),
        "weights" (the critics, their targets and alpha too), "multiplier" (beta too),
        "optimisers" (Adam's moments too), "replay" (for this class the same as "optimisers").

        Raises:
            CheckpointError: the weights are of other shapes than this agent's.
        """
        level = len(CARRY) if carry is None else CARRY.index(carry)
        networks = state["networks"]
        if level == 0:
            own = self.networks.state_dict()
            critics = {k: v for k, v in own.items() if k not in policy_weights(own)}
            networks = critics | policy_weights(networks)
        elif "q_target" not in state:
            raise CheckpointError("this kept agent has no critics: carry over its policy")
        try:
            self.networks.load_state_dict(networks)
            self.normaliser.load_state_dict(state["normaliser"])
            if level >= 1:
                self.q_target.load_state_dict(state["q_target"])
            if self.core_target is not None:  # those of an agent that had none are the critics'
                kept = state.get("core_target") if level >= 1 else None
                self.core_target.load_state_dict(kept or networks)
            if self.averaged is not None:  # a new run's begins with its first update
                given = state.get("averaged") if carry is None else None
                for name, value in (given or self._acting).items():
                    self.averaged[name].copy_(value)
        except (RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise CheckpointError(
                f"the checkpoint's networks do not fit these settings or spaces: {reason}"
            ) from error
        if level >= 1 and (carry is None or self.settings.tune_alpha):  # a fixed one is a setting
            with torch.no_grad():
                self.log_alpha.copy_(state["log_alpha"])
        if level >= 2:
            self.multiplier.load_state_dict(state["multiplier"])
        if level >= 3 and "critic_optimiser" not in state:
            raise CheckpointError(
                "this kept agent has no optimiser states: carry over at most its multiplier"
            )
        if level >= 3:
            self.critic_optimiser.load_state_dict(state["critic_optimiser"])
            self.policy_optimiser.load_state_dict(state["policy_optimiser"])
            self.alpha_optimiser.load_state_dict(state["alpha_optimiser"])
            # Learning rates are those of these settings, not of the checkpoint's.
            self.anneal(0.0)
            self.alpha_optimiser.param_groups[0]["lr"] = self.settings.lr_alpha
        if carry is None:
            # A generator's state is of its kind of device, and of other length for each.
            if len(state["generator"]) == len(self.generator.get_state()):
                self.generator.set_state(state["generator"])
            self.updates = int(state["updates"])


def acting_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's state with the policy that it acts by when it is trained: averaged, if it is."""
    averaged = state.get("averaged")
    if not averaged:
        return dict(state)
    return dict(state) | {"networks": dict(state["networks"]) | dict(averaged), "averaged": None}


def _core(networks: Networks) -> list[Any]:
    """Parameters of the critics' encoder and GRU."""
    encoder = networks.encoder.parameters() if networks.encoder else ()
    return [*encoder, *networks.gru.parameters()]


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
