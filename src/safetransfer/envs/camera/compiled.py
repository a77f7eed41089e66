"""How the camera's functions are compiled: serial, without the GIL, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetransfer.envs.compiled import digest, kept

__all__ = ["inlined", "kernel"]

_STAMP = digest(Path(__file__).parent)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function on its first call."""
    return kept(function, _STAMP, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Any:
    """The same for small functions on a whole scene, which is 200 arguments to a real call."""
    return kept(function, _STAMP, error_model="numpy", forceinline=True)
