"""Webhook bodies that could not be used: kept for a person to look at, since the sender will not send them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from auraconnect_exporter.records import Moment
from auraconnect_exporter.store.transaction import Transaction

BODY_BYTES: Final = 64 * 1024
"""So much of a body is kept, from its beginning."""

BODIES: Final = 1000
"""So many are kept, the newest."""


@dataclass(frozen=True, slots=True)
class UnusableBody:
    """What came, when, and why it could not be used."""

    at: Moment
    reason: str
    body: bytes


def insert(transaction: Transaction, at: Moment, reason: str, body: bytes) -> None:
    """Keep a body; the oldest makes room."""
    transaction.execute("INSERT INTO set_aside (at, reason, body) VALUES (?, ?, ?)", (at, reason, body[:BODY_BYTES]))
    transaction.execute(
        "DELETE FROM set_aside WHERE id <= (SELECT id FROM set_aside ORDER BY id DESC LIMIT 1 OFFSET ?)", (BODIES,)
    )


def newest(transaction: Transaction, limit: int) -> list[UnusableBody]:
    """Return what was put aside, newest first."""
    rows = transaction.execute("SELECT at, reason, body FROM set_aside ORDER BY id DESC LIMIT ?", (limit,))
    return [UnusableBody(*row) for row in rows]
