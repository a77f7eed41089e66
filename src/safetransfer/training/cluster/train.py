"""`train_on_cluster`, the way to train over Ray; what it starts is in `driver`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetransfer
from safetransfer import settings_io
from safetransfer.training.cluster.connection import connected
from safetransfer.training.cluster.slots import slots_of
from safetransfer.training.machine import cores
from safetransfer.training.run_directory import open_directory, require_own_directory
from safetransfer.training.settings import Settings


@dataclass(frozen=True)
class Cluster:
    """Where a run's actors are, and how many."""

    num_actors: int | None = None  # None: a core for each, but one for the learner
    address: str | None = None  # None: a cluster of this machine alone
    fewer: bool = False  # a run of fewer hallways than actors takes fewer, in place of an error


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
    hallways = settings.train.num_envs
    # Before anything is started:
    require_own_directory(run_dir)
    open_directory(run_dir, settings)
    if cluster.num_actors is not None and not cluster.fewer:
        slots_of(hallways, cluster.num_actors)  # raises where there are too many actors
    with cluster_of(cluster) as where:
        num_actors = cluster.num_actors or _cores_for_actors()
        if cluster.fewer or cluster.num_actors is None:
            num_actors = min(num_actors, hallways)
        spec = spec_of(settings, run_dir, num_actors, command, init, carry)
        from safetransfer.training.cluster.driver import Driver

        return Driver(settings, run_dir, spec, title or settings.env.name).go(where, on_row)


def cluster_of(cluster: Cluster) -> contextlib.AbstractContextManager[str]:
    """Ray for a run of it, or for several in a row; see `connection.connected`."""
    return connected(cluster.address, cluster.num_actors or max(1, cores() - 1))


def spec_of(
    settings: Settings,
    run_dir: Path,
    num_actors: int,
    command: str | None = None,
    init: str | Path | None = None,
    carry: str = "weights",
) -> dict[str, Any]:
    """What learner and actors are built from, as plain data."""
    return {
        "settings": settings_io.to_dict(settings),
        "run_dir": str(run_dir),
        "num_actors": num_actors,
        "command": command,
        "init": None if init is None else str(Path(init).resolve()),
        "carry": carry,
        "version": safetransfer.__version__,
    }


def _cores_for_actors() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 2)) - 1)
