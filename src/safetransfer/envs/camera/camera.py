"""A pinhole camera that draws scenes of primitives on the CPU: depth, encoded depth, or colour."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from safetransfer.envs.camera.depth import trace_depth, trace_image
from safetransfer.envs.camera.scene import Scene
from safetransfer.envs.camera.shade import trace_color
from safetransfer.errors import SettingError

__all__ = ["Camera", "decode_depth", "encode_depth", "look_at"]


def encode_depth(depth: np.ndarray, max_depth: float) -> np.ndarray:
    """Depth in metres -> uint8: round(255 sqrt(min(z, max_depth) / max_depth)).

    The square root spends the 256 steps where nearness matters: at max_depth = 12 m a step is
    1 cm at 0.2 m and 9 cm at 11 m. Nothing (inf) is 255, as is everything from max_depth on.
    """
    share = np.minimum(np.asarray(depth, np.float32), np.float32(max_depth)) / np.float32(max_depth)
    return np.floor(np.float32(255.0) * np.sqrt(share) + np.float32(0.5)).astype(np.uint8)


def decode_depth(image: np.ndarray, max_depth: float) -> np.ndarray:
    """Encoded depth -> float32 metres; 255 becomes max_depth. Inverse of `encode_depth`.

    The round trip errs by at most max_depth (2 k + 1/2) / (2 * 255**2) + rounding at value k,
    half the step between neighbouring values: 4.7 cm at the far end of 12 m.
    """
    value = np.asarray(image, np.float32) / np.float32(255.0)
    return np.float32(max_depth) * value * value


def look_at(eye: np.ndarray, target: np.ndarray, up: tuple[float, ...] = (0, 0, 1)) -> np.ndarray:
    """Rotation (3, 3) of a camera at `eye` looking at `target`; columns are right, up, backward."""
    back = np.asarray(eye, float) - np.asarray(target, float)
    length = np.linalg.norm(back)
    if length == 0:
        raise SettingError("look_at needs a target apart from the eye")
    back /= length
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:  # looking straight along `up`: any right will do
        right = np.cross((1.0, 0.0, 0.0) if abs(back[0]) < 0.9 else (0.0, 1.0, 0.0), back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)


class Camera:
    """Draws N scenes from N poses, one pose per scene.

    Args:
        width: pixels across.
        height: pixels down.
        fovy: vertical field of view in degrees; pixels are square.
        max_depth: metres; what lies farther along the optical axis is not seen.

    The frame is MuJoCo's: x right, y up, looking along -z; row 0 is the top of the image, and the
    ray of pixel (row, column) passes through the pixel's centre. Depth is measured along the
    optical axis. A camera inside a primitive sees that primitive's far side, as MuJoCo's ray caster
    does. No OpenGL.
    """

    def __init__(
        self, width: int = 50, height: int = 50, fovy: float = 90.0, max_depth: float = 12.0
    ):
        if width < 1 or height < 1:
            raise SettingError(f"a camera needs at least one pixel, got {width} x {height}")
        if not 0.0 < fovy < 180.0:
            raise SettingError(f"fovy must lie between 0 and 180 degrees, got {fovy}")
        if not 0.0 < max_depth < np.inf:
            raise SettingError(f"max_depth must be positive and finite, got {max_depth}")
        self.width = int(width)
        self.height = int(height)
        self.fovy = float(fovy)
        self.max_depth = float(max_depth)

    def depth(
        self,
        scene: Scene,
        position: np.ndarray,
        rotation: np.ndarray,
        out: np.ndarray | None = None,
        threads: int = 1,
    ) -> np.ndarray:
        """Depth in metres, float32 (N, H, W); inf where there is nothing within max_depth.

        `position` (N, 3) and `rotation` (N, 3, 3), columns the camera's axes in the world; for a
        single scene also (3,) and (3, 3). `out` is filled and returned if given. Results do not
        depend on `threads`. Raises `SettingError` for shapes that do not fit.
        """
        position, rotation = _poses(scene, position, rotation)
        out = _output(out, (scene.num_scenes, self.height, self.width), np.float32)
        _parallel(trace_depth, scene, position, rotation, self._lens(), out, threads)
        return out

    def depth_image(
        self,
        scene: Scene,
        position: np.ndarray,
        rotation: np.ndarray,
        out: np.ndarray | None = None,
        threads: int = 1,
    ) -> np.ndarray:
        """Depth as uint8 (N, H, W), encoded as by `encode_depth`; arguments as for `depth`."""
        position, rotation = _poses(scene, position, rotation)
        out = _output(out, (scene.num_scenes, self.height, self.width), np.uint8)
        _parallel(trace_image, scene, position, rotation, self._lens(), out, threads)
        return out

    def color(
        self,
        scene: Scene,
        position: np.ndarray,
        rotation: np.ndarray,
        out: np.ndarray | None = None,
        threads: int = 1,
        *,
        shadows: bool = False,
        samples: int = 1,
    ) -> np.ndarray:
        """Shaded picture, uint8 RGB (N, H, W, 3); arguments as for `depth`.

        `shadows` casts the sun's, `samples` averages that many by that many rays a pixel against
        jagged edges: both for films and stills. The last 40% of the range fade into the sky.
        """
        position, rotation = _poses(scene, position, rotation)
        n = scene.num_scenes
        out = _output(out, (n, self.height, self.width, 3), np.uint8)
        fine = out
        if samples > 1:
            fine = np.empty((n, self.height * samples, self.width * samples, 3), np.uint8)
        _parallel(trace_color, scene, position, rotation, (*self._lens(), shadows), fine, threads)
        if samples > 1:
            blocks = fine.reshape(n, self.height, samples, self.width, samples, 3)
            out[:] = (blocks.mean(axis=(2, 4), dtype=np.float32) + 0.5).astype(np.uint8)
        return out

    def _lens(self) -> tuple[float, float]:
        """Tangent of half the vertical field of view, and the range in metres."""
        return float(np.tan(np.radians(self.fovy) / 2)), self.max_depth


def _poses(
    scene: Scene, position: np.ndarray, rotation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    position = np.ascontiguousarray(position, np.float64)
    rotation = np.ascontiguousarray(rotation, np.float64)
    n = scene.num_scenes
    if position.size != 3 * n or rotation.size != 9 * n:
        raise SettingError(
            f"{n} scenes need positions ({n}, 3) and rotations ({n}, 3, 3), "
            f"got {position.shape} and {rotation.shape}"
        )
    return position.reshape(n, 3), rotation.reshape(n, 3, 3)


def _output(out: np.ndarray | None, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise SettingError(f"out must be a C-contiguous {np.dtype(dtype)} array of shape {shape}")
    return out


_PIXELS_PER_THREAD = 12 * 2500
"""Fewer are drawn about as quickly as a thread is handed its share."""


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="camera")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def _parallel(
    kernel: Callable[..., None],
    scene: Scene,
    position: np.ndarray,
    rotation: np.ndarray,
    lens: tuple[Any, ...],
    out: np.ndarray,
    threads: int,
) -> None:
    """Runs the kernel over chunks of scenes.

    The kernels release the GIL and are serial themselves, so plain Python threads are enough, and
    numba's own thread pool, which may not be entered from two threads at once, stays out of it.
    """
    n = scene.num_scenes
    worth = -(-n * out.shape[1] * out.shape[2] // _PIXELS_PER_THREAD)
    parts = max(1, min(threads, n, worth))
    chunks = [(n * k // parts, n * (k + 1) // parts) for k in range(parts)]

    def draw(first: int, last: int) -> None:
        kernel(scene.arrays, position, rotation, first, last, *lens, out)

    jobs = [_pool(parts).submit(draw, *chunk) for chunk in chunks[1:]]
    draw(*chunks[0])
    for job in jobs:
        job.result()
