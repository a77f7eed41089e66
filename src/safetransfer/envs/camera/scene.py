"""What the cameras look at: plain arrays of primitives, one row per hallway."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from safetransfer.errors import SettingError

__all__ = ["Scene", "SceneArrays"]


class SceneArrays(NamedTuple):
    """Every array of a `Scene`, in the form that the compiled kernels take. N scenes."""

    plane_normal: np.ndarray  # (N, P, 3)
    plane_point: np.ndarray  # (N, P, 3)
    box_center: np.ndarray  # (N, B, 3)
    box_axes: np.ndarray  # (N, B, 3, 3), columns are the local axes in the world
    box_half: np.ndarray  # (N, B, 3)
    cylinder_a: np.ndarray  # (N, C, 3)
    cylinder_b: np.ndarray  # (N, C, 3)
    cylinder_radius: np.ndarray  # (N, C)
    capsule_a: np.ndarray  # (N, K, 3)
    capsule_b: np.ndarray  # (N, K, 3)
    capsule_radius: np.ndarray  # (N, K)
    group_center: np.ndarray  # (N, G, 3)
    group_radius: np.ndarray  # (N, G)
    sphere_center: np.ndarray  # (N, S, 3)
    sphere_radius: np.ndarray  # (N, S)
    ellipsoid_center: np.ndarray  # (N, E, 3)
    ellipsoid_axes: np.ndarray  # (N, E, 3, 3), columns are the local axes in the world
    ellipsoid_radii: np.ndarray  # (N, E, 3)
    plane_checker: np.ndarray  # (N, P) side of a checker square, m; 0 is plain
    plane_color: np.ndarray  # (N, P, 3) uint8, as all colours
    box_color: np.ndarray
    cylinder_color: np.ndarray
    capsule_color: np.ndarray
    sphere_color: np.ndarray
    ellipsoid_color: np.ndarray


_PAINT = {
    "plane_color": (148, 152, 150),
    "box_color": (196, 178, 148),
    "cylinder_color": (206, 112, 68),
    "capsule_color": (92, 128, 176),
    "sphere_color": (200, 72, 72),
    "ellipsoid_color": (120, 168, 96),
}


class Scene:
    """Primitives of `num_scenes` independent scenes, of fixed capacity per kind, in metres.

    The attributes are the arrays of `SceneArrays`: write them in place, or assign an array of the
    same shape and type to share its memory (a mismatch raises `SettingError`). All start absent.

    * planes: infinite, seen only from the side that the normal points to; a zero normal is absent
    * boxes, cylinders (flat ends at `a` and `b`), capsules (segment from `a` to `b`), spheres,
      ellipsoids: absent when a radius or half-size is <= 0
    * `capsule_groups`: the capsules fall into that many consecutive groups of equal size; whole
      groups are skipped by their bounding sphere `group_center`, `group_radius` (m, <= 0: absent),
      which must contain the group's capsules. 0: no groups.
    """

    plane_normal: np.ndarray
    plane_point: np.ndarray
    plane_checker: np.ndarray
    plane_color: np.ndarray
    box_center: np.ndarray
    box_axes: np.ndarray
    box_half: np.ndarray
    box_color: np.ndarray
    cylinder_a: np.ndarray
    cylinder_b: np.ndarray
    cylinder_radius: np.ndarray
    cylinder_color: np.ndarray
    capsule_a: np.ndarray
    capsule_b: np.ndarray
    capsule_radius: np.ndarray
    capsule_color: np.ndarray
    group_center: np.ndarray
    group_radius: np.ndarray
    sphere_center: np.ndarray
    sphere_radius: np.ndarray
    sphere_color: np.ndarray
    ellipsoid_center: np.ndarray
    ellipsoid_axes: np.ndarray
    ellipsoid_radii: np.ndarray
    ellipsoid_color: np.ndarray

    def __init__(
        self,
        num_scenes: int = 1,
        *,
        planes: int = 0,
        boxes: int = 0,
        cylinders: int = 0,
        capsules: int = 0,
        spheres: int = 0,
        ellipsoids: int = 0,
        capsule_groups: int = 0,
    ):
        if num_scenes < 1:
            raise SettingError(f"a Scene needs num_scenes >= 1, got {num_scenes}")
        if capsule_groups and capsules % capsule_groups:
            raise SettingError(
                f"{capsules} capsules cannot be split into {capsule_groups} equal groups"
            )
        count = {
            "plane": planes,
            "box": boxes,
            "cylinder": cylinders,
            "capsule": capsules,
            "group": capsule_groups,
            "sphere": spheres,
            "ellipsoid": ellipsoids,
        }
        tail = {
            "radius": (),
            "checker": (),
            "axes": (3, 3),
        }
        arrays = {}
        for name in SceneArrays._fields:
            kind, what = name.split("_")
            shape = (num_scenes, count[kind], *tail.get(what, (3,)))
            dtype = np.uint8 if what == "color" else np.float32
            arrays[name] = np.zeros(shape, dtype)
            if what == "axes":
                arrays[name][:] = np.eye(3)
            elif what == "color":
                arrays[name][:] = _PAINT[name]
        arrays["plane_checker"][:] = 0.5
        object.__setattr__(self, "_arrays", SceneArrays(**arrays))

    def __getattr__(self, name: str) -> Any:
        if name in SceneArrays._fields:
            return getattr(self.__dict__["_arrays"], name)
        raise AttributeError(f"Scene has no attribute {name!r}")

    def __setattr__(self, name: str, value: np.ndarray) -> None:
        if name not in SceneArrays._fields:
            raise AttributeError(f"Scene has no array {name!r}; it has {SceneArrays._fields}")
        old = getattr(self.arrays, name)
        if not (
            isinstance(value, np.ndarray)
            and value.shape == old.shape
            and value.dtype == old.dtype
            and value.flags.c_contiguous
        ):
            raise SettingError(
                f"Scene.{name} takes a C-contiguous {old.dtype} array of shape {old.shape}"
            )
        object.__setattr__(self, "_arrays", self.arrays._replace(**{name: value}))

    def __getstate__(self) -> SceneArrays:
        return self.arrays

    def __setstate__(self, arrays: SceneArrays) -> None:
        object.__setattr__(self, "_arrays", arrays)

    @property
    def arrays(self) -> SceneArrays:
        """All arrays together, shared with the attributes."""
        return self.__dict__["_arrays"]

    @property
    def num_scenes(self) -> int:
        return self.arrays.plane_normal.shape[0]

    def select(self, index: int) -> Scene:
        """Scene `index` alone, as a Scene with num_scenes = 1 that shares the memory."""
        if not -self.num_scenes <= index < self.num_scenes:
            raise IndexError(f"scene {index} of {self.num_scenes}")
        index %= self.num_scenes
        one = object.__new__(Scene)
        object.__setattr__(
            one, "_arrays", SceneArrays(*(x[index : index + 1] for x in self.arrays))
        )
        return one
