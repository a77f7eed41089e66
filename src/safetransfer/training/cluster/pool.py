"""The actors of a run: one to each slot, replaced when it dies, waiting where there is no room."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions

from safetransfer.errors import TrainingError
from safetransfer.training.cluster.actors import CollectorProcess
from safetransfer.training.cluster.events import Events
from safetransfer.training.cluster.ledger import Account, actor_name
from safetransfer.training.cluster.messages import Word

ASK_EVERY = 0.5  # seconds between an actor's words
UNREACHABLE = 20.0  # seconds without a word after which an actor is given up
LONG_START = 90.0  # seconds after which an actor without a process is taken to wait for a core
VAIN_ATTEMPTS = 5  # actors of a slot that may die one after the other without a single chunk


@dataclass
class Member:
    """The actor that a slot has now."""

    slot: int
    incarnation: int
    handle: Any
    call: Any  # the call that is under way: `pid`, `start`, then `word` again and again
    pid: int | None = None  # of its process, once it has one
    started: bool = False
    asked: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    word: Word | None = None
    stopping: bool = False

    @property
    def name(self) -> str:
        return actor_name(self.slot, self.incarnation)


class Pool:
    """All actors of a run. `poll` is called again and again; nothing in it waits for long."""

    def __init__(
        self, spec: Mapping[str, Any], learner: Any, incarnations: Mapping[int, int], events: Events
    ):
        """
        Args:
            spec: what actors are built from.
            learner: handle of the learner.
            incarnations: by slot, the number of the next incarnation; slots not in it begin at 0.
            events: told what happens to them.
        """
        self.spec, self.learner, self.events = spec, learner, events
        self.words: dict[str, Account] = {}  # everything that actors ever said they collected
        self.ended: list[str] = []
        self._vain: dict[int, int] = {}
        collector: Any = ray.remote(CollectorProcess)
        self._remote = collector.options(
            num_cpus=1, max_restarts=0, max_concurrency=4, scheduling_strategy="SPREAD"
        )
        numbers = range(spec["num_actors"])
        self.members = {slot: self._begin(slot, incarnations.get(slot, 0)) for slot in numbers}

    def _begin(self, slot: int, incarnation: int) -> Member:
        handle = self._remote.remote()
        self.words[actor_name(slot, incarnation)] = Account()
        return Member(slot, incarnation, handle, handle.pid.remote())

    # ---------------------------------------------------------------- watching

    def poll(self, timeout: float) -> None:
        """Hear what actors have to say, and put others in the place of those that died.

        Raises:
            TrainingError: an actor cannot work, or a slot's actors die as soon as they begin.
        """
        now = time.monotonic()
        for m in self.members.values():
            if m.call is None and now - m.asked >= ASK_EVERY:
                m.call, m.asked = m.handle.word.remote(), now
        calls = {m.call: m for m in self.members.values() if m.call is not None}
        if not calls:
            time.sleep(timeout)
            return
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=timeout)
        if ready:  # and whoever else has answered
            ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for call in ready:
            self._hear(calls[call])

    def _hear(self, m: Member) -> None:
        call, m.call = m.call, None
        try:
            answer = ray.get(call)
        except ray.exceptions.ActorUnavailableError as error:  # may be a moment of the net's
            if not m.started or time.monotonic() - m.heard > UNREACHABLE:
                self._lose(m, f"cannot be reached ({_first_line(error)})")
            return
        except ray.exceptions.RayTaskError:  # an error of its own, and not its death
            raise
        except ray.exceptions.RayError as error:  # also of Ray's monitor, which ends what fills up
            self._lose(m, "died with its node" if self._without_node(m) else _death(error))
            return
        m.heard = time.monotonic()
        if m.pid is None:
            m.pid = answer
            m.call = m.handle.start.remote(self.spec, self.learner, m.slot, m.incarnation)
            return
        if not m.started:
            self._note_start(m, answer)
            return
        m.word = answer
        self.words[m.name] = answer.collected
        if answer.collected.decisions > answer.waiting.decisions:
            self._vain[m.slot] = 0
        if answer.error:
            self._lose(m, f"stopped by an error ({answer.error})")
        elif m.stopping and not answer.stopped:
            m.handle.stop.remote()

    def _note_start(self, m: Member, complaint: str) -> None:
        if complaint:
            raise TrainingError(f"actor {m.slot + 1} cannot work: {complaint}")
        m.started = True
        if m.incarnation:
            text = f"actor {m.slot + 1} is there again (number {m.incarnation + 1} in its place)"
            self.events("actor_replaced", text, actor=m.name, pid=m.pid)
        else:
            self.events("actor_joined", f"actor {m.slot + 1} began", actor=m.name, pid=m.pid)

    def _without_node(self, m: Member) -> bool:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return m.word is not None and m.word.node not in alive

    def _lose(self, m: Member, why: str) -> None:
        ray.kill(m.handle)  # also one that only could not be reached: there must not be two
        self.ended.append(m.name)
        self._vain[m.slot] = self._vain.get(m.slot, 0) + 1
        self.events("actor_died", f"actor {m.slot + 1} {why}", actor=m.name)
        if self._vain[m.slot] >= VAIN_ATTEMPTS:
            raise TrainingError(
                f"{VAIN_ATTEMPTS} actors in a row died in the place of actor {m.slot + 1} before "
                f"the learner had anything of them; the last one {why}"
            )
        if m.stopping:  # the run ends: nobody takes its place
            del self.members[m.slot]
        else:
            self.members[m.slot] = self._begin(m.slot, m.incarnation + 1)

    # ---------------------------------------------------------------- what the driver asks

    @property
    def waiting_for_room(self) -> int:
        """Actors beyond the cluster's cores (one is the learner's), or long without a process."""
        beyond = len(self.members) + 1 - int(ray.cluster_resources().get("CPU", 0))
        late = time.monotonic() - LONG_START
        return max(0, beyond, sum(m.pid is None and m.asked < late for m in self.members.values()))

    def stop(self) -> None:
        """Have all stop after the chunk that they are at; who has not begun never will."""
        for slot, m in list(self.members.items()):
            m.stopping = True
            if m.started:
                m.handle.stop.remote()
            else:
                ray.kill(m.handle)
                self.ended.append(m.name)
                del self.members[slot]

    @property
    def drained(self) -> bool:
        """Whether all have stopped, and the learner has everything of those that live."""
        words = [m.word for m in self.members.values()]
        return all(w is not None and w.stopped and not w.waiting.decisions for w in words)

    def backlogs(self) -> dict[str, Account]:
        """By name, what each living actor says that it still has to send."""
        return {m.name: m.word.waiting for m in self.members.values() if m.word is not None}

    def end(self) -> None:
        for m in self.members.values():
            ray.kill(m.handle)

    def remember(self, entries: Iterable[Any]) -> None:
        """Actors of the run's earlier starts, none of which is left."""
        for entry in entries:
            name = actor_name(entry.slot, entry.incarnation)
            self.words.setdefault(name, entry.collected)
            self.ended.append(name)


def _death(error: ray.exceptions.RayError) -> str:
    if getattr(error, "actor_init_failed", False):  # of a traceback, the last line says it
        return f"could not be built ({str(error).strip().splitlines()[-1].strip()})"
    if isinstance(error, ray.exceptions.RayActorError):
        return "died"
    return f"died ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
