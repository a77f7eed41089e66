"""What learns: agent, replay, counters, measured cost, the epoch's sums, and their checkpoint.

Each way to train is a `Learner` with its own plumbing around it: `loop` steps hallways beside it on
one machine, `cluster` takes in what actors on many machines send. Both call, for every chunk of
experience, `take_in`, `accrue`, `updates_due` and `learn`, and write `end_epoch`'s rows.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safetransfer import settings_io
from safetransfer.agent.agent import MUST_BE_FINITE, Batch
from safetransfer.agent.networks import Shapes
from safetransfer.agent.settings import CARRY
from safetransfer.errors import CheckpointError, SettingError, TrainingError, UnknownNameError
from safetransfer.replay import Chunk, SequenceReplay
from safetransfer.replay.memory import check_memory
from safetransfer.training import checkpoint
from safetransfer.training.batches import batches
from safetransfer.training.build import (
    choose_device,
    make_agent,
    require_equal_spaces,
    require_start,
    shapes_of_checkpoint,
)
from safetransfer.training.logs import RunLog
from safetransfer.training.machine import memory_gib
from safetransfer.training.meter import Meter
from safetransfer.training.run_directory import require_same_start, write_config
from safetransfer.training.settings import Settings


class Learner:
    """The agent of one training run, and everything of its checkpoint that learning needs."""

    overlapped = False  # whether experience is collected while this learns

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        shapes: Shapes,
        mocap: Any,
        command: str | None = None,
        init: str | Path | None = None,
        carry: str = "weights",
        saved: Mapping[str, Any] | None = None,
    ):
        """
        Args:
            settings: the whole configuration.
            run_dir: the run's directory.
            shapes: of the environment's observations and actions.
            mocap: which clips people move by, recorded.
            command, init, carry: as in `safetransfer.training.loop.train`.
            saved: the run's checkpoint, where it has one; `load` goes on from it.
        """
        if carry not in CARRY:
            raise UnknownNameError("carry", carry, CARRY)
        t = settings.train
        if saved is not None and init is not None:
            require_same_start(run_dir, init, carry)
        self.settings, self.run_dir = settings, run_dir
        self.path = run_dir / checkpoint.FILE_NAME
        self._check_replay(shapes)
        self.agent = make_agent(settings, shapes, choose_device(t.device))
        self.replay = SequenceReplay(
            shapes,
            t.replay_size,
            t.num_envs,
            settings.agent.hidden,
            settings.agent.horizon,
            t.replay_stride,
            t.replay_compact,
        )
        self.rng = np.random.default_rng(np.random.SeedSequence([t.seed, 2]))
        self.counters: dict[str, Any] = {
            "epoch": 0, "env_steps": 0, "decisions": 0, "episodes": 0, "cost_total": 0.0,
            "wall_s": 0.0, "credit": 0.0,
        }  # fmt: skip
        self.recent_cost: deque[tuple[float, int]] = deque()
        self._meter: Meter | None = None  # of the epoch that is under way
        if saved is None and init is not None:
            self._begin_from(init, carry, shapes)
        if saved is None:
            write_config(run_dir, settings, mocap, command, init, carry, updates=None)
        elif part(saved, "counters", run_dir)["epoch"] < t.epochs:
            # Of a finished run nothing is made here: its record stays.
            updates = int(part(saved, "agent", run_dir)["updates"])
            write_config(run_dir, settings, mocap, command, init, carry, updates)

    def _begin_from(self, init: str | Path, carry: str, shapes: Shapes) -> None:
        start = checkpoint.load(init)
        if "shapes" in start:
            require_equal_spaces(shapes_of_checkpoint(start), shapes, self.settings.env.name)
        require_start(start, init, self.settings, carry)
        self.agent.load_state_dict(part(start, "agent", init), carry)
        if carry == "replay":
            self.replay.load_state_dict(start["replay"])
            self.replay.close_episodes()

    def _check_replay(self, shapes: Shapes) -> None:
        """Raise SettingError where learning could never start, or the replay is beyond memory."""
        t, a = self.settings.train, self.settings.agent
        rings = t.replay_size // t.num_envs // t.replay_stride * t.replay_stride * t.num_envs
        if t.learning_starts > rings:
            raise SettingError(
                f"train.learning_starts {t.learning_starts} is more than the {rings} decisions "
                f"that train.replay_size {t.replay_size} holds in {t.num_envs} even rings"
            )
        least = t.num_envs * (a.horizon + 1 + t.replay_stride)
        if t.learning_starts < least:
            raise SettingError(
                f"train.learning_starts {t.learning_starts} is too few for one sequence of "
                f"agent.horizon {a.horizon} in each of {t.num_envs} hallways: {least} or more"
            )
        if t.replay_stride > a.horizon:
            raise SettingError(
                f"train.replay_stride {t.replay_stride} is more than agent.horizon {a.horizon}: "
                "sequences begin at stored hidden states, and what lies between them would never "
                "be learned from"
            )
        check_memory(
            shapes, t.replay_size, a.hidden, t.replay_stride, t.replay_compact, memory_gib()
        )

    # ---------------------------------------------------------------- checkpoint

    def save(self) -> None:
        """Write the checkpoint; a failed write leaves the last one whole."""
        checkpoint.save(self.path, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds. The ways to train put what is their own beside it."""
        shapes, t = self.agent.shapes, self.settings.train
        return {
            "settings": settings_io.to_dict(self.settings),
            "shapes": {
                "camera": shapes.camera and list(shapes.camera),
                "proprio": shapes.proprio,
                "actions": shapes.actions,
            },
            "agent": self.agent.state_dict(),
            "collector": None,
            "counters": dict(self.counters),
            "recent_cost": [list(x) for x in self.recent_cost],
            "rng": self.rng,
            "meter": self._meter and self._meter.state_dict(),
            "replay": self.replay.state_dict() if t.checkpoint_replay else None,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        agent = part(saved, "agent", self.path)
        if "critic_optimiser" not in agent:
            raise CheckpointError(
                f"{self.run_dir} holds a kept agent, without what only going on needs. Start from "
                f"it: --init {self.run_dir}, and another directory for the run"
            )
        self.agent.load_state_dict(agent)
        self.counters = dict(part(saved, "counters", self.path))
        self.recent_cost = deque((float(c), int(n)) for c, n in saved["recent_cost"])
        self.rng = saved["rng"]
        if saved.get("meter") is not None:
            self._meter = Meter.of_state(saved["meter"])
        if saved.get("replay") is not None:
            self.replay.load_state_dict(saved["replay"])

    def _last_checkpoint(self) -> str:
        if self.path.exists():
            return f"the last good checkpoint is {self.path}"
        return "there is no checkpoint yet"

    # ---------------------------------------------------------------- learning

    @property
    def epoch_target(self) -> int:
        """Updates at which the epoch that is under way ends."""
        return (self.counters["epoch"] + 1) * self.settings.train.epoch_updates

    @property
    def finished(self) -> bool:
        return self.counters["epoch"] >= self.settings.train.epochs

    @property
    def meter(self) -> Meter:
        """Of the epoch that is under way, which begins when it is first asked for."""
        if self._meter is None:
            self._meter = Meter(dict(self.counters), self.agent.updates)
        return self._meter

    @property
    def replay_is_warm(self) -> bool:
        return len(self.replay) >= self.settings.train.learning_starts

    @property
    def measured_cost(self) -> float | None:
        """Cost per environment step of recent experience."""
        steps = sum(n for _, n in self.recent_cost)
        return sum(c for c, _ in self.recent_cost) / steps if steps else None

    def accrue(self, decisions: int) -> None:
        """Count the updates that `decisions` are worth, by ``train.decisions_per_update``."""
        if self.replay_is_warm:
            self.counters["credit"] += decisions / self.settings.train.decisions_per_update

    def updates_due(self) -> int:
        """Updates to make now, within the epoch that is under way; they count as made."""
        if not self.replay_is_warm:
            return 0
        due = min(int(self.counters["credit"]), self.epoch_target - self.agent.updates)
        self.counters["credit"] -= due
        return due

    def learn(self, updates: int) -> None:
        """Make `updates` updates, each from sequences of its own."""
        t, agent, meter = self.settings.train, self.agent, self.meter
        agent.anneal(agent.updates / (t.epochs * t.epoch_updates))
        size = self.settings.agent.batch_size
        for batch in batches(self.replay, size, updates, self.rng, agent.device):
            self._update(batch, meter)

    def take_in(self, chunk: Chunk, first_ring: int = 0) -> None:
        """Everything that new experience changes: replay, counters, normaliser.

        `first_ring`: the replay's ring of the chunk's first hallway.
        """
        meter = self.meter
        self.replay.add(chunk, first_ring)
        cost = float(chunk.cost.sum())
        c = self.counters
        c["env_steps"] += chunk.env_steps
        c["decisions"] += chunk.decisions
        c["cost_total"] += cost
        c["episodes"] += len(chunk.episodes)
        self.recent_cost.append((cost, chunk.env_steps))
        while sum(n for _, n in self.recent_cost) > self.settings.train.cost_window:
            if len(self.recent_cost) == 1:
                break
            self.recent_cost.popleft()
        meter.episodes += chunk.episodes
        proprio = torch.from_numpy(chunk.obs["proprio"]).flatten(0, 1)
        self.agent.normaliser.update(proprio.to(self.agent.device))

    def count_wall(self, seconds: float) -> None:
        self.counters["wall_s"] += seconds
        self.meter.seconds["wall"] += seconds

    def end_epoch(self) -> dict[str, Any]:
        """Close the epoch whose updates are made; its row of the log."""
        meter = self.meter
        self.counters["epoch"] += 1
        self._meter = None
        return meter.row(self)

    def write_row(self, log: RunLog, row: dict[str, Any]) -> None:
        """Append an epoch's row to the log; TrainingError where the disk refuses."""
        try:
            log.write(row)
        except OSError as error:
            raise TrainingError(
                f"could not write {log.path}: {error.strerror or error}; {self._last_checkpoint()}"
            ) from error

    def _update(self, batch: Batch, meter: Meter) -> None:
        metrics = self.agent.update(batch, self.measured_cost)
        if not all(np.isfinite(metrics[name]) for name in MUST_BE_FINITE):
            self._stop_on_nan(batch, metrics)
        meter.add(metrics)

    def _stop_on_nan(self, batch: Batch, metrics: Mapping[str, float]) -> None:
        report = self.run_dir / "not_a_number.json"
        shown = {k: v if np.isfinite(v) else str(v) for k, v in metrics.items()}
        document = {"updates": self.agent.updates, "metrics": shown, "batch": _statistics(batch)}
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            report.write_text(json.dumps(document, indent=1) + "\n")
        losses = ", ".join(f"{k} {metrics[k]:.3g}" for k in MUST_BE_FINITE)
        raise TrainingError(
            f"update {self.agent.updates + 1}: a loss or gradient is not finite ({losses}). The "
            f"batch's statistics are in {report}; {self._last_checkpoint()}. A lower agent.lr "
            "often helps"
        )


def part(payload: Mapping[str, Any], name: str, path: str | Path) -> Any:
    """An entry of a checkpoint; CheckpointError where it is missing."""
    if name not in payload:
        raise CheckpointError(f"{path} is a safetransfer checkpoint, but has no {name!r} in it")
    return payload[name]


def _statistics(batch: Batch) -> dict[str, Any]:
    """Smallest, mean, largest and number of non-finite values of each of a batch's tensors."""
    tensors = {f"obs.{k}": v for k, v in batch.obs.items()}
    tensors |= {k: v for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    out = {}
    for name, tensor in tensors.items():
        x = tensor.detach().float()
        finite = x[x.isfinite()]
        out[name] = {
            "shape": list(x.shape),
            "not_finite": int((~x.isfinite()).sum()),
            "min": float(finite.min()) if finite.numel() else None,
            "mean": float(finite.mean()) if finite.numel() else None,
            "max": float(finite.max()) if finite.numel() else None,
        }
    return out
