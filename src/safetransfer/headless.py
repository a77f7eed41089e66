"""MuJoCo, also where MUJOCO_GL names an OpenGL that this machine does not have.

`import mujoco` loads the OpenGL that MUJOCO_GL names, and fails with it: without a library of that
name, or a driver. Nothing of this project draws with OpenGL, so that is no reason to stop.
"""

from __future__ import annotations

import importlib
import os
import warnings


def import_mujoco() -> None:
    """Import MuJoCo, without OpenGL where the one that MUJOCO_GL names cannot be loaded.

    Says so by a RuntimeWarning; environment variables are as they were afterwards.

    Raises:
        ImportError, or whatever else: MuJoCo cannot be imported without OpenGL either.
    """
    before = {name: os.environ.get(name) for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    try:
        importlib.import_module("mujoco")
        return
    except Exception as error:  # PyOpenGL raises an AttributeError, MuJoCo a RuntimeError
        if not before["MUJOCO_GL"]:
            raise
        reason = f"{type(error).__name__}: {error}"
    try:
        os.environ["MUJOCO_GL"] = "disable"
        importlib.import_module("mujoco")
    finally:
        for name, value in before.items():  # MuJoCo tells PyOpenGL of its choice by the second
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    warnings.warn(
        f"MUJOCO_GL={before['MUJOCO_GL']} cannot be used here ({reason}): MuJoCo goes without "
        "OpenGL, which safetransfer does not need",
        RuntimeWarning,
        stacklevel=2,
    )
