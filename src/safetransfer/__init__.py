"""Train under a safety constraint where mistakes are cheap, transfer to where they are dear."""

__version__ = "0.1.0"

from safetransfer.envs.registration import register_all

register_all()
