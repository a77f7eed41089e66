"""Flags for settings, and the settings that a command line comes to."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from safetransfer import settings_io
from safetransfer.cli.arguments import Parser, add_mocap, chosen_mocap
from safetransfer.errors import SettingError

_HALLWAY = ("robot", "obstacles")  # settings of a hallway that others depend on


def add_settings(
    parser: argparse.ArgumentParser, argv: Sequence[str], env_option: str = "--env"
) -> None:
    """Options of the settings; `env_option` is the one that names the environment."""
    from safetransfer.training.settings import PRESETS

    parser.add_argument(
        "--preset",
        default="laptop",
        metavar="{" + ",".join(PRESETS) + "}",
        help="where the settings start from; some differ by robot, and where it learns to move. "
        f"--help shows the defaults of the preset, and of {env_option}, that stand beside it "
        "(default: laptop)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="JSON or TOML file of settings that go over the preset's, such as a run's config.json",
    )
    add_mocap(parser)
    settings_io.add_alias(parser, "--device", "train.device")
    peek = Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default="laptop")
    peek.add_argument("--config")
    for name in _HALLWAY:
        peek.add_argument(f"--env.{name}", dest=name)
    peek.add_argument(env_option, dest="env")
    seen, _ = peek.parse_known_args(argv)
    flags = {name: getattr(seen, name) for name in _HALLWAY}
    settings_io.add_flags(parser, _start(seen.preset, seen.config, flags, seen.env))


def chosen_settings(arguments: argparse.Namespace, env_name: str | None = None) -> Any:
    """The hallway's preset, file, named environment, flags: the later goes over the earlier."""
    if env_name == "":  # an unset variable of a shell's, perhaps
        raise SettingError("the environment's name is empty; such as PointWalls is wanted")
    given = settings_io.given_flags(arguments)
    flags = {name: given.get(f"env.{name}") for name in _HALLWAY}
    _refuse_another_hallway(flags, env_name)
    start = _start(arguments.preset, arguments.config, flags, env_name)
    settings = settings_io.apply_flags(start, arguments)
    clips = chosen_mocap(arguments, settings.env.mocap)
    return dataclasses.replace(settings, env=settings.env.with_mocap(clips))


def _refuse_another_hallway(flags: Mapping[str, str | None], env_name: str | None) -> None:
    """Raise SettingError where flags name another hallway than the environment that is named."""
    from safetransfer.envs.naming import is_hallway
    from safetransfer.envs.registration import parse_env_name

    if not env_name or not is_hallway(env_name):
        return
    for name, named in zip(_HALLWAY, parse_env_name(env_name), strict=True):
        if flags[name] not in (None, named):
            raise SettingError(
                f"{env_name} has {name} {named}, and --env.{name} {flags[name]} names another "
                "hallway; name the one that is meant, once"
            )


def _start(
    preset_name: str, config: str | None, flags: Mapping[str, str | None], env_name: str | None
) -> Any:
    """The hallway's preset, file, named environment: the later goes over the earlier."""
    from safetransfer.training.settings import preset

    configured = _configured(config)
    settings = preset(preset_name, **_hallway(flags, env_name, configured))
    settings = settings_io.updated(settings, configured)
    if env_name:
        from safetransfer.envs.naming import settings_for

        settings = dataclasses.replace(settings, env=settings_for(env_name, settings.env))
    return settings


def _configured(path: str | None) -> dict[str, Any]:
    return settings_io.read_settings(path) if path else {}


def _hallway(
    flags: Mapping[str, str | None], env_name: str | None, configured: dict[str, Any]
) -> dict[str, str]:
    """The robot and obstacles whose presets count: of the flag, the named environment, the file;
    what none of them says is left out."""
    from safetransfer.envs.naming import is_hallway
    from safetransfer.envs.registration import parse_env_name

    env = configured.get("env")
    file = env if isinstance(env, dict) else {}
    named = parse_env_name(env_name) if env_name and is_hallway(env_name) else (None, None)
    hallway = {}
    for name, value in zip(_HALLWAY, named, strict=True):
        chosen = flags[name] or value or file.get(name)
        if isinstance(chosen, str):
            hallway[name] = chosen
    return hallway


def add_env_settings(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Flags for what an agent's settings may not say of an environment that is not ours."""
    from safetransfer.envs.gym_settings import GymSettings
    from safetransfer.envs.naming import settings_for

    name = _named_env(argv)
    settings = settings_for(name) if name else None
    if isinstance(settings, GymSettings):
        settings_io.add_flags(parser, settings, "env")
        return
    given = next((text for text in argv if text.startswith("--env.")), None)
    if settings is not None and given is not None:
        flag = given.partition("=")[0]
        raise SettingError(
            f"{flag} cannot be given: an agent meets hallways like those that it was trained in. "
            f"`safetransfer study --vary {flag.removeprefix('--env.')}` takes it to others"
        )


def _named_env(argv: Sequence[str]) -> str | None:
    """The environment that a command line names: its settings are those that can be given."""
    peek = Parser(add_help=False, allow_abbrev=False)
    peek.add_argument("--env")
    return peek.parse_known_args(argv)[0].env


def env_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The environment's settings that were given as flags; raises for an unknown environment."""
    from safetransfer.envs.naming import settings_for
    from safetransfer.training.settings import Settings

    settings: Any = Settings(env=settings_for(arguments.env))
    flags = settings_io.given_flags(arguments)
    return settings_io.parse_changes(settings, flags).get("env", {})


def say_if_never_constrained(settings: Any, epochs: int) -> None:
    """Say on standard error where training for so long ends before its constraint begins."""
    warmup, updates = settings.agent.constraint_warmup, epochs * settings.train.epoch_updates
    if settings.agent.constraint == "on" and warmup >= updates:
        print(
            f"safetransfer: the constraint will not act: agent.constraint_warmup is {warmup} "
            f"updates, and the whole run {updates}. Give less, or train for longer",
            file=sys.stderr,
        )
