"""Interrupts that wait until a run is whole."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_SAVING = b"\nStopping: the run is being saved (a second interrupt ends it without)\n"


class Interrupts:
    """Turns the first SIGINT, SIGTERM or SIGHUP (a terminal that is closed) into a flag, for the
    loop to stop where it is whole. One that is ignored, as SIGHUP is under nohup, stays so;
    but SIGINT, which shells ignore in what they run in the background, does not."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked:  # a second one means it
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):  # a terminal that is closed
            os.write(2, _SAVING)  # a handler must not enter a buffered stream that it interrupted

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
