"""What a hallway asks of a robot: its model, its sensors, its camera, where it is."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np

SLICE_SECONDS = 0.02
"""People may stand still for so long before they move on. In 0.1 s a limb can go half a metre: it
would jump into the robot, and throw it away, or past it, unnoticed."""


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of unit quaternions (N, 4), w first as in MuJoCo."""
    w, x, y, z = quaternion.T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    rotation = np.empty((len(quaternion), 3, 3))
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            rotation[:, i, j] = value
    return rotation


class Robot(abc.ABC):
    """A robot. Everything that depends on which robot it is lives in a subclass.

    Control runs at `timestep * substeps` seconds. `width` is the gap that it can just pass (m);
    `reach` the radius (m) of a sphere about the root body's origin that holds every part of it;
    `max_speed` bounds how fast that origin moves (m/s); `near_capsules` is how many of people's
    limbs can be within its reach at once.
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
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What a preset of training settings has otherwise for this robot, by the preset's name and by
    section: {"laptop": {"env": {"action_repeat": 2}}}."""
    learns_to_move_in: ClassVar[Mapping[str, str]] = {}
    """The obstacle course in which a transfer has this robot learn to move before it pre-trains, by
    the preset's name: {"laptop": "Empty"}. Empty: it pre-trains from nothing."""
    learning_to_move: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What training in that course has otherwise for this robot, as in `presets`, and over it."""
    fine_tuning: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What fine-tuning after a move has otherwise for this robot, as in `presets`; it goes over
    `TransferPlan.finetune`."""
    fine_tuning_epochs: ClassVar[Mapping[str, int]] = {}
    """Epochs of fine-tuning after a move, by the preset's name, where they are not the plan's."""

    @property
    def control_dt(self) -> float:
        """Seconds of one control step."""
        return self.timestep * self.substeps

    @property
    def slices(self) -> int:
        """Parts of a control step between which people move and contacts are looked for.

        As few as are at most SLICE_SECONDS long, in whole substeps, or else one per substep.
        """
        few = math.ceil(self.control_dt / SLICE_SECONDS - 1e-9)
        fits = (n for n in range(few, self.substeps + 1) if self.substeps % n == 0)
        return next(fits, self.substeps)

    @abc.abstractmethod
    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Write the robot into `spec`: root body `contacts.ROBOT`, actuators, then sensors.

        Angles are in radians. Bodies, joints, geoms and the like may have any other names but those
        of the hallway: floor, left, right, back, slot<number>, touch*.
        """

    @abc.abstractmethod
    def place(self, qpos: np.ndarray, x: float, y: float, heading: float) -> None:
        """Write the pose that an episode starts from, at (x, y) facing `heading`, into qpos (nq,).

        qpos is one simulation's; everything in it belongs to the robot.
        """

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
