"""What the SQL of this folder runs in: a transaction of whichever engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Transaction(Protocol):
    """One transaction; it commits when the function that it was handed to returns, and rolls back when that raises."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement, with ``?`` for each parameter, and return its rows (none for a statement without)."""
