"""``python -m rlco.cli``."""

import sys

from rlco.cli import main

sys.exit(main())
