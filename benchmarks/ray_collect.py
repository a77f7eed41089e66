"""Prints, as JSON, how fast actors over Ray collect beside the one-machine collector."""

from __future__ import annotations

import argparse
import json

from safetransfer.benchmarks.ray_collect import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    print(json.dumps(run(a.seconds, a.actors, a.rounds), indent=2))
