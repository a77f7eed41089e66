"""A place for the learner: on the driver's node, whose core and GPU are its own while a run lasts.

Reserved apart from the actor itself, so that nothing takes the place while the learner is dead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from safetransfer.errors import SettingError
from safetransfer.training.cluster.actors import LearnerProcess

ROOM_WITHIN = 60.0  # seconds for a core to be free


class Place:
    """Where the learner goes, also again and again."""

    def __init__(self, group: Any, gpus: int):
        self.group, self.gpus = group, gpus

    def start_learner(self, spec: Mapping[str, Any]) -> Any:
        """A handle that stays good when the learner dies and Ray starts it again."""
        learner: Any = ray.remote(LearnerProcess)
        return learner.options(
            num_cpus=1,
            num_gpus=self.gpus,
            max_restarts=-1,
            # Each actor has a call that may wait for room; the driver's must not wait behind them.
            max_concurrency=spec["num_actors"] + 8,
            scheduling_strategy=PlacementGroupSchedulingStrategy(self.group),
        ).remote(spec)


@contextlib.contextmanager
def reserved(device: str) -> Iterator[Place]:
    """Room for the learner on this node, with a GPU where it has one and `device` is not "cpu".

    SettingError where no core gets free.
    """
    node_id = ray.get_runtime_context().get_node_id()
    node = next(n for n in ray.nodes() if n["NodeID"] == node_id)
    gpus = int(device != "cpu" and node["Resources"].get("GPU", 0) >= 1)
    bundle: dict[str, float] = {"CPU": 1.0} | ({"GPU": 1.0} if gpus else {})
    group = placement_group([bundle], bundle_label_selector=[{"ray.io/node-id": node_id}])
    try:
        if not group.wait(ROOM_WITHIN):
            raise SettingError(
                f"this machine's node has no free core{' and GPU' * gpus} for the learner; it has "
                f"{node['Resources'].get('CPU', 0):g} cores in all. Start it with more "
                "(`ray start --num-cpus=...`), or end what uses them"
            )
        yield Place(group, gpus)
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            remove_placement_group(group)
