"""Every figure of the hallway that the paper leaves open, as one dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from safetransfer.envs.robots import robot_names
from safetransfer.errors import SettingError, UnknownNameError

OBSTACLES = ("Walls", "Poles", "Humanoids")
"""Obstacle courses that are registered."""
COURSES = (*OBSTACLES, "Mixed", "Empty")
"""All of them: `Mixed` lies between walls and poles, `Empty` is for tests and learning to walk."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class HallwaySettings:
    """One kind of hallway. Lengths in metres, angles in radians; x runs along the hallway."""

    robot: str = _setting("Point", "robot that crosses the hallway")
    obstacles: str = _setting("Walls", "obstacle course: Walls, Poles, Humanoids, Mixed or Empty")

    length: float = _setting(24.0, "metres from the start line to the finish")
    width: float = _setting(4.0, "metres between the side walls")
    wall_height: float = _setting(1.0, "height of side walls, obstacle walls and poles, metres")
    max_steps: int = _setting(1000, "control steps after which an episode is truncated")
    action_repeat: int = _setting(1, "control steps for which one action is held")
    progress_reward: float = _setting(1000.0, "reward for the whole way from start line to finish")
    start_anywhere: float = _setting(
        0.0, "share of episodes that start anywhere along the hallway (for training only)"
    )
    anywhere_heading: float | None = _setting(
        None,
        "episodes that start anywhere face within this angle of straight ahead, radians (none: "
        "start_heading)",
    )
    fallen_steps: int = _setting(
        0,
        "control steps that a robot lies on its back before its episode is truncated (0: it goes "
        "on; for training only)",
    )
    start_x: float = _setting(0.5, "start within this distance of the start line, metres")
    start_y: float = _setting(1.0, "start within this distance of the centre line, metres")
    start_heading: float = _setting(0.5, "start within this angle of straight ahead, radians")
    side_wall_cost: bool = _setting(False, "touching a side wall costs, as an obstacle does")

    walls: int = _setting(8, "obstacle walls (Walls)")
    wall_thickness: float = _setting(0.2, "thickness of an obstacle wall, metres")
    wall_cover_min: float = _setting(0.50, "least share of the width that a wall covers")
    wall_cover_max: float = _setting(0.65, "greatest share of the width that a wall covers")
    wall_jitter: float = _setting(0.5, "a wall is moved by up to this along the hallway, metres")
    wall_variety: float = _setting(
        0.0,
        "share of episodes whose walls are varied: broken into free-standing blocks of random "
        "width, thickness, height and place (for training only)",
    )

    poles: int = _setting(30, "poles (Poles)")
    pole_radius: float = _setting(0.15, "radius of a pole, metres")
    pole_gap: float = _setting(0.3, "free space between poles beyond the robot's width, metres")

    likeness: float = _setting(
        0.5, "share of the walls that stand; poles have the place of the others (Mixed)"
    )

    people: int = _setting(20, "people (Humanoids)")
    people_speed: float = _setting(
        1.0, "how fast people move, as a multiple of their clips' own speed (Humanoids)"
    )
    mocap: str | None = _setting(
        None, "folder of ASF/AMC or BVH clips that people move by (none: see --mocap)"
    )

    camera: str = _setting("depth", "what the camera sees: depth (one channel) or rgb (three)")
    camera_width: int = _setting(50, "camera image width, pixels")
    camera_height: int = _setting(50, "camera image height, pixels")
    max_depth: float = _setting(12.0, "depth beyond which the camera sees nothing, metres")

    def __post_init__(self) -> None:
        if self.robot not in robot_names():
            raise UnknownNameError("robot", self.robot, robot_names())
        if self.obstacles not in COURSES:
            raise UnknownNameError("obstacle course", self.obstacles, COURSES)
        if self.camera not in ("depth", "rgb"):
            raise UnknownNameError("camera mode", self.camera, ("depth", "rgb"))
        for name in ("max_steps", "action_repeat", "camera_width", "camera_height"):
            self._require(name, isinstance(getattr(self, name), int), "a whole number")
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("walls", "poles", "people", "fallen_steps"):
            self._require(name, isinstance(getattr(self, name), int), "a whole number")
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in (
            "length", "width", "wall_height", "wall_thickness", "pole_radius", "max_depth",
        ):  # fmt: skip
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "greater than 0")
        for name in ("start_x", "start_y", "start_heading", "wall_jitter", "pole_gap"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value >= 0, "0 or greater")
        self._require(
            "progress_reward", abs(self.progress_reward) <= 1e6, "a number of at most a million"
        )
        if self.anywhere_heading is not None:
            within = 0 <= self.anywhere_heading <= math.pi
            self._require("anywhere_heading", within, "none, or between 0 and pi")
        for name in ("start_anywhere", "wall_variety", "likeness"):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._require("people_speed", 0.1 <= self.people_speed <= 4, "between 0.1 and 4")
        self._require("start_x", self.start_x <= 1, "at most 1: a wall stands 1.5 m behind")
        self._require(
            "start_y", self.start_y < self.width / 2, f"less than half the width of {self.width}"
        )
        self._require(
            "wall_cover_max",
            0 < self.wall_cover_min <= self.wall_cover_max < 1,
            "at least wall_cover_min, and both between 0 and 1",
        )

    def _require(self, name: str, satisfied: bool, wanted: str) -> None:
        if not satisfied:
            raise SettingError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> HallwaySettings:
        """Settings from keyword arguments; an unknown one raises UnknownNameError."""
        known = [f.name for f in fields(cls)]
        for name in kwargs:
            if name not in known:
                raise UnknownNameError("hallway setting", name, known)
        return cls(**kwargs)

    # What environments of every kind answer (see `envs.gym_settings`):

    @property
    def name(self) -> str:
        """Short name of this environment, such as `PointWalls`."""
        return self.robot + self.obstacles

    @property
    def indifferent(self) -> tuple[str, ...]:
        """Settings that a run may go on with in another way: clips matter only to people."""
        return () if self.obstacles == "Humanoids" else ("mocap",)

    def with_mocap(self, folder: str | None) -> HallwaySettings:
        """The same, with people who move by the clips in a folder."""
        return replace(self, mocap=folder)

    def for_evaluation(self) -> HallwaySettings:
        """The same without what is for training only: every episode from the start line to its
        end, and among walls as they are, not varied."""
        return replace(self, start_anywhere=0.0, wall_variety=0.0, fallen_steps=0)

    def kept(self) -> Mapping[str, Any]:
        """How agents.json describes the environment of a kept agent."""
        return {"robot": self.robot, "env": self.name}
