"""The training loop on one machine: collect and learn side by side, log, checkpoint, go on.

One iteration: a collector steps the hallways with a copy of the actor while the learner makes the
updates that are due from the replay; then the new experience enters the replay and the actor's
copy is renewed. With one thread the two happen in turn, on the same data, with the same result.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from safetransfer.agent.parts import Helper
from safetransfer.replay import Chunk
from safetransfer.training.build import choose_device, make_env, shapes_of
from safetransfer.training.cluster.ledger import Account, Ledger
from safetransfer.training.collector import Collector
from safetransfer.training.devices import acting_stream, choose_actor_device
from safetransfer.training.interrupts import Interrupts
from safetransfer.training.learner import Learner, part
from safetransfer.training.lock import alone_in
from safetransfer.training.logs import RunLog
from safetransfer.training.progress import Progress
from safetransfer.training.run_directory import open_directory, require_own_directory
from safetransfer.training.settings import Settings


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
        carry: what is taken from it, one of `safetransfer.agent.settings.CARRY`.
        title: name in the progress display.
        on_row: called with each row of the log.

    Returns:
        The last row of the log.

    Raises:
        SettingError: the directory holds a run of other settings.
        CheckpointError: a checkpoint cannot be read, does not fit, or cannot be written.
        TrainingError: a loss is not a number, or another process is training this run.
        KeyboardInterrupt: after an interrupt, when the checkpoint is on the disk.
    """
    run_dir = Path(run_dir)
    require_own_directory(run_dir)
    with alone_in(run_dir):  # before config.json is written, which may be another process's
        run = Run(settings, run_dir, command=command, init=init, carry=carry)
        return run.go(title or f"{settings.env.name}", on_row)


class Run(Learner):
    """A learner with its own hallways, on one machine, and everything that its checkpoint holds."""

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        command: str | None = None,
        init: str | Path | None = None,
        carry: str = "weights",
    ):
        t = settings.train
        saved = open_directory(run_dir, settings)
        # What a cluster that this run was on accounts for, should it go on there.
        self._cluster: dict[str, Any] | None = None
        self._at_load = Account()
        acting = choose_actor_device(t.actor_device, choose_device(t.device))
        self.env = make_env(settings.env, t.num_envs, threads=max(1, t.threads - 1))
        try:
            super().__init__(
                settings, run_dir, shapes_of(self.env), self.env.mocap, command, init, carry, saved
            )
            self.overlapped = t.threads > 1
            # The collector acts with a copy that the updates do not touch meanwhile.
            self.actor = copy.deepcopy(self.agent.actor).requires_grad_(False).to(acting)
            self.begins_anew = False  # goes on with new episodes: the open ones could not be kept
            self._sync_actor()
            self.collector = Collector(
                self.env,
                self.actor,
                t.seed,
                settings.agent.reward_scale,
                settings.agent.gamma,
                t.mode_episodes,
            )
            if saved is not None:
                self.load(saved)
        except BaseException:
            self.env.close()
            raise

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict() | {"collector": self.collector.state_dict()}
        if self._cluster is not None:
            state["cluster"] = self._cluster | {"ledger": self._ledger()}
        return state

    def _ledger(self) -> dict[str, Any]:
        """A cluster's ledger, with what was taken in here since."""
        assert self._cluster is not None
        ledger = Ledger()
        ledger.load_state_dict(self._cluster["ledger"])
        ledger.before += Account.of_counters(self.counters) - self._at_load
        return ledger.state_dict()

    def load(self, saved: Mapping[str, Any]) -> None:
        super().load(saved)
        self._cluster, self._at_load = saved.get("cluster"), Account.of_counters(self.counters)
        collector = part(saved, "collector", self.path)
        if collector is not None:  # the run's actors on a cluster keep none
            self.collector.load_state_dict(collector)
        self.begins_anew = collector is None or collector["env"] is None
        if self.begins_anew and saved.get("replay") is not None:
            self.replay.close_episodes()
        self._sync_actor()

    def _sync_actor(self) -> None:
        for mine, theirs in (
            (self.actor.networks, self.agent.networks),
            (self.actor.normaliser, self.agent.normaliser),
        ):
            for a, b in zip(_tensors(mine), _tensors(theirs), strict=True):
                a.copy_(b)

    def take_in(self, chunk: Chunk, first_ring: int = 0) -> None:
        super().take_in(chunk, first_ring)
        self._sync_actor()

    # ---------------------------------------------------------------- the loop

    def go(self, title: str, on_row: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        t = self.settings.train
        resumed = self.counters["epoch"] if self.path.exists() else None
        # One steps the hallways. When they have been, it makes gradients until the learner is
        # through, too.
        helpers = max(1, self.agent.batch_parts - 1)
        workers = ThreadPoolExecutor(helpers, initializer=torch.set_num_threads, initargs=(1,))
        if t.threads > 1:
            self.agent.helper = Helper(workers)
        log = RunLog(self.run_dir, resume_epoch=resumed, tensorboard=t.tensorboard)
        # One core learns, the others step the hallways: more threads than cores cost dearly.
        torch.set_num_threads(1)
        progress = Progress(t.epochs, title, start_epoch=self.counters["epoch"])
        last_saved = time.monotonic()
        try:
            with workers, log, progress, Interrupts() as interrupts:
                if resumed is not None and self.finished:
                    progress.message(
                        f"{self.run_dir} has {resumed} epochs already: train.epochs {t.epochs} "
                        "asks for no more"
                    )
                elif resumed is not None:
                    progress.message(
                        f"going on from epoch {resumed} of {t.epochs}"
                        + (
                            f", with new episodes: those of {self.settings.env.name} that were "
                            "open cannot be kept"
                            if self.begins_anew
                            else ""
                        )
                    )
                while not self.finished:
                    row = self._epoch(workers, interrupts)
                    if row is not None:
                        self.write_row(log, row)
                        progress.update(row)
                        if on_row:
                            on_row(row)
                    due = time.monotonic() - last_saved > 60.0 * t.checkpoint_minutes
                    if due or interrupts.asked or self.finished:
                        self.save()
                        last_saved = time.monotonic()
                    if interrupts.asked:
                        raise KeyboardInterrupt
                return log.rows[-1] if log.rows else {}
        finally:
            self.env.close()

    def _epoch(self, workers: ThreadPoolExecutor, interrupts: Interrupts) -> dict[str, Any] | None:
        """Iterate until the epoch's updates are made; its row, or None when interrupted."""
        t, agent, meter = self.settings.train, self.agent, self.meter
        target = self.epoch_target
        started = time.perf_counter()
        while agent.updates < target and not interrupts.asked:
            self.accrue(t.collect_decisions * t.num_envs)  # what is collected meanwhile
            due = self.updates_due()
            future = workers.submit(self._collect) if t.threads > 1 else _done(self._collect())
            learn_started = time.perf_counter()
            self.learn(due)
            learned = time.perf_counter()
            chunk, collect_s = future.result()
            joined = time.perf_counter()
            meter.seconds["learner_wait"] += joined - learned
            meter.seconds["collect"] += collect_s
            if agent.helper is not None:
                helped, waited = agent.helper.take_times()
                meter.seconds["help"] += helped
                meter.seconds["learner_wait"] += waited
            meter.seconds["iterations"] += joined - learn_started
            self.take_in(chunk)
        self.count_wall(time.perf_counter() - started)
        return self.end_epoch() if agent.updates >= target else None

    def _collect(self) -> tuple[Chunk, float]:
        started = time.perf_counter()
        with acting_stream(self.actor):
            chunk = self.collector.collect(self.settings.train.collect_decisions)
        return chunk, time.perf_counter() - started


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*(p.detach() for p in module.parameters()), *module.buffers()]


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
