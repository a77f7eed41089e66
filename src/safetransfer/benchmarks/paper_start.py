"""The `paper` preset with its 60 actors, started on one machine: memory, and progress.

Sixty processes are more than a small machine has memory for. Here the 60 actors are real ones, with
a hallway, a policy, a backlog and two threads each, but many to a process; the learner is that of a
cluster, over Ray.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.replay.memory import replay_bytes
from safetransfer.training.build import make_env, shapes_of
from safetransfer.training.cluster.connection import connected
from safetransfer.training.cluster.train import spec_of
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import preset

ACTORS = 60
PROCESSES = 4


def run(
    updates: int = 3, robot: str = "Doggo", actors: int = ACTORS, give_up: float = 1200.0
) -> dict[str, Any]:
    """Runs until the learner has made `updates`, or for `give_up` seconds.

    Returns {"actors", "processes", "started_s" (until the learner had something of every actor),
    "updates", "env_steps", "steps_per_s", "update_s" (mean, from the first to the last),
    "learner_gib", "actors_gib" (resident, all of them), "gib_per_actor", "replay_gib" (of
    2e6 decisions, when it is full), "seconds", "machine"}.
    """
    import ray

    settings = settings_io.updated(
        preset("paper", robot), {"train": {"tensorboard": False, "checkpoint_minutes": 1e6}}
    )
    t, a = settings.train, settings.agent
    env = make_env(settings.env, 1)
    shapes = shapes_of(env)
    env.close()
    with connected(None, PROCESSES), tempfile.TemporaryDirectory() as directory:
        from safetransfer.training.cluster import placement

        spec = spec_of(settings, Path(directory), actors)
        with placement.reserved(t.device) as place:
            started = time.monotonic()
            learner = place.start_learner(spec)
            remote: Any = ray.remote(HostProcess)
            hosts = [
                remote.options(num_cpus=1, max_concurrency=2).remote() for _ in range(PROCESSES)
            ]
            try:
                for k, host in enumerate(hosts):
                    host.start.remote(spec, learner, list(range(actors))[k::PROCESSES])
                found = _watch(learner, actors, updates, started + give_up)
                sizes = ray.get([host.resident.remote() for host in hosts])
            finally:
                for process in (*hosts, learner):
                    ray.kill(process)
    return {
        "actors": actors,
        "processes": PROCESSES,
        **found,
        "actors_gib": sum(sizes) / 2**30,
        "gib_per_actor": sum(sizes) / 2**30 / actors,
        "replay_gib": replay_bytes(
            shapes, t.replay_size, a.hidden, t.replay_stride, t.replay_compact
        )
        / 2**30,
        "seconds": time.monotonic() - started,
        "machine": describe_machine() | versions(),
    }


def _watch(learner: Any, actors: int, updates: int, give_up: float) -> dict[str, Any]:
    """Until the updates are made: when which were, and of how many actors there was something."""
    import ray

    begun, of_all, first = time.monotonic(), None, None
    while True:
        status = ray.get(learner.status.remote("", 0))
        assert not status["failure"], status["failure"]
        now = time.monotonic()
        delivering = sum(e["next_chunk"] > 0 for e in status["ledger"]["entries"])
        if of_all is None and delivering == actors:
            of_all = now
        if first is None and status["updates"]:
            first = (now, status["updates"])
        if (status["updates"] >= updates and of_all is not None) or now > give_up:
            break
        time.sleep(0.2)
    made = status["updates"] - first[1] if first else 0
    return {
        "started_s": None if of_all is None else of_all - begun,
        "updates": status["updates"],
        "env_steps": status["counters"]["env_steps"],
        "steps_per_s": status["counters"]["env_steps"] / (now - begun),
        "update_s": (now - first[0]) / made if first and made else None,
        "learner_gib": resident_bytes(status["pid"]) / 2**30,
    }


class HostProcess:
    """Many real actors in one process."""

    def __init__(self) -> None:
        self._actors: list[Any] = []

    def start(self, spec: Mapping[str, Any], learner: Any, slots: list[int]) -> None:
        from safetransfer.training.cluster.actors import Line, fetch
        from safetransfer.training.cluster.collecting import Collecting
        from safetransfer.training.cluster.slots import slots_of
        from safetransfer.training.settings import Settings

        settings = settings_io.from_dict(Settings, spec["settings"])
        shares = slots_of(settings.train.num_envs, spec["num_actors"])
        for slot in slots:
            self._actors.append(Collecting(settings, shares[slot], 0, Line(learner), fetch))
            self._actors[-1].start()

    def resident(self) -> int:
        import os

        return resident_bytes(os.getpid())


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use, in bytes, of the kernel's own account."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
