"""Which spaces an agent can live in, and how theirs become ours.

Supported: an action of one `Box` of shape (A,), floats with finite bounds, rescaled from [-1, 1];
and an observation that is a vector (`Box` of floats or integers, one dimension), an image (`Box` of
uint8, height x width x channels), or a flat `Dict` of at most one image and any number of vectors,
which are joined in the order of the Dict. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from safetransfer.errors import SettingError

SUPPORTED = (
    "supported are a vector (Box of one dimension), an image (Box of uint8, height x width x "
    "channels), or a Dict of at most one image and any number of vectors"
)
MAX_CHANNELS = 16


class ObservationLayout:
    """How the observations of one environment become `camera` and `proprio`."""

    def __init__(self, space: gymnasium.Space[Any], name: str):
        """`name` is the environment's, for errors. Raises SettingError for another space."""
        parts: dict[str, gymnasium.Space[Any]]
        self.keyed = isinstance(space, gymnasium.spaces.Dict)
        parts = dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {"": space}
        self.image: str | None = None
        self.vectors: list[str] = []
        for key, part in parts.items():
            where = f"{name}: observation {key!r}" if self.keyed else f"{name}: the observation"
            if not _is_image(part, where):
                self.vectors.append(key)
            elif self.image is None:
                self.image = key
            else:
                raise SettingError(
                    f"{name}: observations {self.image!r} and {key!r} are both images; {SUPPORTED}"
                )
        if not parts:
            raise SettingError(f"{name}: the observation is empty; {SUPPORTED}")
        shapes = {key: tuple(part.shape or ()) for key, part in parts.items()}
        self.camera = shapes[self.image] if self.image is not None else None
        self.size = sum(int(np.prod(shapes[key])) for key in self.vectors)
        # What two environments must share for an agent to move between them.
        self.signature = {
            (key or "the observation"): f"{'image' if key == self.image else 'vector'} of "
            + " x ".join(map(str, shapes[key]))
            for key in parts
        }
        spaces: dict[str, gymnasium.Space[Any]] = {}
        if self.camera is not None:
            spaces["camera"] = Box(0, 255, self.camera, np.uint8)
        if self.vectors:
            spaces["proprio"] = Box(-np.inf, np.inf, (self.size,), np.float32)
        self.space = gymnasium.spaces.Dict(spaces)

    def encode(self, observation: Any, lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
        """`camera` (*lead, H, W, C) uint8 and `proprio` (*lead, P) float32, those there are."""
        parts = observation if self.keyed else {"": observation}
        out = {}
        if self.image is not None:
            out["camera"] = np.ascontiguousarray(parts[self.image], np.uint8)
        if self.vectors:
            joined = [np.asarray(parts[key]).reshape(*lead, -1) for key in self.vectors]
            out["proprio"] = np.concatenate(joined, -1, dtype=np.float32)
        return out


class ActionScale:
    """From actions in [-1, 1] to an environment's own bounds."""

    def __init__(self, space: gymnasium.Space[Any], name: str):
        """`name` is the environment's, for errors. Raises SettingError for another space."""
        wanted = "supported is one Box of floats of shape (A,) with finite bounds"
        if not isinstance(space, Box):
            raise SettingError(
                f"{name}: its actions are {type(space).__name__}, not continuous; {wanted}"
            )
        if len(space.shape) != 1 or not space.shape[0] or space.dtype.kind != "f":
            raise SettingError(
                f"{name}: its actions are a Box of {space.dtype} of shape {space.shape}; {wanted}"
            )
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise SettingError(
                f"{name}: its actions have no finite bounds ({space}); {wanted}. "
                "Give its action_space finite ones: in its class, or with "
                "gymnasium.wrappers.TransformAction and a Box of your own"
            )
        if not (space.low < space.high).all():
            raise SettingError(f"{name}: an action's lower bound is not below its upper ({space})")
        self.low, self.high, self.dtype = space.low, space.high, space.dtype
        self.space = Box(-1.0, 1.0, space.shape, np.float32)

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Actions (..., A) in [-1, 1], clipped to that, in the environment's units."""
        share = 0.5 * (np.clip(action, -1.0, 1.0).astype(np.float64) + 1.0)
        scaled = self.low + share * (self.high.astype(np.float64) - self.low)
        return np.clip(scaled, self.low, self.high).astype(self.dtype)

    @property
    def signature(self) -> str:
        """What two environments must share for an agent to move between them."""
        return f"{len(self.low)} within {self.low.tolist()} and {self.high.tolist()}"


def space_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Lines that say what differs between the signatures of two environments; none: equal."""
    lines = []
    for key in [*one, *(k for k in other if k not in one)]:
        here, there = one.get(key, "none"), other.get(key, "none")
        if here != there:
            lines.append(f"{key}: {here}, there {there}")
    return lines


def signature_of(
    observations: gymnasium.Space[Any], actions: gymnasium.Space[Any], name: str
) -> dict[str, str]:
    """Observations and actions in words, equal where an agent can move; raises SettingError."""
    layout = ObservationLayout(observations, name)
    return {**layout.signature, "actions": ActionScale(actions, name).signature}


def _is_image(space: gymnasium.Space[Any], where: str) -> bool:
    """True for an image, False for a vector; SettingError for what is neither."""
    if isinstance(space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple):
        raise SettingError(
            f"{where} is a nested {type(space).__name__}; {SUPPORTED}. "
            "gymnasium.wrappers.FlattenObservation makes one vector of it"
        )
    if not isinstance(space, Box):
        raise SettingError(f"{where} is {type(space).__name__}; {SUPPORTED}")
    if len(space.shape) == 1 and space.shape[0]:
        return False
    if len(space.shape) == 3 and space.dtype == np.uint8:
        if space.shape[2] > MAX_CHANNELS:
            raise SettingError(
                f"{where} has shape {space.shape}: its channels are not last; {SUPPORTED}"
            )
        return True
    raise SettingError(
        f"{where} is a Box of {space.dtype} of shape {space.shape}: neither; {SUPPORTED}"
    )
