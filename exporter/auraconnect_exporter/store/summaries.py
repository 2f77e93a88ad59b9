"""Summaries of errors, each made anew only when a write or the next minute may have changed it."""

from __future__ import annotations

from auraconnect_exporter.records import SECOND, Moment
from auraconnect_exporter.store import errors, meta
from auraconnect_exporter.store.engine import Store
from auraconnect_exporter.store.errors import HOUR, MINUTE, ErrorSummary, start_of
from auraconnect_exporter.store.transaction import Transaction


class Summaries:
    """The summaries of one store; what is served is what the store holds at that moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[int, tuple[tuple[int, Moment], ErrorSummary]] = {}
        """By hours: the revision and the first minute that a summary was made for, and the summary."""

    async def get(self, now: Moment, hours: int) -> ErrorSummary:
        """Return the summary of the last ``hours``. Raises StoreError."""

        def query(transaction: Transaction) -> ErrorSummary:
            made_for = (meta.revision(transaction), start_of(MINUTE, now - hours * HOUR * SECOND))
            if hours not in self._kept or self._kept[hours][0] != made_for:
                self._kept[hours] = made_for, errors.summary(transaction, now, hours)
            return self._kept[hours][1]

        return await self._store.read(query)
