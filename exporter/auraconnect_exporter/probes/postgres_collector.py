"""What a collector of PostgreSQL is: a statement for each version, what its rows mean, and how often to ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auraconnect_exporter.model import Part
from auraconnect_exporter.probes.postgres_connection import Rows

ONCE_A_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Collector:
    """One part of a reading.

    ``statement`` returns one SELECT for a server's version, such as 150004; ``read`` turns its rows into the part and
    does no I/O. ``every`` is in seconds; 0 means with each check. ``only_if`` is asked after the others of a check were
    read; where it says no, there are no rows. ``extension`` is what the statement needs: without it, it is not sent,
    since the server would log an error each time.
    """

    name: str
    statement: Callable[[int], str]
    read: Callable[[Rows], Part]
    every: float = 0.0
    only_if: Callable[[], bool] | None = None
    extension: str = ""


def always(sql: str) -> Callable[[int], str]:
    """Return what gives the same statement to all versions."""
    return lambda _: sql


def since(version: int, new: str, old: str) -> Callable[[int], str]:
    """Return what gives ``new`` to servers from a version on (14 is 140000), and ``old`` to those before it."""
    return lambda server: new if server >= version else old
