"""Names of the environments, and their registration with Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium

from safetransfer.envs.robots import robot_names
from safetransfer.envs.settings import COURSES, OBSTACLES, HallwaySettings
from safetransfer.errors import UnknownNameError

NAMESPACE = "safetransfer"


def env_names() -> list[str]:
    """Short names of the paper's hallways, such as `PointWalls`."""
    return [robot + obstacles for robot in robot_names() for obstacles in OBSTACLES]


def course_names() -> list[str]:
    """Short names of all hallways, also of mixed and of empty ones; all are registered."""
    return [robot + course for robot in robot_names() for course in COURSES]


def env_id(name: str) -> str:
    """Gymnasium's id of a short name: `safetransfer/PointWalls-v0`."""
    parse_env_name(name)
    return f"{NAMESPACE}/{name}-v0"


def parse_env_name(name: str) -> tuple[str, str]:
    """Robot and obstacles of a short name or of an id; raises UnknownNameError."""
    short = name.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
    for robot in robot_names():
        for obstacles in COURSES:
            if short == robot + obstacles:
                return robot, obstacles
    raise UnknownNameError("environment", name, course_names())


def make_vector(
    num_envs: int = 1,
    threads: int = 1,
    autoreset_mode: Any = gymnasium.vector.AutoresetMode.SAME_STEP,
    render_mode: str | None = None,
    **kwargs: Any,
) -> gymnasium.vector.VectorEnv:
    """Entry point of `gymnasium.make_vec`; further arguments are fields of HallwaySettings."""
    from safetransfer.envs.hallway import HallwayVectorEnv

    return HallwayVectorEnv(
        HallwaySettings.from_kwargs(**kwargs),
        num_envs=num_envs,
        threads=threads,
        autoreset_mode=autoreset_mode,
        object_final_obs=True,
        render_mode=render_mode,
    )


def register_all() -> None:
    """Register every robot in every obstacle course, once."""
    for name in course_names():
        robot, obstacles = parse_env_name(name)
        if env_id(name) not in gymnasium.registry:
            gymnasium.register(
                id=env_id(name),
                entry_point="safetransfer.envs.hallway:HallwayEnv",
                vector_entry_point="safetransfer.envs.registration:make_vector",
                kwargs={"robot": robot, "obstacles": obstacles},
            )
