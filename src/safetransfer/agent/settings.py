"""Every hyperparameter of the agent, in the paper's symbols where it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safetransfer.errors import SettingError

# What may be carried into another hallway: each name adds to the one before it.
CARRY = ("policy", "weights", "multiplier", "optimisers", "replay")


# Settings that the networks' shapes, or what they make of their inputs, depend on.
NETWORKS = (
    "cnn", "embedding", "hidden", "mlp", "activation", "layer_norm", "encoders", "feedback",
)  # fmt: skip


def network_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """``agent.hidden (32, here 16)`` for each setting of NETWORKS in which two agents' differ."""
    return [
        f"agent.{name} ({theirs[name]}, here {ours[name]})"
        for name in NETWORKS
        if name in theirs and theirs[name] != ours[name]
    ]


def _f(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class AgentSettings:
    """Hyperparameters of the constrained recurrent SAC (Algorithm 1 of Knight & Achiam)."""

    # Networks
    cnn: Literal["patch", "nature"] = _f("patch", "convolutions: 'patch' (small, fast) or 'nature'")
    embedding: int = _f(128, "width of the embedding of the convolutions' output")
    hidden: int = _f(128, "width of the GRU's hidden state")
    mlp: tuple[int, ...] = _f((128, 128), "hidden layers of the policy and of each Q head")
    activation: Literal["relu", "selu", "elu"] = _f("relu", "activation of all layers")
    layer_norm: bool = _f(True, "layer norm on the embedding and on the heads' first layer")
    encoders: Literal["shared", "separate"] = _f(
        "shared",
        "'shared': the policy reads the critics' encoder, without gradient; "
        "'separate': the policy has convolutions of its own (the paper's Table 2)",
    )
    feedback: bool = _f(True, "give the last reward and cost to the GRU (figure 8 takes them away)")

    # Bellman backups
    gamma: float = _f(0.98, "discount of rewards, per decision")
    gamma_cost: float = _f(0.98, "discount of costs, per decision")
    n_step: int = _f(4, "steps of reward before the critics' bootstrap")
    tau: float = _f(0.02, "share of the critics moved into their targets at each update")
    target_encoder: bool = _f(
        False,
        "let the targets read an encoder and a GRU of their own, which follow by tau as well, at "
        "the price of a second pass through both; without, those of the critics",
    )
    reward_scale: float = _f(0.1, "factor on rewards before the agent sees them")
    cost_scale: float = _f(1.0, "factor on costs before the agent sees them")

    # Entropy
    tune_alpha: bool = _f(True, "tune alpha towards target_entropy (fixed at alpha otherwise)")
    alpha: float = _f(0.1, "entropy coefficient, or its first value when it is tuned")
    target_entropy: float | None = _f(None, "nats; None: minus the number of actions")
    target_entropy_end: float | None = _f(
        None, "target_entropy at the run's end, to which it falls linearly (None: constant)"
    )

    act_by: Literal["mode", "sample"] = _f(
        "mode",
        "how the trained agent acts in evaluations and films: by its policy's most likely action, "
        "or by samples as in training",
    )
    average: float = _f(
        0.0,
        "share of the policy moved at each update into an average of what it was, by which the "
        "trained agent acts (0: it acts as it is at last)",
    )
    act_noise: float = _f(
        1.0, "share of its exploration that a trained agent keeps where it acts by samples"
    )

    # Constraint
    constraint: Literal["on", "off"] = _f("on", "'off' trains SAC for reward alone (figures 6, 7)")
    constraint_warmup: int = _f(0, "updates before the constraint acts on policy and multiplier")
    cost_limit: float = _f(0.01, "c: highest mean cost per environment step")
    multiplier_signal: Literal["measured", "critic"] = _f(
        "measured",
        "what drives beta: recent cost per step, or the replayed Qc as the paper prints",
    )
    multiplier_init: float = _f(0.0, "first value of beta")
    multiplier_lr: float = _f(0.02, "integral gain: change of beta per update and unit of excess")
    multiplier_kp: float = _f(0.0, "proportional gain of beta")
    multiplier_kd: float = _f(0.0, "derivative gain of beta")
    multiplier_max: float = _f(100.0, "highest value of beta")
    multiplier_max_end: float | None = _f(
        None,
        "multiplier_max at the run's end, to which it goes linearly over the run's second half "
        "(None: constant)",
    )
    normalise_objective: bool = _f(True, "divide the policy's objective by 1 + beta")

    # Optimisation
    lr: float = _f(5e-4, "Adam's learning rate of the heads and the policy")
    lr_encoder: float = _f(5e-4, "Adam's learning rate of convolutions and GRU")
    lr_end: float = _f(
        0.1, "share of lr and lr_encoder left at the run's end, falling linearly (1: constant)"
    )
    lr_warmup: int = _f(
        0, "updates over which lr and lr_encoder rise from 0 at the run's beginning"
    )
    lr_alpha: float = _f(1e-3, "Adam's learning rate of log alpha")
    batch_size: int = _f(32, "sequences in an update")
    horizon: int = _f(12, "steps of a sequence, through all of which gradients flow")
    max_grad_norm: float = _f(10.0, "gradients are scaled down to this norm")

    @property
    def trained_noise(self) -> float:
        """Share of its exploration that the trained agent acts with; 0: by its mode."""
        return 0.0 if self.act_by == "mode" else self.act_noise

    def __post_init__(self) -> None:
        for name in ("gamma", "gamma_cost"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingError(f"agent.{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("cost_limit", "target_entropy", "target_entropy_end"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise SettingError(f"agent.{name} is {getattr(self, name)}; it must be finite")
        if not 0.0 < self.tau <= 1.0:
            raise SettingError(f"agent.tau is {self.tau}; it must be in (0, 1]")
        for name in ("embedding", "hidden", "n_step", "batch_size", "horizon"):
            if getattr(self, name) < 1:
                raise SettingError(f"agent.{name} is {getattr(self, name)}; it must be 1 or more")
        for name in (
            "lr", "lr_encoder", "lr_alpha", "alpha", "reward_scale", "cost_scale", "max_grad_norm",
        ):  # fmt: skip
            if not 0.0 < getattr(self, name) < math.inf:
                raise SettingError(
                    f"agent.{name} is {getattr(self, name)}; it must be above 0, and finite"
                )
        for name in (
            "cost_limit", "multiplier_init", "multiplier_lr", "multiplier_kp", "multiplier_kd",
            "multiplier_max", "multiplier_max_end", "constraint_warmup", "lr_warmup",
        ):  # fmt: skip
            if (getattr(self, name) or 0) < 0:
                raise SettingError(
                    f"agent.{name} is {getattr(self, name)}; it must not be negative"
                )
        if not 0.0 <= self.average <= 1.0:
            raise SettingError(f"agent.average is {self.average}; it must be in [0, 1]")
        if not 0.0 <= self.act_noise <= 1.0:
            raise SettingError(f"agent.act_noise is {self.act_noise}; it must be in [0, 1]")
        if not 0.0 < self.lr_end <= 1.0:
            raise SettingError(f"agent.lr_end is {self.lr_end}; it must be in (0, 1]")
        if not self.mlp or min(self.mlp) < 1:
            raise SettingError(f"agent.mlp is {self.mlp}; it needs one width or more, each above 0")
