"""Numbers of [-1, 1] in 16 bits: actions and the GRU's hidden states, in a large replay.

Fixed point rather than half precision: its error is at most 1 / 65,534 everywhere in the interval,
where that of a float16 near 1 is sixteen times as large; -1, 0 and 1 are exact.
"""

from __future__ import annotations

import numpy as np

SCALE = 32767
"""The integer that stands for 1."""


def encode(x: np.ndarray) -> np.ndarray:
    """int16 of the same shape; values beyond [-1, 1] are clipped to it."""
    return np.rint(np.clip(x, -1.0, 1.0) * SCALE).astype(np.int16)


def decode(x: np.ndarray) -> np.ndarray:
    """float32 of what `encode` made."""
    return x / np.float32(SCALE)


def as_type(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` as it is stored in arrays of `dtype`: encoded, decoded or as it is."""
    if dtype == np.int16 and x.dtype != np.int16:
        return encode(x)
    if dtype != np.int16 and x.dtype == np.int16:
        return decode(x)
    return x
