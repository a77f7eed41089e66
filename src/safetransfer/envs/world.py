"""The hallway itself: the compiled MuJoCo model, and the same surfaces for the camera."""

from __future__ import annotations

import mujoco
import numpy as np

from safetransfer.envs.camera import Scene
from safetransfer.envs.contacts import TOUCHES_FLOOR, TOUCHES_OBSTACLES, add_touch_sensor
from safetransfer.envs.obstacles import Course
from safetransfer.envs.robots import Robot
from safetransfer.envs.settings import HallwaySettings

BEHIND = 1.5
"""A wall closes the hallway this far behind the start line, metres."""
BEYOND = 2.0
"""The side walls go on this far beyond the finish, metres."""
HALF_THICKNESS = 0.1
SIDE_COLOR = (176, 182, 190)
FLOOR_COLOR = (118, 124, 132)


def shell(settings: HallwaySettings) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Left, right and back wall: name, centre (3,), half sizes (3,)."""
    half_x = (settings.length + BEYOND + BEHIND) / 2
    half_z = settings.wall_height / 2
    side = np.array([half_x, HALF_THICKNESS, half_z])
    middle = np.array([half_x - BEHIND, settings.width / 2 + HALF_THICKNESS, half_z])
    back = np.array([HALF_THICKNESS, settings.width / 2, half_z])
    return [
        ("left", middle, side),
        ("right", middle * (1, -1, 1), side),
        ("back", np.array([-BEHIND - HALF_THICKNESS, 0.0, half_z]), back),
    ]


def build_model(settings: HallwaySettings, robot: Robot, course: Course) -> mujoco.MjModel:
    """Compile floor, walls, robot and the course's slots.

    Sensors come in this order: the robot's, one touch per slot, one touch each for the side walls.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = robot.timestep
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 1],
        contype=0,
        conaffinity=TOUCHES_FLOOR,
    )
    for name, center, half in shell(settings):
        spec.worldbody.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=center,
            size=half,
            contype=0,
            conaffinity=TOUCHES_OBSTACLES,
        )
    robot.add_to(spec)
    course.add_to(spec)
    for name in ("left", "right"):
        add_touch_sensor(spec, f"touch_{name}", mujoco.mjtObj.mjOBJ_GEOM, name)
    return spec.compile()


def build_scene(settings: HallwaySettings, course: Course, num_envs: int) -> tuple[Scene, int]:
    """The camera's scene with floor and walls in place, and the index of the course's first box."""
    walls = shell(settings)
    capacity = {"planes": 1, **course.scene_capacity()}
    capacity["boxes"] = len(walls) + capacity.get("boxes", 0)
    scene = Scene(num_envs, **capacity)
    scene.plane_normal[:, 0] = (0, 0, 1)
    scene.plane_point[:, 0] = 0
    scene.plane_color[:, 0] = FLOOR_COLOR
    for index, (_, center, half) in enumerate(walls):
        scene.box_center[:, index] = center
        scene.box_half[:, index] = half
        scene.box_axes[:, index] = np.eye(3)
        scene.box_color[:, index] = SIDE_COLOR
    return scene, len(walls)
