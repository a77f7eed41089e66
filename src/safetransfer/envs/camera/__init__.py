"""Depth and colour cameras without OpenGL."""

from safetransfer.envs.camera.camera import Camera, decode_depth, encode_depth, look_at
from safetransfer.envs.camera.scene import Scene

__all__ = ["Camera", "Scene", "decode_depth", "encode_depth", "look_at"]
