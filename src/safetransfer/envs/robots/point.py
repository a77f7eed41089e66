"""Point: a ball with a nose that slides and turns in the plane (Safety Gym's figures)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np

from safetransfer.envs.contacts import ROBOT, TOUCHES_OBSTACLES
from safetransfer.envs.robots.base import Robot

HEIGHT = 0.1
FORCE = 0.05
GEAR = 0.3


class Point(Robot):
    """Two controls, forward motor and turning servo; 1.5 m/s and 3 rad/s at full control."""

    name = "Point"
    timestep = 0.002
    substeps = 10
    action_size = 2
    proprio_size = 12
    width = 0.2
    reach = math.hypot(0.15, 0.05 * math.sqrt(2))
    max_speed = 5.0  # a bump throws it back faster than it drives
    near_capsules = 8  # 6 at most in 64,000 random steps among 20 people; feet and shins
    camera_position = (0.0, 0.0, 0.15)
    camera_down = math.radians(22)
    camera_fovy = 90.0
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {"env": {"action_repeat": 2}},
        "smoke": {"env": {"action_repeat": 4}},
    }

    def add_to(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=ROBOT, pos=[0, 0, HEIGHT])
        slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
        for name, kind, axis, damping in (
            ("x", slide, (1, 0, 0), 0.01),
            ("y", slide, (0, 1, 0), 0.01),
            ("z", hinge, (0, 0, 1), 0.005),
        ):
            body.add_joint(name=name, type=kind, axis=axis, damping=[damping, 0, 0])
        # With a density of 1 kg/m^3 the ball and the nose weigh 0.0052 kg. It never leaves its
        # plane, so contact with the floor would cost time and change nothing.
        shared = {"density": 1.0, "condim": 6, "contype": TOUCHES_OBSTACLES, "conaffinity": 0}
        body.add_geom(
            name="ball",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[0.1, 0, 0],
            rgba=[0.9, 0.25, 0.2, 1],
            **shared,
        )
        body.add_geom(
            name="nose",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[0.1, 0, 0],
            size=[0.05, 0.05, 0.05],
            rgba=[0.6, 0.15, 0.12, 1],
            **shared,
        )
        body.add_site(name=ROBOT)

        limits = {"ctrlrange": [-1, 1], "forcerange": [-FORCE, FORCE]}
        forward = spec.add_actuator(
            name="forward",
            target=ROBOT,
            trntype=mujoco.mjtTrn.mjTRN_SITE,
            gear=[GEAR, 0, 0, 0, 0, 0],
            **limits,
        )
        forward.set_to_motor()
        turn = spec.add_actuator(
            name="turn",
            target="z",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gear=[GEAR, 0, 0, 0, 0, 0],
            **limits,
        )
        turn.set_to_velocity(1.0)

        for kind in ("ACCELEROMETER", "VELOCIMETER", "GYRO", "MAGNETOMETER"):
            spec.add_sensor(
                name=kind.lower(),
                type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"),
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=ROBOT,
            )

    def place(self, qpos: np.ndarray, x: float, y: float, heading: float) -> None:
        qpos[:] = x, y, heading

    def proprio(self, sensordata: np.ndarray, qpos: np.ndarray, out: np.ndarray) -> None:
        out[:] = sensordata[:, : self.proprio_size]

    def position(self, qpos: np.ndarray) -> np.ndarray:
        position = np.empty((len(qpos), 3))
        position[:, :2] = qpos[:, :2]
        position[:, 2] = HEIGHT
        return position

    def pose(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rotation = np.zeros((len(qpos), 3, 3))
        cos, sin = np.cos(qpos[:, 2]), np.sin(qpos[:, 2])
        rotation[:, 0, 0] = rotation[:, 1, 1] = cos
        rotation[:, 1, 0] = sin
        rotation[:, 0, 1] = -sin
        rotation[:, 2, 2] = 1.0
        return self.position(qpos), rotation
