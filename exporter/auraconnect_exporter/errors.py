"""The application's errors and the audit log: what programs log to us, listed and summed. The way to their tables."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from auraconnect_exporter.error_log import ErrorCursor, ErrorLogReader
from auraconnect_exporter.ledger import new_id
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import SECOND, Actor, AuditEntry, ErrorRecord, Moment, moment
from auraconnect_exporter.store import audit, cursors
from auraconnect_exporter.store import errors as table
from auraconnect_exporter.store.engine import Store, StoreError
from auraconnect_exporter.store.errors import MINUTE, ErrorFilter, ErrorSummary
from auraconnect_exporter.store.summaries import Summaries
from auraconnect_exporter.store.transaction import Transaction

log = logging.getLogger(__name__)

HOUR: Final = 3600 * SECOND

COPY_SECONDS: Final = 10.0
"""How often AuraConnect's errors are copied."""
FIRST_COPY: Final = 168 * HOUR
"""How far back the first copy reaches: as far as the health API asks."""
_CURSOR: Final = "error_logs"


class Errors:
    """The errors that the store holds. Every method raises StoreError."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._summaries = Summaries(store)
        self._clock = clock

    async def log(self, error: ErrorRecord, actor: Actor) -> ErrorRecord:
        """Keep an error that a program reports; its id and time are ours."""
        kept = replace(error, id=new_id(), created_at=self._now(), created_by=actor.name)
        await self._store.write(lambda transaction: table.insert(transaction, kept))
        return kept

    async def newest(
        self, hours: int, limit: int, error_type: str | None, endpoint: str | None, *, resolved: bool | None
    ) -> list[ErrorRecord]:
        """Return errors of the last hours, newest first."""
        wanted = ErrorFilter(
            since=self._now() - hours * HOUR, error_type=error_type, endpoint=endpoint, resolved=resolved
        )
        return await self._store.read(lambda transaction: table.newest(transaction, wanted, limit))

    async def state(self) -> tuple[int, int]:
        """Return what is another whenever errors of the last hours may be others: after a write, and each minute."""
        return await self._store.revision(), self._now() // (MINUTE * SECOND)

    async def summary(self, hours: int) -> ErrorSummary:
        """Return the errors of the last hours, counted."""
        return await self._summaries.get(self._now(), hours)

    async def audit(self, hours: int, limit: int) -> list[AuditEntry]:
        """Return who did what in the last hours, newest first."""
        since = self._now() - hours * HOUR
        return await self._store.read(lambda transaction: audit.newest(transaction, since, limit))

    async def note(self, actor: Actor, action: str, outcome: str) -> None:
        """Add an act that changes nothing in the store to the audit log."""
        entry = actor.did(self._now(), action, outcome=outcome)
        await self._store.write(lambda transaction: audit.insert(transaction, entry))

    async def copy(self, reader: ErrorLogReader) -> None:
        """Copy AuraConnect's errors, again and again, until cancelled; each once, as its cursor is kept with it."""
        while True:
            try:
                while await self.copy_step(reader):
                    pass
            except StoreError as error:
                log.warning("errors were not copied; tried again soon", extra={"detail": str(error)})
            await asyncio.sleep(COPY_SECONDS)

    async def copy_step(self, reader: ErrorLogReader) -> bool:
        """Copy some errors; returns whether there are more at once. Raises StoreError."""
        saved = await self._store.read(lambda transaction: cursors.get(transaction, _CURSOR))
        cursor = ErrorCursor.parse(saved) if saved else ErrorCursor(self._now() - FIRST_COPY)
        step = await reader.step(cursor)

        def keep(transaction: Transaction) -> None:
            table.insert_copied(transaction, step.records)
            cursors.put(transaction, _CURSOR, str(step.cursor))

        if step.records or step.cursor != cursor:
            await self._store.write(keep)
        return step.more

    def _now(self) -> Moment:
        return moment(self._clock.time())
