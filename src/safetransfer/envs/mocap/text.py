"""Reading text files of which nothing can be taken for granted."""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from pathlib import Path

from safetransfer.errors import ClipError

LARGEST = 1e6
"""No number of a real clip is larger, in whatever unit; larger ones are damage."""


class UnusableClip(ClipError):
    """A clip that reads well but that a crowd cannot play; a folder's others do without it."""


class Source:
    """The lines of one file, and errors that name the file and the line (counted from 1)."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            # Every byte is a character of latin-1: damage shows up as a wrong word on a known line.
            content = self.path.read_bytes().removeprefix(codecs.BOM_UTF8)
            text = content.decode("latin-1")
        except OSError as error:
            raise ClipError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        self.lines: list[str] = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def error(self, line: int | None, message: str) -> ClipError:
        """An error at a line (None: the file ends too early)."""
        if line is None:
            return ClipError(f"{self.path}:{len(self.lines)}: the file ends early: {message}")
        return ClipError(f"{self.path}:{line}: {message}")

    def numbers(self, words: Sequence[str], line: int, what: str) -> list[float]:
        """Finite numbers, or an error that says for what they were expected."""
        values = []
        for word in words:
            try:
                value = float(word)
            except ValueError:
                value = math.nan
            if not abs(value) <= LARGEST:  # also catches what is not a number
                shown = word if len(word) <= 30 else word[:30] + "..."
                raise self.error(line, f"expected a number for {what}, found {shown!r}")
            values.append(value)
        return values
