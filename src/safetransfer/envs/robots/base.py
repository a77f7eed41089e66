"""What a hallway asks of a robot: its model, its sensors, its camera, where it is."""

from __future__ import annotations

import abc
import math

import mujoco
import numpy as np


class Robot(abc.ABC):
    """A robot. Everything that depends on which robot it is lives in a subclass.

    Control runs at `timestep * substeps` seconds. `width` is the gap that it can just pass (m);
    `reach` the radius (m) of a sphere about the root body's origin that holds every part of it;
    `max_speed` bounds how fast any part moves (m/s); `near_capsules` is how many of people's limbs
    can be within its reach at once.
    """

    name: str
    timestep: float
    substeps: int
    action_size: int
    proprio_size: int
    width: float
    reach: float
    max_speed: float
    near_capsules: int
    camera_position: tuple[float, float, float]
    camera_down: float
    """Angle of the camera below straight ahead, radians."""
    camera_fovy: float
    """Vertical field of view, degrees."""

    @property
    def control_dt(self) -> float:
        """Seconds of one control step."""
        return self.timestep * self.substeps

    @abc.abstractmethod
    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Write the robot into `spec`: root body `contacts.ROBOT`, actuators, then sensors."""

    @abc.abstractmethod
    def place(self, qpos: np.ndarray, x: float, y: float, heading: float) -> None:
        """Write the pose at rest at (x, y) facing `heading` into one simulation's qpos (nq,)."""

    @abc.abstractmethod
    def proprio(self, sensordata: np.ndarray, qpos: np.ndarray, out: np.ndarray) -> None:
        """Proprioception of N robots into out (N, proprio_size) float32, in SI units.

        sensordata (N, >=nsensordata of this robot) holds this robot's sensors first.
        """

    @abc.abstractmethod
    def position(self, qpos: np.ndarray) -> np.ndarray:
        """Root body's position in the world (N, 3), from qpos (N, nq); qpos[:, 0] is its x."""

    @abc.abstractmethod
    def pose(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Root body's position (N, 3) and rotation (N, 3, 3) in the world, from qpos (N, nq)."""

    def camera_pose(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The camera's position (N, 3) and rotation (N, 3, 3), columns its axes, both float32."""
        position, rotation = self.pose(qpos)
        eye = position + rotation @ np.asarray(self.camera_position)
        return eye.astype(np.float32), (rotation @ self.camera_axes()).astype(np.float32)

    def camera_axes(self) -> np.ndarray:
        """Camera axes in the root body's frame (3, 3): right, up, and back along the view."""
        cos, sin = math.cos(self.camera_down), math.sin(self.camera_down)
        return np.array([[0.0, sin, -cos], [-1.0, 0.0, 0.0], [0.0, cos, sin]])
