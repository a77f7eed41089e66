"""All checks and figures of a GPU in one call, printed as JSON.

python benchmarks/gpu.py --device cuda --minutes 3
python benchmarks/gpu.py --device cpu --quick     # shows that it works, on any machine
python benchmarks/gpu.py --parts learner --presets paper   # only the speed of the paper's update
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from safetransfer.benchmarks.gpu import PARTS, run
from safetransfer.benchmarks.learner import CASES
from safetransfer.errors import SafeTransferError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", dest="device_name", default="auto", choices=("auto", "cpu", "cuda")
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each whole training")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="only these")
    parser.add_argument("--presets", nargs="+", choices=tuple(CASES), help="only of these")
    arguments = parser.parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = run(**vars(arguments))
    except SafeTransferError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
