"""``safetransfer train``: an agent learns in one environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetransfer.cli.arguments import add_backend, add_carry, chosen_backend, chosen_carry
from safetransfer.cli.settings_flags import add_settings, chosen_settings
from safetransfer.errors import SettingError

if TYPE_CHECKING:
    from safetransfer.training.settings import Settings


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
    _say_if_never_constrained(settings)
    train(
        settings,
        arguments.run,
        command=arguments.command_line,
        init=arguments.init,
        carry=carry,
    )


def _say_if_never_constrained(settings: Settings) -> None:
    warmup, updates = settings.agent.constraint_warmup, settings.train.epochs
    updates *= settings.train.epoch_updates
    if settings.agent.constraint == "on" and warmup >= updates:
        print(
            f"safetransfer: the constraint will not act: agent.constraint_warmup is {warmup} "
            f"updates, and the whole run {updates}. Give less, or train for longer",
            file=sys.stderr,
        )
