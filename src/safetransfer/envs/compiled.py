"""How functions are compiled: without the GIL, kept on disk until a source of theirs changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["digest", "inlined", "kept", "kernel"]


def digest(*folders: Path) -> tuple[str, int]:
    """What tells one state of these folders' sources, and of how they are compiled, from another,
    in the form that numba keeps."""
    sources = sorted({Path(__file__), *(path for f in folders for path in f.glob("*.py"))})
    content = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content).hexdigest(), len(content)


def kept(function: Callable[..., Any], stamp: tuple[str, int], **options: Any) -> Any:
    """Compile on the first call, with numba's options, and keep it for as long as `stamp` lasts."""
    compiled: Any = njit(nogil=True, cache=True, **options)(function)
    # numba renews a cached function when its own file changes, not when a file that it calls or
    # takes a constant from does. These do both across files, so all of them answer for each.
    index = getattr(compiled._cache, "_cache_file", None)
    if index is not None:
        index._source_stamp = stamp
    return compiled


_HERE = Path(__file__).parent
_STAMP = digest(_HERE, _HERE / "mocap")


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function of the hallways or of people."""
    return kept(function, _STAMP)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, put into its callers before they are compiled."""
    return kept(function, _STAMP, inline="always")
