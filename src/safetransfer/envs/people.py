"""People in the hallways: each plays clip after clip of a library, as capsules of human size.

A person keeps one body from reset to reset and performs every clip with it: the clip gives the
bones' directions, the body their lengths. A clip lies in the hallway by a turn about the vertical,
so a new clip starts where the person stands, facing where they face; for `BLEND_SECONDS` the pose
moves from where it is to the new clip's, every bone along the sphere, closing 1/k of the gap with k
steps left.

Walking is redirected: who nears a wall while heading for it has the clip's turn changed, at most
`TURN_RATE`, until they head away from it; the root is held `MARGIN` inside the walls in any case.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from safetransfer.envs.compiled import inlined, kernel
from safetransfer.envs.mocap.clips import FACING, HEIGHT, VELOCITY, ClipLibrary
from safetransfer.envs.mocap.skeleton import BONES, PARENTS
from safetransfer.errors import SettingError

BLEND_SECONDS = 0.4
"""Time from one clip to the next."""
TURN_RATE = 1.5
"""Fastest redirection, rad/s; at a walk of 1.3 m/s it is a curve of 0.9 m radius."""
MARGIN = 0.3
"""The root's least distance from the walls and the hallway's ends, metres."""
SPACING = 1.2
"""Distance between people at reset that is looked for, metres; a full hallway has less."""

_B = len(BONES)
_PARENTS = PARENTS
_VX, _VY = VELOCITY.start, VELOCITY.start + 1
_TRAVEL_SECONDS = 0.3
_SLOW = 0.15  # m/s; who hardly moves is not turned
_CANDIDATES = 24


@inlined
def _uniform(seed, person, event):
    """A number in [0, 1) that depends on nothing but its arguments (splitmix64's finaliser)."""
    z = seed + np.uint64(0x9E3779B97F4A7C15) * np.uint64(
        np.uint64(person) * np.uint64(0x100000001) + np.uint64(event) + np.uint64(1)
    )
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def _pose(row, cos, sin, lengths, x, y, z, a, b):
    """Chain the bones of one clip frame, turned about the vertical, from a root at (x, y, z)."""
    for j in range(_B):
        parent = _PARENTS[j]
        if parent < 0:
            sx, sy, sz = x, y, z
        else:
            sx, sy, sz = b[parent, 0], b[parent, 1], b[parent, 2]
        dx, dy, dz = row[3 * j], row[3 * j + 1], row[3 * j + 2]
        length = lengths[j]
        a[j, 0], a[j, 1], a[j, 2] = sx, sy, sz
        b[j, 0] = sx + length * (cos * dx - sin * dy)
        b[j, 1] = sy + length * (sin * dx + cos * dy)
        b[j, 2] = sz + length * dz


@kernel
def _pose_towards(row, cos, sin, last, last_cos, last_sin, share, lengths, x, y, z, a, b):
    """As `_pose`, while coming from another clip: each bone moves as it does in this clip, from the
    frame `last` to `row`, and closes `share` of the angle to where it should point.
    """
    for j in range(_B):
        length = lengths[j]
        # Where the bone points now is read off before its ends are overwritten.
        cx = (b[j, 0] - a[j, 0]) / length
        cy = (b[j, 1] - a[j, 1]) / length
        cz = (b[j, 2] - a[j, 2]) / length
        ux = last_cos * last[3 * j] - last_sin * last[3 * j + 1]
        uy = last_sin * last[3 * j] + last_cos * last[3 * j + 1]
        uz = last[3 * j + 2]
        dx = cos * row[3 * j] - sin * row[3 * j + 1]
        dy = sin * row[3 * j] + cos * row[3 * j + 1]
        dz = row[3 * j + 2]
        # The shortest rotation from u to d, applied to c.
        along = 1.0 + ux * dx + uy * dy + uz * dz
        if along > 1e-3:
            wx, wy, wz = ux + dx, uy + dy, uz + dz
            p = (wx * cx + wy * cy + wz * cz) / along
            q = 2.0 * (ux * cx + uy * cy + uz * cz)
            cx, cy, cz = cx - p * wx + q * dx, cy - p * wy + q * dy, cz - p * wz + q * dz
        dot = min(1.0, max(-1.0, cx * dx + cy * dy + cz * dz))
        # The vector square to the present direction, on the way to the wanted one.
        nx, ny, nz = dx - dot * cx, dy - dot * cy, dz - dot * cz
        norm = np.sqrt(nx * nx + ny * ny + nz * nz)
        if norm < 1e-4:
            if dot < 0.0:
                # Opposite: any way round will do; the next step has a definite one.
                if abs(cz) < 0.9:
                    nx, ny, nz = -cz * cx, -cz * cy, 1.0 - cz * cz
                else:
                    nx, ny, nz = 1.0 - cx * cx, -cx * cy, -cx * cz
                norm = np.sqrt(nx * nx + ny * ny + nz * nz)
            else:
                norm = 1.0
        angle = share * np.arccos(dot)
        p, q = np.cos(angle), np.sin(angle) / norm
        ex, ey, ez = p * cx + q * nx, p * cy + q * ny, p * cz + q * nz
        unit = length / np.sqrt(ex * ex + ey * ey + ez * ez)
        parent = _PARENTS[j]
        if parent < 0:
            sx, sy, sz = x, y, z
        else:
            sx, sy, sz = b[parent, 0], b[parent, 1], b[parent, 2]
        a[j, 0], a[j, 1], a[j, 2] = sx, sy, sz
        b[j, 0], b[j, 1], b[j, 2] = sx + unit * ex, sy + unit * ey, sz + unit * ez


@kernel
def _bound(a, b, radii, center):
    """Sphere around a person: centre of the box of the capsules' ends, radius to the farthest."""
    low0 = high0 = a[0, 0]
    low1 = high1 = a[0, 1]
    low2 = high2 = a[0, 2]
    for j in range(_B):
        low0, high0 = min(low0, b[j, 0]), max(high0, b[j, 0])
        low1, high1 = min(low1, b[j, 1]), max(high1, b[j, 1])
        low2, high2 = min(low2, b[j, 2]), max(high2, b[j, 2])
    cx, cy, cz = 0.5 * (low0 + high0), 0.5 * (low1 + high1), 0.5 * (low2 + high2)
    farthest = np.float32(0.0)
    for j in range(_B):
        # Both ends: a bone's start has this bone's radius too, not only its predecessor's.
        to_b = (b[j, 0] - cx) ** 2 + (b[j, 1] - cy) ** 2 + (b[j, 2] - cz) ** 2
        to_a = (a[j, 0] - cx) ** 2 + (a[j, 1] - cy) ** 2 + (a[j, 2] - cz) ** 2
        farthest = max(farthest, np.sqrt(max(to_a, to_b)) + radii[j])
    center[0], center[1], center[2] = cx, cy, cz
    return farthest * np.float32(1.00001)


@kernel
def _other_clip(number, clip, clips):
    """A clip other than `clip` (where there is one), from a number in [0, 1)."""
    if clips == 1:
        return 0
    choice = int(number * (clips - 1))
    return choice + 1 if choice >= clip else choice


@kernel
def _step(
    envs, steps, dt, blend_steps, limits,
    rows, start, frames, clip_leg, floor, body_lengths, body_leg,
    seed, event, clip, frame, body, blend, turning, yaw, root, velocity, travel,
    capsule_a, capsule_b, capsule_radius, center, radius,
):  # fmt: skip
    people = clip.shape[1]
    x_low, x_high, y_low, y_high = limits[0], limits[1], limits[2], limits[3]
    for e in envs:
        for p in range(people):
            first = p * _B
            a = capsule_a[e, first : first + _B]
            b = capsule_b[e, first : first + _B]
            who = body[e, p]
            lengths = body_lengths[who]
            for _ in range(steps):
                c, f, psi = clip[e, p], frame[e, p] + 1, yaw[e, p]
                if f >= frames[c]:
                    faces = psi + rows[start[c] + frames[c] - 1, FACING]
                    c = _other_clip(_uniform(seed[e], p, event[e, p]), c, len(frames))
                    event[e, p] += 1
                    f, psi = 0, faces - rows[start[c], FACING]
                    blend[e, p] = blend_steps
                row = rows[start[c] + f]
                scale = body_leg[who] / clip_leg[c]
                cos, sin = np.cos(psi), np.sin(psi)
                vx = scale * (cos * row[_VX] - sin * row[_VY])
                vy = scale * (sin * row[_VX] + cos * row[_VY])
                z = scale * row[HEIGHT] + floor[c, who]
                share = 1.0
                last, last_cos, last_sin = row, cos, sin
                if blend[e, p] > 0:
                    share = 1.0 / blend[e, p]
                    blend[e, p] -= 1
                    if f > 0:
                        last = rows[start[c] + f - 1]
                        last_psi = psi - turning[e, p] * TURN_RATE * dt
                        last_cos, last_sin = np.cos(last_psi), np.sin(last_psi)
                    # What differs from the new clip fades; what the new clip does is done at once.
                    rest = 1.0 - share
                    wx = scale * (last_cos * last[_VX] - last_sin * last[_VY])
                    wy = scale * (last_sin * last[_VX] + last_cos * last[_VY])
                    vx += rest * (velocity[e, p, 0] - wx)
                    vy += rest * (velocity[e, p, 1] - wy)
                    z += rest * (root[e, p, 2] - scale * last[HEIGHT] - floor[c, who])
                x = min(x_high, max(x_low, root[e, p, 0] + vx))
                y = min(y_high, max(y_low, root[e, p, 1] + vy))
                root[e, p, 0], root[e, p, 1], root[e, p, 2] = x, y, z
                velocity[e, p, 0], velocity[e, p, 1] = vx, vy
                if share < 1.0:
                    _pose_towards(row, cos, sin, last, last_cos, last_sin, share, lengths,
                                  x, y, z, a, b)  # fmt: skip
                else:
                    _pose(row, np.float32(cos), np.float32(sin), lengths,
                          np.float32(x), np.float32(y), np.float32(z), a, b)  # fmt: skip

                # Redirection, by the way they have gone of late: steps sway from side to side.
                keep = np.exp(-dt / _TRAVEL_SECONDS)
                ux = keep * travel[e, p, 0] + (1.0 - keep) * vx / dt
                uy = keep * travel[e, p, 1] + (1.0 - keep) * vy / dt
                speed = np.sqrt(ux * ux + uy * uy)
                near = speed / TURN_RATE + 0.1
                inward_x = inward_y = 0.0
                if x > x_high - near and ux > 0.0:
                    inward_x = -1.0
                elif x < x_low + near and ux < 0.0:
                    inward_x = 1.0
                if y > y_high - near and uy > 0.0:
                    inward_y = -1.0
                elif y < y_low + near and uy < 0.0:
                    inward_y = 1.0
                turn = 0.0
                if speed > _SLOW and (inward_x != 0.0 or inward_y != 0.0):
                    # Once begun, a turn keeps its side: against a wall head on both are as good.
                    if turning[e, p] == 0:
                        turning[e, p] = 1 if ux * inward_y - uy * inward_x >= 0.0 else -1
                    turn = turning[e, p] * TURN_RATE * dt
                else:
                    turning[e, p] = 0
                if turn != 0.0:
                    cos, sin = np.cos(turn), np.sin(turn)
                    ux, uy = cos * ux - sin * uy, sin * ux + cos * uy
                travel[e, p, 0], travel[e, p, 1] = ux, uy
                clip[e, p], frame[e, p], yaw[e, p] = c, f, psi + turn
            radii = capsule_radius[e, first : first + _B]
            radius[e, p] = _bound(a, b, radii, center[e, p])


@kernel
def _reset(
    envs, seeds, keep_clear, clear_radius, dt, limits,
    rows, start, frames, clip_leg, floor, body_lengths, body_radii, body_leg,
    seed, event, clip, frame, body, blend, turning, yaw, root, velocity, travel,
    capsule_a, capsule_b, capsule_radius, center, radius,
):  # fmt: skip
    people = clip.shape[1]
    for i in range(len(envs)):
        e, s = envs[i], seeds[i]
        seed[e] = s
        for p in range(people):
            draw = 0
            c = int(_uniform(s, p, 0) * len(frames))
            f = int(_uniform(s, p, 1) * frames[c])
            who = int(_uniform(s, p, 2) * len(body_lengths))
            psi = 2.0 * np.pi * _uniform(s, p, 3)
            draw = 4
            first = p * _B
            a = capsule_a[e, first : first + _B]
            b = capsule_b[e, first : first + _B]
            radii = capsule_radius[e, first : first + _B]
            row = rows[start[c] + f]
            scale = body_leg[who] / clip_leg[c]
            cos, sin = np.cos(psi), np.sin(psi)
            z = scale * row[HEIGHT] + floor[c, who]
            zero = np.float32(0.0)
            _pose(row, np.float32(cos), np.float32(sin), body_lengths[who],
                  zero, zero, np.float32(z), a, b)  # fmt: skip
            reach = 0.0
            for j in range(_B):
                radii[j] = body_radii[who, j]
                reach = max(reach, np.sqrt(b[j, 0] ** 2 + b[j, 1] ** 2) + radii[j])
            # The first place with room enough, or the roomiest of those tried.
            best_x, best_y, best = 0.0, 0.0, -np.inf
            for _ in range(_CANDIDATES):
                x = limits[0] + (limits[1] - limits[0]) * _uniform(s, p, draw)
                y = limits[2] + (limits[3] - limits[2]) * _uniform(s, p, draw + 1)
                draw += 2
                room = SPACING
                for q in range(p):
                    room = min(room, np.hypot(x - root[e, q, 0], y - root[e, q, 1]))
                from_robot = np.hypot(x - keep_clear[i, 0], y - keep_clear[i, 1])
                if from_robot < clear_radius + reach:
                    room = from_robot - clear_radius - reach
                if room > best:
                    best, best_x, best_y = room, x, y
                if best >= SPACING:
                    break
            for j in range(_B):
                a[j, 0] += best_x
                a[j, 1] += best_y
                b[j, 0] += best_x
                b[j, 1] += best_y
            event[e, p] = draw
            clip[e, p], frame[e, p], body[e, p], yaw[e, p] = c, f, who, psi
            blend[e, p], turning[e, p] = 0, 0
            root[e, p, 0], root[e, p, 1], root[e, p, 2] = best_x, best_y, z
            velocity[e, p, 0] = scale * (cos * row[_VX] - sin * row[_VY])
            velocity[e, p, 1] = scale * (sin * row[_VX] + cos * row[_VY])
            travel[e, p, 0] = velocity[e, p, 0] / dt
            travel[e, p, 1] = velocity[e, p, 1] / dt
            radius[e, p] = _bound(a, b, radii, center[e, p])


def perform(
    library: ClipLibrary, clip: int = 0, body: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One person's capsules while they play a clip from beginning to end, starting at (0, 0).

    Returns the ends of the capsules' segments, twice (T, B, 3), and their radii (B,), metres.
    """
    first, frames = library.start[clip], library.frames[clip]
    rows = library.rows[first : first + frames]
    lengths = library.lengths[body]
    scale = library.body_leg[body] / library.clip_leg[clip]
    steps = scale * rows[:, VELOCITY].astype(np.float64)
    steps[0] = 0.0
    places = np.cumsum(steps, axis=0)
    heights = scale * rows[:, HEIGHT] + library.floor[clip, body]
    a, b = np.zeros((2, frames, _B, 3), np.float32)
    for t in range(frames):
        x, y, z = np.float32(places[t, 0]), np.float32(places[t, 1]), np.float32(heights[t])
        _pose(rows[t], np.float32(1.0), np.float32(0.0), lengths, x, y, z, a[t], b[t])
    return a, b, library.radii[body]


class Crowd:
    """`people` in each of `num_envs` hallways: 0 <= x <= `length`, |y| <= `width` / 2.

    After `reset`, and after each `step`, these hold where the people are (float32, metres, world
    frame, written in place, B = 20 bones a person, in the order of `mocap.skeleton.BONES`):
    capsule_a, capsule_b: (N, people * B, 3) ends of the capsules' segments; capsule_radius: (N,
    people * B); center (N, people, 3), radius (N, people): a sphere around each person.

    A hallway's people depend on nothing but the generator given at its reset and the steps since.
    """

    def __init__(
        self,
        num_envs: int,
        people: int = 20,
        *,
        library: ClipLibrary,
        length: float = 24.0,
        width: float = 4.0,
        control_dt: float | None = None,
    ):
        if control_dt is not None and abs(control_dt - library.control_dt) > 1e-9:
            raise SettingError(
                f"the clips were cut for steps of {library.control_dt} s, not {control_dt} s"
            )
        if min(length, width) <= 2.0 * MARGIN:
            raise SettingError(f"people need a hallway wider and longer than {2 * MARGIN} m")
        self.num_envs, self.people, self.library = num_envs, people, library
        self.control_dt = library.control_dt
        self._limits = np.array([MARGIN, length - MARGIN, MARGIN - width / 2, width / 2 - MARGIN])
        self._blend_steps = max(2, round(BLEND_SECONDS / library.control_dt))

        capsules = (num_envs, people * _B)
        self.capsule_a = np.zeros((*capsules, 3), np.float32)
        self.capsule_b = np.zeros((*capsules, 3), np.float32)
        self.capsule_radius = np.zeros(capsules, np.float32)
        self.center = np.zeros((num_envs, people, 3), np.float32)
        self.radius = np.zeros((num_envs, people), np.float32)

        self._seed = np.zeros(num_envs, np.uint64)
        each = (num_envs, people)
        self._event = np.zeros(each, np.int64)
        self._clip = np.zeros(each, np.int64)
        self._frame = np.zeros(each, np.int64)
        self._body = np.zeros(each, np.int64)
        self._blend = np.zeros(each, np.int64)
        self._turning = np.zeros(each, np.int64)
        self._yaw = np.zeros(each)
        self._root = np.zeros((*each, 3))
        self._velocity = np.zeros((*each, 2))
        self._travel = np.zeros((*each, 2))

    def _moving(self) -> tuple[np.ndarray, ...]:
        """Everything that changes, in the order in which the kernels take it."""
        return (
            self._seed, self._event, self._clip, self._frame, self._body, self._blend,
            self._turning, self._yaw, self._root, self._velocity, self._travel,
            self.capsule_a, self.capsule_b, self.capsule_radius, self.center, self.radius,
        )  # fmt: skip

    def _envs(self, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return np.arange(self.num_envs)
        return np.flatnonzero(mask)

    def reset(
        self,
        mask: np.ndarray | None,
        rngs: Sequence[np.random.Generator],
        keep_clear: np.ndarray,
        clear_radius: float = 0.5,
    ) -> None:
        """Put new people into the hallways of `mask` (N,) bool, all for None.

        rngs: one generator per hallway; each masked one is drawn from once. keep_clear: (N, 2)
        places, metres; nobody's capsules start within `clear_radius` of them seen from above,
        unless the hallway is too full for that.
        """
        envs = self._envs(mask)
        seeds = np.array([rngs[e].integers(2**64, dtype=np.uint64) for e in envs], np.uint64)
        lib = self.library
        _reset(
            envs, seeds, np.asarray(keep_clear, np.float64)[envs], float(clear_radius),
            self.control_dt, self._limits,
            lib.rows, lib.start, lib.frames, lib.clip_leg, lib.floor,
            lib.lengths, lib.radii, lib.body_leg, *self._moving(),
        )  # fmt: skip

    def step(self, mask: np.ndarray | None = None, steps: int = 1) -> None:
        """Move the people of the hallways of `mask` (N,) bool on; all for None."""
        lib = self.library
        _step(
            self._envs(mask), steps, self.control_dt, self._blend_steps, self._limits,
            lib.rows, lib.start, lib.frames, lib.clip_leg, lib.floor,
            lib.lengths, lib.body_leg, *self._moving(),
        )  # fmt: skip

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of everything that `step` reads and writes, by name, and by which clips."""
        state = {name: array.copy() for name, array in zip(_STATE, self._moving(), strict=True)}
        return state | {"clips": self._clips_digest.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `get_state` of a crowd of the same size with the same clips.

        Raises:
            SettingError: it was of another size, or moved by other clips.
        """
        self._check_clips(state)
        for name, array in zip(_STATE, self._moving(), strict=True):
            if name not in state or np.shape(state[name]) != array.shape:
                size = f"{self.num_envs} x {self.people} people"
                raise SettingError(f"this is not the state of {size}: {name}")
            array[...] = state[name]

    @functools.cached_property
    def _clips_digest(self) -> np.ndarray:
        """SHA-256, 32 bytes, of the frames that people move by."""
        digest = hashlib.sha256(self.library.frames.tobytes())
        digest.update(self.library.rows.tobytes())
        return np.frombuffer(digest.digest(), np.uint8)

    def _check_clips(self, state: Mapping[str, np.ndarray]) -> None:
        if "clips" in state:
            same = np.array_equal(state["clips"], self._clips_digest)
        else:  # of an older version: what it points to must be there, at least
            clip, frame = (np.asarray(state.get(name, ())) for name in ("clip", "frame"))
            there = clip.size == 0 or 0 <= clip.min() <= clip.max() < len(self.library.frames)
            same = bool(there and (frame < self.library.frames[clip]).all())
        if not same:
            raise SettingError(
                "the people of this state move by other clips than those that are given now; name "
                "the folder of clips as it was when the run began (its config.json says which: "
                "mocap)"
            )


_STATE = (
    "seed", "event", "clip", "frame", "body", "blend",
    "turning", "yaw", "root", "velocity", "travel",
    "capsule_a", "capsule_b", "capsule_radius", "center", "radius",
)  # fmt: skip
