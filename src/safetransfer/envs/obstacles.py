"""Obstacle courses: where walls, poles and people stand, what physics and the camera see of them.

Physics holds a few mocap bodies ("slots"), and before each slice of a control step
(`Robot.slices`) they take the obstacles that the robot could touch during it; the rest of the
course is out of its reach and needs no body. The camera sees all of it.
"""

from __future__ import annotations

import mujoco
import numpy as np

from safetransfer.envs.camera import Scene
from safetransfer.envs.compiled import kernel
from safetransfer.envs.contacts import TOUCHES_OBSTACLES, add_touch_sensor
from safetransfer.envs.robots import Robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError

START_CLEAR = 1.5
"""No obstacle's surface is nearer than this to the start line along the hallway, metres."""
PARKED = -10.0
"""Height of slots that hold nothing, metres."""
SLACK = 0.01
"""Added to the distance at which an obstacle gets a slot, metres."""


def most_within(radius: float, apart: float) -> int:
    """At most so many points at least `apart` from each other lie in a disc of that radius.

    Oler's inequality: a compact convex set of area A and perimeter P holds at most
    2 A / (sqrt(3) d^2) + P / (2 d) + 1 points at mutual distances of d or more.
    """
    ratio = radius / apart
    return int(2 * np.pi / np.sqrt(3) * ratio**2 + np.pi * ratio + 1)


class Course:
    """The obstacles of N hallways: here none, in subclasses `count` in each.

    Physics has `slots` bodies for them; `owner` (N, slots) says which obstacle each one is, or -1.
    """

    count: int = 0
    slots: int = 0
    first_touch_only: bool = False
    """Touching an obstacle costs once per episode, not in every step of contact."""

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        self.settings = settings
        self.robot = robot
        self.num_envs = num_envs
        self.slice_dt = robot.control_dt / robot.slices
        self.range = robot.reach + robot.max_speed * self.slice_dt + SLACK

    def scene_capacity(self) -> dict[str, int]:
        """Primitives that the camera's scene needs for this course."""
        return {}

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Write the slots and one contact sensor for each into the model."""
        for slot in range(self.slots):
            body = spec.worldbody.add_body(name=f"slot{slot}", mocap=True, pos=[0, 0, PARKED])
            self.add_geom(body)
            add_touch_sensor(spec, f"touch{slot}", mujoco.mjtObj.mjOBJ_BODY, f"slot{slot}")

    def add_geom(self, body: mujoco.MjsBody) -> None:
        """Write one slot's geom."""
        raise NotImplementedError

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        """Take the arrays that this course writes; `first_box` is its first box in the scene."""
        self.owner = np.full((self.num_envs, self.slots), -1, np.int32)
        self.position = batch.bind("mocap_pos")

    def draw(self, index: int, rng: np.random.Generator) -> None:
        """Places for a new episode of hallway `index`, where they don't depend on the start."""

    def is_clear(self, index: int, x: float, y: float) -> bool:
        """Whether the robot can start an episode of hallway `index` at (x, y)."""
        return True

    def settle(self, mask: np.ndarray, rngs: list[np.random.Generator], starts: np.ndarray) -> None:
        """Finish the reset of hallways mask (N,), now that their starts (N, 2) are known."""

    def advance(self, active: np.ndarray) -> None:
        """Move what moves by one slice of a control step, in hallways active (N,)."""

    def fill_slots(self, active: np.ndarray, robots: np.ndarray) -> None:
        """Give the slots of hallways active (N,) what robots (N, 3) could touch in one slice."""

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything needed to go on from here."""
        return {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from `get_state`."""


class _Standing(Course):
    """Obstacles that stand still in an episode, at `places` (N, count, 2)."""

    height: float
    half_x: float
    """Half of an obstacle's extent along the hallway, metres."""
    cross_weight: float
    """1 where distance across the hallway counts in choosing what is near, else 0."""

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        super().__init__(settings, robot, num_envs)
        self.height = settings.wall_height
        self.places = np.zeros((num_envs, self.count, 2))

    def fill_slots(self, active: np.ndarray, robots: np.ndarray) -> None:
        if self.slots:
            _fill_standing(
                active,
                robots,
                self.places,
                self.cross_weight,
                self.range + self.half_x,
                self.height / 2,
                self.owner,
                self.position,
            )

    def get_state(self) -> dict[str, np.ndarray]:
        return {"places": self.places.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.places[:] = state["places"]
        for index in range(self.num_envs):
            self.show(index)

    def show(self, index: int) -> None:
        """Write hallway `index`'s obstacles into the camera's scene."""
        raise NotImplementedError


class Walls(_Standing):
    """Walls from alternating sides. Physics holds walls as wide as the widest may be, which stick
    out behind the side walls where they are narrower; the camera's end at the side wall."""

    cross_weight = 0.0

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        self.count = settings.walls
        self.half_x = settings.wall_thickness / 2
        self.half_y = settings.wall_cover_max * settings.width / 2
        self.spacing = settings.length / (settings.walls + 1)
        super().__init__(settings, robot, num_envs)
        room = 2 * (settings.wall_jitter + self.half_x) + settings.pole_gap + robot.width
        first = self.spacing - settings.wall_jitter - self.half_x
        if self.count and (self.spacing < room or first < START_CLEAR):
            raise SettingError(
                f"walls: {settings.walls} walls are too close together in {settings.length} m "
                f"for {robot.name} to pass; use fewer walls or a smaller wall_jitter"
            )
        if self.count:
            closest = self.spacing - 2 * settings.wall_jitter
            most = int(2 * (self.range + self.half_x) / closest) + 1
            self.slots = min(settings.walls, most + 1)  # one to spare

    def scene_capacity(self) -> dict[str, int]:
        return {"boxes": self.count}

    def add_geom(self, body: mujoco.MjsBody) -> None:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[self.half_x, self.half_y, self.height / 2],
            contype=0,
            conaffinity=TOUCHES_OBSTACLES,
        )

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        super().bind(batch, scene, first_box)
        boxes = slice(first_box, first_box + self.count)
        self.box_center = scene.box_center[:, boxes]
        self.box_half = scene.box_half[:, boxes]
        scene.box_axes[:, boxes] = np.eye(3)
        scene.box_color[:, boxes] = (222, 150, 60)

    def draw(self, index: int, rng: np.random.Generator) -> None:
        s = self.settings
        order = np.arange(self.count)
        side = np.where((order + rng.integers(2)) % 2 == 0, 1.0, -1.0)
        cover = s.width * rng.uniform(s.wall_cover_min, s.wall_cover_max, self.count)
        jitter = rng.uniform(-s.wall_jitter, s.wall_jitter, self.count)
        self.places[index, :, 0] = self.spacing * (order + 1) + jitter
        self.places[index, :, 1] = side * (s.width / 2 - cover + self.half_y)
        self.show(index)

    def show(self, index: int) -> None:
        half_width = self.settings.width / 2
        x, y = self.places[index].T
        inner = np.abs(y) - self.half_y
        self.box_center[index, :, 0] = x
        self.box_center[index, :, 1] = np.sign(y) * (half_width + inner) / 2
        self.box_center[index, :, 2] = self.height / 2
        self.box_half[index, :, 0] = self.half_x
        self.box_half[index, :, 1] = (half_width - inner) / 2
        self.box_half[index, :, 2] = self.height / 2

    def is_clear(self, index: int, x: float, y: float) -> bool:
        away = np.abs(self.places[index] - (x, y)) - (self.half_x, self.half_y)
        return not np.any(np.all(away < self.robot.reach + 0.1, axis=1))


class Poles(_Standing):
    """Poles scattered over the hallway, with room for the robot between any two."""

    cross_weight = 1.0

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        self.count = settings.poles
        self.half_x = settings.pole_radius
        self.apart = robot.width + settings.pole_gap + 2 * settings.pole_radius
        super().__init__(settings, robot, num_envs)
        most = most_within(self.range + settings.pole_radius, self.apart)
        self.slots = min(settings.poles, most + 1)  # one to spare
        r = settings.pole_radius
        self.low = np.array([START_CLEAR + r, r - settings.width / 2])
        self.high = np.array([settings.length - 0.5, settings.width / 2 - r])
        # Random placement jams at 0.547 of the area (Renyi's constant for discs).
        span = np.maximum(self.high - self.low, 0) + self.apart
        if self.count * np.pi * (self.apart / 2) ** 2 > 0.5 * span.prod() or r >= self.high[1]:
            raise SettingError(
                f"poles: {settings.poles} poles of radius {r} m do not fit with {robot.name} "
                "able to pass; use fewer or thinner poles, or a wider hallway"
            )

    def scene_capacity(self) -> dict[str, int]:
        return {"cylinders": self.count}

    def add_geom(self, body: mujoco.MjsBody) -> None:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[self.half_x, self.height / 2, 0],
            contype=0,
            conaffinity=TOUCHES_OBSTACLES,
        )

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        super().bind(batch, scene, first_box)
        self.bottom, self.top = scene.cylinder_a, scene.cylinder_b
        scene.cylinder_radius[:] = self.half_x
        scene.cylinder_color[:] = (70, 130, 200)

    def draw(self, index: int, rng: np.random.Generator) -> None:
        for _ in range(100):
            candidates = rng.uniform(self.low, self.high, (40 * self.count + 1, 2))
            if _scatter(candidates, self.apart, self.places[index]) == self.count:
                self.show(index)
                return
        raise SettingError(f"poles: found no places for {self.count} poles; use fewer")

    def show(self, index: int) -> None:
        self.bottom[index, :, :2] = self.top[index, :, :2] = self.places[index]
        self.bottom[index, :, 2] = 0.0
        self.top[index, :, 2] = self.height

    def is_clear(self, index: int, x: float, y: float) -> bool:
        away = np.hypot(*(self.places[index] - (x, y)).T) - self.half_x
        return not np.any(away < self.robot.reach + 0.1)


@kernel
def _scatter(candidates, apart, places):
    """Take candidates (K, 2) in turn if `apart` from those taken; returns how many were placed."""
    placed = 0
    for k in range(len(candidates)):
        if placed == len(places):
            break
        x, y = candidates[k]
        free = True
        for j in range(placed):
            dx, dy = places[j, 0] - x, places[j, 1] - y
            if dx * dx + dy * dy < apart * apart:
                free = False
                break
        if free:
            places[placed, 0], places[placed, 1] = x, y
            placed += 1
    return placed


@kernel
def take_nearest(nearest, chosen, found, distance, k):
    """Insert k into the `found` nearest so far, sorted; returns how many there are then."""
    slots = len(nearest)
    if found == slots:
        if slots == 0 or distance >= nearest[slots - 1]:
            return found
        found -= 1
    slot = found
    while slot > 0 and nearest[slot - 1] > distance:
        nearest[slot] = nearest[slot - 1]
        chosen[slot] = chosen[slot - 1]
        slot -= 1
    nearest[slot] = distance
    chosen[slot] = k
    return found + 1


@kernel
def _fill_standing(active, robots, places, cross_weight, limit, z, owner, position):
    """Give each slot one of the nearest obstacles within `limit`, nearest first."""
    slots = owner.shape[1]
    nearest = np.empty(slots)
    for n in range(len(places)):
        if not active[n]:
            continue
        found = 0
        for k in range(places.shape[1]):
            dx = places[n, k, 0] - robots[n, 0]
            dy = (places[n, k, 1] - robots[n, 1]) * cross_weight
            distance = dx * dx + dy * dy
            if distance <= limit * limit:
                found = take_nearest(nearest, owner[n], found, distance, k)
        for slot in range(slots):
            if slot < found:
                k = owner[n, slot]
                position[n, slot, 0] = places[n, k, 0]
                position[n, slot, 1] = places[n, k, 1]
                position[n, slot, 2] = z
            else:
                owner[n, slot] = -1
                position[n, slot, 2] = PARKED


def make_course(settings: HallwaySettings, robot: Robot, num_envs: int) -> Course:
    """The course that `settings.obstacles` names."""
    if settings.obstacles == "Humanoids":
        from safetransfer.envs.humanoids import Humanoids

        return Humanoids(settings, robot, num_envs)
    if settings.obstacles == "Walls" and settings.wall_variety > 0:
        from safetransfer.envs.varied_walls import VariedWalls

        return VariedWalls(settings, robot, num_envs)
    if settings.obstacles == "Mixed":
        from safetransfer.envs.mixed import Mixed

        return Mixed(settings, robot, num_envs)
    return {"Walls": Walls, "Poles": Poles, "Empty": Course}[settings.obstacles](
        settings, robot, num_envs
    )
