"""What is broken at the moment: a folder with an empty file for each fault, so that any process can look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

FAULTS: Final[Mapping[str, str]] = {
    "database": "PostgreSQL is killed",
    "redis": "Redis is killed",
    "latency": "one answer in five takes six seconds",
    "errors": "one request in four fails with 500",
    "workers": "the workers are killed, while jobs keep coming",
    "memory": "Redis is filled up to its limit",
}
"""What each fault does, in words."""


class Faults:
    """The faults in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        """Return whether something is broken."""
        return (self._folder / name).exists()

    def broken(self) -> set[str]:
        """Return all that is broken."""
        return {name for name in FAULTS if self.has(name)}

    def start(self, name: str) -> None:
        """Break something."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def end(self, name: str) -> None:
        """Mend it."""
        (self._folder / name).unlink(missing_ok=True)
