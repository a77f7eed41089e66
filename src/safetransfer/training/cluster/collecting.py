"""What an actor does: step its share of the hallways, and keep what it collected until it is safe.

Without Ray: the learner is a function that takes a word and a parcel and answers with a `Reply`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from safetransfer.agent.agent import Actor
from safetransfer.errors import TrainingError
from safetransfer.replay import Chunk
from safetransfer.training.build import make_agent, make_env, shapes_of
from safetransfer.training.cluster.ledger import Account
from safetransfer.training.cluster.messages import Parcel, Reply, Version, Word
from safetransfer.training.cluster.slots import Slot, actor_name, actor_seed
from safetransfer.training.collector import Collector
from safetransfer.training.settings import Settings

AHEAD = 2  # chunks that wait for a learner that answers: more would only grow old
LONGEST_CHUNK = 1.0  # seconds that a chunk of more than `train.collect_decisions` may take
PATIENCE = 3.0  # seconds without an answer after which the learner counts as away


class Backlog:
    """Chunks that an actor keeps: those that the learner has not got, and those that it has but
    that no checkpoint has yet. A learner that begins again from its checkpoint is sent the latter
    again."""

    def __init__(self) -> None:
        self._parcels: dict[int, Parcel] = {}  # by number, in order
        self._next_number = 0
        self.first_unsent = 0  # number of the first chunk that the learner has not got
        self.collected = Account()
        self.waiting = Account()  # of it, what the learner has not got
        self.held = 0  # decisions kept

    def add(self, chunk: Chunk, version: Version, collect_s: float, held_s: float) -> None:
        parcel = Parcel(self._next_number, chunk, version, collect_s, held_s)
        self._parcels[parcel.number] = parcel
        self._next_number += 1
        amount = Account.of(chunk)
        self.collected += amount
        self.waiting += amount
        self.held += amount.decisions

    def next_to_send(self) -> Parcel | None:
        return self._parcels.get(self.first_unsent)

    @property
    def kept(self) -> list[Parcel]:
        return list(self._parcels.values())

    @property
    def chunks_waiting(self) -> int:
        return self._next_number - self.first_unsent

    def acknowledge(self, next_chunk: int, covered: int) -> None:
        """The learner has everything below `next_chunk`, its checkpoint everything below `covered`.

        Raises:
            TrainingError: the learner asks for what an earlier checkpoint had.
        """
        while self.first_unsent < next_chunk:
            self.waiting -= Account.of(self._parcels[self.first_unsent].chunk)
            self.first_unsent += 1
        while self.first_unsent > next_chunk:  # the learner began again, and has less than before
            if self.first_unsent - 1 not in self._parcels:
                raise TrainingError(
                    f"the learner asks for chunk {next_chunk}, which was in its checkpoint: has "
                    "the run's checkpoint been removed while it ran?"
                )
            self.first_unsent -= 1
            self.waiting += Account.of(self._parcels[self.first_unsent].chunk)
        for number in list(self._parcels):
            if number >= min(covered, self.first_unsent):
                break
            self.held -= self._parcels.pop(number).chunk.decisions


class Collecting:
    """An actor: one thread collects, another sends, and neither waits for the other needlessly."""

    def __init__(
        self,
        settings: Settings,
        slot: Slot,
        incarnation: int,
        send: Callable[[Word, Parcel | None], Reply],
        fetch: Callable[[Any], Mapping[str, np.ndarray]],
        node: str = "",
    ):
        """
        Args:
            settings: the run's; hallways and networks are built from nothing else.
            slot: which of the hallways are this actor's.
            incarnation: how many actors the slot has had before.
            send: to the learner, within seconds or an exception: then it is tried again.
            fetch: the parameters behind a reply's reference.
            node: where this is, for the driver.
        """
        t, a = settings.train, settings.agent
        self.settings, self.send, self.fetch = settings, send, fetch
        self.env = make_env(settings.env, slot.num_envs, threads=1)
        # An actor only acts: what the learner multiplies in, and how, is its own affair.
        acting = replace(settings, train=replace(t, precision="auto", cuda_graphs="auto"))
        agent = make_agent(acting, shapes_of(self.env), torch.device("cpu"))
        self.actor = agent.actor.requires_grad_(False)
        seed = actor_seed(t.seed, slot.index, incarnation)
        self.collector = Collector(
            self.env, self.actor, seed, a.reward_scale, a.gamma, t.mode_episodes
        )
        self.slot, self.name, self.node = slot, actor_name(slot.index, incarnation), node
        self.backlog = Backlog()
        self.version: Version | None = None
        self._new: tuple[Version, Mapping[str, np.ndarray]] | None = None
        self._changed = threading.Condition()
        self._stopping = self._over = False
        self._stopped = False
        self._error: str | None = None
        self._last_answer = time.monotonic()
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), daemon=True)
            for loop in (self._collect_loop, self._send_loop)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Collect no more; what is waiting is still sent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def word(self) -> Word:
        with self._changed:
            return Word(
                self.name,
                self.slot.index,
                self.backlog.collected,
                self.backlog.waiting,
                self.backlog.held,
                self.version,
                self.node,
                self._stopped,
                self._error,
            )

    def sample(self) -> tuple[Parcel, float]:
        """The last chunk, and the seconds that one as long takes by the mean of all."""
        with self._changed:
            parcels = self.backlog.kept
        per_decision = sum(p.collect_s for p in parcels) / sum(p.chunk.decisions for p in parcels)
        return parcels[-1], per_decision * parcels[-1].chunk.decisions

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception as error:  # told to the driver, which decides
            with self._changed:
                self._error = f"{type(error).__name__}: {error}"
                self._stopping = self._over = True
        finally:
            with self._changed:
                self._stopped = self._stopped or loop == self._collect_loop or self._over
                self._changed.notify_all()

    # ---------------------------------------------------------------- collecting

    def _collect_loop(self) -> None:
        # One core is this actor's: threads of more would take other actors' time.
        torch.set_num_threads(1)
        decisions = self.settings.train.collect_decisions
        while True:
            began = time.monotonic()
            with self._changed:
                while not self._stopping and not self._may_collect():
                    self._changed.wait(0.2)  # the learner's silence has no notification
                if self._stopping:
                    return
                self._adopt()
                version = self.version
            assert version is not None
            started = time.monotonic()
            chunk = self.collector.collect(decisions)
            took = time.monotonic() - started
            with self._changed:
                self.backlog.add(chunk, version, took, started - began)
                self._changed.notify_all()
            decisions = self._next_decisions(decisions / max(took, 1e-6))

    def _next_decisions(self, per_s: float) -> int:
        """Decisions of each hallway in the next chunk, at the pace of the last one.

        An actor of one hallway would else send chunks of `collect_decisions`, and each costs the
        learner's process a millisecond or two, however small it is.
        """
        t = self.settings.train
        enough = -(-t.actor_chunk // self.slot.num_envs)
        return max(t.collect_decisions, min(enough, int(per_s * LONGEST_CHUNK)))

    def _may_collect(self) -> bool:
        if self.version is None and self._new is None:
            return False
        if self.backlog.held >= self.settings.train.actor_backlog:
            return False
        away = time.monotonic() - self._last_answer > PATIENCE
        return away or self.backlog.chunks_waiting < AHEAD

    def _adopt(self) -> None:
        """Act with the newest parameters that have arrived."""
        if self._new is not None:
            self.version, weights = self._new
            load_weights(self.actor, weights)
            self._new = None

    # ---------------------------------------------------------------- sending

    def _send_loop(self) -> None:
        while True:
            with self._changed:
                if not self._over and not self.backlog.chunks_waiting:
                    self._changed.wait(0.5)  # then a word alone, for parameters and coverage
                if self._over:
                    return
                parcel = self.backlog.next_to_send()
            word = self.word()
            new = self._new  # which the other thread takes away when it adopts it
            if new is not None:
                word.version = new[0]
            try:
                reply = self.send(word, parcel)
                fetched = None if reply.parameters is None else self.fetch(reply.parameters)
            except ConnectionError:  # away, or gone with its parameters: it will be back
                time.sleep(0.3)
                continue
            with self._changed:
                self._last_answer = time.monotonic()
                if fetched is not None:
                    self._new = (reply.version, fetched)
                if reply.over:
                    self._stopping = self._over = True
                else:
                    self.backlog.acknowledge(reply.next_chunk, reply.covered)
                self._changed.notify_all()


def weights_of(actor: Actor) -> dict[str, np.ndarray]:
    """Copies of what acting needs, by name: networks without critics, and the normaliser."""
    from safetransfer.agent.networks import policy_weights

    networks = policy_weights(actor.networks.state_dict())
    tensors = {f"networks.{k}": v for k, v in networks.items()}
    tensors |= {f"normaliser.{k}": v for k, v in actor.normaliser.state_dict().items()}
    return {name: tensor.numpy(force=True).copy() for name, tensor in tensors.items()}


def load_weights(actor: Actor, weights: Mapping[str, np.ndarray]) -> None:
    """Take over what `weights_of` gave."""
    parts: dict[str, dict[str, torch.Tensor]] = {"networks": {}, "normaliser": {}}
    for name, array in weights.items():
        module, _, key = name.partition(".")
        parts[module][key] = torch.from_numpy(np.array(array))  # the object store's are read-only
    actor.networks.load_state_dict(parts["networks"], strict=False)
    actor.normaliser.load_state_dict(parts["normaliser"])
