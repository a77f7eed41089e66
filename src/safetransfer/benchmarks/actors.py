"""What a learner takes in from 1 to 64 actors over Ray, and what gives out first.

Nothing is learned meanwhile: the question is whether experience arrives as fast as actors make it.
Real actors run where there is a core for each. Beyond that, *replaying* ones send a recorded chunk
again and again, through the very calls of the real ones, as often as a real actor, alone on a core,
makes one; its pace is measured in the same run.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.training.cluster.connection import connected
from safetransfer.training.cluster.ledger import Account, actor_name
from safetransfer.training.cluster.messages import Parcel, Reply, Word
from safetransfer.training.cluster.train import spec_of
from safetransfer.training.machine import cores, describe_machine, versions
from safetransfer.training.settings import Settings, preset

NUMBERS = (1, 2, 4, 8, 16, 32, 64)
HALLWAYS = 16  # of an actor
IN_A_PROCESS = 8  # replaying actors
KEEPS_UP = 0.95  # of what is offered
BUSY = 0.1  # share of its time below which a learner that waits counts as busy


def run(
    seconds: float = 8.0, numbers: tuple[int, ...] = NUMBERS, real: int | None = None
) -> dict[str, Any]:
    """Measures each number of actors for `seconds`, after as long to settle down.

    `real`: up to how many actors are real; None takes the cores of this machine.

    Returns {"actors": [{"n", "kind" ("real" or "replaying"), "steps_per_s" (environment steps taken
    in), "offered_steps_per_s" (of a real actor alone, times n), "keeps_up", "learner_wait_share"
    (of its time, that it waited for chunks), "queue" (chunks in its mailbox)}], "flat_out" (the
    same for the largest number, which send without a pause), "hallways_per_actor",
    "decisions_per_chunk", "saturates_first" (in words), "machine"}.
    """
    real = cores() if real is None else real
    rows: list[dict[str, Any]] = []
    with connected(None, max(real, 1)):
        alone = _measure(1, seconds, "real", None)
        pace, recorded = alone["steps_per_s"], alone.pop("recorded")
        for n in numbers:
            kind = "real" if n <= real else "replaying"
            row = alone if n == 1 and real else _measure(n, seconds, kind, recorded)
            row.pop("recorded", None)
            offered = n * pace
            row["offered_steps_per_s"] = offered
            row["keeps_up"] = row["steps_per_s"] >= KEEPS_UP * offered
            rows.append(row)
        flat_out = _measure(max(numbers), seconds, "flat out", recorded)
    flat_out.pop("recorded", None)
    decisions = HALLWAYS * recorded["collect_decisions"]
    return {
        "actors": rows,
        "flat_out": flat_out,
        "hallways_per_actor": HALLWAYS,
        "decisions_per_chunk": decisions,
        "saturates_first": _bottleneck(flat_out),
        "machine": describe_machine() | versions(),
    }


def _bottleneck(flat_out: Mapping[str, Any]) -> str:
    rate = f"at {flat_out['steps_per_s']:,.0f} steps per second"
    if flat_out["learner_wait_share"] < BUSY:
        return f"the learner's thread, which writes chunks into the replay, {rate}"
    return (
        f"the way to the learner, {rate}: it waited {flat_out['learner_wait_share']:.0%} of its "
        "time, while this machine's cores packed, sent and unpacked chunks"
    )


def settings_for(num_actors: int) -> Settings:
    """`laptop` among walls, with HALLWAYS for each actor, and more epochs than will be."""
    train = {
        "num_envs": HALLWAYS * num_actors,
        "learning_starts": 100_000,  # nothing is learned
        "replay_size": 200_000,
        "checkpoint_minutes": 1e6,
        "tensorboard": False,
        "device": "cpu",
    }
    return settings_io.updated(preset("laptop"), {"train": train})


def _measure(
    n: int, seconds: float, kind: str, recorded: Mapping[str, Any] | None
) -> dict[str, Any]:
    import ray

    from safetransfer.training.cluster import placement
    from safetransfer.training.cluster.actors import CollectorProcess

    settings = settings_for(n)
    with tempfile.TemporaryDirectory() as directory, placement.reserved("cpu") as place:
        spec = spec_of(settings, Path(directory), n)
        learner = place.start_learner(spec)
        ray.get(learner.drain.remote())
        if kind == "real":
            remote: Any = ray.remote(CollectorProcess)
            senders = [remote.options(num_cpus=1, max_concurrency=4).remote() for _ in range(n)]
            for slot, sender in enumerate(senders):
                complaint = ray.get(sender.start.remote(spec, learner, slot, 0))
                assert not complaint, complaint
        else:
            assert recorded is not None
            remote = ray.remote(ReplayingProcess)
            period = recorded["period"] if kind == "replaying" else 0.0
            senders = [
                remote.options(num_cpus=0).remote(
                    learner, list(range(n))[k : k + IN_A_PROCESS], recorded["parcel"], period
                )
                for k in range(0, n, IN_A_PROCESS)
            ]
            ray.get([sender.start.remote() for sender in senders])
        try:
            row = {"n": n, "kind": kind} | _watch(learner, seconds)
            if kind == "real" and n == 1:
                row["recorded"] = _recorded(senders[0], settings)
            return row
        finally:
            for process in (*senders, learner):
                ray.kill(process)


def _watch(learner: Any, seconds: float) -> dict[str, Any]:
    """Intake over `seconds`, once it has been going on for as long."""
    import ray

    def status() -> dict[str, Any]:
        found: dict[str, Any] = ray.get(learner.status.remote("", 0))
        assert not found["failure"], found["failure"]
        return found

    while not status()["counters"]["env_steps"]:
        time.sleep(0.1)
    time.sleep(seconds)
    before, started = status(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = status(), time.monotonic() - started
    steps = after["counters"]["env_steps"] - before["counters"]["env_steps"]
    spent = {k: after["seconds"][k] - before["seconds"][k] for k in ("iterations", "learner_wait")}
    return {
        "steps_per_s": steps / elapsed,
        "learner_wait_share": spent["learner_wait"] / max(spent["iterations"], 1e-9),
        "queue": after["queue"],
    }


def _recorded(actor: Any, settings: Settings) -> dict[str, Any]:
    """A chunk that a real actor made, and the seconds that it takes to make one."""
    import ray

    parcel, period = ray.get(actor.sample.remote())
    return {
        "parcel": parcel,
        "period": period,
        "collect_decisions": settings.train.collect_decisions,
    }


class ReplayingProcess:
    """Some replaying actors, a thread each."""

    def __init__(self, learner: Any, slots: list[int], parcel: Parcel, period: float):
        self.learner, self.slots, self.parcel, self.period = learner, slots, parcel, period

    def start(self) -> None:
        for slot in self.slots:
            threading.Thread(target=self._send, args=(slot,), daemon=True).start()

    def _send(self, slot: int) -> None:
        from safetransfer.training.cluster.actors import Line

        line, name = Line(self.learner), actor_name(slot, 0)
        amount = Account.of(self.parcel.chunk)
        collected, number, version = Account(), 0, None
        due = time.monotonic() + self.period * (slot % IN_A_PROCESS) / IN_A_PROCESS
        while True:
            collected += amount
            parcel = dataclasses.replace(self.parcel, number=number)
            while number == parcel.number:  # the learner may have no room yet
                reply: Reply = line(Word(name, slot, collected, version=version), parcel)
                number, version = reply.next_chunk, reply.version
            due = max(due + self.period, time.monotonic() - self.period)
            time.sleep(max(0.0, due - time.monotonic()))
