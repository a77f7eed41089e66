"""From the name of an environment, ours or any registered one, to its settings."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import re
import sys

import gymnasium
from gymnasium.envs.registration import EnvSpec

from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.registration import NAMESPACE, course_names, parse_env_name
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError, UnknownNameError

EnvSettings = HallwaySettings | GymSettings

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_hallway(name: str) -> bool:
    """Whether a name is of one of our hallways, by short name or by id."""
    try:
        parse_env_name(name)
    except UnknownNameError:
        return name.startswith(f"{NAMESPACE}/")  # meant to be ours
    return True


def settings_for(name: str, like: EnvSettings | None = None) -> EnvSettings:
    """Settings of the environment `name`; what can be the same as in `like` is.

    `name` is a short name (`PointPoles`), or the id of a registered Gymnasium environment, with the
    module that registers it before a colon where that is not imported by itself
    (`my_module:MyEnv-v0`). Between a hallway and another kind only `action_repeat` is common.

    Raises:
        UnknownNameError: there is no such environment.
        SettingError: the module cannot be imported.
    """
    if is_hallway(name):
        robot, obstacles = parse_env_name(name)
        if isinstance(like, HallwaySettings):
            return dataclasses.replace(like, robot=robot, obstacles=obstacles)
        repeat = 1 if like is None else like.action_repeat
        return HallwaySettings(robot=robot, obstacles=obstacles, action_repeat=repeat)
    find_spec(name)
    if isinstance(like, GymSettings):
        return dataclasses.replace(like, id=name)
    return GymSettings(id=name)


def canonical(name: str) -> str:
    """One name for each environment: the short one of a hallway, the id of any other."""
    return settings_for(name).name


def find_spec(env_id: str) -> EnvSpec:
    """Gymnasium's entry of an id, `Name-v0` or `module:Name-v0`; raises as `settings_for`."""
    module, colon, name = env_id.rpartition(":")
    if colon:
        _import(module, env_id)
    spec = gymnasium.registry.get(name)
    if spec is not None:
        return spec
    close = difflib.get_close_matches(name, [*gymnasium.registry, *course_names()], n=3)
    others = [f"{module}{colon}{found}" for found in close if found not in course_names()]
    raise UnknownNameError(
        "environment",
        env_id,
        [
            *course_names(),
            *others,
            "the id of any registered environment: Name-v0 or module:Name-v0",
        ],
    )


def _import(module: str, env_id: str) -> None:
    if not _MODULE.fullmatch(module):
        raise SettingError(
            f"environment {env_id!r}: {module!r} is not the name of a Python module; an id is "
            "Name-v0 or module:Name-v0"
        )
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:  # a console script does not look where it was started, as `python -m` does
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a user's module raises
        if added:
            sys.path.remove(here)
        raise SettingError(
            f"environment {env_id!r}: importing {module} failed "
            f"({type(error).__name__}: {error}). Start in its directory, or put that on PYTHONPATH"
        ) from error


def directory_name(stage: str) -> str:
    """A stage such as `finetune-module:ns/Name-v0` as the name of a single directory."""
    return re.sub(r"[^\w.+-]", "_", stage)
