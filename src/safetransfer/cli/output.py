"""What a measurement prints: for people, or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, alone on standard output"
    )


def measure_and_print(arguments: argparse.Namespace, measure: Callable[[], dict[str, Any]]) -> None:
    """Runs ``measure`` with everything that it prints on standard error, then prints its result."""
    with contextlib.redirect_stdout(sys.stderr):
        result = measure()
    print(json.dumps(result, indent=2) if arguments.json else _readable(result))


def _readable(result: dict[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and set(value) == {"mean", "ci95"}:
            low, high = value["ci95"]
            lines.append(f"{indent}{key}: {value['mean']:.2f} (95%: {low:.2f} to {high:.2f})")
        elif isinstance(value, dict) and key != "per_episode":
            lines += [f"{indent}{key}:", _readable(value, indent + "  ")]
        elif not isinstance(value, dict) and value is not None:  # as people, where there are none
            shown = f"{value:.4g}" if isinstance(value, float) else value
            lines.append(f"{indent}{key}: {shown}")
    return "\n".join(lines)
