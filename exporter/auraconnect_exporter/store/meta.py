"""The table ``meta``: which form the tables have, and how often anything was changed."""

from __future__ import annotations

from auraconnect_exporter.store.problems import StoreTooNew
from auraconnect_exporter.store.transaction import Transaction


def version(transaction: Transaction) -> int:
    """Return the number of the last migration that ran."""
    return _value(transaction, "version")


def revision(transaction: Transaction) -> int:
    """Return the number of transactions that wrote so far, the present one included.

    Several exporters on one PostgreSQL notice by it what the others changed. Read in a write, it is that write's own.
    """
    return _value(transaction, "revision")


def _value(transaction: Transaction, key: str) -> int:
    rows = transaction.execute("SELECT value FROM meta WHERE key = ?", (key,))
    return int(rows[0][0]) if rows else 0


def count_write(transaction: Transaction, known: int) -> None:
    """Count the transaction in the revision. Raises StoreTooNew where the tables are newer than ``known``."""
    rows = transaction.execute(
        "UPDATE meta SET value = value + 1 WHERE key = 'revision' "
        "RETURNING (SELECT value FROM meta WHERE key = 'version')"
    )
    refuse_newer(int(rows[0][0]) if rows else 0, known)


def refuse_newer(found: int, known: int, what: str = "The store's tables") -> None:
    """Raise StoreTooNew where tables, ``what`` says whose, are newer than ``known``."""
    if found > known:
        raise StoreTooNew(
            f"{what} have version {found}, this program knows them up to version {known}: "
            "install the newer version of the exporter, or restore a backup that this one made."
        )
