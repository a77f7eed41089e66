"""Training over Ray: start the learner and the actors, watch them, end when all is learned.

The driver decides nothing about learning. It puts actors in the place of those that die, tells the
learner of it, keeps what actors last said in ``ledger.json``, and shows progress.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from safetransfer import settings_io
from safetransfer.errors import TrainingError
from safetransfer.training.cluster import placement
from safetransfer.training.cluster.events import Events
from safetransfer.training.cluster.ledger import FILE_NAME as LEDGER
from safetransfer.training.cluster.ledger import Ledger
from safetransfer.training.cluster.pool import Pool
from safetransfer.training.interrupts import Interrupts
from safetransfer.training.logs import read_rows
from safetransfer.training.progress import Progress
from safetransfer.training.settings import Settings

POLL = 0.25  # seconds between looks at everything
LEARNER_BACK_WITHIN = 300.0  # seconds that a learner may take to start, or to start again
SAY_SO_AFTER = 60.0  # seconds of a learner's start after which people are told of it
SAVED_WITHIN = 60.0  # seconds for a learner to write its checkpoint where the driver gives up
VAIN_LIVES = 5  # learners that may die one after the other without a further update kept
SETTLE = 5.0  # seconds until every actor has heard of a learner that began again
DRAIN_WITHIN = 60.0  # seconds for what actors still have, when a run ends


class Driver:
    """One start of a run on a cluster."""

    def __init__(self, settings: Settings, run_dir: Path, spec: dict[str, Any], title: str):
        self.settings, self.run_dir, self.spec, self.title = settings, run_dir, spec, title
        self.ledger = Ledger()
        self.pool: Pool | None = None
        self.rows: list[dict[str, Any]] = []
        self._life, self._seen = "", 0
        self._latest: dict[str, Any] = {}
        self._call: Any = None  # to the learner's status, under way
        self._away_since: float | None = None
        self._vain_lives = 0
        self._kept_updates = -1
        self._nodes = 1
        self._room_said = 0

    def go(self, where: str, on_row: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
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
            self._keep_ledger()  # names are taken before anything is collected under them
            try:
                while not self._latest["learned"] and not interrupts.asked:
                    self._watch(self.pool)
                row = self._leave(self.pool)
            except Exception:
                self.pool.end()  # what they would still send, nobody would learn from
                self._save()
                raise
            finally:
                self.pool.end()
            if interrupts.asked and not self._latest["learned"]:
                raise KeyboardInterrupt
            return row

    # ---------------------------------------------------------------- beginning

    def _await_learner(self, interrupts: Interrupts) -> None:
        """Wait until the learner is built. One that dies over it is built again and again by Ray,
        which does not tell: a call to it only takes long."""
        began, said = time.monotonic(), False
        while not self._latest:
            self._look_after_learner()
            if interrupts.asked:
                raise KeyboardInterrupt
            waited = time.monotonic() - began
            if waited > SAY_SO_AFTER and not said:
                said = True
                self.progress.message(f"the learner is still being built, after {waited:.0f} s")
            if waited > LEARNER_BACK_WITHIN and not self._latest:
                raise TrainingError(
                    f"the learner did not begin within {LEARNER_BACK_WITHIN:.0f} s. It may die "
                    "each time that it is built, for want of memory for instance: Ray's logs, "
                    "/tmp/ray/session_latest/logs on its node, say more"
                )

    def _begin(self, where: str) -> None:
        latest, n = self._latest, self.spec["num_actors"]
        self._earlier = self._read_earlier()
        t = self.settings.train
        self.progress.go_on_from(latest["epoch"])
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

    def _watch(self, pool: Pool) -> None:
        pool.poll(POLL)
        self._look_after_learner()
        self._tell_learner(pool)
        self._keep_ledger()
        self._say_room_and_nodes(pool)

    def _tell_learner(self, pool: Pool) -> None:
        if self._away_since is None:
            self.learner.note.remote(pool.words, pool.ended)

    def _say_room_and_nodes(self, pool: Pool) -> None:
        nodes = sum(node["Alive"] for node in ray.nodes())
        if nodes != self._nodes:
            text = f"the cluster has {nodes} node{'s' * (nodes != 1)} now, after {self._nodes}"
            self.events("nodes_changed", text, nodes=nodes)
            self._nodes = nodes
        waiting = pool.waiting_for_room
        if waiting != self._room_said:
            self._room_said = waiting
            if waiting:
                text = (
                    f"{waiting} of {len(pool.members)} actors wait for a free core: they "
                    "begin when one is, for instance when a node joins"
                )
                self.events("actors_waiting", text, waiting=waiting)

    def _look_after_learner(self) -> None:
        """Hear from the learner, or notice that it is away.

        Raises TrainingError where it cannot go on.
        """
        if self._call is None:
            self._call = self.learner.status.remote(self._life, self._seen)
        ready, _ = ray.wait([self._call], timeout=0.05 if self._latest else POLL)
        if ready:
            call, self._call = self._call, None
            try:
                self._hear(ray.get(call))
                return
            except ray.exceptions.RayTaskError:  # an error of its own, and not its death
                raise
            except ray.exceptions.RayError as error:
                if getattr(error, "actor_init_failed", False):  # Ray does not try that again
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
            self._latest = self._latest | {"failure": status["failure"]}
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
            f"received since; the {gone:,} older ones of its replay are gone from memory",
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
        if self.pool is not None:
            for name, collected in self.pool.words.items():
                self.ledger.word(name, collected)
            for name in self.pool.ended:
                self.ledger.end(name)
        totals = {name: amount.as_dict() for name, amount in self.ledger.totals().items()}
        document = {"totals": totals, "ledger": self.ledger.state_dict()}
        settings_io.write_json(self.run_dir / LEDGER, document)

    # ---------------------------------------------------------------- ending

    def _leave(self, pool: Pool | None) -> dict[str, Any]:
        """Have actors stop and the learner take in what they have, write, and end."""
        settle = 0.0
        while not self._latest["left"]:
            life = self._life
            if pool is not None:
                self._drain(pool, settle)
                self._tell_learner(pool)
            self.learner.leave.remote()
            while not self._latest["left"] and self._life == life:
                self._look_after_learner()
                time.sleep(0.05)
            settle = SETTLE  # where it died: its successor knows nothing of it
        backlogs = {} if pool is None else pool.backlogs()
        self._keep_ledger()
        whole, text = self.ledger.audit(self._latest["counters"], backlogs)
        self.events("accounts" if whole else "accounts_differ", text)
        return self.rows[-1] if self.rows else self._last_row()

    def _save(self) -> None:
        """Where the driver cannot go on, have a learner that can write its checkpoint."""
        if self._latest.get("failure") or self._latest["left"]:
            return
        self._on_row = None
        with contextlib.suppress(Exception):  # what the driver stopped for is what is told
            self.learner.leave.remote()
            end = time.monotonic() + SAVED_WITHIN
            while time.monotonic() < end and not self._latest["left"]:
                self._look_after_learner()
                time.sleep(0.05)

    def _drain(self, pool: Pool, settle: float) -> None:
        """`settle`: seconds before actors' words are believed, after the learner began again."""
        if not self._latest["learned"]:
            self.progress.message("interrupted: the learner takes in what actors still have")
            self.learner.drain.remote()
        pool.stop()
        began = time.monotonic()
        while time.monotonic() < began + DRAIN_WITHIN:
            pool.poll(POLL)
            self._look_after_learner()
            if pool.drained and time.monotonic() > began + settle:
                break
        left = [name for name, amount in pool.backlogs().items() if amount.decisions]
        if left:
            pool.ended += left
            self.events(
                "drain_cut_short",
                f"{len(left)} actors still had something to send after {DRAIN_WITHIN:.0f} s; it is "
                "lost",
            )

    def _last_row(self) -> dict[str, Any]:
        rows = read_rows(self.run_dir)
        return rows[-1] if rows else {}
