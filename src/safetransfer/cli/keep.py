"""``safetransfer keep``: what is worth keeping of a run or a transfer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.errors import UnknownNameError


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.training.stages import STAGES

    parser.add_argument("source", metavar="RUN", help="directory of a training run or a transfer")
    parser.add_argument("directory", metavar="DIR", help="where to keep its agent, or agents")
    parser.add_argument(
        "--stage",
        metavar="{" + ",".join(STAGES) + "}",
        default="pretrained",
        help="what the agent of a run is, in the list agents.json beside DIR (default: pretrained)",
    )


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.training.keep import keep
    from safetransfer.training.stages import STAGES

    if arguments.stage not in STAGES:
        raise UnknownNameError("stage", arguments.stage, STAGES)
    for path in keep(arguments.source, arguments.directory, arguments.stage):
        print(path)
