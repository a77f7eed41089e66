"""``safetransfer compare``: tables and curves of several runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="directory of a training run or a transfer, kept or not, or one that holds several",
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="directory for page, tables and curves"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as Markdown as well"
    )


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.report.comparison import write_comparison

    page = write_comparison(arguments.runs, arguments.out)
    print(page.with_suffix(".md").read_text(encoding="utf-8") if arguments.markdown else page)
