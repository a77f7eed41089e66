"""Acclaim skeleton files (ASF): bones with a rest direction, a length, an axis frame and dofs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safetransfer.envs.mocap.rotations import from_euler
from safetransfer.envs.mocap.skeleton import Skeleton
from safetransfer.envs.mocap.text import Source

_INCH = 0.0254
_DOFS = ("rx", "ry", "rz", "tx", "ty", "tz", "l")
_ROOT_DOFS = ("TX", "TY", "TZ", "RX", "RY", "RZ")


@dataclass(frozen=True)
class AsfSkeleton:
    """A skeleton and what an AMC file needs to move it.

    axes: (J, 4) rotation C of each bone's axis frame: a joint turns by C M C^-1, with M of its AMC
    angles. dofs: per bone, the AMC values in order; for the root of TX TY TZ RX RY RZ.
    metres: of one length unit. radians: of one angle unit. root_position is in metres.
    """

    skeleton: Skeleton
    axes: np.ndarray
    dofs: tuple[tuple[str, ...], ...]
    metres: float
    radians: float
    root_position: np.ndarray
    root_orientation: np.ndarray


@dataclass
class _Bone:
    name: str
    line: int
    direction: np.ndarray | None = None
    length: float | None = None
    axis: np.ndarray | None = None
    dofs: tuple[str, ...] = ()


class _Parser:
    def __init__(self, path: str | Path):
        self.source = Source(path)
        self.length_unit = 1.0
        self.radians = math.pi / 180.0
        self.root = {"position": np.zeros(3), "orientation": np.zeros(3)}
        self.root_axis = "XYZ"
        self.root_order: tuple[str, ...] = _ROOT_DOFS
        self.bones: list[_Bone] = []
        self.children: dict[str, list[tuple[str, int]]] = {}
        self.seen: set[str] = set()

    def parse(self) -> AsfSkeleton:
        section = ""
        bone: _Bone | None = None
        for number, raw in enumerate(self.source.lines, start=1):
            words = raw.split("#", 1)[0].split()
            if not words:
                continue
            if words[0].startswith(":"):
                if bone is not None:
                    raise self.source.error(number, f"expected 'end' of bone {bone.name!r}")
                section = words[0][1:].lower()
                self.seen.add(section)
            elif section == "units":
                self.unit(words, number)
            elif section == "root":
                self.root_line(words, number)
            elif section == "bonedata":
                bone = self.bone_line(bone, words, number)
            elif section == "hierarchy" and words[0] not in ("begin", "end"):
                self.children.setdefault(words[0], []).extend((w, number) for w in words[1:])
        for section in ("root", "bonedata", "hierarchy"):
            if section not in self.seen:
                raise self.source.error(None, f"expected a section :{section}")
        if bone is not None:
            raise self.source.error(None, f"expected 'end' of bone {bone.name!r}")
        return self.build()

    def triple(self, words: list[str], number: int, what: str) -> np.ndarray:
        if len(words) < 3:
            raise self.source.error(number, f"expected three numbers for {what}")
        return np.array(self.source.numbers(words[:3], number, what))

    def axis_order(self, word: str, number: int) -> str:
        order = word.upper()
        if sorted(order) != ["X", "Y", "Z"]:
            raise self.source.error(number, f"expected an axis order such as XYZ, found {word!r}")
        return order

    def unit(self, words: list[str], number: int) -> None:
        value = words[1] if len(words) > 1 else ""
        if words[0] == "length":
            self.length_unit = self.source.numbers([value], number, "the unit of length")[0]
            if self.length_unit < 1e-6:
                raise self.source.error(number, "expected a positive unit of length")
        elif words[0] == "angle":
            if value.lower() not in ("deg", "rad"):
                raise self.source.error(number, f"expected angle 'deg' or 'rad', found {value!r}")
            self.radians = math.pi / 180.0 if value.lower() == "deg" else 1.0

    def root_line(self, words: list[str], number: int) -> None:
        key = words[0].lower()
        if key == "order":
            order = tuple(word.upper() for word in words[1:])
            if sorted(order) != sorted(_ROOT_DOFS):
                raise self.source.error(number, "expected the root's order of TX TY TZ RX RY RZ")
            self.root_order = order
        elif key == "axis":
            self.root_axis = self.axis_order(words[1] if len(words) > 1 else "", number)
        elif key in self.root:
            self.root[key] = self.triple(words[1:], number, f"the root's {key}")

    def bone_line(self, bone: _Bone | None, words: list[str], number: int) -> _Bone | None:
        key = words[0].lower()
        if key == "begin":
            if bone is not None:
                raise self.source.error(number, f"expected 'end' of bone {bone.name!r}")
            return _Bone(name="", line=number)
        if bone is None:
            raise self.source.error(number, f"expected 'begin' of a bone, found {words[0][:30]!r}")
        what = f"the {key} of bone {bone.name!r}"
        if key == "end":
            parts = {"name": bone.name or None, "direction": bone.direction, "length": bone.length}
            for part, value in parts.items():
                if value is None:
                    raise self.source.error(number, f"bone {bone.name!r} has no {part}")
            self.bones.append(bone)
            return None
        if key == "name":
            if len(words) != 2:
                raise self.source.error(number, "expected one name of a bone")
            bone.name = words[1]
        elif key == "direction":
            bone.direction = self.triple(words[1:], number, what)
            norm = np.linalg.norm(bone.direction)
            if norm < 1e-9:
                raise self.source.error(number, f"{what} has no length")
            bone.direction /= norm
        elif key == "length":
            bone.length = self.source.numbers(words[1:2] or [""], number, what)[0]
            if bone.length < 0.0:
                raise self.source.error(number, f"expected {what} not to be negative")
        elif key == "axis":
            angles = self.triple(words[1:], number, what) * self.radians
            order = self.axis_order(words[4] if len(words) > 4 else "XYZ", number)
            bone.axis = from_euler(angles, order)
        elif key == "dof":
            dofs = tuple(word.lower() for word in words[1:])
            unknown = [word for word in dofs if word not in _DOFS]
            if unknown or len(set(dofs)) != len(dofs):
                raise self.source.error(number, f"expected dofs among {' '.join(_DOFS)}, each once")
            bone.dofs = dofs
        return bone

    def build(self) -> AsfSkeleton:
        by_name = {bone.name: bone for bone in self.bones}
        if len(by_name) != len(self.bones) or "root" in by_name:
            raise self.source.error(None, "two bones have one name")
        metres = _INCH / self.length_unit
        names, parents, vectors = ["root"], [-1], [np.zeros(3)]
        axes = [from_euler(np.zeros(3), "XYZ")]
        dofs: list[tuple[str, ...]] = [self.root_order]
        waiting = ["root"]
        while waiting:
            parent = waiting.pop()
            for child, number in self.children.pop(parent, []):
                bone = by_name.pop(child, None)
                if bone is None:
                    reason = "a second parent" if child in names else "no bone data"
                    raise self.source.error(number, f"bone {child[:30]!r} has {reason}")
                assert bone.direction is not None and bone.length is not None
                parents.append(names.index(parent))
                names.append(child)
                vectors.append(bone.direction * bone.length * metres)
                axes.append(bone.axis if bone.axis is not None else axes[0])
                dofs.append(bone.dofs)
                waiting.append(child)
        if by_name:
            name = next(iter(by_name))
            raise self.source.error(None, f"expected bone {name!r} in the :hierarchy")
        skeleton = Skeleton(
            names=tuple(names),
            parents=np.array(parents),
            vectors=np.array(vectors),
            frames=np.arange(len(names)),
            source=str(self.source.path),
        )
        return AsfSkeleton(
            skeleton=skeleton,
            axes=np.array(axes),
            dofs=tuple(dofs),
            metres=metres,
            radians=self.radians,
            root_position=self.root["position"] * metres,
            root_orientation=from_euler(self.root["orientation"] * self.radians, self.root_axis),
        )


def read_asf(path: str | Path) -> AsfSkeleton:
    """Read a skeleton; ClipError names the file and the line that is wrong."""
    return _Parser(path).parse()
