"""People without any data: a handful of motions generated from joint angles.

They serve where no motion-capture folder is named. A gait is a swing of thighs, knees and arms; the
root moves so that the lower foot stays where it is on the floor, so walking speed follows from
stride.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from safetransfer.envs.mocap.rotations import about, multiply
from safetransfer.envs.mocap.skeleton import BONES, PARENTS, Motion, Skeleton

_FPS = 60.0
STATURES = (1.58, 1.66, 1.74, 1.82, 1.90)
"""Metres; the built-in people come in these heights."""

# Segment lengths as shares of the stature (Winter, Biomechanics and Motor Control of Human
# Movement, figure 4.1, after Drillis and Contini) and rest directions (forward, left, up), arms
# hanging.
_SHARES: dict[str, tuple[float, tuple[float, float, float]]] = {
    "hip": (0.0645, (0.0, 0.74, -0.67)),
    "thigh": (0.245, (0.0, 0.0, -1.0)),
    "shin": (0.246, (0.0, 0.0, -1.0)),
    "foot": (0.120, (0.97, 0.10, -0.22)),
    "abdomen": (0.105, (0.0, 0.0, 1.0)),
    "chest": (0.178, (0.0, 0.0, 1.0)),
    "neck": (0.070, (0.10, 0.0, 0.99)),
    "head": (0.062, (0.05, 0.0, 1.0)),
    "shoulder": (0.110, (0.0, 0.97, -0.25)),
    "upper_arm": (0.180, (0.0, 0.10, -1.0)),
    "forearm": (0.146, (0.05, 0.03, -1.0)),
    "hand": (0.085, (0.05, 0.0, -1.0)),
}

Angles = dict[str, np.ndarray]


def human_skeleton(stature: float) -> Skeleton:
    """The default body at rest: standing, facing +z (y up), arms hanging."""
    names = ("root", *BONES)
    vectors = np.zeros((len(names), 3))
    for j, name in enumerate(BONES, start=1):
        side, _, part = name.partition("_")
        share, (forward, left, up) = _SHARES[part if side in ("left", "right") else name]
        if side == "right":
            left = -left
        direction = np.array([left, up, forward])
        vectors[j] = stature * share * direction / np.linalg.norm(direction)
    return Skeleton(
        names=names,
        parents=np.concatenate([[-1], PARENTS + 1]),
        vectors=vectors,
        frames=np.arange(len(names)),
        source="built-in",
    )


def _smooth_bump(phase: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A periodic bump of height 1 over a phase in cycles."""
    distance = np.abs((phase - centre + 0.5) % 1.0 - 0.5)
    return np.where(distance < width, 0.5 + 0.5 * np.cos(np.pi * distance / width), 0.0)


def _gait(
    seconds: np.ndarray, cadence: float, swing: float, knee: float, lean: float, elbow: float
) -> Angles:
    """Walking or running: `cadence` cycles of two steps per second, and angles in radians."""
    angles: Angles = {}
    for side, shift in (("left", 0.0), ("right", 0.5)):
        phase = (seconds * cadence + shift) % 1.0
        wave = np.cos(2.0 * np.pi * phase)
        # The knee bends most as the thigh swings forward, and a little under load.
        bend = 0.08 + knee * _smooth_bump(phase, 0.72, 0.32)
        bend += 0.15 * _smooth_bump(phase, 0.16, 0.18)
        thigh = swing * wave + 0.06 + lean
        angles[f"{side}_thigh"] = thigh
        angles[f"{side}_shin"] = -bend
        angles[f"{side}_foot"] = bend - thigh - 0.4 * _smooth_bump(phase, 0.55, 0.20)
        arm = -0.8 * swing * wave
        angles[f"{side}_upper_arm"] = arm
        angles[f"{side}_forearm"] = elbow + 0.3 * np.maximum(arm, 0.0)
    angles["root"] = np.full_like(seconds, -lean)
    angles["chest:turn"] = 0.12 * np.cos(2.0 * np.pi * seconds * cadence)
    angles["root:turn"] = -0.06 * np.cos(2.0 * np.pi * seconds * cadence)
    return angles


def _stand_and_look(seconds: np.ndarray) -> Angles:
    shift = np.sin(2.0 * np.pi * seconds / 7.0)
    return {
        "root:side": 0.03 * shift,
        "left_thigh:side": -0.03 * shift,
        "right_thigh:side": -0.03 * shift,
        "abdomen:side": -0.03 * shift,
        "neck:turn": 0.5 * np.sin(2.0 * np.pi * seconds / 5.0),
        "head:turn": 0.4 * np.sin(2.0 * np.pi * seconds / 5.0 - 0.3),
        "chest:turn": 0.12 * np.sin(2.0 * np.pi * seconds / 5.0 - 0.6),
        "left_forearm": 0.25 + 0.05 * shift,
        "right_forearm": 0.25 - 0.05 * shift,
    }


def _wave(seconds: np.ndarray) -> Angles:
    # Raise for a second, wave, lower for the last second.
    up = np.clip(np.minimum(seconds, seconds[-1] - seconds), 0.0, 1.0)
    up = up * up * (3.0 - 2.0 * up)
    return {
        "right_upper_arm:side": -2.2 * up,
        "right_forearm:side": up * (-0.5 + 0.45 * np.sin(2.0 * np.pi * 1.6 * seconds)),
        "right_hand:side": up * 0.25 * np.sin(2.0 * np.pi * 1.6 * seconds - 0.7),
        "left_forearm": np.full_like(seconds, 0.25),
        "chest:side": 0.06 * up,
        "head:turn": -0.2 * up,
    }


def _sway(seconds: np.ndarray) -> Angles:
    beat = 2.0 * np.pi * seconds * 0.75
    side, bounce = np.sin(beat), 0.5 - 0.5 * np.cos(2.0 * beat)
    angles: Angles = {
        "root:side": 0.10 * side,
        "root:turn": 0.25 * np.sin(0.5 * beat),
        "abdomen:side": -0.14 * side,
        "chest:side": -0.08 * side,
        "chest:turn": 0.25 * np.sin(beat + 0.8),
        "head:side": 0.10 * side,
    }
    for name, sign in (("left", 1.0), ("right", -1.0)):
        bend = 0.15 + 0.35 * bounce
        angles[f"{name}_thigh"] = bend
        angles[f"{name}_shin"] = -2.0 * bend
        angles[f"{name}_foot"] = bend
        angles[f"{name}_thigh:side"] = -0.10 * side
        angles[f"{name}_upper_arm"] = 0.5 + 0.5 * sign * side
        angles[f"{name}_upper_arm:side"] = sign * (0.35 + 0.15 * bounce)
        angles[f"{name}_forearm"] = 1.2 + 0.4 * np.sin(beat + sign)
    return angles


def _squat(seconds: np.ndarray) -> Angles:
    down = 0.5 - 0.5 * np.cos(2.0 * np.pi * seconds / 3.0)
    angles: Angles = {"abdomen": -0.45 * down, "chest": -0.2 * down, "neck": 0.3 * down}
    for name in ("left", "right"):
        angles[f"{name}_thigh"] = 1.5 * down
        angles[f"{name}_shin"] = -2.2 * down
        angles[f"{name}_foot"] = 0.7 * down
        angles[f"{name}_upper_arm"] = 1.5 * down
        angles[f"{name}_forearm"] = np.full_like(seconds, 0.2)
    return angles


# Name, seconds, joint angles, and whether the feet carry the root along.
_MOTIONS: tuple[tuple[str, float, Callable[[np.ndarray], Angles], bool], ...] = (
    ("stroll", 9.0, lambda t: _gait(t, 0.72, 0.34, 0.75, 0.00, 0.20), True),
    ("walk", 8.0, lambda t: _gait(t, 0.90, 0.42, 0.85, 0.02, 0.25), True),
    ("brisk walk", 7.0, lambda t: _gait(t, 1.06, 0.50, 0.95, 0.04, 0.45), True),
    ("jog", 6.0, lambda t: _gait(t, 1.35, 0.62, 1.35, 0.10, 1.40), True),
    ("stand and look", 10.0, _stand_and_look, False),
    ("wave", 6.0, _wave, False),
    ("sway", 12.0, _sway, False),
    ("squat", 6.0, _squat, False),
)


def _rotations(skeleton: Skeleton, angles: Angles, frames: int) -> np.ndarray:
    """Local rotations (T, J, 4); a positive angle swings a hanging limb forward or left."""
    turns = np.zeros((frames, len(skeleton.names), 4))
    turns[..., 0] = 1.0
    axes = {"": ("X", -1.0), "side": ("Z", 1.0), "turn": ("Y", 1.0)}
    for key, values in angles.items():
        name, _, kind = key.partition(":")
        axis, sign = axes[kind]
        j = skeleton.names.index(name)
        turns[:, j] = multiply(turns[:, j], about(axis, sign * values))
    return turns


def _carried_by_feet(skeleton: Skeleton, rotations: np.ndarray) -> np.ndarray:
    """Root places (T, 3) that keep the lower foot where it stands."""
    still = Motion(skeleton, _FPS, np.zeros((len(rotations), 3)), rotations).points()
    feet = still[:, [skeleton.names.index("left_foot"), skeleton.names.index("right_foot")]]
    drop = feet[..., 1] - feet[..., 1].min(axis=1, keepdims=True)
    # Weight passes from foot to foot over a centimetre of height, not at once.
    weight = np.exp(-drop / 0.01)
    weight /= weight.sum(axis=1, keepdims=True)
    moves = np.diff(feet, axis=0)
    step = -(0.5 * (weight[1:] + weight[:-1])[..., None] * moves).sum(axis=1)
    root = np.zeros((len(rotations), 3))
    root[1:, 2] = np.cumsum(_smoothed(np.maximum(step[:, 2], 0.0)))
    root[:, 1] = _smoothed(-still[..., 1].min(axis=1))
    return root


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A body has inertia: values (T,) without what changes within a tenth of a second."""
    kernel = np.hanning(round(0.2 * _FPS) + 1)
    padded = np.pad(values, len(kernel) // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def builtin_motions() -> list[tuple[str, Motion]]:
    """(name, motion) of every generated clip, on a body of 1.74 m."""
    skeleton = human_skeleton(1.74)
    result = []
    for name, duration, angles_at, carried in _MOTIONS:
        seconds = np.arange(round(duration * _FPS) + 1) / _FPS
        rotations = _rotations(skeleton, angles_at(seconds), len(seconds))
        if carried:
            root = _carried_by_feet(skeleton, rotations)
        else:
            still = Motion(skeleton, _FPS, np.zeros((len(seconds), 3)), rotations).points()
            root = np.zeros((len(seconds), 3))
            root[:, 1] = -still[..., 1].min(axis=1)
        result.append((name, Motion(skeleton, _FPS, root, rotations, source=f"built-in {name}")))
    return result
