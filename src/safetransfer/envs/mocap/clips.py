"""A library of clips, cut to the control step: what a crowd plays.

Per control step a clip keeps the direction of each bone, the root's height and displacement, and
which way the person faces, all in the clip's own frame turned z up. Sizes belong to bodies, not to
clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from safetransfer.envs.compiled import kernel
from safetransfer.envs.mocap.amc import read_amc
from safetransfer.envs.mocap.asf import read_asf
from safetransfer.envs.mocap.builtin import STATURES, builtin_motions, human_skeleton
from safetransfer.envs.mocap.bvh import read_bvh
from safetransfer.envs.mocap.folder import WHAT_TO_DO, FoundClips, find_clips
from safetransfer.envs.mocap.skeleton import BONES, PARENTS, Body, Motion, bone_vectors, leg_length
from safetransfer.envs.mocap.text import UnusableClip
from safetransfer.errors import ClipError, UnknownNameError

DIRECTIONS = slice(0, 3 * len(BONES))
HEIGHT, VELOCITY, FACING = 60, slice(61, 63), 63
ROW = 64
"""Floats per clip frame: 20 directions, root height, displacement since the last frame, facing."""

MIN_SECONDS = 1.0
"""Clips shorter than this are left out: they would be all transition."""

# Radians per second that no bone of a person exceeds, as seen from the ground: trunk and thighs in
# a somersault, the rest in a kick or a punch. Optical capture has frames where a limb jumps to
# another solution; a bone follows such a jump at this speed.
_FASTEST = np.array(
    [
        18.0 if name.endswith(("hip", "thigh", "abdomen", "chest", "shoulder")) else 25.0
        for name in BONES
    ]
)

_LEFT_HIP, _RIGHT_HIP = BONES.index("left_hip"), BONES.index("right_hip")


@dataclass(frozen=True)
class Clip:
    """One motion's rows (T, ROW) float32, and the leg length in metres of who performed it."""

    name: str
    rows: np.ndarray
    leg: float


@dataclass(frozen=True)
class ClipLibrary:
    """Clips at one control step and the bodies that play them.

    rows: (F, ROW) float32, all clips one after the other. start, frames: (C,) where each begins and
    how many rows it has. clip_leg: (C,) leg length in metres of who performed it.
    lengths, radii: (K, B) float32 of each body, metres; body_leg: (K,).
    floor: (C, K) float32, what to add to the scaled root height so that the clip's lowest points
    touch the floor when played by the body.
    """

    control_dt: float
    names: tuple[str, ...]
    rows: np.ndarray
    start: np.ndarray
    frames: np.ndarray
    clip_leg: np.ndarray
    lengths: np.ndarray
    radii: np.ndarray
    body_leg: np.ndarray
    floor: np.ndarray
    source: str = "built-in"
    folder: str | None = None
    digest: str | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        """What to record with a run: where the motions came from, how many, and their digest."""
        return {
            "source": self.source,
            "folder": self.folder,
            "clips": len(self.names),
            "bodies": len(self.lengths),
            "seconds": round(float(self.frames.sum()) * self.control_dt, 1),
            "sha256": self.digest,
            "skipped": len(self.skipped),
        }


def _facing(left: np.ndarray, step: float) -> np.ndarray:
    """Heading (T,) of the pelvis from right-to-left hip vectors (T, 2), smoothed over 0.2 s.

    In a cartwheel the hips' line stands upright and its heading means nothing: smoothing the vector
    instead of the angle gives such moments no weight.
    """
    reach = max(1, round(0.6 / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / 0.2) ** 2)
    padded = np.pad(left, ((reach, reach), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in (0, 1)], axis=1)
    return np.arctan2(-smooth[:, 0], smooth[:, 1])


def _ground(low: np.ndarray, step: float) -> np.ndarray:
    """Height (T,) of the ground under a person whose lowest points are at `low` (T,).

    Captures drift by some centimetres, and some were made on platforms. The ground is the lowest
    that a person comes within 0.6 s either way, smoothed over as much: a jump, which is shorter,
    stays a jump.
    """
    reach = max(1, round(0.6 / step))
    windows = sliding_window_view(np.pad(low, reach, mode="edge"), 2 * reach + 1)
    kernel = np.hanning(2 * reach + 3)[1:-1]
    ground = np.pad(np.percentile(windows, 5.0, axis=1), reach, mode="edge")
    return np.convolve(ground, kernel / kernel.sum(), mode="valid")


@kernel
def _limit_speed(directions, most):
    """Let no bone of directions (T, B, 3) turn by more than `most` (B,) radians per frame."""
    for t in range(1, len(directions)):
        for j in range(directions.shape[1]):
            u, v = directions[t - 1, j], directions[t, j]
            dot = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
            if most[j] >= np.pi or dot >= np.cos(most[j]):
                continue
            square = v - dot * u
            norm = np.sqrt((square**2).sum())
            if norm < 1e-6:  # opposite: stay for a frame
                directions[t, j] = u
            else:
                directions[t, j] = np.cos(most[j]) * u + np.sin(most[j]) / norm * square


def clip_rows(motion: Motion, control_dt: float) -> np.ndarray:
    """Rows (T, ROW) float32 of a motion, one every `control_dt` seconds."""
    ends = motion.skeleton.ends
    resampled = motion.resampled(control_dt)
    # From y up to z up by a cyclic change of axes: forward z to x, left x to y.
    points = resampled.points()[..., [2, 0, 1]]
    root = points[:, 0]
    vectors = bone_vectors(points[:, ends] - root[:, None])
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # A bone of no length has no direction; it takes that of the bone before it.
    for j in range(len(BONES)):
        if size[:, j].min() < 1e-6:
            source = vectors[:, PARENTS[j]] if PARENTS[j] >= 0 else np.array([0.0, 0.0, 1.0])
            vectors[:, j] = np.where(size[:, j] < 1e-6, source, vectors[:, j])
    directions = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    _limit_speed(directions, _FASTEST * control_dt)
    velocity = np.empty((len(root), 2))
    velocity[1:] = np.diff(root[:, :2], axis=0)
    velocity[0] = velocity[1] if len(root) > 1 else 0.0
    rows = np.empty((len(root), ROW), dtype=np.float32)
    rows[:, DIRECTIONS] = directions.reshape(len(root), -1)
    rows[:, HEIGHT] = root[:, 2]
    rows[:, VELOCITY] = velocity
    rows[:, FACING] = _facing((vectors[:, _LEFT_HIP] - vectors[:, _RIGHT_HIP])[:, :2], control_dt)
    fastest = np.linalg.norm(velocity, axis=1).max() / control_dt
    body = Body.of_lengths(motion.skeleton.rest_lengths(), motion.skeleton.source)
    rows[:, HEIGHT] -= _ground(lowest(rows, 1.0, body), control_dt)
    if not (np.isfinite(rows).all() and fastest < 15.0 and np.abs(root[:, 2]).max() < 15.0):
        raise UnusableClip(
            f"{motion.source}: not a person's motion, its root reaches {fastest:.3g} m/s and "
            f"{np.abs(root[:, 2]).max():.3g} m above the origin (15 at most)"
        )
    return rows


def _chain() -> np.ndarray:
    """(B, B): entry [i, j] is 1 where bone j lies on the way from the root to the end of bone i."""
    chain = np.eye(len(BONES))
    for i, parent in enumerate(PARENTS):
        if parent >= 0:
            chain[i] += chain[parent]
    return chain


_CHAIN = _chain()


def lowest(rows: np.ndarray, scale: float, body: Body) -> np.ndarray:
    """Height (T,) of the lowest point of a body playing `rows`, before it is set on the floor."""
    up = rows[:, DIRECTIONS].reshape(len(rows), len(BONES), 3)[..., 2].astype(np.float64)
    ends = (up * body.lengths) @ _CHAIN.T
    starts = np.where(PARENTS >= 0, ends[:, PARENTS], 0.0)
    return scale * rows[:, HEIGHT] + (np.minimum(ends, starts) - body.radii).min(axis=1)


def build_library(
    clips: Sequence[Clip],
    bodies: Iterable[Body],
    control_dt: float,
    **facts: object,
) -> ClipLibrary:
    """Put clips one after the other and set every body in every clip on the floor."""
    bodies = list(bodies)
    frames = np.array([len(clip.rows) for clip in clips], dtype=np.int64)
    floor = np.empty((len(clips), len(bodies)), dtype=np.float32)
    for i, clip in enumerate(clips):
        for k, body in enumerate(bodies):
            # The 2nd percentile: a few frames of a stamp or a marker's slip must not lift the rest.
            floor[i, k] = -np.percentile(lowest(clip.rows, body.leg / clip.leg, body), 2.0)
    return ClipLibrary(
        control_dt=control_dt,
        names=tuple(clip.name for clip in clips),
        rows=np.ascontiguousarray(np.concatenate([clip.rows for clip in clips])),
        start=np.concatenate([[0], np.cumsum(frames)[:-1]]).astype(np.int64),
        frames=frames,
        clip_leg=np.array([clip.leg for clip in clips]),
        lengths=np.array([b.lengths for b in bodies], dtype=np.float32),
        radii=np.array([b.radii for b in bodies], dtype=np.float32),
        body_leg=np.array([b.leg for b in bodies]),
        floor=floor,
        **facts,  # type: ignore[arg-type]
    )


def load_clips(directory: str | Path | None, control_dt: float) -> ClipLibrary:
    """The clips of a folder, or the built-in motions for None, cut to `control_dt` seconds.

    Every ASF/AMC and BVH file in the folder and below it is read. ClipError where one is broken or
    none is usable; a clip without a skeleton, too short, or not of a human is left out, with the
    reason in `ClipLibrary.skipped`.
    """
    if directory is None:
        return _builtin_library(control_dt)
    folder = Path(directory).expanduser()
    return _folder_library(folder, find_clips(folder), control_dt)


def clip_names(directory: str | Path | None) -> list[str]:
    """Names of the clips of a folder, or of the built-in motions for None."""
    if directory is None:
        return [name for name, _ in builtin_motions()]
    folder = Path(directory).expanduser()
    return [clip.path.relative_to(folder).as_posix() for clip in find_clips(folder).clips]


def load_clip(directory: str | Path | None, name: str, control_dt: float) -> ClipLibrary:
    """A library of the one clip of that name, with the body of who performed it.

    In a folder the name may also be without folder and suffix, as in 02_01. UnknownNameError for
    another, ClipError where the clip cannot be used.
    """
    names = clip_names(directory)
    meant = [full for full in names if name in (full, Path(full).name, Path(full).stem)]
    if not meant:
        raise UnknownNameError("clip", name, names)
    if directory is None:
        motion = dict(builtin_motions())[meant[0]]
        lengths = motion.skeleton.rest_lengths()
        clip = Clip(meant[0], clip_rows(motion, control_dt), leg_length(lengths))
        body = Body.of_lengths(lengths, motion.skeleton.source)
        return build_library([clip], [body], control_dt, source="built-in")
    folder = Path(directory).expanduser()
    found = find_clips(folder)
    chosen = tuple(c for c in found.clips if c.path == folder / meant[0])
    return _folder_library(folder, FoundClips(chosen, ()), control_dt)


@lru_cache(maxsize=4)
def _builtin_library(control_dt: float) -> ClipLibrary:
    bodies = [
        Body.of_lengths(human_skeleton(stature).rest_lengths(), "built-in body")
        for stature in STATURES
    ]
    clips = [
        Clip(name, clip_rows(motion, control_dt), leg_length(motion.skeleton.rest_lengths()))
        for name, motion in builtin_motions()
    ]
    return build_library(clips, bodies, control_dt, source="built-in")


@lru_cache(maxsize=4)
def _folder_library(folder: Path, found: FoundClips, control_dt: float) -> ClipLibrary:
    skipped = dict(found.skipped)
    skeletons = {path: read_asf(path) for path in sorted({c.asf for c in found.clips if c.asf})}
    clips: list[Clip] = []
    bodies: dict[bytes, Body] = {}
    used: set[Path] = set()
    for clip in found.clips:
        name = clip.path.relative_to(folder).as_posix()
        try:
            if clip.asf is not None:
                motion = read_amc(clip.path, skeletons[clip.asf], clip.fps)
            else:
                motion = read_bvh(clip.path)
            if motion.duration < MIN_SECONDS:
                length = f"{motion.duration:.2g} s long, {MIN_SECONDS} s needed"
                raise UnusableClip(f"{clip.path}: {length}")
            rows = clip_rows(motion, control_dt)
            body = Body.of_lengths(motion.skeleton.rest_lengths(), motion.skeleton.source)
        except UnusableClip as error:
            skipped[name] = str(error)
            continue
        clips.append(Clip(name, rows, leg_length(motion.skeleton.rest_lengths())))
        bodies[np.round(body.lengths, 3).tobytes()] = body
        used |= {clip.path} if clip.asf is None else {clip.path, clip.asf}
    if not clips:
        reasons = "; ".join(list(skipped.values())[:3])
        raise ClipError(f"{folder}: none of its clips can be used ({reasons}). {WHAT_TO_DO}")
    return build_library(
        clips,
        bodies.values(),
        control_dt,
        source="directory",
        folder=folder.resolve().name,
        digest=_digest(folder, used),
        skipped=skipped,
    )


def _digest(folder: Path, used: set[Path]) -> str:
    """SHA-256 over the names and contents of the files used: equal folders, equal digests."""
    total = hashlib.sha256()
    for path in sorted(used, key=lambda p: p.relative_to(folder).as_posix()):
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
