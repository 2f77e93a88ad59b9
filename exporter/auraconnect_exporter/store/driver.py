"""What the engine needs of a database: how SQLite and PostgreSQL connect, begin, commit and are interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from auraconnect_exporter.store.transaction import Row, Transaction


class Connection(Transaction, Protocol):
    """One connection, used by one thread; only ``interrupt`` may come from another.

    Every method raises StoreUnavailable where trying again may help (lost, locked, full, interrupted), else StoreError.
    """

    def begin(self, limit: float | None) -> None:
        """Begin a transaction, alone among writers unless the connection is read-only.

        ``limit`` is how many seconds the server lets a statement run and wait for locks; None means for ever.
        """

    def commit(self) -> None:
        """Make the transaction durable. When this raises StoreUnavailable, it may be so or not."""

    def rollback(self) -> None:
        """Undo the transaction."""

    def interrupt(self) -> None:
        """End what runs and refuse what comes: the connection is of no use afterwards, and must be closed."""

    def close(self) -> None:
        """Close it; never raises."""

    def tables(self) -> frozenset[str]:
        """Return the names of the tables where ours are."""

    def make_place(self) -> None:
        """Make what must be there before the first table."""

    def faults(self) -> list[str]:
        """Return what the database itself finds wrong with its files, outside of a transaction."""


class Driver(Protocol):
    """One database, to which connections can be made."""

    @property
    def shared(self) -> bool:
        """Whether other exporters may write there."""

    @property
    def types(self) -> Mapping[str, str]:
        """What ``{id}`` and ``{blob}`` stand for in the definition of a table."""

    def connect(self, *, read_only: bool) -> Connection:
        """Open a connection. Raises as a connection does."""

    def close(self) -> None:
        """Let go of what was held beside the connections."""


def storable(parameters: Sequence[Any]) -> list[Any]:
    """Return parameters as both databases take them and give them back alike.

    Truth becomes 0 or 1. Text comes from outside, and a request must not fail for what only one database takes: NUL
    (which PostgreSQL refuses) becomes U+FFFD, half a surrogate pair (which none takes) a question mark.
    """
    return [_storable(value) for value in parameters]


def _storable(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        text = str(value).replace("\0", "\ufffd")
        return text if text.isascii() else text.encode("utf-8", "replace").decode()
    return value


ROWS_A_STATEMENT: Final = 100


def insert_rows(transaction: Transaction, into: str, rows: Iterable[Sequence[Any]], then: str = "") -> list[Row]:
    """Insert rows, many a statement since each is a round trip; return what ``RETURNING`` says.

    ``into`` is ``table (column, …)``, ``then`` what follows the values.
    """
    returned: list[Row] = []
    left = iter(rows)
    while batch := list(itertools.islice(left, ROWS_A_STATEMENT)):
        row = f"({', '.join('?' for _ in batch[0])})"
        sql = f"INSERT INTO {into} VALUES {', '.join(row for _ in batch)} {then}"  # noqa: S608  # names of ours
        returned += transaction.execute(sql, list(itertools.chain.from_iterable(batch)))
    return returned
