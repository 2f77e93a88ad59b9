"""The application's errors and the audit log: what programs log to us, listed and summed. The way to their tables."""

from __future__ import annotations

from dataclasses import replace

from auraconnect_exporter.ledger import new_id
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import SECOND, Actor, AuditEntry, ErrorRecord, Moment, moment
from auraconnect_exporter.store import audit
from auraconnect_exporter.store import errors as table
from auraconnect_exporter.store.engine import Store
from auraconnect_exporter.store.errors import ErrorFilter, ErrorSummary

HOUR = 3600 * SECOND


class Errors:
    """The errors that the store holds. Every method raises StoreError."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
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

    async def summary(self, hours: int) -> ErrorSummary:
        """Return the errors of the last hours, counted."""
        now = self._now()
        return await self._store.read(lambda transaction: table.summary(transaction, now, hours))

    async def audit(self, hours: int, limit: int) -> list[AuditEntry]:
        """Return who did what in the last hours, newest first."""
        since = self._now() - hours * HOUR
        return await self._store.read(lambda transaction: audit.newest(transaction, since, limit))

    async def note(self, actor: Actor, action: str, outcome: str) -> None:
        """Add an act that changes nothing in the store to the audit log."""
        entry = actor.did(self._now(), action, outcome=outcome)
        await self._store.write(lambda transaction: audit.insert(transaction, entry))

    def _now(self) -> Moment:
        return moment(self._clock.time())
