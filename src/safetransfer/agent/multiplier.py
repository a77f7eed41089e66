"""The Lagrange multiplier beta, which prices cost against reward."""

from __future__ import annotations

from safetransfer.agent.settings import AgentSettings


class Multiplier:
    """Gradient ascent on beta (J_c - c), kept in [0, max], with optional P and D terms.

    With kp = kd = 0 this is Algorithm 1's step along grad_beta E[beta (c - Qc)]; the other terms
    are those of Stooke et al. 2020, "Responsive Safety in RL by PID Lagrangian Methods".
    """

    def __init__(self, settings: AgentSettings):
        self.settings = settings
        self.highest = settings.multiplier_max
        self.integral = min(settings.multiplier_init, self.highest)
        self.value = self.integral if settings.constraint == "on" else 0.0
        self._previous: float | None = None
        self._rise = 0.0

    def anneal(self, share: float) -> None:
        """Set the highest value to what it is after `share` (0 to 1) of the run."""
        first, last = self.settings.multiplier_max, self.settings.multiplier_max_end
        if last is not None:
            self.highest = first + (last - first) * max(2.0 * share - 1.0, 0.0)

    def step(self, cost_per_step: float) -> float:
        """Move beta by one step, given the cost per environment step J_c; returns beta."""
        s = self.settings
        excess = cost_per_step - s.cost_limit
        # Clamped at each step, so that a long safe stretch cannot be saved up against later harm.
        self.integral = min(max(self.integral + s.multiplier_lr * excess, 0.0), self.highest)
        # A measurement stands for several updates; its rise over the one before stands as long.
        if self._previous is not None and cost_per_step != self._previous:
            self._rise = max(cost_per_step - self._previous, 0.0)
        self._previous = cost_per_step
        value = self.integral + s.multiplier_kp * excess + s.multiplier_kd * self._rise
        self.value = min(max(value, 0.0), self.highest)
        return self.value

    def state_dict(self) -> dict[str, float | None]:
        return {
            "integral": self.integral,
            "value": self.value,
            "previous": self._previous,
            "rise": self._rise,
        }

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self.integral = float(state["integral"] or 0.0)
        self.value = float(state["value"] or 0.0) if self.settings.constraint == "on" else 0.0
        self._previous = state["previous"]
        self._rise = float(state.get("rise") or 0.0)
