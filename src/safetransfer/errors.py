"""Errors that a user can act on: each says what was wrong and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SafeTransferError(Exception):
    """Base of every error that the command line prints as one message, without a traceback."""


class UnknownNameError(SafeTransferError, ValueError):
    """A name (of an environment, preset, setting, ...) that does not exist; lists the known."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        names = list(known)
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}")
        self.kind, self.name, self.known = kind, name, names


class SettingError(SafeTransferError, ValueError):
    """A setting with a value that cannot work; says which values can."""


class RenderingError(SettingError):
    """An environment that gives no pictures, or whose drawing of them fails."""


class ClipError(SafeTransferError, ValueError):
    """A motion-capture file that cannot be read; names the file and, if there is one, the line."""


class CheckpointError(SafeTransferError):
    """A checkpoint that is damaged, foreign, or does not fit what it is loaded into."""


class TrainingError(SafeTransferError, RuntimeError):
    """A run that cannot go on (a loss that is not a number, a full disk, ...)."""
