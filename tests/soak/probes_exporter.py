"""The exporter, which at SIGUSR1 writes into a file how many tasks its loop has.

python -m tests.soak.probes_exporter FILE ARGUMENTS…
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path

from auraconnect_exporter import blocking, cli


class CountedLoop(blocking.ExporterLoop):
    """The exporter's loop, whose tasks can be counted."""

    file = Path()

    def __init__(self) -> None:
        super().__init__()
        self.add_signal_handler(signal.SIGUSR1, self._count)

    def _count(self) -> None:
        gc.collect()
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(str(len(asyncio.all_tasks(self))), encoding="ascii")
        unfinished.rename(self.file)


if __name__ == "__main__":
    CountedLoop.file = Path(sys.argv[1])
    cli.ExporterLoop = CountedLoop  # type: ignore[attr-defined]  # the one that it makes for itself
    sys.exit(cli.main(sys.argv[2:]))
