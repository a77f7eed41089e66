"""Motion capture: ASF/AMC and BVH files, or generated motions, in; clips for a crowd out."""

from __future__ import annotations

from safetransfer.envs.mocap.clips import ClipLibrary, load_clips
from safetransfer.envs.mocap.folder import mocap_folder

__all__ = ["ClipLibrary", "load_clips", "mocap_folder"]
