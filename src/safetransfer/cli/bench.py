"""``safetransfer bench``: the speed of a part on this machine."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from safetransfer.cli.output import add_json, measure_and_print
from safetransfer.errors import UnknownNameError

BENCHMARKS = ("actors", "camera", "collector", "env", "learner", "peer", "train")


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("name", metavar="{" + ",".join(BENCHMARKS) + "}", help="what is measured")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.name not in BENCHMARKS:
        raise UnknownNameError("benchmark", arguments.name, BENCHMARKS)
    measure_and_print(
        arguments,
        lambda: importlib.import_module(f"safetransfer.benchmarks.{arguments.name}").run(),
    )
