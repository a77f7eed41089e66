"""How this package's functions are compiled: serial, without the GIL, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["inlined", "kernel"]


def _digest_of_sources() -> tuple[str, int]:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    content = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content).hexdigest(), len(content)


_STAMP = _digest_of_sources()


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    compiled: Any = njit(nogil=True, cache=True, error_model="numpy", **options)(function)
    # numba renews a cached function when its own file changes, not when a file that it calls
    # into does. These call each other across files, so all of them answer for the package.
    index = getattr(compiled._cache, "_cache_file", None)
    if index is not None:
        index._source_stamp = _STAMP
    return compiled


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function on its first call."""
    return _compiled(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same for small functions on a whole scene, which is 200 arguments to a real call."""
    return _compiled(function, forceinline=True)
