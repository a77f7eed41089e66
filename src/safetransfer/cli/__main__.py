"""``python -m safetransfer.cli`` is ``safetransfer``."""

import sys

from safetransfer.cli import main

sys.exit(main())
