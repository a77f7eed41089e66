"""Skeletons of any source, and the one set of human bones that all of them are brought to.

A `Skeleton` is a tree of points. Each point is its parent's place plus a fixed vector turned by one
of the skeleton's rotations: its own for ASF (a bone turns about its start) and its parent's for BVH
(an offset is given in the parent's frame). A `Motion` is a skeleton with rotations over time.

People are drawn and touched as the 20 bones of `BONES`. `Skeleton.ends` finds where those end in a
source; what a clip keeps of them is their direction only, so that any body plays any clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from safetransfer.envs.mocap.rotations import align_signs, multiply, rotate, slerp
from safetransfer.envs.mocap.text import UnusableClip

# Bone, the bone that it continues ("" starts at the root, between the hips), capsule radius in
# metres for an adult of 1.75 m, clothed. As girths, 2 pi r: thigh 0.50 m, calf 0.35, upper arm
# 0.31, forearm 0.26, neck 0.38. The chest's capsule is its depth, the shoulders give its width.
_BONE_TABLE = (
    ("left_hip", "", 0.095),
    ("left_thigh", "left_hip", 0.080),
    ("left_shin", "left_thigh", 0.055),
    ("left_foot", "left_shin", 0.040),
    ("right_hip", "", 0.095),
    ("right_thigh", "right_hip", 0.080),
    ("right_shin", "right_thigh", 0.055),
    ("right_foot", "right_shin", 0.040),
    ("abdomen", "", 0.125),
    ("chest", "abdomen", 0.135),
    ("neck", "chest", 0.060),
    ("head", "neck", 0.100),
    ("left_shoulder", "chest", 0.065),
    ("left_upper_arm", "left_shoulder", 0.050),
    ("left_forearm", "left_upper_arm", 0.042),
    ("left_hand", "left_forearm", 0.035),
    ("right_shoulder", "chest", 0.065),
    ("right_upper_arm", "right_shoulder", 0.050),
    ("right_forearm", "right_upper_arm", 0.042),
    ("right_hand", "right_forearm", 0.035),
)
BONES: tuple[str, ...] = tuple(name for name, _, _ in _BONE_TABLE)
"""Names of the capsules of a person, every bone after the one that it continues."""
PARENTS = np.array([BONES.index(p) if p else -1 for _, p, _ in _BONE_TABLE], dtype=np.int64)
RADII = np.array([radius for _, _, radius in _BONE_TABLE])
_REFERENCE_STATURE = 1.75
_LEAST_SHARES = np.array(
    [
        {"hand": 0.085, "foot": 0.10, "head": 0.05}.get(name.rsplit("_", 1)[-1], 0.01)
        for name in BONES
    ]
)

_LEGS = [i for i, name in enumerate(BONES) if name.endswith(("_thigh", "_shin"))]
_SIDES = (("left", "l", "Left"), ("right", "r", "Right"))


def _asf_names() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "abdomen": ("lowerback",),
        "chest": ("thorax",),
        "neck": ("upperneck", "lowerneck"),
        "head": ("head",),
    }
    for side, s, _ in _SIDES:
        names |= {
            f"{side}_hip": (f"{s}hipjoint",),
            f"{side}_thigh": (f"{s}femur",),
            f"{side}_shin": (f"{s}tibia",),
            f"{side}_foot": (f"{s}toes", f"{s}foot"),
            f"{side}_shoulder": (f"{s}clavicle",),
            f"{side}_upper_arm": (f"{s}humerus",),
            f"{side}_forearm": (f"{s}wrist", f"{s}radius"),
            f"{side}_hand": (f"{s}fingers", f"{s}hand"),
        }
    return names


def _bvh_names() -> dict[str, tuple[str, ...]]:
    # The joints of the CMU database's BVH conversion; the alternatives are the common game rigs.
    names: dict[str, tuple[str, ...]] = {
        "abdomen": ("Spine",),
        "chest": ("Neck",),
        "neck": ("Head",),
        "head": ("Head.end", "HeadTop_End"),
    }
    for side, _, s in _SIDES:
        names |= {
            f"{side}_hip": (f"{s}UpLeg",),
            f"{side}_thigh": (f"{s}Leg",),
            f"{side}_shin": (f"{s}Foot",),
            f"{side}_foot": (f"{s}ToeBase", f"{s}Toe_End", f"{s}Foot.end"),
            f"{side}_shoulder": (f"{s}Arm",),
            f"{side}_upper_arm": (f"{s}ForeArm",),
            f"{side}_forearm": (f"{s}FingerBase", f"{s}Hand"),
            f"{side}_hand": (f"{s}HandIndex1", f"{s}HandMiddle1", f"{s}Hand.end"),
        }
    return names


def _biped_names() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "abdomen": ("Chest",),
        "chest": ("Neck",),
        "neck": ("Head",),
        "head": ("Head.end",),
    }
    for side, _, s in _SIDES:
        names |= {
            f"{side}_hip": (f"{s}Hip",),
            f"{side}_thigh": (f"{s}Knee",),
            f"{side}_shin": (f"{s}Ankle",),
            f"{side}_foot": (f"{s}Toe", f"{s}Ankle.end"),
            f"{side}_shoulder": (f"{s}Shoulder",),
            f"{side}_upper_arm": (f"{s}Elbow",),
            f"{side}_forearm": (f"{s}Wrist",),
            f"{side}_hand": (f"{s}Wrist.end",),
        }
    return names


# Which point of a source skeleton is the end of each of our bones, by family of names.
_FAMILIES = (
    {name: (name,) for name in BONES},
    _asf_names(),
    _bvh_names(),
    _biped_names(),
)


@dataclass(frozen=True)
class Skeleton:
    """A tree of points, y up, in metres.

    names: one per point, the root first, parents before children.
    parents: (J,) the point that each point hangs on; -1 for the root.
    vectors: (J, 3) from the parent point to this one at rest.
    frames: (J,) which point's rotation turns the vector.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    vectors: np.ndarray
    frames: np.ndarray
    source: str = ""

    @cached_property
    def ends(self) -> np.ndarray:
        """(B,) the point at the end of each of `BONES`; UnusableClip where no names fit."""
        # Game rigs put a namespace before each name, as in "mixamorig:Hips".
        index = {name.rsplit(":", 1)[-1]: j for j, name in enumerate(self.names)}
        best: list[str] = list(BONES)
        for family in _FAMILIES:
            chosen = {
                bone: next((index[name] for name in options if name in index), None)
                for bone, options in family.items()
            }
            missing = [family[bone][0] for bone in BONES if chosen[bone] is None]
            if not missing:
                return np.array([chosen[bone] for bone in BONES], dtype=np.int64)
            if len(missing) < len(best):
                best = missing
        raise UnusableClip(
            f"{self.source}: not a human skeleton of known names: no {', '.join(best[:4])}"
            f"{' ...' if len(best) > 4 else ''}. Known: the bones of the CMU database's ASF files, "
            "the joints of its BVH conversion, and the common 'LeftUpLeg' and 'LeftHip' rigs"
        )

    def rest_lengths(self) -> np.ndarray:
        """(B,) length of each of `BONES` with every rotation at rest."""
        points = np.zeros((len(self.names), 3))
        for j in range(1, len(self.names)):
            points[j] = points[self.parents[j]] + self.vectors[j]
        return np.linalg.norm(bone_vectors(points[self.ends]), axis=-1)


def bone_vectors(ends: np.ndarray) -> np.ndarray:
    """Start-to-end vectors (..., B, 3) of bones whose ends (..., B, 3) are relative to the root."""
    starts = np.where(PARENTS[:, None] >= 0, ends[..., PARENTS, :], 0.0)
    return ends - starts


@dataclass(frozen=True)
class Motion:
    """A skeleton in motion: root places (T, 3) in metres, y up, and local rotations (T, J, 4)."""

    skeleton: Skeleton
    fps: float
    root: np.ndarray
    rotations: np.ndarray
    source: str = ""

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (len(self.root) - 1) / self.fps

    def resampled(self, step: float) -> Motion:
        """The same motion every `step` seconds: orientations along the short arc of the sphere."""
        count = int(np.floor(self.duration / step + 1e-9)) + 1
        place = np.arange(count) * step * self.fps
        low = np.clip(place.astype(np.int64), 0, max(len(self.root) - 2, 0))
        high = np.minimum(low + 1, len(self.root) - 1)
        part = np.clip(place - low, 0.0, 1.0)
        turns = align_signs(self.rotations)
        return Motion(
            skeleton=self.skeleton,
            fps=1.0 / step,
            root=self.root[low] + part[:, None] * (self.root[high] - self.root[low]),
            rotations=slerp(turns[low], turns[high], part[:, None]),
            source=self.source,
        )

    def points(self) -> np.ndarray:
        """Places (T, J, 3) of the skeleton's points, y up, by forward kinematics."""
        skeleton = self.skeleton
        points = np.empty((len(self.root), len(skeleton.names), 3))
        turns = np.empty((len(self.root), len(skeleton.names), 4))
        for j, parent in enumerate(skeleton.parents):
            if parent < 0:
                points[:, j], turns[:, j] = self.root, self.rotations[:, j]
                continue
            turns[:, j] = multiply(turns[:, parent], self.rotations[:, j])
            points[:, j] = points[:, parent] + rotate(
                turns[:, skeleton.frames[j]], skeleton.vectors[j]
            )
        return points


@dataclass(frozen=True)
class Body:
    """The size of one person: bone lengths (B,) and capsule radii (B,), in metres."""

    lengths: np.ndarray
    radii: np.ndarray

    @classmethod
    def of_lengths(cls, lengths: np.ndarray, source: str) -> Body:
        """A body with these bone lengths (B,); UnusableClip where no human has such legs."""
        lengths = np.asarray(lengths, dtype=np.float64)
        leg = leg_length(lengths)
        if not 0.4 <= leg <= 1.4:
            raise UnusableClip(
                f"{source}: its legs are {leg:.3g} m long (0.4 to 1.4 m expected): check the "
                "units that the file gives for lengths"
            )
        # Legs are 0.49 of the stature (Winter, Biomechanics and Motor Control of Human Movement:
        # thigh 0.245, shank 0.246). Thickness goes with it; so do the least lengths, for files end
        # the hand at its knuckles, and some the foot at its ball and the head at its base.
        stature = leg / 0.49
        lengths = np.clip(lengths, _LEAST_SHARES * stature, stature)
        return cls(lengths=lengths, radii=RADII * (stature / _REFERENCE_STATURE))

    @property
    def leg(self) -> float:
        """Length of thigh and shin, by which motions are scaled from body to body."""
        return leg_length(self.lengths)


def leg_length(lengths: np.ndarray) -> float:
    """Thigh plus shin, mean of both sides, of bone lengths (B,)."""
    return float(lengths[_LEGS].sum() / 2.0)
