"""Who collides with whom, and the sensors that say who touched."""

from __future__ import annotations

import mujoco

ROBOT = "robot"
"""Name of every robot's root body; a touch of any part of its subtree counts."""

TOUCHES_OBSTACLES = 1
TOUCHES_FLOOR = 2
TOUCHES_ROBOT = 4
"""Contact bits. A robot's geoms set `contype` to some of them, and `conaffinity` to 0, or to
TOUCHES_ROBOT so that the robot collides with itself; floor, walls and obstacles set only
`conaffinity`, so that they never collide with each other."""


def add_touch_sensor(spec: mujoco.MjSpec, name: str, kind: mujoco.mjtObj, target: str) -> None:
    """A sensor of the number of contacts between the robot and a body or geom named `target`.

    As all sensors after a step it describes the state before the last physics substep.
    """
    spec.add_sensor(
        name=name,
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_XBODY,
        objname=ROBOT,
        reftype=kind,
        refname=target,
        intprm=[1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1],
    )
