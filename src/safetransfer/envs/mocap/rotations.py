"""Unit quaternions (w, x, y, z) on arrays: the last axis is the quaternion, the rest broadcast."""

from __future__ import annotations

import numpy as np

_AXES = {"X": 1, "Y": 2, "Z": 3}


def multiply(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The rotation that applies `q` first and `p` second."""
    pw, px, py, pz = np.moveaxis(p, -1, 0)
    qw, qx, qy, qz = np.moveaxis(q, -1, 0)
    return np.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ],
        axis=-1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """The inverse rotation of a unit quaternion."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) turned by quaternions (..., 4)."""
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * np.cross(u, v)
    return v + w * t + np.cross(u, t)


def about(axis: str, angle: np.ndarray | float) -> np.ndarray:
    """Rotation by `angle` radians about coordinate axis "X", "Y" or "Z"."""
    half = 0.5 * np.asarray(angle, dtype=np.float64)
    q = np.zeros((*half.shape, 4))
    q[..., 0] = np.cos(half)
    q[..., _AXES[axis]] = np.sin(half)
    return q


def from_euler(angles: np.ndarray, order: str, first_is_outermost: bool = False) -> np.ndarray:
    """Quaternions of Euler angles (..., len(order)) in radians about the axes named in `order`.

    About fixed axes the first named rotation is applied first (ASF and AMC); with
    `first_is_outermost` it is applied last (the channel order of BVH).
    """
    angles = np.asarray(angles, dtype=np.float64)
    q = np.zeros((*angles.shape[:-1], 4))
    q[..., 0] = 1.0
    for i, axis in enumerate(order):
        turn = about(axis, angles[..., i])
        q = multiply(q, turn) if first_is_outermost else multiply(turn, q)
    return q


def align_signs(q: np.ndarray) -> np.ndarray:
    """Quaternions (T, ..., 4) with signs chosen so that neighbours in time are on one hemisphere.

    q and -q are the same rotation, but only the pair with a positive dot product is joined by the
    short arc.
    """
    flips = np.where((q[1:] * q[:-1]).sum(-1) < 0.0, -1.0, 1.0)
    aligned = q.copy()
    aligned[1:] *= np.cumprod(flips, axis=0)[..., None]
    return aligned


def slerp(p: np.ndarray, q: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Spherical interpolation from `p` (t = 0) to `q` (t = 1) along the short arc."""
    t = np.asarray(t, dtype=np.float64)[..., None]
    dot = (p * q).sum(-1, keepdims=True)
    q = np.where(dot < 0.0, -q, q)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    # Towards angle 0 both weights tend to those of linear interpolation.
    small = sine < 1e-6
    safe = np.where(small, 1.0, sine)
    wp = np.where(small, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    wq = np.where(small, t, np.sin(t * angle) / safe)
    mixed = wp * p + wq * q
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
