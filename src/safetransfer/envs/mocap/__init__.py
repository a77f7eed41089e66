"""Motion capture: files of the CMU family in, clips for a crowd out."""

from __future__ import annotations

from safetransfer.envs.mocap.clips import ClipLibrary, load_clips

__all__ = ["ClipLibrary", "load_clips"]
