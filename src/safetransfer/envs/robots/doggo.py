"""Doggo: a quadruped that must learn to walk (Safety Gym's figures)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np

from safetransfer.envs.contacts import ROBOT, TOUCHES_FLOOR, TOUCHES_OBSTACLES, TOUCHES_ROBOT
from safetransfer.envs.robots.base import Robot, rotation_matrix

HEIGHT = 0.22
"""Height of the torso's axis when an episode begins, metres; it drops to 0.165 at once."""
GEAR = 0.0125
"""Torque of a motor at full control, N m."""
STIFFNESS = 0.01
"""Of the spring in every joint, N m/rad."""
TORSO_RADIUS, TORSO_HALF = 0.075, 0.2
"""Radius, and length of the front and of the rear half, metres."""
LEG_RADIUS = 0.032
TORSO_DENSITY, LEG_DENSITY = 0.5, 5.0
"""In kg/m^3: it weighs 40 g."""
HIP = np.array([0.2, 0.1, 0.0])
UPPER_LEG = np.array([0.098, 0.0566, -0.05])
LOWER_LEG = np.array([-0.1176, -0.0679, -0.1])
"""From the middle of the torso to the left front hip, on to the knee, on to the foot, metres. Right
legs are mirrored, and the rear hips; the rear legs bend the way that the front ones do."""

LEGS = (1, 4, 2, 3)
"""In the order of the bodies: left and right in front, left and right behind."""
JOINTS = [
    *(f"hip_{leg}_z" for leg in (1, 2, 3, 4)),
    *(f"hip_{leg}_y" for leg in (1, 2, 3, 4)),
    *(f"ankle_{leg}" for leg in (1, 2, 3, 4)),
]
"""The driven joints, in the order of actions and of proprioception."""

_RED, _BLUE, _GREEN = [0.85, 0.2, 0.16, 1], [0.2, 0.35, 0.9, 1], [0.15, 0.65, 0.3, 1]


def _first_qpos(leg: int) -> int:
    """Where qpos holds a leg's hip_z, hip_y and ankle: after the free joint, and the waist."""
    return 7 + 3 * LEGS.index(leg) + (leg in (2, 3))


_ANGLES = np.array([_first_qpos(leg) + joint for joint in range(3) for leg in (1, 2, 3, 4)])


class Doggo(Robot):
    """Four legs of three motors each, a waist without one, and no balance of its own.

    Proprioception (48): accelerometer, velocimeter, gyro and magnetometer of the torso, 3 each;
    the velocities of JOINTS; sine and cosine of each of their angles.
    """

    name = "Doggo"
    timestep = 0.01
    substeps = 10
    action_size = len(JOINTS)
    proprio_size = 12 + 3 * len(JOINTS)
    width = 0.38  # from knee to knee as it stands
    # Legs stretched out as no joint allows.
    reach = float(sum(map(np.linalg.norm, (HIP, UPPER_LEG, LOWER_LEG)))) + LEG_RADIUS
    max_speed = 5.0
    near_capsules = 24
    camera_position = (0.125, 0.0, 0.2)
    camera_down = math.radians(22)
    camera_fovy = 100.0
    learns_to_move_in: ClassVar[Mapping[str, str]] = {"laptop": "Empty"}
    # There is nothing to remember there. With longer sequences and longer falls it stopped in front
    # of the finish.
    learning_to_move: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {
            "env": {"fallen_steps": 20},
            "agent": {"horizon": 12, "batch_size": 32},
            "train": {"epochs": 10},
        },
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # It walks before it minds where it treads, and looks far ahead for reward: a fall costs
        # all that is left of its 100 s. For cost it looks 1 s ahead: what walls will cost later it
        # could only put off, by standing still. So would a high multiplier have it: where a step
        # costs more than a gap is worth, it stays in front of it. By
        # its mode it may stand against a wall for ever, where half of the noise gets it away.
        # docs/experiments.md says what each of these did.
        "laptop": {
            "env": {"fallen_steps": 100, "anywhere_heading": 1.57},
            "agent": {
                "horizon": 24,
                "batch_size": 16,
                "gamma": 0.99,
                "gamma_cost": 0.9,
                "alpha": 0.01,
                "target_entropy": -6.0,
                "constraint_warmup": 8000,
                "multiplier_init": 0.5,
                "multiplier_lr": 0.01,
                "multiplier_max": 1.0,
                "average": 5e-4,
                "act_by": "sample",
                "act_noise": 0.5,
            },
            "train": {
                "epochs": 120,
                "num_envs": 32,
                "decisions_per_update": 64.0,
                "mode_episodes": 0.25,
            },
        },
    }
    # It forgets how to walk from updates as large, and as many to a step, as Point's. What its
    # critics make of a state must change slowly and not at once: the targets read it, too, and
    # with them Q may fall to nothing.
    fine_tuning: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {
            "agent": {
                "multiplier_init": 1.5,
                "multiplier_max": 1.5,
                "lr": 2e-4,
                "lr_encoder": 5e-5,
                "lr_warmup": 1000,
            },
            "train": {"num_envs": 32, "decisions_per_update": 32.0},
        },
    }
    fine_tuning_epochs: ClassVar[Mapping[str, int]] = {"laptop": 10}

    def add_to(self, spec: mujoco.MjSpec) -> None:
        torso = spec.worldbody.add_body(name=ROBOT, pos=[0, 0, HEIGHT])
        torso.add_freejoint(name=ROBOT)
        torso.add_site(name=ROBOT)
        _add_torso(torso, "front", TORSO_HALF)
        for leg in LEGS[:2]:
            _add_leg(torso, leg)
        rear = torso.add_body(name="rear")
        _add_joint(rear, "waist", axis=[1, 0, 0], degrees=(-30, 30))
        _add_torso(rear, "rear", -TORSO_HALF)
        for leg in LEGS[2:]:
            _add_leg(rear, leg)

        for name in JOINTS:
            motor = spec.add_actuator(
                name=name,
                target=name,
                trntype=mujoco.mjtTrn.mjTRN_JOINT,
                gear=[GEAR, 0, 0, 0, 0, 0],
                ctrlrange=[-1, 1],
            )
            motor.set_to_motor()
        for kind in ("ACCELEROMETER", "VELOCIMETER", "GYRO", "MAGNETOMETER"):
            spec.add_sensor(
                name=kind.lower(),
                type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"),
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=ROBOT,
            )
        for name in JOINTS:
            spec.add_sensor(
                name=f"velocity_{name}",
                type=mujoco.mjtSensor.mjSENS_JOINTVEL,
                objtype=mujoco.mjtObj.mjOBJ_JOINT,
                objname=name,
            )

    def place(self, qpos: np.ndarray, x: float, y: float, heading: float) -> None:
        qpos[:] = 0.0
        qpos[:3] = x, y, HEIGHT
        qpos[3], qpos[6] = math.cos(heading / 2), math.sin(heading / 2)

    def proprio(self, sensordata: np.ndarray, qpos: np.ndarray, out: np.ndarray) -> None:
        angles = qpos[:, _ANGLES]
        out[:, :24] = sensordata[:, :24]
        out[:, 24::2] = np.sin(angles)
        out[:, 25::2] = np.cos(angles)

    def position(self, qpos: np.ndarray) -> np.ndarray:
        return qpos[:, :3]

    def pose(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.position(qpos), rotation_matrix(qpos[:, 3:7])


def _add_torso(body: mujoco.MjsBody, name: str, end: float) -> None:
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        fromto=[min(0, end), 0, 0, max(0, end), 0, 0],
        size=[TORSO_RADIUS, 0, 0],
        density=TORSO_DENSITY,
        rgba=_RED,
        **_COLLISION,
    )


def _add_leg(torso: mujoco.MjsBody, leg: int) -> None:
    """A shoulder that is part of the torso, and the leg that hangs from its end."""
    front, left = leg in (1, 4), leg in (1, 2)
    mirror = np.array([1.0, 1.0 if left else -1.0, 1.0])
    hip, upper, lower = HIP * mirror, UPPER_LEG * mirror, LOWER_LEG * mirror
    if not front:
        hip[0] = -hip[0]
    shoulder = np.array([hip[0] / 2, 0.0, 0.0])
    _add_capsule(torso, f"shoulder_{leg}", shoulder, hip, _RED)

    thigh = torso.add_body(name=f"upper_{leg}", pos=hip)
    _add_joint(thigh, f"hip_{leg}_z", axis=[0, 0, mirror[1]], degrees=(-10, 30))
    swing = {"degrees": (-75, 15), "rest": -10} if front else {"degrees": (0, 135)}
    _add_joint(thigh, f"hip_{leg}_y", axis=[0, 1, 0], **swing)
    _add_capsule(thigh, f"upper_{leg}", np.zeros(3), upper, _RED)

    shin = thigh.add_body(name=f"lower_{leg}", pos=upper)
    _add_joint(shin, f"ankle_{leg}", axis=[-0.5 * mirror[1], 0.866, 0], degrees=(-75, 0), rest=-20)
    _add_capsule(shin, f"lower_{leg}", np.zeros(3), lower, _BLUE if front else _GREEN)


def _add_capsule(
    body: mujoco.MjsBody, name: str, start: np.ndarray, end: np.ndarray, color: list[float]
) -> None:
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[*start, *end],
        size=[LEG_RADIUS, 0, 0],
        density=LEG_DENSITY,
        rgba=color,
        **_COLLISION,
    )


def _add_joint(
    body: mujoco.MjsBody,
    name: str,
    axis: list[float],
    degrees: tuple[float, float],
    rest: float = 0.0,
) -> None:
    """A limited hinge at the body's origin, whose spring is at ease at `rest` degrees."""
    body.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=axis,
        limited=True,
        range=np.radians(degrees),
        springref=math.radians(rest),
        stiffness=[STIFFNESS, 0, 0],
    )


# It falls on the floor, and its legs cannot pass through each other or the other half of the torso.
_COLLISION: dict[str, Any] = {
    "condim": 6,
    "contype": TOUCHES_OBSTACLES | TOUCHES_FLOOR | TOUCHES_ROBOT,
    "conaffinity": TOUCHES_ROBOT,
}
