"""Work in parts, by whoever is free: an update's gradients beside a collector.

On a CPU an update is hundreds of small operations, too small for threads within one. Threads with
some of the batch's sequences each do not wait for each other until they are through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
Part = TypeVar("Part")


class Helper:
    """An executor that takes parts of the work when it has nothing else to do."""

    def __init__(self, executor: Executor):
        self._executor = executor
        self._helped = self._waited = 0.0

    def map(self, do: Callable[[Part], T], parts: Sequence[Part]) -> list[T]:
        """``[do(part) for part in parts]``, the first by the caller.

        Of the others the caller does those that the executor has not begun when the caller would
        have nothing else to do: where it is busy, all of them. An error of any part is raised.
        """

        def help(part: Part) -> tuple[T, float]:
            started = time.perf_counter()
            return do(part), time.perf_counter() - started

        handed = {i: self._executor.submit(help, parts[i]) for i in range(1, len(parts))}
        done = {0: do(parts[0])}
        for i in reversed(range(1, len(parts))):  # the executor begins with the first ones
            if handed[i].cancel():
                done[i] = do(parts[i])
        started = time.perf_counter()
        for i in handed.keys() - done.keys():
            done[i], seconds = handed[i].result()
            self._helped += seconds
        self._waited += time.perf_counter() - started
        return [done[i] for i in range(len(parts))]

    def take_times(self) -> tuple[float, float]:
        """Seconds that it has helped for, and that callers have waited for it, since last asked."""
        times = self._helped, self._waited
        self._helped = self._waited = 0.0
        return times
