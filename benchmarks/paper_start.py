"""Starts the `paper` preset with 60 actors on this machine; prints memory and progress as JSON."""

from __future__ import annotations

import argparse
import json

from safetransfer.benchmarks.paper_start import ACTORS, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--robot", default="Doggo")
    parser.add_argument("--actors", type=int, default=ACTORS)
    a = parser.parse_args()
    print(json.dumps(run(a.updates, a.robot, a.actors), indent=2))
