"""Watching an object's methods from outside, for benchmarks that say where time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Spy:
    """An object with some of its methods watched: a hook before them, or their time summed up."""

    def __init__(
        self,
        target: Any,
        before: dict[str, Callable[[], None]] | None = None,
        timed: dict[str, str] | None = None,
        seconds: dict[str, float] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """
        Args:
            target: what everything is passed on to.
            before: by method, what is called before it.
            timed: by method, the part that its time counts for.
            seconds: where the parts' times are added up.
            clock: seconds from some moment.
        """
        self._clock = clock
        self._target, self._before = target, before or {}
        self._timed, self._seconds = timed or {}, seconds if seconds is not None else {}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if name in self._before:

            def hooked(*args: Any, **kwargs: Any) -> Any:
                self._before[name]()
                return attribute(*args, **kwargs)

            return hooked
        if name in self._timed:

            def timed(*args: Any, **kwargs: Any) -> Any:
                start = self._clock()
                try:
                    return attribute(*args, **kwargs)
                finally:
                    part = self._timed[name]
                    self._seconds[part] = self._seconds.get(part, 0.0) + self._clock() - start

            return timed
        return attribute
