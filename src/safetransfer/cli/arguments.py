"""The parser, and options that several commands take, each beside what reads it."""

from __future__ import annotations

import argparse
from typing import NoReturn

from safetransfer.errors import SettingError, UnknownNameError


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors like any other."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message} (see: {self.prog} --help)")


def positive(text: str) -> int:
    """Type of an option: a whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


positive.__name__ = "whole number"  # argparse names the type by it


def add_mocap(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--mocap",
        metavar="DIR",
        help="folder of ASF/AMC or BVH clips that people move by "
        "(default: $SAFETRANSFER_MOCAP, else built-in motions; 'none': those in any case)",
    )


def chosen_mocap(arguments: argparse.Namespace, setting: str | None = None) -> str | None:
    """The folder of clips: of the flag, else of the settings, else of the variable, else None.

    Raises SettingError where it does not exist.
    """
    from safetransfer.envs.mocap.folder import mocap_folder

    if arguments.mocap == "none":
        return None
    folder = mocap_folder(arguments.mocap or setting)
    if folder is None:
        return None
    if not folder.is_dir():
        raise SettingError(f"the folder of motion-capture clips {folder} does not exist")
    return str(folder)


def add_act_by(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--act-by",
        metavar="{mode,sample}",
        help="act by the policy's most likely action, or by samples as in training (default: the "
        "agent's own agent.act_by)",
    )


def chosen_deterministic(arguments: argparse.Namespace) -> bool | None:
    """Whether to act by the mode; None: as the agent has it. Raises UnknownNameError."""
    ways = {"mode": True, "sample": False, None: None}
    if arguments.act_by not in ways:
        raise UnknownNameError("value of --act-by", arguments.act_by, ("mode", "sample"))
    return ways[arguments.act_by]


def add_carry(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--carry",
        metavar="WHAT",
        default=default,
        help="what is taken over from the earlier agent, each with all before it: policy, weights "
        f"(the critics, too), multiplier, optimisers, replay (default: {default})",
    )


def chosen_carry(arguments: argparse.Namespace) -> str:
    """What is carried over; raises UnknownNameError."""
    from safetransfer.agent.agent import CARRY

    if arguments.carry not in CARRY:
        raise UnknownNameError("value of --carry", arguments.carry, CARRY)
    return arguments.carry
