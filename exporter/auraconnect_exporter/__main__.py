"""``python -m auraconnect_exporter``."""

import sys

from auraconnect_exporter.cli import main

sys.exit(main())
