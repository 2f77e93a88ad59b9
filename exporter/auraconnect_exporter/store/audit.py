"""The audit log: who did what; entries are added and, after the time they are kept for, removed, never changed."""

from __future__ import annotations

from auraconnect_exporter.records import AuditEntry, Moment
from auraconnect_exporter.store.transaction import Transaction


def insert(transaction: Transaction, entry: AuditEntry) -> None:
    """Add an entry; in the transaction of the act itself, so that there is none without the other."""
    transaction.execute(
        "INSERT INTO audit (at, actor, action, subject, address, outcome, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.at, entry.actor, entry.action, entry.subject, entry.address, entry.outcome, entry.detail),
    )


def newest(transaction: Transaction, since: Moment, limit: int) -> list[AuditEntry]:
    """Return the entries since a moment, newest first."""
    rows = transaction.execute(
        "SELECT at, actor, action, subject, address, outcome, detail FROM audit "
        "WHERE at >= ? ORDER BY at DESC, id DESC LIMIT ?",
        (since, limit),
    )
    return [AuditEntry(*row) for row in rows]
