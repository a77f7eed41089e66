"""What the learner of a cluster does: take in what actors send, once, in order, and learn from it.

Without Ray: actors call `receive`, from threads of their own; `run` is the thread that learns.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from safetransfer.errors import SafeTransferError, TrainingError
from safetransfer.training.build import make_env, shapes_of
from safetransfer.training.cluster.collecting import weights_of
from safetransfer.training.cluster.figures import Figures
from safetransfer.training.cluster.ledger import Account, Ledger
from safetransfer.training.cluster.messages import Parcel, Reply, Version, Word
from safetransfer.training.cluster.slots import slots_of
from safetransfer.training.learner import Learner
from safetransfer.training.logs import RunLog
from safetransfer.training.run_directory import open_directory
from safetransfer.training.settings import Settings

LONGEST_WAIT = 1.0  # seconds that an actor's call waits for room: it must hear that we live
SAVE_SPACING = 2.0  # seconds at least between checkpoints that full backlogs ask for
PUBLISH_SPACING = 0.1  # seconds at least between versions of the parameters
FRESH = 10.0  # seconds after which an actor that says nothing is not counted as alive


class ClusterLearner(Learner):
    """A learner whose experience comes from actors elsewhere, and whose parameters go to them."""

    overlapped = True

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        num_actors: int,
        publish: Callable[[Mapping[str, Any]], Any],
        command: str | None = None,
        init: str | Path | None = None,
        carry: str = "weights",
    ):
        """
        Args:
            num_actors: slots over which the hallways, and the replay's rings, are spread.
            publish: puts parameters where actors can fetch them; returns what it gives them.

        The rest, and what is raised, is as in `safetransfer.training.loop.train`.
        """
        saved = open_directory(run_dir, settings)
        self.slots = slots_of(settings.train.num_envs, num_actors)
        env = make_env(settings.env, 1)
        try:
            shapes, mocap = shapes_of(env), env.mocap
        finally:
            env.close()
        super().__init__(settings, run_dir, shapes, mocap, command, init, carry, saved)
        self.resumed = saved is not None
        self.ledger = Ledger()
        self._open: dict[int, str] = {}  # by slot, the actor whose episodes its rings hold open
        self.life = f"{time.time():.3f}-{os.getpid()}"
        self._publish = publish
        self._published: tuple[Version, Any] | None = None
        self._published_at: dict[int, float] = {}
        self._last_published = 0.0
        self.figures = Figures()
        self.words: dict[str, tuple[float, Word]] = {}  # when each actor last said what
        self.outbox: list[dict[str, Any]] = []  # rows for whoever watches
        self.learned = False  # all updates are made
        self.left = False  # the last checkpoint is written
        self.failure: str | None = None
        self._learning_cpu_s = 0.0  # processor time of the thread that learns
        self._draining = self._leaving = self._save_asked = False
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._room = [threading.Condition(self._lock) for _ in self.slots]
        self._mailbox: dict[int, tuple[str, Parcel]] = {}  # by slot, first come first served
        self._covered: dict[str, int] = {}
        if saved is not None:
            self.load(saved)
        self.learned = self.finished

    # ---------------------------------------------------------------- checkpoint

    def state_dict(self) -> dict[str, Any]:
        with self._lock:
            cluster = {
                "ledger": self.ledger.state_dict(),
                "num_actors": len(self.slots),
                "open": [[slot, name] for slot, name in self._open.items()],
            }
        return super().state_dict() | {"cluster": cluster}

    def load(self, saved: Mapping[str, Any]) -> None:
        super().load(saved)
        cluster = saved.get("cluster")
        if cluster is None:  # begun on one machine
            self.ledger.before = Account.of_counters(self.counters)
        else:
            self.ledger.load_state_dict(cluster["ledger"])
            self._covered = {n: e.next_chunk for n, e in self.ledger.entries.items()}
        if cluster is not None and cluster["num_actors"] == len(self.slots):
            self._open = {int(slot): name for slot, name in cluster["open"]}
        elif saved.get("replay") is not None:
            self.replay.close_episodes()  # rings have changed hands

    def save(self) -> None:
        super().save()
        with self._lock:
            self._covered = {n: e.next_chunk for n, e in self.ledger.entries.items()}

    # ---------------------------------------------------------------- called by actors

    def receive(self, word: Word, parcel: Parcel | None) -> Reply:
        """Accept an actor's next chunk once there is room for it, or say which one is next.

        An actor has at most one chunk in the mailbox, so that it is held back while it is ahead.
        """
        room = self._room[word.slot]
        give_up = time.monotonic() + LONGEST_WAIT
        with self._lock:
            self._note(word)
            while parcel is not None and not self._refused(word.name):
                if parcel.number != self._expected(word):
                    break  # sent before, or asked for anew after this learner began again
                if word.slot not in self._mailbox:
                    self._mailbox[word.slot] = (word.name, parcel)
                    self._arrived.notify()
                    break
                left = give_up - time.monotonic()
                if left <= 0 or not room.wait(left):
                    break
            return self._reply(word)

    def _note(self, word: Word) -> None:
        self.ledger.word(word.name, word.collected)
        self.words[word.name] = (time.monotonic(), word)
        if word.held > self.settings.train.actor_backlog / 2:
            self._save_asked = True  # then the actor can forget what it has sent

    def _refused(self, name: str) -> bool:
        return self.left or self.ledger.entry(name).ended

    def _expected(self, word: Word) -> int:
        in_mailbox = self._mailbox.get(word.slot, ("", None))[0] == word.name
        return self.ledger.entry(word.name).next_chunk + in_mailbox

    def _reply(self, word: Word) -> Reply:
        version, parameters = self._published or (("", 0), None)
        return Reply(
            self._expected(word),
            self._covered.get(word.name, 0),
            version,
            None if version == word.version else parameters,
            self._refused(word.name),
        )

    # ---------------------------------------------------------------- called by the driver

    def note(self, words: Mapping[str, Account], ended: list[str]) -> None:
        """What actors said of themselves, and which of them are gone."""
        with self._lock:
            for name, collected in words.items():
                self.ledger.word(name, collected)
            for name in ended:
                self.ledger.end(name)

    def drain(self) -> None:
        """Learn no more; take in what still comes."""
        self._draining = True

    def leave(self) -> None:
        """Close a finished epoch, write the checkpoint, end."""
        self._leaving = True

    def status(self, life: str, seen: int) -> dict[str, Any]:
        """How far it is, and the rows that the caller has not `seen` of this `life`."""
        with self._lock:
            ledger = self.ledger.state_dict()
        meter = self._meter  # an epoch's end takes it away
        return {
            "life": self.life,
            "pid": os.getpid(),
            "device": str(self.agent.device),
            "epoch": self.counters["epoch"],
            "updates": self.agent.updates,
            "counters": dict(self.counters),
            "replay": len(self.replay),
            "queue": len(self._mailbox),
            "seconds": dict(meter.seconds) if meter else None,
            "cpu_s": time.process_time(),
            "learning_cpu_s": self._learning_cpu_s,
            "rows": self.outbox[seen if life == self.life else 0 :],
            "ledger": ledger,
            "learned": self.learned,
            "left": self.left,
            "failure": self.failure,
            "resumed": self.resumed,
        }

    # ---------------------------------------------------------------- the thread that learns

    def run(self) -> None:
        """Learn until the last epoch's updates are made, then take in what is left, and leave."""
        try:
            self._run()
        except SafeTransferError as error:
            self.failure = str(error)
        except Exception as error:  # told to the driver: this thread has nobody else to tell
            self.failure = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        t = self.settings.train
        if self.agent.device.type == "cpu":
            torch.set_num_threads(1)  # as on one machine
        resumed = self.counters["epoch"] if self.resumed else None
        last_saved = time.monotonic()
        with RunLog(self.run_dir, resume_epoch=resumed, tensorboard=t.tensorboard) as log:
            self._publish_parameters()
            # What has been received counts as delivered: its sender may be gone.
            while not self._leaving or self._mailbox:
                done = self._turn(log)
                if done and not self.learned:
                    # Before anybody is told: a learner that dies from here on need not learn again.
                    self.save()
                    self.learned = True
                since = time.monotonic() - last_saved
                asked = self._save_asked and since > SAVE_SPACING
                if asked or since > 60.0 * t.checkpoint_minutes:
                    self._save_asked = False
                    self.save()
                    last_saved = time.monotonic()
            if not self.finished and self.agent.updates >= self.epoch_target:
                self._end_epoch(log)
            self.save()
            self.left = True

    def _turn(self, log: RunLog) -> bool:
        """Take in a chunk, make the updates that it is worth, pass the parameters on.

        Returns whether all updates are made.
        """
        started = time.monotonic()
        arrived = self._next_parcel(0.2)
        waited = time.monotonic() - started
        if arrived is not None:
            slot, name, parcel = arrived
            self._take(slot, name, parcel)
            self.accrue(parcel.chunk.decisions)
            if not self._draining:
                self.learn(self.updates_due())
            if time.monotonic() - self._last_published > PUBLISH_SPACING:
                self._publish_parameters()
        self._learning_cpu_s = time.thread_time()
        if self.finished:
            return True
        turn = time.monotonic() - started
        self.meter.seconds["learner_wait"] += waited
        self.meter.seconds["iterations"] += turn
        self.count_wall(turn)
        if self.agent.updates < self.epoch_target:
            return False
        if self.counters["epoch"] + 1 >= self.settings.train.epochs:
            return True  # the last epoch stays open, for what actors have still to send
        self._end_epoch(log)
        return False

    def _next_parcel(self, timeout: float) -> tuple[int, str, Parcel] | None:
        with self._lock:
            if not self._mailbox and not self._arrived.wait(timeout):
                return None
            slot, (name, parcel) = next(iter(self._mailbox.items()))
            return slot, name, parcel

    def _take(self, slot: int, name: str, parcel: Parcel) -> None:
        rings = self.slots[slot]
        if self._open.get(slot, name) != name:  # its predecessor's episodes are never finished
            self.replay.close_episodes(rings.rings)
        self._open[slot] = name
        # Arrays that Ray delivers are views of its object store. Episodes are kept until the epoch
        # ends, and would keep all of their chunk there: in a long epoch the store runs full.
        parcel.chunk.episodes = [episode.copy() for episode in parcel.chunk.episodes]
        self.take_in(parcel.chunk, rings.first_ring)
        life, count = parcel.version
        if life == self.life:
            assert self._published is not None
            born = self._published_at.get(count, time.monotonic())
            self.figures.age(self._published[0][1] - count, time.monotonic() - born)
        with self._lock:
            self.figures.parcel(parcel, len(self._mailbox))
            if not self.ledger.receive(name, parcel.number, Account.of(parcel.chunk)):
                raise TrainingError(f"chunk {parcel.number} of actor {name} came out of turn")
            del self._mailbox[slot]
            self._room[slot].notify()

    def _publish_parameters(self) -> None:
        """A new version, once: actors learn of it by the replies to what they send."""
        count = self._published[0][1] + 1 if self._published else 1
        parameters = self._publish(weights_of(self.agent.actor))
        now = time.monotonic()
        with self._lock:
            self._published = ((self.life, count), parameters)
        self._last_published = self._published_at[count] = now
        self._published_at.pop(count - 10_000, None)

    def _end_epoch(self, log: RunLog) -> None:
        decisions = self.counters["decisions"] - self.meter.before["decisions"]
        updates = self.agent.updates - self.meter.first_update
        row = self.end_epoch()
        now = time.monotonic()
        with self._lock:
            totals = self.ledger.totals()
            alive = [
                word
                for name, (when, word) in self.words.items()
                if now - when < FRESH and not self.ledger.entry(name).ended
            ]
        row |= self.figures.row() | {
            "decisions_per_update": decisions / max(updates, 1),
            "actors": len(alive),
            "backlog": sum(word.waiting.decisions for word in alive),
            "lost_steps": totals["lost"].steps,
            "lost_cost": totals["lost"].cost,
        }
        self.figures = Figures()
        self.write_row(log, row)
        self.outbox.append(log.rows[-1])
