"""The course of walking people: a crowd for the camera, the capsules near the robot for physics."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from safetransfer.envs.camera import Scene
from safetransfer.envs.compiled import kernel
from safetransfer.envs.contacts import TOUCHES_OBSTACLES
from safetransfer.envs.mocap import load_clips
from safetransfer.envs.obstacles import PARKED, Course, take_nearest
from safetransfer.envs.people import Crowd
from safetransfer.envs.robots import Robot
from safetransfer.envs.settings import HallwaySettings

START_CLEAR = 0.5
"""Nobody starts an episode nearer than this to the robot's reach, metres."""

_SOLREF = (0.02, 1.0)
"""MuJoCo's default time constant (s) and damping ratio of contacts."""
_SOFT_STEPS = 5
"""A touch gives way over at least this many physics steps. People move whatever is in their way:
with MuJoCo's 0.02 s, two steps of Doggo's, a foot that comes down on it shot it away at 200 m/s."""

_CLOTHES = np.array(
    [(70, 110, 190), (200, 120, 60), (90, 150, 90), (150, 90, 160), (190, 170, 90), (90, 150, 165)],
    np.uint8,
)


class Humanoids(Course):
    """People walking about; touching one costs once per episode."""

    first_touch_only = True

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        super().__init__(settings, robot, num_envs)
        self.count = settings.people
        # People's own clock: whatever they do, they do it so many times faster.
        people_dt = self.slice_dt * settings.people_speed
        self.crowd = Crowd(
            num_envs,
            settings.people,
            library=load_clips(settings.mocap, people_dt),
            length=settings.length,
            width=settings.width,
            control_dt=people_dt,
        )
        self.slots = min(robot.near_capsules, self.crowd.capsule_radius.shape[1])

    def scene_capacity(self) -> dict[str, int]:
        return {"capsules": self.crowd.capsule_radius.shape[1], "capsule_groups": self.count}

    def add_geom(self, body: mujoco.MjsBody) -> None:
        # The compiler derives what its broad phase uses from this size: no bone may exceed it.
        library = self.crowd.library
        softness: dict[str, Any] = {}
        if _SOFT_STEPS * self.robot.timestep > _SOLREF[0]:
            # solmix: of the two geoms in contact, this one's solref counts.
            softness = {"solref": [_SOFT_STEPS * self.robot.timestep, _SOLREF[1]], "solmix": 1e6}
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=[np.max(library.radii), np.max(library.lengths) / 2, 0],
            contype=0,
            conaffinity=TOUCHES_OBSTACLES,
            **softness,
        )

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        super().bind(batch, scene, first_box)
        self.turn = batch.bind("mocap_quat")
        if self.slots:
            first = batch.get_model(0).body("slot0").geomadr[0]
            self.size = batch.expand("geom_size")[:, first : first + self.slots]
        scene.capsule_a = self.crowd.capsule_a
        scene.capsule_b = self.crowd.capsule_b
        scene.capsule_radius = self.crowd.capsule_radius
        scene.group_center = self.crowd.center
        scene.group_radius = self.crowd.radius
        bones = self.crowd.capsule_radius.shape[1] // max(1, self.count)
        clothes = _CLOTHES[np.arange(self.count) % len(_CLOTHES)]
        scene.capsule_color[:] = np.repeat(clothes, bones, axis=0)

    def settle(self, mask: np.ndarray, rngs: list[np.random.Generator], starts: np.ndarray) -> None:
        self.crowd.reset(mask, rngs, starts, self.robot.reach + START_CLEAR)

    def advance(self, active: np.ndarray) -> None:
        self.crowd.step(active)

    def fill_slots(self, active: np.ndarray, robots: np.ndarray) -> None:
        if self.slots:
            crowd = self.crowd
            _fill_people(
                active,
                robots,
                crowd.capsule_a,
                crowd.capsule_b,
                crowd.capsule_radius,
                crowd.center,
                crowd.radius,
                self.range,
                self.owner,
                self.position,
                self.turn,
                self.size,
            )

    def get_state(self) -> dict[str, np.ndarray]:
        return self.crowd.get_state()

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.crowd.set_state(state)


@kernel
def _fill_people(
    active, robots, a, b, radius, center, group_radius, reach, owner, position, turn, size
):  # fmt: skip
    """Give each slot one of the capsules nearest to the robot, of those within `reach`."""
    slots = owner.shape[1]
    people = center.shape[1]
    bones = a.shape[1] // max(people, 1)
    nearest = np.empty(slots)
    chosen = np.empty(slots, np.int32)
    for n in range(len(active)):
        if not active[n]:
            continue
        rx, ry, rz = robots[n]
        found = 0
        for p in range(people):
            dx, dy, dz = center[n, p, 0] - rx, center[n, p, 1] - ry, center[n, p, 2] - rz
            limit = group_radius[n, p] + reach
            if dx * dx + dy * dy + dz * dz > limit * limit:
                continue
            for c in range(p * bones, (p + 1) * bones):
                ax, ay, az = a[n, c, 0] - rx, a[n, c, 1] - ry, a[n, c, 2] - rz
                ex, ey, ez = b[n, c, 0] - rx - ax, b[n, c, 1] - ry - ay, b[n, c, 2] - rz - az
                long = ex * ex + ey * ey + ez * ez
                along = -(ax * ex + ay * ey + az * ez)
                share = min(1.0, max(0.0, along / long)) if long > 0 else 0.0
                x, y, z = ax + share * ex, ay + share * ey, az + share * ez
                distance = np.sqrt(x * x + y * y + z * z) - radius[n, c]
                if radius[n, c] > 0 and distance <= reach:
                    found = take_nearest(nearest, chosen, found, distance, c)
        for s in range(slots):
            if s >= found:
                owner[n, s] = -1
                position[n, s, 2] = PARKED
                continue
            c = chosen[s]
            owner[n, s] = c // bones
            long = 0.0
            for i in range(3):
                position[n, s, i] = 0.5 * (a[n, c, i] + b[n, c, i])
                long += (b[n, c, i] - a[n, c, i]) ** 2
            long = np.sqrt(long)
            size[n, s, 0] = radius[n, c]
            size[n, s, 1] = 0.5 * long
            # The shortest rotation from the z axis to the capsule's.
            turn[n, s] = (1.0, 0.0, 0.0, 0.0)
            if long > 1e-9:
                x = (b[n, c, 0] - a[n, c, 0]) / long
                y = (b[n, c, 1] - a[n, c, 1]) / long
                w = 1.0 + (b[n, c, 2] - a[n, c, 2]) / long
                norm = np.sqrt(w * w + x * x + y * y)
                if norm > 1e-9:
                    turn[n, s, 0], turn[n, s, 1] = w / norm, -y / norm
                    turn[n, s, 2], turn[n, s, 3] = x / norm, 0.0
