"""An agent at work in MuJoCo's own viewer, where there is a screen."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.world import FLOOR_COLOR, SIDE_COLOR
from safetransfer.errors import SettingError
from safetransfer.report.film import Moment, open_hallway, play

_INSTEAD = "`safetransfer watch AGENT --env NAME --out film.mp4` makes a film anywhere"
_HOLD_SECONDS = 1.0
SIDES = ("left", "right", "back")
"""The walls that close the hallway in the model; they are the first boxes of the scene, too."""


def watch_live(
    agent_path: str | Path,
    env_name: str,
    episodes: int = 1,
    seed: int = 0,
    *,
    mocap: str | None = None,
    noise: float | None = None,
) -> None:
    """Opens MuJoCo's viewer on a kept agent in a hallway, in real time, until it is closed.

    Return, cost and contact stand in the corner. SettingError where there is no screen to open it
    on; otherwise as `film`.
    """
    launch = _launcher()
    env, policy = open_hallway(agent_path, env_name, mocap, noise)
    rng = np.random.default_rng(seed)
    try:
        model = _painted(env.model)
        data = mujoco.MjData(model)
        with launch(model, data) as handle:
            _aim(handle.cam, model)
            for episode in range(episodes):
                for moment in play(env, policy, seed if episode == 0 else None, rng):
                    began = time.perf_counter()
                    if not handle.is_running():
                        return
                    with handle.lock():
                        show(env, data, handle.user_scn)
                    handle.set_texts(_words(moment))
                    handle.sync()
                    left = 1 / env.metadata["render_fps"] - (time.perf_counter() - began)
                    time.sleep(max(0.0, left) + _HOLD_SECONDS * moment.ended)
    finally:
        env.close()


def _launcher() -> Callable[[mujoco.MjModel, mujoco.MjData], Any]:
    """The function that opens the viewer, or SettingError: without a screen it would hang."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise SettingError(
            "MuJoCo's viewer needs a screen, and there is none here (neither DISPLAY nor "
            f"WAYLAND_DISPLAY is set). {_INSTEAD}"
        )
    try:
        import glfw
        from mujoco import viewer
    except (ImportError, RuntimeError) as error:
        raise SettingError(f"MuJoCo's viewer does not load: {error}. {_INSTEAD}") from None
    if sys.platform == "darwin" and viewer._MJPYTHON is None:
        raise SettingError(
            "on macOS MuJoCo's viewer has to run under its own interpreter: "
            f"mjpython -m safetransfer watch ... {_INSTEAD}"
        )
    with _silent(glfw):
        if not glfw.init():
            raise SettingError(f"MuJoCo's viewer cannot open a window on this screen. {_INSTEAD}")
    return lambda model, data: viewer.launch_passive(
        model, data, show_left_ui=False, show_right_ui=False
    )


@contextlib.contextmanager
def _silent(glfw: Any) -> Any:
    """GLFW prints its errors as warnings of its own; ours says what they mean."""
    before = glfw.ERROR_REPORTING
    glfw.ERROR_REPORTING = False
    try:
        yield
    finally:
        glfw.ERROR_REPORTING = before


def _painted(model: mujoco.MjModel) -> mujoco.MjModel:
    """The model in the colours of the films, in good light; physics needs neither."""
    model = copy.copy(model)
    for name, colour in (("floor", FLOOR_COLOR), *((n, SIDE_COLOR) for n in SIDES)):
        model.geom(name).rgba[:3] = np.array(colour) / 255.0
    model.geom("back").rgba[3] = 0.0  # at the start it would hide the robot
    model.vis.headlight.ambient[:] = 0.35
    model.vis.headlight.diffuse[:] = 0.6
    model.vis.headlight.specular[:] = 0.1
    return model


def _aim(camera: Any, model: mujoco.MjModel) -> None:
    """Behind the robot and above it, going along with it."""
    camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    camera.trackbodyid = model.body("robot").id
    camera.azimuth, camera.elevation, camera.distance = 0.0, -25.0, 4.5


def _words(moment: Moment) -> tuple[None, int, str, str]:
    names = "step\nreturn\ncost" + ("\ncontact" if moment.touching else "")
    values = f"{moment.control_steps}\n{moment.episode_return:.0f}\n{moment.cost:.0f}"
    corner = int(mujoco.mjtGridPos.mjGRID_TOPLEFT)
    return None, corner, names, values


# --- What physics does not hold -----------------------------------------------------------------


def show(env: HallwayVectorEnv, data: mujoco.MjData, scene: mujoco.MjvScene) -> None:
    """Put the robot of hallway 0 where it is into `data`, and all obstacles into `scene`.

    Physics holds bodies for the obstacles within reach only, and they stay parked below the floor
    here: the scene's geoms show the whole course, as the robot's camera sees it.
    """
    data.qpos[:] = env.batch.bind("qpos")[0]
    mujoco.mj_kinematics(env.model, data)
    mujoco.mj_comPos(env.model, data)  # what the viewer's camera goes along with
    scene.ngeom = 0
    world = env.scene
    for k in range(len(SIDES), world.box_half.shape[1]):
        half = world.box_half[0, k]
        if half.min() > 0:
            kind = mujoco.mjtGeom.mjGEOM_BOX
            _add(scene, kind, half, world.box_center[0, k], world.box_color[0, k])
    for name, kind in (
        ("cylinder", mujoco.mjtGeom.mjGEOM_CYLINDER),
        ("capsule", mujoco.mjtGeom.mjGEOM_CAPSULE),
    ):
        radii = getattr(world, f"{name}_radius")[0]
        ends = getattr(world, f"{name}_a")[0], getattr(world, f"{name}_b")[0]
        colours = getattr(world, f"{name}_color")[0]
        for radius, a, b, colour in zip(radii, *ends, colours, strict=True):
            if radius > 0:
                geom = _add(scene, kind, np.ones(3), np.zeros(3), colour)
                if geom is not None:
                    mujoco.mjv_connector(
                        geom, kind, float(radius), a.astype(float), b.astype(float)
                    )


def _add(
    scene: mujoco.MjvScene,
    kind: mujoco.mjtGeom,
    size: np.ndarray,
    place: np.ndarray,
    colour: np.ndarray,
) -> mujoco.MjvGeom | None:
    """One more geom, or None where the scene is full."""
    if scene.ngeom >= scene.maxgeom:
        return None
    geom = scene.geoms[scene.ngeom]
    rgba = np.append(colour / 255.0, 1.0).astype(np.float32)
    axes = np.eye(3).ravel()
    mujoco.mjv_initGeom(geom, kind, size.astype(float), place.astype(float), axes, rgba)
    scene.ngeom += 1
    return geom
