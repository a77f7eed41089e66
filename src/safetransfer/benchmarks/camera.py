"""Microseconds per camera frame, against MuJoCo's own depth camera on the same scenes."""

from __future__ import annotations

import time
from typing import Any

import mujoco
import numpy as np

from safetransfer.benchmarks.mujoco_scene import reference_depth, reference_model
from safetransfer.envs.camera import Camera, Scene
from safetransfer.training.machine import describe_machine, versions

__all__ = ["SCENES", "make_scene", "run"]

SCENES = ("walls", "poles", "people")
_LENGTH, _WIDTH = 24.0, 4.0

# A standing person of 1.75 m as capsules (x forward, y left, z up; ends and radius in m).
_BODY = np.array(
    [
        [0.0, -0.09, 0.98, 0.0, 0.09, 0.98, 0.11],  # pelvis
        [0.0, 0.0, 1.02, 0.0, 0.0, 1.20, 0.11],
        [0.0, 0.0, 1.20, 0.0, 0.0, 1.36, 0.12],
        [0.0, -0.13, 1.40, 0.0, 0.13, 1.40, 0.08],  # shoulders
        [0.0, 0.0, 1.46, 0.01, 0.0, 1.54, 0.05],
        [0.02, 0.0, 1.62, 0.02, 0.0, 1.67, 0.09],  # head
        *(
            [x0, side * y0, z0, x1, side * y1, z1, r]
            for side in (-1, 1)
            for x0, y0, z0, x1, y1, z1, r in (
                (0.0, 0.10, 0.93, 0.03, 0.11, 0.52, 0.075),
                (0.03, 0.11, 0.50, -0.02, 0.11, 0.10, 0.055),
                (-0.03, 0.11, 0.05, 0.12, 0.13, 0.04, 0.04),
                (0.0, 0.20, 1.38, -0.03, 0.25, 1.12, 0.045),
                (-0.03, 0.25, 1.10, 0.10, 0.24, 0.88, 0.04),
                (0.12, 0.24, 0.85, 0.18, 0.23, 0.78, 0.035),
            )
        ),
    ],
    np.float32,
)


def make_scene(name: str, num_scenes: int = 1, seed: int = 0) -> Scene:
    """Hallways of 24 x 4 m with 8 walls, 30 poles or 20 people of 18 capsules, drawn from `seed`.

    Floor and two side walls always; placed as in the environments, save for clearances.
    """
    rng = np.random.default_rng(seed)
    n = num_scenes
    people, limbs = 20, len(_BODY)
    scene = Scene(
        n,
        planes=1,
        boxes=10 if name == "walls" else 2,
        cylinders=30 if name == "poles" else 0,
        capsules=people * limbs if name == "people" else 0,
        capsule_groups=people if name == "people" else 0,
    )
    scene.plane_normal[:] = (0, 0, 1)
    for side, k in ((-1, 0), (1, 1)):
        scene.box_center[:, k] = (_LENGTH / 2, side * (_WIDTH / 2 + 0.05), 0.5)
        scene.box_half[:, k] = (_LENGTH / 2 + 2, 0.05, 0.5)
    if name == "walls":
        half = rng.uniform(0.25, 0.325, (n, 8)) * _WIDTH
        scene.box_center[:, 2:, 0] = 2.5 + 2.5 * np.arange(8) + rng.uniform(-0.4, 0.4, (n, 8))
        scene.box_center[:, 2:, 1] = (_WIDTH / 2 - half) * np.where(np.arange(8) % 2, 1, -1)
        scene.box_center[:, 2:, 2] = 0.5
        scene.box_half[:, 2:, 0] = 0.1
        scene.box_half[:, 2:, 1] = half
        scene.box_half[:, 2:, 2] = 0.5
    elif name == "poles":
        scene.cylinder_a[..., 0] = rng.uniform(1.5, _LENGTH, (n, 30))
        scene.cylinder_a[..., 1] = rng.uniform(-_WIDTH / 2 + 0.15, _WIDTH / 2 - 0.15, (n, 30))
        scene.cylinder_b[:] = scene.cylinder_a
        scene.cylinder_b[..., 2] = 1.0
        scene.cylinder_radius[:] = 0.15
    elif name == "people":
        place = np.stack(
            [
                rng.uniform(1.5, _LENGTH, (n, people)),
                rng.uniform(-1.6, 1.6, (n, people)),
                np.zeros((n, people)),
            ],
            axis=-1,
        )
        turn = rng.uniform(-np.pi, np.pi, (n, people, 1))
        for array, first in ((scene.capsule_a, 0), (scene.capsule_b, 3)):
            x, y, z = _BODY[:, first], _BODY[:, first + 1], _BODY[:, first + 2]
            turned = np.stack(
                [
                    np.cos(turn) * x - np.sin(turn) * y,
                    np.sin(turn) * x + np.cos(turn) * y,
                    np.broadcast_to(z, (n, people, limbs)),
                ],
                axis=-1,
            )
            array[:] = (place[:, :, None] + turned).reshape(array.shape)
        scene.capsule_radius[:] = np.tile(_BODY[:, 6], people)
        scene.group_center[:] = place + np.array([0, 0, 0.9])
        scene.group_radius[:] = 0.95
    return scene


def _poses(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of a Point robot anywhere in the hallway: 0.15 m high, 22 degrees down."""
    rng = np.random.default_rng(seed)
    position = np.stack(
        [rng.uniform(0, 18, num), rng.uniform(-1.5, 1.5, num), np.full(num, 0.15)], axis=-1
    )
    heading, pitch = rng.uniform(-0.6, 0.6, num), np.radians(22.0)
    rotation = np.empty((num, 3, 3))
    for k, a in enumerate(heading):
        forward = np.array([np.cos(a) * np.cos(pitch), np.sin(a) * np.cos(pitch), -np.sin(pitch)])
        right = np.array([np.sin(a), -np.cos(a), 0.0])
        rotation[k] = np.stack([right, np.cross(right, forward), -forward], axis=1)
    return position, rotation


def _best(function: Any, repeats: int, inner: int) -> float:
    """Least seconds per call over `repeats` runs of `inner` calls: the least disturbed one."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            function()
        best = min(best, (time.perf_counter() - start) / inner)
    return best


def run(num_scenes: int = 64, repeats: int = 15, seed: int = 0) -> dict[str, Any]:
    """Times 50 x 50 encoded depth frames on one thread against MuJoCo's rangefinder.

    `num_scenes` hallways, one view each, drawn in one call, as the environments do. MuJoCo's figure
    is `mj_sensorPos` alone, on 8 of the same hallways and views. Both are the least of repeats.

    Returns {"walls" | "poles" | "people": {"us", "reference_us", "ratio"}, "machine"}.
    """
    camera = Camera(50, 50, fovy=90.0, max_depth=12.0)
    position, rotation = _poses(num_scenes, seed)
    out = np.empty((num_scenes, 50, 50), np.uint8)
    result: dict[str, Any] = {}
    for name in SCENES:
        scene = make_scene(name, num_scenes, seed)

        def frame(scene: Scene = scene) -> None:
            camera.depth_image(scene, position, rotation, out=out)

        frame()  # compiles
        ours = _best(frame, repeats, 4) / num_scenes
        views = range(0, num_scenes, max(1, num_scenes // 8))
        theirs = []
        for k in views:
            model, data = reference_model(scene, k, camera)
            reference_depth(model, data, camera, position[k], rotation[k])
            theirs.append(
                _best(lambda m=model, d=data: mujoco.mj_sensorPos(m, d), max(3, repeats // 3), 3)
            )
        reference = float(np.mean(theirs))
        result[name] = {
            "us": round(ours * 1e6, 2),
            "reference_us": round(reference * 1e6, 1),
            "ratio": round(reference / ours, 1),
        }
    result["machine"] = describe_machine() | versions()
    return result
