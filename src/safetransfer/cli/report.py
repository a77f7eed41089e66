"""``safetransfer report``: the page about a transfer."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from safetransfer.errors import SettingError


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="+", help="directory of a transfer")
    parser.add_argument("--out", metavar="FILE", help="the page (default: DIR/report.html)")
    parser.add_argument(
        "--markdown", action="store_true", help="print its table as Markdown, and write no page"
    )


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.report.markdown import markdown_table
    from safetransfer.report.page import write_report
    from safetransfer.report.runs import read_transfer

    directory, *more = arguments.directory
    if more:
        raise SettingError(
            "a report is about one transfer; to compare several: "
            f"safetransfer compare {shlex.join(arguments.directory)} --out DIR"
        )
    if arguments.markdown and arguments.out:
        raise SettingError(
            "report: --markdown prints the table; --out is for the page. One of them"
        )
    if arguments.markdown:
        print(markdown_table(read_transfer(directory)))
        return
    print(write_report(directory, out=arguments.out))
