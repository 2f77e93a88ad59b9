"""The SQL of how far what is copied from elsewhere has been read."""

from __future__ import annotations

from auraconnect_exporter.store.transaction import Transaction


def get(transaction: Transaction, name: str) -> str | None:
    """Return a cursor; None where nothing has been read yet."""
    rows = transaction.execute("SELECT position FROM cursors WHERE name = ?", (name,))
    return str(rows[0][0]) if rows else None


def put(transaction: Transaction, name: str, position: str) -> None:
    """Save a cursor: in the transaction that keeps what was read, so that nothing is read twice or lost."""
    transaction.execute(
        "INSERT INTO cursors (name, position) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET position = excluded.position",
        (name, position),
    )


def replace(transaction: Transaction, name: str, old: str | None, position: str) -> bool:
    """Save a cursor in place of the one that was read; False if that is not the saved one any more.

    Several exporters may share a store and read the same.
    """
    if get(transaction, name) != old:
        return False
    put(transaction, name, position)
    return True
