"""Which files of a folder are clips, which skeleton belongs to each, and at what rate they play."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetransfer.errors import ClipError

ENVIRONMENT_VARIABLE = "SAFETRANSFER_MOCAP"
WHAT_TO_DO = (
    f"Name a folder of ASF/AMC or BVH clips (--mocap DIR or {ENVIRONMENT_VARIABLE}=DIR), fill one "
    "with `safetransfer mocap download`, or leave it out to use the built-in motions"
)

CMU_FPS = 120.0
# AMC files do not give their rate. These trials of the CMU database were recorded at 60 Hz: in
# their flight phases the body falls at 9.8 m/s2 only if so (141_01 and 141_03: by their cadence).
CMU_60_HZ = frozenset({"88_01", "90_08", "90_11", "141_01", "141_03"})


@dataclass(frozen=True)
class ClipFile:
    """A motion file, its skeleton file (None for BVH) and its frame rate (BVH has its own)."""

    path: Path
    asf: Path | None
    fps: float
    stamp: tuple[int, int]


@dataclass(frozen=True)
class FoundClips:
    """Clips in order of name, and (name, reason) of those left out."""

    clips: tuple[ClipFile, ...]
    skipped: tuple[tuple[str, str], ...]


def mocap_folder(setting: str | Path | None) -> Path | None:
    """The folder to take clips from: the setting, else the environment variable, else None."""
    named = setting or os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named).expanduser() if named else None


def _index(folder: Path) -> dict[Path, dict[str, str]]:
    """Rows of index.csv (columns file, and optionally fps and asf) by the clip's path."""
    path = folder / "index.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClipError(f"{path}: cannot be read: {error}") from None
    result = {}
    for number, row in enumerate(rows, start=2):
        if not row.get("file"):
            raise ClipError(f"{path}:{number}: expected a column 'file' that names a clip")
        fps = row.get("fps") or ""
        try:
            good = not fps or 1.0 <= float(fps) <= 1000.0
        except ValueError:
            good = False
        if not good:
            raise ClipError(f"{path}:{number}: expected frames per second, found {fps[:30]!r}")
        result[folder / row["file"]] = row
    return result


def _subject(stem: str) -> str:
    """'02' and '2' of '02_01' are one subject."""
    prefix = stem.rpartition("_")[0]
    return prefix.lstrip("0") or prefix


def _skeleton(clip: Path, skeletons: Sequence[Path]) -> Path | None:
    beside = [p for p in skeletons if p.parent == clip.parent]
    for those in (beside, skeletons):
        for p in those:
            if p.stem == clip.stem:
                return p
        for p in those:
            if (p.stem.lstrip("0") or p.stem) == _subject(clip.stem):
                return p
    return beside[0] if len(beside) == 1 else None


def find_clips(folder: Path) -> FoundClips:
    """Look through a folder and those below it; ClipError where it holds no clips.

    A clip's skeleton is the one that the folder's index.csv names, or else the ASF of the same name
    (`zombie.asf`), of the same subject (`02.asf` for `02_01.amc`), or the only one beside it. One
    in the clip's own folder comes before one that lies elsewhere.
    """
    if not folder.is_dir():
        raise ClipError(f"{folder}: no such folder of clips. {WHAT_TO_DO}")
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in (".amc", ".asf", ".bvh")
        and not p.name.startswith(".")  # what other systems leave beside a file, as ._02_01.amc
    )
    motions = [p for p in files if p.suffix.lower() != ".asf"]
    skeletons = [p for p in files if p.suffix.lower() == ".asf"]
    if not motions:
        raise ClipError(f"{folder}: no .amc or .bvh clips in it. {WHAT_TO_DO}")
    index = _index(folder)
    clips, skipped = [], []
    for path in motions:
        row = index.get(path, {})
        asf = None
        if path.suffix.lower() == ".amc":
            asf = folder / row["asf"] if row.get("asf") else _skeleton(path, skeletons)
            if asf is None or not asf.is_file():
                skipped.append((path.relative_to(folder).as_posix(), f"{path}: no skeleton (ASF)"))
                continue
        known = 60.0 if path.stem in CMU_60_HZ else CMU_FPS
        fps = float(row.get("fps") or known)
        stat = [p.stat() for p in (path, asf or path)]
        stamp = (sum(s.st_mtime_ns for s in stat), sum(s.st_size for s in stat))
        clips.append(ClipFile(path, asf, fps, stamp))
    return FoundClips(tuple(clips), tuple(skipped))
