"""Acclaim motion files (AMC): joint angles per frame, for the bones of an ASF skeleton by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from safetransfer.envs.mocap.asf import AsfSkeleton
from safetransfer.envs.mocap.rotations import conjugate, from_euler, multiply
from safetransfer.envs.mocap.skeleton import Motion
from safetransfer.envs.mocap.text import LARGEST, Source


def read_amc(path: str | Path, asf: AsfSkeleton, fps: float = 120.0) -> Motion:
    """Read a motion of the skeleton `asf`; AMC files do not give their frame rate.

    ClipError names the file and the line that is wrong: a word that is no number, a bone that the
    skeleton does not have, a frame that lacks bones.
    """
    source = Source(path)
    first, radians = _header(source, asf)
    layout = [(name, dofs) for name, dofs in zip(asf.skeleton.names, asf.dofs, strict=True) if dofs]
    values = _read_regular(source, first, layout)
    if values is None:
        values = _read_by_line(source, first, layout)

    frames = len(values["root"])
    names = asf.skeleton.names
    rotations = np.zeros((frames, len(names), 4))
    rotations[..., 0] = 1.0
    root = np.zeros((frames, 3))
    for j, (name, dofs) in enumerate(zip(names, asf.dofs, strict=True)):
        if not dofs:
            continue
        turns = [k for k, dof in enumerate(dofs) if dof.lower().startswith("r")]
        order = "".join(dofs[k][1].upper() for k in turns)
        turn = from_euler(values[name][:, turns] * radians, order)
        if j == 0:
            place = [dofs.index(dof) for dof in ("TX", "TY", "TZ")]
            root = asf.root_position + values[name][:, place] * asf.metres
            rotations[:, 0] = multiply(turn, asf.root_orientation)
        else:
            rotations[:, j] = multiply(multiply(asf.axes[j], turn), conjugate(asf.axes[j]))
    return Motion(asf.skeleton, fps, root, rotations, source=str(source.path))


_Layout = list[tuple[str, tuple[str, ...]]]


def _header(source: Source, asf: AsfSkeleton) -> tuple[int, float]:
    """Index of the line of the first frame, and radians of one angle unit."""
    radians = asf.radians
    for index, line in enumerate(source.lines):
        text = line.strip()
        if text.upper().startswith(":DEG"):
            radians = math.pi / 180.0
        elif text.upper().startswith(":RAD"):
            radians = 1.0
        elif text and not text.startswith(("#", ":")):
            return index, radians
    raise source.error(None, "expected frames, each a number and a line for each bone")


def _read_regular(source: Source, first: int, layout: _Layout) -> dict[str, np.ndarray] | None:
    """All frames at once where each lists the same bones in the same order; else None."""
    dofs = dict(layout)
    words = " ".join(source.lines[first:]).split()
    where: dict[str, int] = {}
    at = 1
    while at < len(words) and words[at] in dofs and words[at] not in where:
        where[words[at]] = at
        at += 1 + len(dofs[words[at]])
    if len(where) != len(dofs) or len(words) % at != 0:
        return None
    table = np.array(words).reshape(-1, at)
    heads = list(where.values())
    if not (table[:, heads] == table[:1, heads]).all():
        return None
    if not np.char.isdigit(table[:, 0]).all():
        return None
    cells = [k for k in range(1, at) if k not in set(heads)]
    try:
        numbers = table[:, cells].astype(np.float64)
    except ValueError:
        return None
    if not (np.abs(numbers) <= LARGEST).all():
        return None
    column = {cell: k for k, cell in enumerate(cells)}
    return {
        name: numbers[:, [column[head + 1 + k] for k in range(len(dofs[name]))]]
        for name, head in where.items()
    }


def _read_by_line(source: Source, first: int, layout: _Layout) -> dict[str, np.ndarray]:
    """Frame by frame, line by line: slower, and knows where something is wrong."""
    dofs = dict(layout)
    frames: list[dict[str, list[float]]] = []
    label = ""

    def finish(line: int | None) -> None:
        missing = [name for name in dofs if name not in frames[-1]]
        if missing:
            raise source.error(line, f"expected bone {missing[0]!r} in frame {label}")

    for number, raw in enumerate(source.lines[first:], start=first + 1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1 and words[0].isdigit():
            if frames:
                finish(number)
            frames.append({})
            label = words[0][:30]
            continue
        name = words[0]
        if name not in dofs:
            raise source.error(
                number, f"expected a frame number or a bone of the skeleton, found {name[:30]!r}"
            )
        if not frames:
            raise source.error(number, "expected a frame number before the first bone")
        if name in frames[-1]:
            raise source.error(number, f"bone {name!r} comes twice in frame {label}")
        if len(words) - 1 != len(dofs[name]):
            raise source.error(
                number,
                f"expected {len(dofs[name])} numbers for bone {name!r} ({' '.join(dofs[name])}), "
                f"found {len(words) - 1}",
            )
        frames[-1][name] = source.numbers(words[1:], number, f"bone {name!r}")
    if not frames:
        raise source.error(None, "expected frames, each a number and a line for each bone")
    finish(None)
    return {name: np.array([frame[name] for frame in frames]) for name in dofs}
