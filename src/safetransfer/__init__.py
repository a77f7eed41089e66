"""Train under a safety constraint where mistakes are cheap, transfer to where they are costly."""

__version__ = "0.1.0"

from safetransfer.headless import import_mujoco

import_mujoco()  # before anything else does

from safetransfer.envs.registration import register_all  # noqa: E402

register_all()
