"""The robots. To add one: write its module beside `point.py`, and name it in ROBOTS below."""

from __future__ import annotations

from safetransfer.envs.robots.base import Robot
from safetransfer.envs.robots.doggo import Doggo
from safetransfer.envs.robots.point import Point
from safetransfer.errors import UnknownNameError

ROBOTS: dict[str, type[Robot]] = {
    "Point": Point,
    "Doggo": Doggo,
}


def robot_names() -> list[str]:
    """Names of the robots that an environment can be made with."""
    return list(ROBOTS)


def make_robot(name: str) -> Robot:
    """The robot of that name; raises UnknownNameError."""
    if name not in ROBOTS:
        raise UnknownNameError("robot", name, ROBOTS)
    return ROBOTS[name]()


__all__ = ["ROBOTS", "Robot", "make_robot", "robot_names"]
