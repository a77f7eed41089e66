"""``python -m safetransfer`` is ``safetransfer``."""

import sys

from safetransfer.cli import main

sys.exit(main())
