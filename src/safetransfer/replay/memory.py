"""What a replay's memory goes into, and the check before a run that there is enough of it."""

from __future__ import annotations

import numpy as np

from safetransfer.agent.networks import Shapes
from safetransfer.errors import SettingError

MEMORY_SHARE = 0.9
"""Of the machine's memory, what a replay may take at most."""


def replay_parts(
    shapes: Shapes, capacity: int, hidden: int, stride: int, compact: bool = False
) -> dict[str, int]:
    """Bytes by what they hold, of `capacity` slots; the arguments are those of `SequenceReplay`."""
    number = 2 if compact else 4
    frame = int(np.prod(shapes.camera)) if shapes.camera else 0
    return {
        "frames": capacity * frame,
        "proprioception": capacity * 4 * shapes.proprio,
        "actions": capacity * number * shapes.actions,
        "hidden states": capacity // stride * number * hidden,
        "rewards, costs and ends": capacity * (4 + 4 + 1),
    }


def replay_bytes(
    shapes: Shapes, capacity: int, hidden: int, stride: int, compact: bool = False
) -> int:
    """Memory that a replay of `capacity` slots takes, in bytes."""
    return sum(replay_parts(shapes, capacity, hidden, stride, compact).values())


def check_memory(
    shapes: Shapes,
    capacity: int,
    hidden: int,
    stride: int,
    compact: bool,
    available_gib: float | None,
) -> None:
    """Raise SettingError where the replay is beyond the machine's memory (None: not known).

    The message says how much is needed for what, what would fit, and which settings change it.
    """
    parts = replay_parts(shapes, capacity, hidden, stride, compact)
    needed = sum(parts.values()) / 2**30
    if available_gib is None or needed <= MEMORY_SHARE * available_gib:
        return
    listed = ", ".join(
        f"{name} {size / 2**30:.2f}"
        for name, size in sorted(parts.items(), key=lambda part: -part[1])
    )
    fits = int(capacity * MEMORY_SHARE * available_gib / needed)
    smaller = [f"train.replay_size {fits} or less"]
    if shapes.camera and capacity > fits:
        smaller.append("a smaller picture (env.camera_height, env.camera_width)")
    if not compact:
        saved = needed - replay_bytes(shapes, capacity, hidden, stride, True) / 2**30
        smaller.append(f"train.replay_compact true (-{saved:.2f} GiB)")
    if parts["hidden states"] > parts["frames"] / 10:
        smaller.append(f"a larger train.replay_stride (now {stride})")
    raise SettingError(
        f"train.replay_size {capacity} needs {needed:.1f} GiB of memory: in GiB, {listed}. This "
        f"machine has {available_gib:.1f} GiB, of which a replay may take "
        f"{MEMORY_SHARE:.0%}. Choose {' or '.join(smaller)}"
    )
