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
PAPER_NUMBERS = (1, 60)
HALLWAYS = {"laptop": 16, "paper": 1}  # of an actor
IN_A_PROCESS = 8  # replaying actors
KEEPS_UP = 0.95  # of what is offered
BUSY = 0.9  # of a core, above which a process or thread counts as busy


def run(
    seconds: float = 8.0,
    numbers: tuple[int, ...] = NUMBERS,
    real: int | None = None,
    paper_numbers: tuple[int, ...] = PAPER_NUMBERS,
) -> dict[str, Any]:
    """Measures each number of actors for `seconds`, after as long to settle down.

    Args:
        seconds: of each measurement.
        numbers: of actors by the `laptop` preset, each with 16 of Point's hallways.
        real: up to how many actors are real; None takes the cores of this machine.
        paper_numbers: of actors by the `paper` preset, each with one of Doggo's hallways.

    Returns {"laptop": of each preset {"actors": [{"n", "kind" ("real" or "replaying"),
    "steps_per_s" (environment steps taken in), "offered_steps_per_s" (of a real actor alone, times
    n), "keeps_up", "learner_wait_share" (of its time, that it waited for chunks), "learner_cores"
    (processor seconds per second of its process) and "learning_thread_cores" (of the thread in it
    that writes the replay), "queue" (chunks in its mailbox)}], "flat_out" (the same for the largest
    number, which send without a pause), "hallways_per_actor", "decisions_per_chunk",
    "saturates_first" (in words)}, "paper": the same, "machine"}.
    """
    real = cores() if real is None else real
    with connected(None, max(real, 1)):
        return {
            name: _measure(name, seconds, n, real)
            for name, n in (("laptop", numbers), ("paper", paper_numbers))
            if n
        } | {"machine": describe_machine() | versions()}


def _measure(name: str, seconds: float, numbers: tuple[int, ...], real: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:

        def spec(n: int) -> dict[str, Any]:
            return spec_of(settings_for(n, name), Path(directory) / f"{n}-{len(rows)}", n)

        alone = collect_over_ray(spec(1), seconds)
        parcel, period = alone.pop("recorded")
        for n in numbers:
            if n == 1 and real:
                row = dict(alone)
            elif n <= real:
                row = collect_over_ray(spec(n), seconds)
            else:
                row = _replay_over_ray(spec(n), seconds, parcel, period)
            offered = n * alone["steps_per_s"]
            kept = row["steps_per_s"] >= KEEPS_UP * offered
            kind = "real" if n <= real else "replaying"
            rows.append(
                {"n": n, "kind": kind} | row | {"offered_steps_per_s": offered, "keeps_up": kept}
            )
        most = max(numbers)
        flat_out = {"n": most} | _replay_over_ray(spec(most), seconds, parcel, 0.0)
    return {
        "actors": rows,
        "flat_out": flat_out,
        "hallways_per_actor": HALLWAYS[name],
        "decisions_per_chunk": parcel.chunk.decisions,
        "saturates_first": _bottleneck(flat_out),
    }


def _bottleneck(flat_out: Mapping[str, Any]) -> str:
    rate = f"at {flat_out['steps_per_s']:,.0f} steps per second"
    used = f"{flat_out['learner_cores']:.2f} of a core"
    if flat_out["learning_thread_cores"] > BUSY:
        return f"the learner's thread, which writes chunks into the replay, {rate}"
    if flat_out["learner_cores"] > BUSY:
        return (
            f"the learner's process, {rate}: it takes {used} to receive and unpack chunks, "
            f"of which {flat_out['learning_thread_cores']:.2f} to write them into the replay"
        )
    return (
        f"this machine's cores, {rate}: the learner's process takes {used} of them, the rest goes "
        "into sending on the same machine"
    )


def settings_for(num_actors: int, name: str = "laptop") -> Settings:
    """A preset among walls, with HALLWAYS for each actor, and more epochs than will be."""
    robot = "Doggo" if name == "paper" else "Point"
    train = {
        "num_envs": HALLWAYS[name] * num_actors,
        "learning_starts": 100_000,  # nothing is learned
        "replay_size": 200_000,
        "checkpoint_minutes": 1e6,
        "tensorboard": False,
        "device": "cpu",
    }
    return settings_io.updated(preset(name, robot), {"train": train})


def collect_over_ray(spec: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What a learner takes in from the real actors of `spec`; for one actor, also "recorded"."""
    import ray

    from safetransfer.training.cluster import placement
    from safetransfer.training.cluster.actors import CollectorProcess

    with placement.reserved("cpu") as place:
        learner = place.start_learner(spec)
        ray.get(learner.drain.remote())
        remote: Any = ray.remote(CollectorProcess)
        numbers = range(spec["num_actors"])
        actors = [remote.options(num_cpus=1, max_concurrency=4).remote() for _ in numbers]
        try:
            calls = [a.start.remote(spec, learner, slot, 0) for slot, a in enumerate(actors)]
            complaints = [text for text in ray.get(calls) if text]
            assert not complaints, complaints
            row = _watch(learner, seconds)
            if len(actors) == 1:
                row["recorded"] = ray.get(actors[0].sample.remote())
            return row
        finally:
            for process in (*actors, learner):
                ray.kill(process)


def _replay_over_ray(
    spec: Mapping[str, Any], seconds: float, parcel: Parcel, period: float
) -> dict[str, Any]:
    """The same of replaying actors, each of which sends `parcel` every `period` seconds."""
    import ray

    from safetransfer.training.cluster import placement

    with placement.reserved("cpu") as place:
        learner = place.start_learner(spec)
        ray.get(learner.drain.remote())
        remote: Any = ray.remote(ReplayingProcess)
        slots = list(range(spec["num_actors"]))
        processes = [
            remote.options(num_cpus=0).remote(learner, slots[k : k + IN_A_PROCESS], parcel, period)
            for k in range(0, len(slots), IN_A_PROCESS)
        ]
        try:
            ray.get([process.start.remote() for process in processes])
            return _watch(learner, seconds)
        finally:
            for process in (*processes, learner):
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
        "learner_cores": (after["cpu_s"] - before["cpu_s"]) / elapsed,
        "learning_thread_cores": (after["learning_cpu_s"] - before["learning_cpu_s"]) / elapsed,
        "queue": after["queue"],
    }


class ReplayingProcess:
    """Some replaying actors, a thread each."""

    def __init__(self, learner: Any, slots: list[int], parcel: Parcel, period: float):
        self.learner, self.slots, self.parcel, self.period = learner, slots, parcel, period

    def start(self) -> None:
        for slot in self.slots:
            threading.Thread(target=self._send, args=(slot,), daemon=True).start()

    def _send(self, slot: int) -> None:
        from safetransfer.training.cluster.actors import Line, fetch

        line, name = Line(self.learner), actor_name(slot, 0)
        amount = Account.of(self.parcel.chunk)
        collected, number, version = Account(), 0, None
        due = time.monotonic() + self.period * (slot % IN_A_PROCESS) / IN_A_PROCESS
        while True:
            collected += amount
            parcel = dataclasses.replace(self.parcel, number=number)
            while number == parcel.number:  # the learner may have no room yet
                reply: Reply = line(Word(name, slot, collected, version=version), parcel)
                if reply.parameters is not None:
                    fetch(reply.parameters)
                number, version = reply.next_chunk, reply.version
            due = max(due + self.period, time.monotonic() - self.period)
            time.sleep(max(0.0, due - time.monotonic()))
