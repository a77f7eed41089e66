"""What an epoch's log says of the traffic between actors and learner."""

from __future__ import annotations

from typing import Any

from safetransfer.training.cluster.messages import Parcel


class Figures:
    """Means over the chunks that came in during an epoch."""

    def __init__(self) -> None:
        self._ages: list[tuple[int, float]] = []
        self._queue: list[int] = []
        self._collect_s = self._held_s = 0.0

    def age(self, versions: int, seconds: float) -> None:
        """Of the parameters that a chunk was collected with, when it is taken in."""
        self._ages.append((versions, seconds))

    def parcel(self, parcel: Parcel, queue: int) -> None:
        """A chunk that was taken in while `queue` of them were in the learner's mailbox."""
        self._queue.append(queue)
        self._collect_s += parcel.collect_s
        self._held_s += parcel.held_s

    def row(self) -> dict[str, Any]:
        """Columns of the log; None where nothing came in."""
        acting = self._collect_s + self._held_s
        return {
            "collector_wait_share": self._held_s / acting if acting else None,
            "age_versions": _mean([versions for versions, _ in self._ages]),
            "age_s": _mean([seconds for _, seconds in self._ages]),
            "queue": _mean(self._queue),
        }


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None
