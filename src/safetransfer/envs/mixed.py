"""A hallway between walls and poles: how alike it is to the hallway of walls is a number.

The hallway is cut into as many stretches as there are walls, one around each. A share `likeness` of
them has its wall, as in `Walls`; the others have the poles that stand there in `Poles`. At 1 it is
the one course and at 0 the other, draw for draw; between, the mean numbers of walls and of poles
change in proportion, and what is to be seen within a stretch is always from one of the two.
"""

from __future__ import annotations

import mujoco
import numpy as np

from safetransfer.envs.camera import Scene
from safetransfer.envs.contacts import add_touch_sensor
from safetransfer.envs.obstacles import PARKED, Course, Poles, Walls
from safetransfer.envs.robots import Robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError

_AWAY = -1000.0
"""Where obstacles stand along the hallway that an episode does without, metres."""


class Mixed(Course):
    """Walls come first among the obstacles, then poles; those that an episode lacks are `_AWAY`.

    A pole that would leave the robot no way past a wall is left out (for Point and the default
    sizes there is none): so any two obstacles leave room between them, as in both courses.
    """

    def __init__(self, settings: HallwaySettings, robot: Robot, num_envs: int):
        super().__init__(settings, robot, num_envs)
        if not settings.walls or not settings.poles:
            raise SettingError(
                f"Mixed needs walls and poles to choose from, not {settings.walls} walls and "
                f"{settings.poles} poles"
            )
        self.walls = Walls(settings, robot, num_envs)
        self.poles = Poles(settings, robot, num_envs)
        self.count = self.walls.count + self.poles.count
        self.slots = self.walls.slots + self.poles.slots
        self.gap = robot.width + settings.pole_gap + settings.pole_radius

    def scene_capacity(self) -> dict[str, int]:
        return self.walls.scene_capacity() | self.poles.scene_capacity()

    def add_to(self, spec: mujoco.MjSpec) -> None:
        for slot in range(self.slots):
            kind = self.walls if slot < self.walls.slots else self.poles
            body = spec.worldbody.add_body(name=f"slot{slot}", mocap=True, pos=[0, 0, PARKED])
            kind.add_geom(body)
            add_touch_sensor(spec, f"touch{slot}", mujoco.mjtObj.mjOBJ_BODY, f"slot{slot}")

    def bind(self, batch: mujoco.batch.Batch, scene: Scene, first_box: int) -> None:
        super().bind(batch, scene, first_box)
        self.walls.bind(batch, scene, first_box)
        self.poles.bind(batch, scene, first_box)
        self.walls.position = self.position[:, : self.walls.slots]
        self.poles.position = self.position[:, self.walls.slots :]
        self.pole_radius = scene.cylinder_radius

    def draw(self, index: int, rng: np.random.Generator) -> None:
        self.walls.places[index, :, 0] = self.poles.places[index, :, 0] = _AWAY
        # At the ends nothing is drawn but what stands there: the very episodes of those courses.
        if self.settings.likeness > 0:
            self.walls.draw(index, rng)
        if self.settings.likeness < 1:
            self.poles.draw(index, rng)
        if 0 < self.settings.likeness < 1:
            self._choose(index, rng)
        self._hide(index)

    def _choose(self, index: int, rng: np.random.Generator) -> None:
        """Leave each stretch either its wall or its poles."""
        walls, poles = self.walls.places[index], self.poles.places[index]
        kept = np.zeros(self.walls.count, np.bool_)
        # The whole number whose mean is the share of all.
        number = int(self.settings.likeness * self.walls.count + rng.random())
        kept[rng.permutation(self.walls.count)[:number]] = True
        stretch = np.round(poles[:, 0] / self.walls.spacing).astype(int) - 1
        stretch = np.clip(stretch, 0, self.walls.count - 1)
        walls[~kept, 0] = _AWAY
        half = np.array([self.walls.half_x, self.walls.half_y])
        beside = np.maximum(np.abs(poles[:, None] - walls[None]) - half, 0.0)
        close = (np.hypot(beside[..., 0], beside[..., 1]) < self.gap).any(axis=1)
        poles[kept[stretch] | close, 0] = _AWAY

    def _hide(self, index: int) -> None:
        """Show what stands in hallway `index`, and only that."""
        self.walls.show(index)
        self.poles.show(index)
        self.walls.box_half[index, self.walls.places[index, :, 0] == _AWAY] = 0.0
        standing = self.poles.places[index, :, 0] != _AWAY
        self.pole_radius[index] = np.where(standing, self.poles.half_x, 0.0)

    def is_clear(self, index: int, x: float, y: float) -> bool:
        return self.walls.is_clear(index, x, y) and self.poles.is_clear(index, x, y)

    def fill_slots(self, active: np.ndarray, robots: np.ndarray) -> None:
        self.walls.fill_slots(active, robots)
        self.poles.fill_slots(active, robots)
        self.owner[:, : self.walls.slots] = self.walls.owner
        pole = self.poles.owner
        self.owner[:, self.walls.slots :] = np.where(pole >= 0, pole + self.walls.count, -1)

    def get_state(self) -> dict[str, np.ndarray]:
        return {"walls": self.walls.places.copy(), "poles": self.poles.places.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.walls.places[:] = state["walls"]
        self.poles.places[:] = state["poles"]
        for index in range(self.num_envs):
            self._hide(index)
