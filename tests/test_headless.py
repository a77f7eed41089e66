"""Without OpenGL: what MUJOCO_GL says is no reason to stop."""

import os
import subprocess
import sys

CROSSING = """
import os, safetransfer, gymnasium
assert os.environ["MUJOCO_GL"] == "no-such-library" and "PYOPENGL_PLATFORM" not in os.environ
env = gymnasium.make("safetransfer/PointWalls-v0")
env.reset(seed=0)
print(len(env.step(env.action_space.sample())))
"""


def test_an_opengl_that_cannot_be_loaded_is_gone_without():
    environment = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = "no-such-library"
    mujoco = subprocess.run(
        [sys.executable, "-c", "import mujoco"], env=environment, capture_output=True, text=True
    )
    assert mujoco.returncode != 0  # alone it stops: else there would be nothing to see here
    ours = subprocess.run(
        [sys.executable, "-c", CROSSING], env=environment, capture_output=True, text=True
    )
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.strip() == "5"
    assert "MUJOCO_GL=no-such-library cannot be used here" in ours.stderr
