"""The training loop on one machine: collect and learn side by side, log, checkpoint, go on.

One iteration: a collector steps the hallways with a copy of the actor while the learner makes the
updates that are due from the replay; then the new experience enters the replay and the actor's
copy is renewed. With one thread the two happen in turn, on the same data, with the same result.
"""

from __future__ import annotations

import contextlib
import copy
import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safetransfer import settings_io
from safetransfer.agent.agent import CARRY, MUST_BE_FINITE, Batch
from safetransfer.agent.networks import Shapes
from safetransfer.errors import CheckpointError, SettingError, TrainingError, UnknownNameError
from safetransfer.replay import Chunk, Episode, SequenceReplay
from safetransfer.replay.memory import check_memory
from safetransfer.training import checkpoint
from safetransfer.training.batches import batches
from safetransfer.training.build import (
    choose_device,
    make_agent,
    make_env,
    require_equal_spaces,
    shapes_of,
    shapes_of_checkpoint,
)
from safetransfer.training.collector import Collector
from safetransfer.training.devices import acting_stream, choose_actor_device
from safetransfer.training.logs import RunLog
from safetransfer.training.machine import describe_machine, memory_gib, versions
from safetransfer.training.progress import Progress
from safetransfer.training.settings import Settings

CONFIG = "config.json"
_HOW = (
    "train.epochs", "train.threads", "train.checkpoint", "train.tensorboard", "train.device",
    "train.actor_device",
)  # fmt: skip
"""Settings that may change when a run goes on."""


def train(
    settings: Settings,
    run_dir: str | Path,
    *,
    command: str | None = None,
    init: str | Path | None = None,
    carry: str = "weights",
    title: str | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train until ``settings.train.epochs``, from the run's checkpoint where it has one.

    Args:
        settings: the whole configuration.
        run_dir: where config.json, log.jsonl, checkpoint.pt and tensorboard/ are or will be.
        command: what the user typed, recorded.
        init: checkpoint of another run to start from (ignored when this run has its own).
        carry: what is taken from it, one of `safetransfer.agent.agent.CARRY`.
        title: name in the progress display.
        on_row: called with each row of the log.

    Returns:
        The last row of the log.

    Raises:
        SettingError: the directory holds a run of other settings.
        CheckpointError: a checkpoint cannot be read, does not fit, or cannot be written.
        TrainingError: a loss is not a number.
        KeyboardInterrupt: after an interrupt, when the checkpoint is on the disk.
    """
    run = Run(settings, Path(run_dir), command=command, init=init, carry=carry)
    return run.go(title or f"{settings.env.name}", on_row)


class Run:
    """One training run and everything that its checkpoint holds."""

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        command: str | None = None,
        init: str | Path | None = None,
        carry: str = "weights",
    ):
        if carry not in CARRY:
            raise UnknownNameError("carry", carry, CARRY)
        t = settings.train
        self.settings, self.run_dir = settings, run_dir
        self.path = run_dir / checkpoint.FILE_NAME
        saved = self._open_directory()

        device = choose_device(t.device)
        self.env = make_env(settings.env, t.num_envs, threads=max(1, t.threads - 1))
        shapes = shapes_of(self.env)
        self._check_replay(shapes)
        self.agent = make_agent(settings, shapes, device)
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
        # The collector acts with a copy that the updates do not touch meanwhile.
        self.actor = copy.deepcopy(self.agent.actor).requires_grad_(False)
        self.actor.to(choose_actor_device(t.actor_device, device))
        self.counters: dict[str, Any] = {
            "epoch": 0, "env_steps": 0, "decisions": 0, "episodes": 0, "cost_total": 0.0,
            "wall_s": 0.0, "credit": 0.0,
        }  # fmt: skip
        self.recent_cost: deque[tuple[float, int]] = deque()
        self.meter: _Meter | None = None  # of the epoch that is under way
        self.begins_anew = False  # goes on with new episodes: the open ones could not be kept
        if saved is None and init is not None:
            start = checkpoint.load(init)
            if "shapes" in start:
                require_equal_spaces(shapes_of_checkpoint(start), shapes, settings.env.name)
            self.agent.load_state_dict(_part(start, "agent", init), carry)
            if carry == "replay":
                if start.get("replay") is None:
                    raise CheckpointError(
                        f"{init} holds no replay to carry over; it is kept with "
                        "train.checkpoint_replay"
                    )
                self.replay.load_state_dict(start["replay"])
                self.replay.close_episodes()
        self._write_config(command, init, carry, going_on=saved is not None)
        self._sync_actor()
        self.collector = Collector(
            self.env, self.actor, t.seed, settings.agent.reward_scale, settings.agent.gamma
        )
        if saved is not None:
            self._load(saved)

    # ---------------------------------------------------------------- directory and checkpoint

    def _open_directory(self) -> dict[str, Any] | None:
        """Check that a run that is there already is this one; its checkpoint, if it has one."""
        now = settings_io.to_dict(self.settings)
        config = self.run_dir / CONFIG
        if config.exists():
            before = settings_io.with_defaults(
                Settings, settings_io.read_file(config).get("settings", {})
            )
            # How long to train (the learning rates then fall towards the new end) and how to go
            # about it may change; what is trained may not.
            for name in self.settings.env.indifferent:
                now["env"][name] = before.get("env", {}).get(name)
            different = [
                line for line in settings_io.differences(before, now) if not line.startswith(_HOW)
            ]
            if different:
                raise SettingError(
                    f"{self.run_dir} holds a run with other settings: {'; '.join(different)}. "
                    "Give the run's own settings to go on with it, or another directory"
                )
        return checkpoint.load(self.path) if self.path.exists() else None

    def _write_config(
        self, command: str | None, init: str | Path | None, carry: str, going_on: bool
    ) -> None:
        """Record the run; who goes on with one leaves what was recorded of its beginning.

        Raises SettingError where a run that has no checkpoint yet began from another agent.
        """
        path = self.run_dir / CONFIG
        start = None if init is None else {"checkpoint": Path(init).name, "carry": carry}
        if path.exists():
            before = settings_io.read_file(path)
            if going_on:
                command, start = before.get("command", command), before.get("init", start)
            elif before.get("init") != start:
                raise SettingError(
                    f"{self.run_dir} holds a run that began from {before.get('init')}, not from "
                    f"{start}. Give the run's own --init and --carry, or another directory"
                )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        document = {
            "settings": settings_io.to_dict(self.settings),
            "command": command,
            "init": start,
            "machine": describe_machine(),
            "versions": versions(),
            "mocap": self.env.mocap,
        }
        settings_io.write_json(path, document)

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
        check_memory(
            shapes, t.replay_size, a.hidden, t.replay_stride, t.replay_compact, memory_gib()
        )

    def save(self) -> None:
        """Write the checkpoint; a failed write leaves the last one whole."""
        checkpoint.save(
            self.path,
            {
                "settings": settings_io.to_dict(self.settings),
                "shapes": {
                    "camera": self.agent.shapes.camera and list(self.agent.shapes.camera),
                    "proprio": self.agent.shapes.proprio,
                    "actions": self.agent.shapes.actions,
                },
                "agent": self.agent.state_dict(),
                "collector": self.collector.state_dict(),
                "counters": dict(self.counters),
                "recent_cost": [list(x) for x in self.recent_cost],
                "rng": self.rng,
                "meter": self.meter and self.meter.state_dict(),
                "replay": self.replay.state_dict()
                if self.settings.train.checkpoint_replay
                else None,
            },
        )

    def _load(self, saved: Mapping[str, Any]) -> None:
        self.agent.load_state_dict(_part(saved, "agent", self.path))
        self.collector.load_state_dict(_part(saved, "collector", self.path))
        self.begins_anew = saved["collector"]["env"] is None
        self.counters = dict(_part(saved, "counters", self.path))
        self.recent_cost = deque((float(c), int(n)) for c, n in saved["recent_cost"])
        self.rng = saved["rng"]
        if saved.get("meter") is not None:
            self.meter = _Meter.of_state(saved["meter"])
        if saved.get("replay") is not None:
            self.replay.load_state_dict(saved["replay"])
            if self.begins_anew:
                self.replay.close_episodes()
        self._sync_actor()

    def _sync_actor(self) -> None:
        for mine, theirs in (
            (self.actor.networks, self.agent.networks),
            (self.actor.normaliser, self.agent.normaliser),
        ):
            for a, b in zip(_tensors(mine), _tensors(theirs), strict=True):
                a.copy_(b)

    # ---------------------------------------------------------------- the loop

    def go(self, title: str, on_row: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        t = self.settings.train
        resumed = self.counters["epoch"] if self.path.exists() else None
        workers = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        log = RunLog(self.run_dir, resume_epoch=resumed, tensorboard=t.tensorboard)
        if self.agent.device.type == "cpu":
            # One core learns, the others step the hallways: more threads than cores cost dearly.
            torch.set_num_threads(1)
        progress = Progress(t.epochs, title, start_epoch=self.counters["epoch"])
        last_saved = time.monotonic()
        try:
            with workers, log, progress, _Interrupts() as interrupts:
                if resumed is not None:
                    progress.message(
                        f"going on from epoch {resumed} of {t.epochs}"
                        + (
                            f", with new episodes: those of {self.settings.env.name} that were "
                            "open cannot be kept"
                            if self.begins_anew
                            else ""
                        )
                    )
                while self.counters["epoch"] < t.epochs:
                    row = self._epoch(workers, interrupts)
                    if row is not None:
                        self._log(log, row)
                        progress.update(row)
                        if on_row:
                            on_row(row)
                    due = time.monotonic() - last_saved > 60.0 * t.checkpoint_minutes
                    if due or interrupts.asked or self.counters["epoch"] >= t.epochs:
                        self.save()
                        last_saved = time.monotonic()
                    if interrupts.asked:
                        raise KeyboardInterrupt
                return log.rows[-1] if log.rows else {}
        finally:
            self.env.close()

    def _log(self, log: RunLog, row: dict[str, Any]) -> None:
        try:
            log.write(row)
        except OSError as error:
            raise TrainingError(
                f"could not write {log.path}: {error.strerror or error}; {self._last_checkpoint()}"
            ) from error

    def _last_checkpoint(self) -> str:
        if self.path.exists():
            return f"the last good checkpoint is {self.path}"
        return "there is no checkpoint yet"

    def _epoch(self, workers: ThreadPoolExecutor, interrupts: _Interrupts) -> dict[str, Any] | None:
        """Iterate until the epoch's updates are made; its row, or None when interrupted."""
        t, agent = self.settings.train, self.agent
        if self.meter is None:
            self.meter = _Meter(dict(self.counters), agent.updates)
        meter = self.meter
        target = (self.counters["epoch"] + 1) * t.epoch_updates
        started = time.perf_counter()
        while agent.updates < target and not interrupts.asked:
            due = 0
            if self.replay_is_warm:
                self.counters["credit"] += t.collect_decisions * t.num_envs / t.decisions_per_update
                due = min(int(self.counters["credit"]), target - agent.updates)
                self.counters["credit"] -= due
            future = workers.submit(self._collect) if t.threads > 1 else _done(self._collect())
            learn_started = time.perf_counter()
            agent.anneal(agent.updates / (t.epochs * t.epoch_updates))
            size = self.settings.agent.batch_size
            for batch in batches(self.replay, size, due, self.rng, agent.device):
                self._update(batch, meter)
            learned = time.perf_counter()
            chunk, collect_s = future.result()
            joined = time.perf_counter()
            meter.seconds["learner_wait"] += joined - learned
            meter.seconds["collect"] += collect_s
            meter.seconds["iterations"] += joined - learn_started
            self._take_in(chunk, meter)
        wall = time.perf_counter() - started
        self.counters["wall_s"] += wall
        meter.seconds["wall"] += wall
        if agent.updates < target:
            return None
        self.counters["epoch"] += 1
        self.meter = None
        return meter.row(self)

    @property
    def replay_is_warm(self) -> bool:
        return len(self.replay) >= self.settings.train.learning_starts

    def _collect(self) -> tuple[Chunk, float]:
        started = time.perf_counter()
        with acting_stream(self.actor):
            chunk = self.collector.collect(self.settings.train.collect_decisions)
        return chunk, time.perf_counter() - started

    def _take_in(self, chunk: Chunk, meter: _Meter) -> None:
        """Everything that happens between two iterations: replay, counters, normaliser, actor."""
        self.replay.add(chunk)
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
        self._sync_actor()

    @property
    def measured_cost(self) -> float | None:
        """Cost per environment step of recent experience."""
        steps = sum(n for _, n in self.recent_cost)
        return sum(c for c, _ in self.recent_cost) / steps if steps else None

    def _update(self, batch: Batch, meter: _Meter) -> None:
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


class _Meter:
    """Sums over an epoch, from the counters and updates that stood at its beginning."""

    def __init__(self, before: dict[str, Any], first_update: int):
        self.before, self.first_update = before, first_update
        self.sums: dict[str, float] = {}
        self.updates = 0
        self.episodes: list[Episode] = []
        self.seconds = {"wall": 0.0, "iterations": 0.0, "collect": 0.0, "learner_wait": 0.0}

    def state_dict(self) -> dict[str, Any]:
        return vars(self) | {"episodes": [vars(e) for e in self.episodes]}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> _Meter:
        meter = cls(dict(state["before"]), int(state["first_update"]))
        meter.sums, meter.updates = dict(state["sums"]), int(state["updates"])
        meter.episodes = [Episode(**e) for e in state["episodes"]]
        meter.seconds = dict(state["seconds"])
        return meter

    def add(self, metrics: Mapping[str, float]) -> None:
        self.updates += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def row(self, run: Run) -> dict[str, Any]:
        c, before, wall = run.counters, self.before, self.seconds["wall"]
        updates = run.agent.updates - self.first_update
        steps = c["env_steps"] - before["env_steps"]
        means = {name: value / self.updates for name, value in self.sums.items()}
        full = [e for e in self.episodes if e.full_start]
        q = measured = None
        if full:
            obs = {k: np.stack([e.first_obs[k] for e in full]) for k in full[0].first_obs}
            q = float(run.agent.q_at_start(obs, np.stack([e.first_action for e in full])).mean())
            measured = float(np.mean([e.discounted_return for e in full]))
        overlapped = run.settings.train.threads > 1
        total = max(self.seconds["iterations"], 1e-9)
        return {
            "epoch": c["epoch"],
            "updates": run.agent.updates,
            "env_steps": c["env_steps"],
            "wall_s": round(c["wall_s"], 2),
            "episodes": c["episodes"],
            "return": float(np.mean([e.episode_return for e in full])) if full else None,
            "cost": float(np.mean([e.cost for e in full])) if full else None,
            "length": float(np.mean([e.length for e in full])) if full else None,
            "cost_total": c["cost_total"],
            "cost_rate": (c["cost_total"] - before["cost_total"]) / max(steps, 1),
            **{k: v for k, v in means.items() if k not in ("multiplier", "alpha")},
            "multiplier": run.agent.multiplier.value,
            "alpha": run.agent.alpha,
            "q_start": q,
            "q_measured": measured,
            "steps_per_s": steps / wall,
            "updates_per_s": updates / wall,
            "collector_wait_share": 1.0 - self.seconds["collect"] / total if overlapped else None,
            "learner_wait_share": self.seconds["learner_wait"] / total if overlapped else None,
        }


class _Interrupts:
    """Turns the first SIGINT or SIGTERM into a flag, for the loop to stop where it is whole."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked:  # a second one means it
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*(p.detach() for p in module.parameters()), *module.buffers()]


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _part(payload: Mapping[str, Any], name: str, path: str | Path) -> Any:
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
