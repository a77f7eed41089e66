"""``safetransfer train``: an agent learns in one environment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.cli.arguments import add_backend, add_carry, chosen_backend, chosen_carry
from safetransfer.cli.settings_flags import (
    add_settings,
    chosen_settings,
    say_if_never_constrained,
)
from safetransfer.errors import SettingError


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument(
        "--env",
        metavar="NAME",
        help="environment, such as PointPoles, or the id of any registered Gymnasium environment "
        "(Name-v0, or module:Name-v0); --help shows the settings of the one that stands beside it "
        "(default: PointWalls)",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        required=True,
        help="directory of the run; an unfinished run of these settings there goes on",
    )
    parser.add_argument(
        "--init", metavar="AGENT", help="checkpoint or run directory of an agent to start from"
    )
    add_carry(parser, default="weights")
    add_backend(parser)
    add_settings(parser, argv)


def run(arguments: argparse.Namespace) -> None:
    settings = chosen_settings(arguments, arguments.env)
    carry = chosen_carry(arguments)
    if carry != "weights" and arguments.init is None:
        raise SettingError(f"--carry {carry} says what is taken over from --init, which is missing")
    train = chosen_backend(arguments)
    say_if_never_constrained(settings, settings.train.epochs)
    train(
        settings,
        arguments.run,
        command=arguments.command_line,
        init=arguments.init,
        carry=carry,
    )
