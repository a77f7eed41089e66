"""A training on three nodes of which actors, a node and the learner are killed; prints JSON.

The exit status is 0 where the run ended by itself, with all updates made and every step accounted
for. How many epochs fill --seconds is found out first, by a short run of which nothing is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from safetransfer.benchmarks.chaos import KILLS, epochs_for, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="directory, new (default: a temporary one)")
    parser.add_argument("--seconds", type=float, default=180.0, help="about how long it trains")
    parser.add_argument("--epochs", type=int, help="(default: as many as fill --seconds)")
    parser.add_argument("--epoch-updates", type=int, default=150)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--kills", nargs="*", default=KILLS, metavar="actor|learner|node|driver")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--preset", default="laptop")
    a = parser.parse_args()
    with contextlib.ExitStack() as stack:
        out = a.out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "chaos"
        flags = [
            "--preset", a.preset, "--train.epoch_updates", str(a.epoch_updates),
            "--train.checkpoint_minutes", "0.25",
        ]  # fmt: skip
        epochs = a.epochs or epochs_for(out / "pace", flags, a.actors, a.seconds)
        flags += ["--train.epochs", str(epochs)]
        result = run(out, flags, a.seconds, a.kills, a.actors, a.seed)
    print(json.dumps({"epochs": epochs} | result, indent=2))
    whole = result["adds_up"] and result["updates"] == epochs * a.epoch_updates
    sys.exit(0 if whole and result["exit_status"] == 0 else 1)
