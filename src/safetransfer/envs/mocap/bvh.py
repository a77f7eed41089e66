"""Biovision files (BVH): a hierarchy of joints with offsets, and channels per frame.

BVH writes a joint's rotation R in the parent's frame; an AMC of the same motion holds M = C^T R C,
with C the bone's ASF axis. `amc.py` applies C M C^T, so both come to the same joint rotation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from safetransfer.envs.mocap.rotations import from_euler
from safetransfer.envs.mocap.skeleton import Motion, Skeleton, leg_length
from safetransfer.envs.mocap.text import LARGEST, Source, UnusableClip

# BVH does not give its unit. Metres of those in use: the CMU conversions keep the ASF's 1/0.45
# inch; centimetres, metres, inches and millimetres. Human legs tell them apart, they differ by 1.8
# or more.
_UNITS = (0.0254 / 0.45, 0.01, 1.0, 0.0254, 0.001)
_LEGS = (0.62, 1.1)
_MAX_JOINTS = 1000


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: tuple[str, ...] = ()


class _Parser:
    def __init__(self, path: str | Path):
        self.source = Source(path)
        self.at = 0

    def words(self, expected: str) -> list[str]:
        """The words of the next line that is not blank."""
        while self.at < len(self.source.lines):
            words = self.source.lines[self.at].split()
            self.at += 1
            if words:
                return words
        raise self.source.error(None, f"expected {expected}")

    def hierarchy(self) -> list[_Joint]:
        words = self.words("HIERARCHY")
        if words[0].upper() != "HIERARCHY":
            raise self.source.error(self.at, f"expected HIERARCHY, found {words[0][:30]!r}")
        joints: list[_Joint] = []
        open_joints: list[int] = []
        pending = -1
        while True:
            words = self.words("the rest of the hierarchy")
            key = words[0].upper()
            if pending >= 0:
                if key != "{":
                    raise self.source.error(self.at, f"expected '{{', found {words[0][:30]!r}")
                open_joints.append(pending)
                pending = -1
            elif key == "MOTION":
                if open_joints or not joints:
                    raise self.source.error(self.at, "expected the hierarchy to end before MOTION")
                return joints
            elif key == "ROOT" and not joints:
                pending = self.add(joints, -1, words)
            elif key in ("JOINT", "END") and open_joints:
                pending = self.add(joints, open_joints[-1], words)
            elif key == "OFFSET" and open_joints:
                if len(words) != 4:
                    raise self.source.error(self.at, "expected OFFSET and three numbers")
                joint = joints[open_joints[-1]]
                joint.offset = self.source.numbers(
                    words[1:], self.at, f"the offset of {joint.name!r}"
                )
            elif key == "CHANNELS" and open_joints:
                joints[open_joints[-1]].channels = self.channels(words)
            elif key == "}" and open_joints:
                open_joints.pop()
            else:
                raise self.source.error(
                    self.at, f"expected a joint of the hierarchy, found {words[0][:30]!r}"
                )

    def add(self, joints: list[_Joint], parent: int, words: list[str]) -> int:
        if len(words) < 2:
            raise self.source.error(self.at, f"expected a name after {words[0]}")
        if len(joints) >= _MAX_JOINTS:
            raise self.source.error(self.at, f"expected at most {_MAX_JOINTS} joints")
        ends = words[0].upper() == "END"
        name = f"{joints[parent].name}.end" if ends else " ".join(words[1:])
        joints.append(_Joint(name, parent))
        return len(joints) - 1

    def channels(self, words: list[str]) -> tuple[str, ...]:
        names = tuple(word.lower() for word in words[2:])
        known = all(
            name[:1] in "xyz" and name[1:] in ("rotation", "position") for name in names if name
        )
        if len(words) < 2 or words[1] != str(len(names)) or not known:
            raise self.source.error(
                self.at, "expected CHANNELS, how many, and names such as Xposition or Zrotation"
            )
        return names

    def motion(self, width: int) -> tuple[np.ndarray, float]:
        """Channel values (T, width) and seconds per frame."""
        words = self.words("'Frames:'")
        if words[0].lower() != "frames:" or len(words) != 2 or not re.fullmatch("[0-9]+", words[1]):
            raise self.source.error(self.at, "expected 'Frames:' and how many")
        promised = int(words[1][:12])
        words = self.words("'Frame Time:'")
        if [w.lower() for w in words[:2]] != ["frame", "time:"] or len(words) != 3:
            raise self.source.error(self.at, "expected 'Frame Time:' and its seconds")
        frame_time = self.source.numbers(words[2:], self.at, "the frame time")[0]
        if not 1e-4 <= frame_time <= 1.0:
            raise self.source.error(self.at, "expected a frame time from 0.0001 to 1 second")
        values = self.regular(width, promised)
        if values is None:
            values = self.by_line(width, promised)
        return values, frame_time

    def regular(self, width: int, promised: int) -> np.ndarray | None:
        try:
            values = np.array(" ".join(self.source.lines[self.at :]).split()).astype(np.float64)
        except ValueError:
            return None
        if values.size != width * promised or promised < 1 or width < 1:
            return None
        return values.reshape(promised, width) if (np.abs(values) <= LARGEST).all() else None

    def by_line(self, width: int, promised: int) -> np.ndarray:
        rows = []
        for number, line in enumerate(self.source.lines[self.at :], start=self.at + 1):
            words = line.split()
            if not words:
                continue
            row = self.source.numbers(words, number, "a channel")
            if len(row) != width:
                raise self.source.error(
                    number, f"expected {width} numbers for the channels, found {len(row)}"
                )
            rows.append(row)
        if len(rows) != promised or not rows:
            raise self.source.error(None, f"expected {promised} frames, found {len(rows)}")
        return np.array(rows)


def _without_added_pose(rotations: np.ndarray, root: np.ndarray) -> slice:
    """The frames without the T-pose that the CMU conversions put before the first.

    It is told by its jump: more than 15 degrees at some joint, and four times what the next frames
    do.
    """
    if len(root) < 4:
        return slice(0, None)
    near = rotations[:8]
    dots = np.abs((near[1:, 1:] * near[:-1, 1:]).sum(-1))
    moved = 2.0 * np.arccos(np.clip(dots, 0.0, 1.0)).max(axis=1, initial=0.0)
    added = moved[0] > np.radians(15.0) and moved[0] > 4.0 * moved[1:].max()
    return slice(1 if added else 0, None)


def read_bvh(path: str | Path) -> Motion:
    """Read a motion with its skeleton, at the file's own frame rate, in metres.

    Translations of other joints than the root are left out: bones keep their lengths. ClipError
    names the file and the line that is wrong; UnusableClip where the joints are not a human's of
    known names.
    """
    parser = _Parser(path)
    joints = parser.hierarchy()
    values, frame_time = parser.motion(sum(len(joint.channels) for joint in joints))
    parents = np.array([joint.parent for joint in joints])
    skeleton = Skeleton(
        names=tuple(joint.name for joint in joints),
        parents=parents,
        vectors=np.array([joint.offset for joint in joints]),
        frames=np.maximum(parents, 0),
        source=str(parser.source.path),
    )
    leg = leg_length(skeleton.rest_lengths())
    unit = next((u for u in _UNITS if _LEGS[0] <= leg * u <= _LEGS[1]), None)
    if unit is None:
        raise UnusableClip(
            f"{parser.source.path}: its legs are {leg:.3g} units long, which is human in none of "
            "metres, centimetres, millimetres, inches and the CMU database's 1/0.45 inch"
        )
    skeleton = Skeleton(
        skeleton.names, parents, skeleton.vectors * unit, skeleton.frames, skeleton.source
    )

    rotations = np.zeros((len(values), len(joints), 4))
    rotations[..., 0] = 1.0
    root = np.zeros((len(values), 3))
    at = 0
    for j, joint in enumerate(joints):
        cells = {name: at + k for k, name in enumerate(joint.channels)}
        turns = [name for name in joint.channels if name.endswith("rotation")]
        order = "".join(name[0].upper() for name in turns)
        angles = np.radians(values[:, [cells[name] for name in turns]])
        rotations[:, j] = from_euler(angles, order, first_is_outermost=True)
        if j == 0:
            for k, name in enumerate(("xposition", "yposition", "zposition")):
                if name in cells:
                    root[:, k] = values[:, cells[name]] * unit
        at += len(joint.channels)
    kept = _without_added_pose(rotations, root)
    return Motion(
        skeleton, 1.0 / frame_time, root[kept], rotations[kept], source=str(parser.source.path)
    )
