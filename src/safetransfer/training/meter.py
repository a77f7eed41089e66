"""What an epoch adds up to: the row that it leaves in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from safetransfer.replay import Episode

if TYPE_CHECKING:
    from safetransfer.training.learner import Learner


class Meter:
    """Sums over an epoch, from the counters and updates that stood at its beginning."""

    def __init__(self, before: dict[str, Any], first_update: int):
        self.before, self.first_update = before, first_update
        self.sums: dict[str, float] = {}
        self.updates = 0
        self.episodes: list[Episode] = []
        self.seconds = dict.fromkeys(("wall", "iterations", "collect", "help", "learner_wait"), 0.0)

    def state_dict(self) -> dict[str, Any]:
        return vars(self) | {"episodes": [vars(e) for e in self.episodes]}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Meter:
        meter = cls(dict(state["before"]), int(state["first_update"]))
        meter.sums, meter.updates = dict(state["sums"]), int(state["updates"])
        meter.episodes = [Episode(**e) for e in state["episodes"]]
        meter.seconds.update(state["seconds"])  # older checkpoints have fewer
        return meter

    def add(self, metrics: Mapping[str, float]) -> None:
        self.updates += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def row(self, learner: Learner) -> dict[str, Any]:
        c, before, wall = learner.counters, self.before, self.seconds["wall"]
        updates = learner.agent.updates - self.first_update
        steps = c["env_steps"] - before["env_steps"]
        means = {name: value / self.updates for name, value in self.sums.items()}
        full = [e for e in self.episodes if e.full_start]
        q = measured = None
        if full:
            obs = {k: np.stack([e.first_obs[k] for e in full]) for k in full[0].first_obs}
            actions = np.stack([e.first_action for e in full])
            q = float(learner.agent.q_at_start(obs, actions).mean())
            measured = float(np.mean([e.discounted_return for e in full]))
        overlapped = learner.overlapped
        total = max(self.seconds["iterations"], 1e-9)
        # Of the threads that collect and help, of which there are more with more parts.
        parts = min(learner.agent.batch_parts, learner.settings.agent.batch_size)
        available = total * max(1, parts - 1)
        busy = self.seconds["collect"] + self.seconds["help"]
        return {
            "epoch": c["epoch"],
            "updates": learner.agent.updates,
            "env_steps": c["env_steps"],
            "wall_s": round(c["wall_s"], 2),
            "episodes": c["episodes"],
            "return": float(np.mean([e.episode_return for e in full])) if full else None,
            "cost": float(np.mean([e.cost for e in full])) if full else None,
            "length": float(np.mean([e.length for e in full])) if full else None,
            "cost_total": c["cost_total"],
            "cost_rate": (c["cost_total"] - before["cost_total"]) / max(steps, 1),
            **{k: v for k, v in means.items() if k not in ("multiplier", "alpha")},
            "multiplier": learner.agent.multiplier.value,
            "alpha": learner.agent.alpha,
            "q_start": q,
            "q_measured": measured,
            "steps_per_s": steps / wall,
            "updates_per_s": updates / wall,
            "collector_wait_share": 1.0 - busy / available if overlapped else None,
            "helper_share": self.seconds["help"] / available if overlapped else None,
            "learner_wait_share": self.seconds["learner_wait"] / total if overlapped else None,
        }
