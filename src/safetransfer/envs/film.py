"""Pictures of a hallway for people to look at: from the robot's eye, from behind it, from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from safetransfer.envs.camera import Camera, Scene, look_at
from safetransfer.errors import UnknownNameError

if TYPE_CHECKING:
    from safetransfer.envs.hallway import HallwayVectorEnv

VIEWS = ("first", "behind", "above")
_FAR = 40.0
_BACK_WALL = 2
"""Its place among the boxes of the scene (`world.shell`)."""
_KINDS = {
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: "ellipsoid",
}


class Filmer:
    """Draws single hallways of a vector environment, robot included, in colour."""

    def __init__(self, env: HallwayVectorEnv):
        self.env = env
        model = env.model
        self.data = mujoco.MjData(model)
        root = model.body("robot").id
        self.parts: dict[str, list[int]] = {kind: [] for kind in _KINDS.values()}
        for geom in range(model.ngeom):
            if model.body_rootid[model.geom_bodyid[geom]] == root:
                self.parts[_KINDS[mujoco.mjtGeom(model.geom_type[geom])]].append(geom)
        capacity = {
            plural: getattr(env.scene, first).shape[1]
            for plural, first in (
                ("planes", "plane_normal"),
                ("boxes", "box_center"),
                ("cylinders", "cylinder_a"),
                ("capsules", "capsule_a"),
                ("spheres", "sphere_center"),
                ("ellipsoids", "ellipsoid_center"),
            )
        }
        self.first = {
            "box": capacity["boxes"],
            "cylinder": capacity["cylinders"],
            "capsule": capacity["capsules"],
            "sphere": capacity["spheres"],
            "ellipsoid": capacity["ellipsoids"],
        }
        for kind, geoms in self.parts.items():
            capacity["boxes" if kind == "box" else kind + "s"] += len(geoms)
        self.scene = Scene(1, **capacity)

    def frame(self, i: int, view: str, width: int, height: int) -> np.ndarray:
        """Hallway i as it is now: uint8 (height, width, 3). Raises UnknownNameError for a view."""
        if view not in VIEWS:
            raise UnknownNameError("view", view, VIEWS)
        env = self.env
        for name in env.scene.arrays._fields:
            if not name.startswith("group"):
                there, here = getattr(env.scene, name)[i], getattr(self.scene, name)[0]
                here[: len(there)] = there
        qpos = env.batch.bind("qpos")[i : i + 1]
        if view == "first":
            self._hide_robot()
            position, rotation = env.robot.camera_pose(qpos)
            lens = Camera(width, height, env.robot.camera_fovy, _FAR)
            return lens.color(self.scene, position, rotation)[0]
        self._place_robot(qpos[0])
        x, y = env.robot.position(qpos)[0, :2]
        lens = Camera(width, height, 55.0, _FAR)
        if view == "behind":
            self.scene.box_half[0, _BACK_WALL] = 0  # at the start it would hide the robot
            eye, target = np.array([x - 2.4, 0.5 * y, 1.7]), np.array([x + 1.8, 0.7 * y, 0.2])
            axes = look_at(eye, target)
        else:
            eye, target = np.array([x + 1.5, 0.0, 5.5]), np.array([x + 1.5, 0.0, 0.0])
            axes = look_at(eye, target, up=(0, 1, 0))  # the hallway runs from left to right
        return lens.color(self.scene, eye, axes)[0]

    def _hide_robot(self) -> None:
        self.scene.box_half[0, self.first["box"] :] = 0
        for kind in ("cylinder", "capsule", "sphere"):
            getattr(self.scene, kind + "_radius")[0, self.first[kind] :] = 0
        self.scene.ellipsoid_radii[0, self.first["ellipsoid"] :] = 0

    def _place_robot(self, qpos: np.ndarray) -> None:
        model, data, scene = self.env.model, self.data, self.scene
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        for kind, geoms in self.parts.items():
            for k, geom in enumerate(geoms, self.first[kind]):
                center, axes = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)
                size = model.geom_size[geom]
                getattr(scene, kind + "_color")[0, k] = 255 * model.geom_rgba[geom, :3]
                if kind == "box":
                    scene.box_center[0, k], scene.box_axes[0, k] = center, axes
                    scene.box_half[0, k] = size
                elif kind == "ellipsoid":
                    scene.ellipsoid_center[0, k], scene.ellipsoid_axes[0, k] = center, axes
                    scene.ellipsoid_radii[0, k] = size
                elif kind == "sphere":
                    scene.sphere_center[0, k], scene.sphere_radius[0, k] = center, size[0]
                else:
                    getattr(scene, kind + "_a")[0, k] = center - axes[:, 2] * size[1]
                    getattr(scene, kind + "_b")[0, k] = center + axes[:, 2] * size[1]
                    getattr(scene, kind + "_radius")[0, k] = size[0]
