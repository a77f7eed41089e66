"""The frame that is drawn into: pixels, windows of pixels, the camera's coordinates.

A frame is column-major and its columns are padded to whole vectors, because what stands in a
hallway is upright: a pole is a few long columns. `frame` in signatures is the tuple (width,
height, size of a pixel at depth 1), a window is (j0, j1, i0, i1): columns j0 to j1, rows i0 to i1.
"""

from __future__ import annotations

import math

import numpy as np

from safetransfer.envs.camera.compiled import kernel
from safetransfer.envs.camera.simd import WIDTH, greatest, load, store

__all__ = [
    "NOWHERE",
    "axes_to_camera",
    "claim",
    "keep",
    "middle_row",
    "padded",
    "point_to_camera",
    "row_table",
    "span",
    "to_camera",
    "window_of",
]

NOWHERE = (0, 0, 0, 0)


@kernel
def padded(height):
    """Rows of a column in memory: `height` rounded up to whole vectors."""
    return (height + WIDTH - 1) // WIDTH * WIDTH


@kernel
def row_table(height, pixel):
    """v of each padded row, float32."""
    rows = np.empty(padded(height), np.float32)
    for i in range(rows.size):
        rows[i] = pixel * (0.5 * height - i - 0.5)
    return rows


@kernel
def window_of(frame, u0, u1, v0, v1):
    """Columns [j0, j1) and rows [i0, i1), the latter whole vectors, that may see u0..u1, v0..v1."""
    if not (u0 <= u1 and v0 <= v1):  # also if any is not a number
        return NOWHERE
    width, height, pixel = frame
    left = 0.5 * width - 0.5
    top = 0.5 * height - 0.5
    j0 = int(min(max(u0 / pixel + left, 0.0), width + 0.0))
    j1 = int(min(max(u1 / pixel + left + 1.0, 0.0), width + 0.0))
    i0 = int(min(max(top - v1 / pixel, 0.0), height + 0.0))
    i1 = int(min(max(top - v0 / pixel + 1.0, 0.0), height + 0.0))
    if i1 <= i0 or j1 <= j0:
        return NOWHERE
    return j0, j1, i0 // WIDTH * WIDTH, padded(i1)


@kernel
def span(x, z, r):
    """Least and greatest x/z over the part in front (z > 0) of a disc at (x, z) of radius r.

    The two tangents from the origin, which lie r / distance to either side of the centre in sine.
    """
    k2 = x * x + z * z - r * r
    if k2 <= 0.0:
        return -math.inf, math.inf
    k = math.sqrt(k2)
    low = z * k + x * r
    high = z * k - x * r
    return (
        (x * k - z * r) / low if low > 0.0 else -math.inf,
        (x * k + z * r) / high if high > 0.0 else math.inf,
    )


@kernel
def middle_row(frame, i0, i1):
    """v halfway between rows i0 and i1."""
    return frame[2] * 0.5 * (frame[1] - (i0 + i1))


@kernel
def to_camera(rotation, x, y, z):
    """World vector -> (right, up, forward)."""
    return (
        rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z,
        rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z,
        -(rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z),
    )


@kernel
def point_to_camera(rotation, eye, p):
    """World point -> (right, up, forward) from the eye."""
    return to_camera(rotation, p[0] - eye[0], p[1] - eye[1], p[2] - eye[2])


@kernel
def axes_to_camera(rotation, m):
    """The columns of m, (3, 3), as camera vectors."""
    return (
        to_camera(rotation, m[0, 0], m[1, 0], m[2, 0]),
        to_camera(rotation, m[0, 1], m[1, 1], m[2, 1]),
        to_camera(rotation, m[0, 2], m[1, 2], m[2, 2]),
    )


@kernel
def keep(near, at, w):
    """Keeps w where it is nearer than what is there."""
    store(near, at, greatest(w, load(near, at)))


@kernel
def claim(height, window, near, seen, ids, number):
    """Marks as `number`'s what became nearer in a window since the last claim."""
    stride = padded(height)
    j0, j1, i0, i1 = window
    for j in range(j0, j1):
        for k in range(j * stride + i0, j * stride + i1):
            if near[k] > seen[k]:
                seen[k] = near[k]
                ids[k] = number
