"""Walls of which a share of episodes shows free-standing blocks instead: domain randomisation.

Full walls alone never show an agent a thin thing with free space on both sides. Varied episodes do,
with boxes only: poles and people stay unseen.
"""

from __future__ import annotations

import mujoco
import numpy as np

from safetransfer.envs.camera import Scene
from safetransfer.envs.compiled import kernel
from safetransfer.envs.contacts import TOUCHES_OBSTACLES
from safetransfer.envs.obstacles import (
    PARKED,
    START_CLEAR,
    Course,
    Walls,
    most_within,
    take_nearest,
)
from safetransfer.envs.robots import Robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError

WIDTH = (0.15, 2.0)
THICKNESS = (0.1, 0.6)
HEIGHT = (0.3, 1.2)
"""Least and greatest extent of a block across the hallway, along it and upwards, metres."""
STUMP = (0.15, 0.4)
"""Least and greatest width and thickness of a stump, metres."""
ROWS = (6, 14)
SPARSE_ROWS = (0, 4)
"""Least and greatest number of rows per 24 m, without stumps and between them."""
ROW_BLOCKS = 3
"""At most so many blocks stand in a row."""
STUMPS = (12, 30)
"""Least and greatest number of stumps per 24 m, in episodes that have any."""
STUMP_EPISODES = 0.4
"""Share of varied episodes with stumps."""
ATTACHED = 0.5
"""Share of a row's blocks that stand against a side wall."""
ROW_JITTER = 0.3
"""A block stands up to this far along the hallway from its row's place, metres."""
_PER = 24.0
_TRIES = 20


class VariedWalls(Course):
    """In a share `wall_variety` of episodes blocks from `_draw_blocks`, in the others `Walls`.

    Any two blocks are at least robot width + pole_gap apart, and each leaves as much to a side wall
    that it doesn't stand against. So no chain of blocks that the robot can't pass between leads
    from one side wall to the other, and there is always a way through.
    """

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        super().__init__(settings, robot, num_envs)
        self.standard = Walls(settings, robot, num_envs)
        self.apart = robot.width + settings.pole_gap
        self.widest = min(WIDTH[1], settings.width - self.apart)
        if self.widest < STUMP[1] or settings.length < START_CLEAR + THICKNESS[1]:
            raise SettingError(
                f"wall_variety: a hallway of {settings.length} m x {settings.width} m has no room "
                f"for blocks that {robot.name} can pass"
            )
        self.scale = settings.length / _PER
        blocks = max(
            ROW_BLOCKS * self._scaled(ROWS[1]),
            ROW_BLOCKS * self._scaled(SPARSE_ROWS[1]) + self._scaled(STUMPS[1]),
        )
        self.count = max(settings.walls, blocks)
        self.slots = min(self.count, most_within(self.range, self.apart) + 1)  # one to spare

    def _scaled(self, per: int | np.integer) -> int:
        """How many there are in this hallway, of `per` in 24 m."""
        return max(1, round(float(per) * self.scale)) if per else 0

    def scene_capacity(self) -> dict[str, int]:
        return {"boxes": self.count}

    def add_geom(self, body: mujoco.MjsBody) -> None:
        # The compiler derives what its broad phase uses from this size: no block may exceed it.
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[
                max(THICKNESS[1] / 2, self.standard.half_x),
                max(WIDTH[1] / 2, self.standard.half_y),
                max(HEIGHT[1] / 2, self.standard.height / 2),
            ],
            contype=0,
            conaffinity=TOUCHES_OBSTACLES,
        )

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        super().bind(batch, scene, first_box)
        boxes = slice(first_box, first_box + self.count)
        self.standard.bind(batch, scene, first_box)
        self.center = scene.box_center[:, boxes]
        self.half = scene.box_half[:, boxes]
        scene.box_axes[:, boxes] = np.eye(3)
        scene.box_color[:, boxes] = (222, 150, 60)
        first = batch.get_model(0).body("slot0").geomadr[0]
        self.size = batch.expand("geom_size")[:, first : first + self.slots]

    def draw(self, index: int, rng: np.random.Generator) -> None:
        self.center[index] = 0.0
        self.half[index] = 0.0
        if rng.random() >= self.settings.wall_variety:
            self.standard.draw(index, rng)
        else:
            self._draw_blocks(index, rng)

    def _draw_blocks(self, index: int, rng: np.random.Generator) -> None:
        """Rows of blocks, or few rows and many stumps; what finds no place is left out."""
        stumps = 0
        if rng.random() < STUMP_EPISODES:
            rows = self._scaled(rng.integers(*SPARSE_ROWS, endpoint=True))
            stumps = self._scaled(rng.integers(*STUMPS, endpoint=True))
        else:
            rows = self._scaled(rng.integers(*ROWS, endpoint=True))
        candidates = np.concatenate([self._rows(rows, rng), self._stumps(stumps, rng)])
        heights = rng.uniform(*HEIGHT, len(candidates))
        _place(candidates, heights, self.apart, self.center[index], self.half[index])

    def _rows(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Candidates (blocks, tries, 4) for the blocks of `rows` rows: x, y, half sizes in both."""
        row = np.repeat(np.arange(rows), rng.integers(1, ROW_BLOCKS, rows, endpoint=True))
        shape = len(row), _TRIES
        step = (self.settings.length - START_CLEAR) / max(rows, 1)
        row_x = START_CLEAR + step * (np.arange(rows) + rng.uniform(0.2, 0.8, rows))
        x = row_x[row, None] + rng.uniform(-ROW_JITTER, ROW_JITTER, shape)
        half_x = rng.uniform(*THICKNESS, shape) / 2
        half_y = rng.uniform(WIDTH[0], self.widest, shape) / 2
        attached = rng.random(shape) < ATTACHED
        return self._fit(x, half_x, half_y, attached, rng)

    def _stumps(self, stumps: int, rng: np.random.Generator) -> np.ndarray:
        """Candidates (stumps, tries, 4) for stumps anywhere, none of them against a side wall."""
        shape = stumps, _TRIES
        x = rng.uniform(START_CLEAR, self.settings.length, shape)
        half_x, half_y = rng.uniform(*STUMP, (2, *shape)) / 2
        return self._fit(x, half_x, half_y, np.zeros(shape, np.bool_), rng)

    def _fit(
        self,
        x: np.ndarray,
        half_x: np.ndarray,
        half_y: np.ndarray,
        attached: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The same with y drawn, each between start line and finish and clear of the side walls, or
        against one where it is to be attached or too wide to stand free."""
        x = np.clip(x, START_CLEAR + half_x, self.settings.length - half_x)
        across = rng.uniform(-1, 1, x.shape)
        half_width = self.settings.width / 2
        room = half_width - self.apart - half_y
        against = np.where(across < 0, -1.0, 1.0) * (half_width - half_y)
        y = np.where(attached | (room < 0), against, across * room)
        return np.stack([x, y, half_x, half_y], axis=-1)

    def is_clear(self, index: int, x: float, y: float) -> bool:
        beside = np.abs(self.center[index, :, :2] - (x, y)) - self.half[index, :, :2]
        distance = np.hypot(*np.maximum(beside, 0).T)
        present = self.half[index, :, 0] > 0
        return not np.any(present & (distance < self.robot.reach + 0.1))

    def fill_slots(self, active: np.ndarray, robots: np.ndarray) -> None:
        _fill_blocks(
            active,
            robots,
            self.center,
            self.half,
            self.range,
            self.owner,
            self.position,
            self.size,
        )

    def get_state(self) -> dict[str, np.ndarray]:
        return {"center": self.center.copy(), "half": self.half.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.center[:] = state["center"]
        self.half[:] = state["half"]


@kernel
def _place(candidates, heights, apart, center, half):
    """Place the first try of each of candidates (K, tries, 4) that is `apart` from those placed."""
    placed = 0
    for k in range(len(candidates)):
        for t in range(candidates.shape[1]):
            x, y, half_x, half_y = candidates[k, t]
            free = True
            for j in range(placed):
                dx = max(0.0, abs(center[j, 0] - x) - half[j, 0] - half_x)
                dy = max(0.0, abs(center[j, 1] - y) - half[j, 1] - half_y)
                if dx * dx + dy * dy < apart * apart:
                    free = False
                    break
            if free:
                z = heights[k] / 2
                center[placed, 0], center[placed, 1], center[placed, 2] = x, y, z
                half[placed, 0], half[placed, 1], half[placed, 2] = half_x, half_y, z
                placed += 1
                break


@kernel
def _fill_blocks(active, robots, center, half, limit, owner, position, size):
    """Give each slot one of the blocks within `limit` of the robot, nearest first."""
    slots = owner.shape[1]
    nearest = np.empty(slots)
    for n in range(len(center)):
        if not active[n]:
            continue
        found = 0
        for k in range(center.shape[1]):
            if half[n, k, 0] <= 0:
                continue
            dx = max(0.0, abs(center[n, k, 0] - robots[n, 0]) - half[n, k, 0])
            dy = max(0.0, abs(center[n, k, 1] - robots[n, 1]) - half[n, k, 1])
            distance = dx * dx + dy * dy
            if distance <= limit * limit:
                found = take_nearest(nearest, owner[n], found, distance, k)
        for slot in range(slots):
            if slot < found:
                k = owner[n, slot]
                for i in range(3):
                    position[n, slot, i] = center[n, k, i]
                    size[n, slot, i] = half[n, k, i]
            else:
                owner[n, slot] = -1
                position[n, slot, 2] = PARKED
