"""Who was turned away by PostgreSQL: counted in the server's log, the only place that knows.

Source: PostgreSQL's documentation, "Error Reporting and Logging". Of a log on this machine, as text in English
(whatever ``log_line_prefix`` says) or as JSON, what has been written since the last reading is read, at most a
megabyte. Nothing of it is kept or shown.
"""

from __future__ import annotations

import asyncio
import glob
import os
import re
from typing import Final

from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.model import Metric, Part

AUTHENTICATION_FAILURES = Metric(
    "postgres_authentication_failures_total",
    "counter",
    "Clients that were not let in, since this exporter reads the log.",
)

MOST_BYTES: Final = 1024 * 1024
"""What is read at a time; of more than that, the end."""

SECONDS: Final = 0.2
"""How long a check waits for the log."""

_SEVERITY: Final = re.compile(
    rb"(?:DEBUG\d?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|STATEMENT|DETAIL|HINT|CONTEXT):  "
)
_REFUSED: Final = re.compile(
    rb"FATAL:  (?:.*authentication failed for |.*pg_hba\.conf|role .* (?:does not exist|is not permitted to log in))"
)
_REFUSED_JSON: Final = re.compile(rb'"error_severity":"FATAL","state_code":"28(?:P01|000)"')


class AuthenticationLog:
    """Reads on in one log file; ``pattern`` may have a ``*`` in it, and means the file last written to then."""

    collector: Final = "log"

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that was read last; None before the first."""
        self._offset = 0
        self.failures = 0
        self._reading: asyncio.Task[int] | None = None

    async def part(self) -> Part:
        """Return what was counted; a file system that hangs holds nothing up, and isn't asked twice."""
        self._reading = self._reading or asyncio.create_task(in_daemon_thread(self.read))
        await asyncio.wait({self._reading}, timeout=SECONDS)
        if not self._reading.done():
            return self._counted("the log can't be read in time")
        reading, self._reading = self._reading, None
        try:
            skipped = reading.result()
        except OSError as error:
            return self._counted(f"the log can't be read: {error.strerror}")
        return self._counted(f"{skipped} bytes of the log were left out, more than can be read" if skipped else "")

    def close(self) -> None:
        """Wait no longer for a reading that hangs."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def read(self) -> int:
        """Count on to the end of the last whole line; return how many bytes were left out. Raises OSError."""
        path = self._path()
        with open(path, "rb") as stream:  # noqa: PTH123  # a path that glob found is text
            status = os.fstat(stream.fileno())
            identity = (status.st_dev, status.st_ino)
            if self._file is None:
                self._file, self._offset = identity, status.st_size
                return 0
            if identity != self._file or status.st_size < self._offset:  # rotated, or cut off
                self._file, self._offset = identity, 0
            skipped = max(0, status.st_size - self._offset - MOST_BYTES)
            stream.seek(self._offset + skipped)
            chunk = stream.read(MOST_BYTES)
        whole = chunk.rfind(b"\n") + 1
        if not whole and len(chunk) == MOST_BYTES:
            whole = len(chunk)
        self._offset += skipped + whole
        self.failures += failures(chunk[:whole])
        return skipped

    def _path(self) -> str:
        if "*" not in self._pattern:
            return self._pattern
        found = glob.glob(self._pattern)  # noqa: PTH207  # the pattern is a whole path
        if not found:
            raise FileNotFoundError(0, "no file fits")
        return max(found, key=os.path.getmtime)

    def _counted(self, problem: str) -> Part:
        return Part(self.collector, (AUTHENTICATION_FAILURES.sample(self.failures),), (), problem)


def failures(text: bytes) -> int:
    """Count the lines that say so; what a client can have written into the log (a statement) says nothing."""
    if b"FATAL" not in text:
        return 0
    return sum(_refuses(line) for line in text.split(b"\n") if b"FATAL" in line)


def _refuses(line: bytes) -> bool:
    if line.startswith(b"{"):
        return _REFUSED_JSON.search(line) is not None
    first = _SEVERITY.search(line)
    # A message's further lines begin with a tab.
    return first is not None and not line.startswith(b"\t") and _REFUSED.match(line, first.start()) is not None
