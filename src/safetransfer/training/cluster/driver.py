"""Training over Ray: start the learner and the actors, watch them, end when all is learned.

The driver decides nothing about learning. It puts actors in the place of those that die, tells the
learner of it, keeps what actors last said in ``ledger.json``, and shows progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetransfer
from safetransfer import settings_io
from safetransfer.errors import TrainingError
from safetransfer.training.cluster.connection import connected
from safetransfer.training.cluster.events import Events
from safetransfer.training.cluster.ledger import Ledger
from safetransfer.training.cluster.slots import slots_of
from safetransfer.training.interrupts import Interrupts
from safetransfer.training.machine import cores
from safetransfer.training.progress import Progress
from safetransfer.training.run_directory import open_directory
from safetransfer.training.settings import Settings

LEDGER = "ledger.json"
POLL = 0.25  # seconds between looks at everything
LEARNER_BACK_WITHIN = 180.0  # seconds that a learner may take to start again
VAIN_LIVES = 5  # learners that may die one after the other without a further update kept
DRAIN_WITHIN = 60.0  # seconds for what actors still have, when a run ends


@dataclass(frozen=True)
class Cluster:
    """Where a run's actors are, and how many."""

    num_actors: int | None = None  # None: a core for each, but one for the learner
    address: str | None = None  # None: a cluster of this machine alone


def train_on_cluster(
    settings: Settings,
    run_dir: str | Path,
    cluster: Cluster = Cluster(),
    *,
    command: str | None = None,
    init: str | Path | None = None,
    carry: str = "weights",
    title: str | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train as `safetransfer.training.loop.train` does, with actors in processes of Ray.

    A run can go on with another number of actors, on another cluster, or on one machine.

    Args:
        cluster: where, and how many actors.

    The rest is as in `train`; the same errors are raised, and SettingError where there is no such
    cluster, or Ray is not installed.
    """
    run_dir = Path(run_dir).resolve()  # also for the learner's process
    open_directory(run_dir, settings)  # before anything is started
    with connected(cluster.address, cluster.num_actors or max(1, cores() - 1)) as where:
        spec = {
            "settings": settings_io.to_dict(settings),
            "run_dir": str(run_dir),
            "num_actors": cluster.num_actors or _cores_for_actors(),
            "command": command,
            "init": None if init is None else str(Path(init).resolve()),
            "carry": carry,
            "version": safetransfer.__version__,
        }
        slots_of(settings.train.num_envs, spec["num_actors"])
        return Driver(settings, run_dir, spec, title or settings.env.name).go(where, on_row)


def _cores_for_actors() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 2)) - 1)


class Driver:
    """One start of a run on a cluster."""

    def __init__(self, settings: Settings, run_dir: Path, spec: dict[str, Any], title: str):
        self.settings, self.run_dir, self.spec, self.title = settings, run_dir, spec, title
        self.ledger = Ledger()
        self.rows: list[dict[str, Any]] = []
        self._life, self._seen = "", 0
        self._latest: dict[str, Any] = {}
        self._call: Any = None
        self._away_since: float | None = None
        self._vain_lives = 0
        self._kept_updates = -1
        self._nodes = 1
        self._room_said = 0

    def go(self, where: str, on_row: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        from safetransfer.training.cluster import placement
        from safetransfer.training.cluster.pool import Pool

        t = self.settings.train
        self.progress = Progress(t.epochs, self.title)
        self.events = Events(self.run_dir, self.progress.message)
        self._on_row = on_row
        with self.progress, Interrupts() as interrupts, placement.reserved(t.device) as place:
            self.learner = place.start_learner(self.spec)
            self._await_learner(interrupts)
            self._begin(where)
            if self._latest["learned"]:
                return self._leave(None)
            self.pool = Pool(self.spec, self.learner, self._next_incarnations(), self.events)
            self.pool.remember(self._earlier)
            try:
                while not self._latest["learned"] and not interrupts.asked:
                    self._watch()
                row = self._leave(self.pool)
            finally:
                self.pool.end()
            if interrupts.asked and not self._latest["learned"]:
                raise KeyboardInterrupt
            return row

    # ---------------------------------------------------------------- beginning

    def _await_learner(self, interrupts: Interrupts) -> None:
        while not self._latest:
            self._look_after_learner()
            if interrupts.asked:
                raise KeyboardInterrupt

    def _begin(self, where: str) -> None:
        latest, n = self._latest, self.spec["num_actors"]
        self._earlier = self._read_earlier()
        t = self.settings.train
        self.progress.start_epoch = latest["epoch"]
        goes_on = f"goes on from epoch {latest['epoch']}" if latest["resumed"] else "begins"
        self.events(
            "run_started",
            f"{where}; the learner {goes_on}, on {latest['device']}; {n} actors for {t.num_envs} "
            "hallways",
            actors=n,
            pid=latest["pid"],
        )

    def _read_earlier(self) -> list[Any]:
        """Entries of actors of earlier starts, by their last words or the learner's checkpoint."""
        ledger = Ledger()
        path = self.run_dir / LEDGER
        if path.exists():
            ledger.load_state_dict(settings_io.read_file(path)["ledger"])
        self.ledger.load_state_dict(self._latest["ledger"])
        for name, entry in self.ledger.entries.items():
            ledger.word(name, entry.collected)
        return list(ledger.entries.values())

    def _next_incarnations(self) -> dict[int, int]:
        following: dict[int, int] = {}
        for entry in self._earlier:
            following[entry.slot] = max(following.get(entry.slot, 0), entry.incarnation + 1)
        return following

    # ---------------------------------------------------------------- watching

    def _watch(self) -> None:
        self.pool.poll(POLL)
        self._look_after_learner()
        self._tell_learner()
        self._say_room_and_nodes()

    def _tell_learner(self) -> None:
        if self._away_since is None:
            self.learner.note.remote(self.pool.words, self.pool.ended)

    def _say_room_and_nodes(self) -> None:
        import ray

        nodes = sum(node["Alive"] for node in ray.nodes())
        if nodes != self._nodes:
            text = f"the cluster has {nodes} node{'s' * (nodes != 1)} now, after {self._nodes}"
            self.events("nodes_changed", text, nodes=nodes)
            self._nodes = nodes
        waiting = self.pool.waiting_for_room
        if waiting != self._room_said:
            self._room_said = waiting
            if waiting:
                text = (
                    f"{waiting} of {len(self.pool.members)} actors wait for a free core: they "
                    "begin when one is, for instance when a node joins"
                )
                self.events("actors_waiting", text, waiting=waiting)

    def _look_after_learner(self) -> None:
        """Hear from the learner, or notice that it is away.

        Raises TrainingError where it cannot go on.
        """
        import ray
        import ray.exceptions

        if self._call is None:
            self._call = self.learner.status.remote(self._life, self._seen)
        ready, _ = ray.wait([self._call], timeout=0.05 if self._latest else POLL)
        if ready:
            call, self._call = self._call, None
            try:
                self._hear(ray.get(call))
                return
            except ray.exceptions.RayActorError as error:
                if error.actor_init_failed:  # Ray does not try that again
                    raise TrainingError(f"the learner could not begin: {error}") from error
                if self._away_since is None and self._latest:
                    self._away_since = time.monotonic()
                    self.events(
                        "learner_died",
                        "the learner died; Ray starts it again, and actors keep what they collect",
                    )
                time.sleep(POLL)
        if self._away_since and time.monotonic() - self._away_since > LEARNER_BACK_WITHIN:
            raise TrainingError(
                f"the learner did not start again within {LEARNER_BACK_WITHIN:.0f} s; the same "
                "command goes on from the last checkpoint"
            )

    def _hear(self, status: dict[str, Any]) -> None:
        if status["failure"]:
            raise TrainingError(status["failure"])
        before, self._latest = self._latest, status
        if before and status["life"] != self._life:
            self._note_new_life(before, status)
        if status["life"] != self._life:
            self._life, self._seen = status["life"], 0
        self._away_since = None
        for row in status["rows"]:
            self._seen += 1
            self.rows.append(row)
            self.progress.update(row)
            if self._on_row:
                self._on_row(row)
        self._keep_ledger()

    def _note_new_life(self, before: dict[str, Any], status: dict[str, Any]) -> None:
        if status["updates"] > self._kept_updates:
            self._vain_lives = 0
        self._kept_updates = status["updates"]
        self._vain_lives += 1
        since = before["counters"]["decisions"] - status["counters"]["decisions"]
        gone = max(0, before["replay"] - since) if not status["replay"] else 0
        self.events(
            "learner_restarted",
            f"the learner goes on from update {status['updates']} of its checkpoint (it was at "
            f"{before['updates']}); actors send again the {max(0, since):,} decisions that it had "
            f"received since. About {gone:,} older ones of its replay are gone; they had been "
            "learned from",
            updates=status["updates"],
            pid=status["pid"],
        )
        if self._vain_lives >= VAIN_LIVES:
            raise TrainingError(
                f"the learner died {self._vain_lives} times in a row before its next checkpoint; a "
                "shorter train.checkpoint_minutes, or more memory, may help"
            )

    def _keep_ledger(self) -> None:
        """The learner's ledger with the actors' last words, for a start after a kill."""
        self.ledger.load_state_dict(self._latest["ledger"])
        pool = getattr(self, "pool", None)
        if pool is not None:
            for name, collected in pool.words.items():
                self.ledger.word(name, collected)
            for name in pool.ended:
                self.ledger.end(name)
        totals = {name: amount.as_dict() for name, amount in self.ledger.totals().items()}
        document = {"totals": totals, "ledger": self.ledger.state_dict()}
        settings_io.write_json(self.run_dir / LEDGER, document)

    # ---------------------------------------------------------------- ending

    def _leave(self, pool: Any) -> dict[str, Any]:
        """Have actors stop and the learner take in what they have, write, and end."""
        if pool is not None:
            self._drain(pool)
            self._tell_learner()
        self.learner.leave.remote()
        while not self._latest["left"]:
            self._look_after_learner()
            time.sleep(0.05)
            if self._away_since is not None:  # it does not know of it when it is back
                self.learner.leave.remote()
        backlogs = {} if pool is None else pool.backlogs()
        whole, text = self.ledger.audit(self._latest["counters"], backlogs)
        self.events("accounts" if whole else "accounts_differ", text)
        return self.rows[-1] if self.rows else self._last_row()

    def _drain(self, pool: Any) -> None:
        if not self._latest["learned"]:
            self.progress.message("interrupted: the learner takes in what actors still have")
            self.learner.drain.remote()
        pool.stop()
        give_up = time.monotonic() + DRAIN_WITHIN
        while not pool.drained and time.monotonic() < give_up:
            pool.poll(POLL)
            self._look_after_learner()
        left = [name for name, amount in pool.backlogs().items() if amount.decisions]
        if left:
            pool.ended += left
            self.events(
                "drain_cut_short",
                f"{len(left)} actors still had something to send after {DRAIN_WITHIN:.0f} s; it is "
                "lost",
            )

    def _last_row(self) -> dict[str, Any]:
        from safetransfer.training.logs import read_rows

        rows = read_rows(self.run_dir)
        return rows[-1] if rows else {}


__all__ = ["Cluster", "Driver", "train_on_cluster"]
