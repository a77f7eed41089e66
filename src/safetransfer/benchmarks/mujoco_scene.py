"""The same scene for MuJoCo, whose rangefinder on a camera is the independent reference."""

from __future__ import annotations

import mujoco
import numpy as np

from safetransfer.envs.camera import Camera, Scene

__all__ = ["reference_depth", "reference_model"]


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.asarray(matrix, np.float64).reshape(9))
    return quaternion


def reference_model(
    scene: Scene, index: int, camera: Camera
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A model of scene `index` with a rangefinder that reports depth for every pixel of `camera`.

    The camera hangs on mocap body 0; absent primitives are left out.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = True
    world = spec.worldbody
    one = scene.arrays

    for normal, point in zip(one.plane_normal[index], one.plane_point[index], strict=True):
        if normal.any():
            quaternion = np.empty(4)
            mujoco.mju_quatZ2Vec(quaternion, normal.astype(np.float64))
            world.add_geom(
                type=mujoco.mjtGeom.mjGEOM_PLANE, pos=point, quat=quaternion, size=[0, 0, 1]
            )
    for kind, center, axes, size in (
        (mujoco.mjtGeom.mjGEOM_BOX, one.box_center, one.box_axes, one.box_half),
        (
            mujoco.mjtGeom.mjGEOM_ELLIPSOID,
            one.ellipsoid_center,
            one.ellipsoid_axes,
            one.ellipsoid_radii,
        ),
    ):
        for c, m, h in zip(center[index], axes[index], size[index], strict=True):
            if (h > 0).all():
                world.add_geom(type=kind, pos=c, quat=_quaternion(m), size=h)
    for kind, start, end, radius in (
        (
            mujoco.mjtGeom.mjGEOM_CYLINDER,
            one.cylinder_a,
            one.cylinder_b,
            one.cylinder_radius,
        ),
        (mujoco.mjtGeom.mjGEOM_CAPSULE, one.capsule_a, one.capsule_b, one.capsule_radius),
    ):
        for a, b, r in zip(start[index], end[index], radius[index], strict=True):
            if r > 0:
                world.add_geom(type=kind, fromto=[*a, *b], size=[r, 0, 0])
    for c, r in zip(one.sphere_center[index], one.sphere_radius[index], strict=True):
        if r > 0:
            world.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=c, size=[r, 0, 0])

    body = world.add_body(name="eye", mocap=True)
    body.add_camera(name="eye", fovy=camera.fovy, resolution=[camera.width, camera.height])
    sensor = spec.add_sensor(
        type=mujoco.mjtSensor.mjSENS_RANGEFINDER,
        objtype=mujoco.mjtObj.mjOBJ_CAMERA,
        objname="eye",
    )
    sensor.intprm[0] = 1 << int(mujoco.mjtRayDataField.mjRAYDATA_DEPTH)
    model = spec.compile()
    return model, mujoco.MjData(model)


def reference_depth(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    camera: Camera,
    position: np.ndarray,
    rotation: np.ndarray,
) -> np.ndarray:
    """MuJoCo's depth in metres (H, W) from one pose; inf for nothing within the camera's range."""
    data.mocap_pos[0] = position
    data.mocap_quat[0] = _quaternion(rotation)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    mujoco.mj_sensorPos(model, data)
    depth = data.sensordata.reshape(camera.height, camera.width).copy()
    depth[(depth < 0) | (depth > camera.max_depth)] = np.inf
    return depth
