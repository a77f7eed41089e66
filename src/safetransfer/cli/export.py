"""``safetransfer export``: an agent as one file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.cli.arguments import add_act_by, chosen_noise


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("agent", metavar="AGENT", help="checkpoint or run directory")
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="file to write: .onnx, or .pt2 (torch.export); it runs without safetransfer",
    )
    add_act_by(parser)


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.training.export import export

    print(export(arguments.agent, arguments.out, chosen_noise(arguments)))
