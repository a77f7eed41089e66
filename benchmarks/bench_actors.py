"""Prints `safetransfer bench actors --json` without the command line."""

from __future__ import annotations

import json

from safetransfer.benchmarks.actors import run

if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
