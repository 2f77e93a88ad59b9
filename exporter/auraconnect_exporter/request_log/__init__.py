"""AuraConnect's requests and errors, counted from the tables that its API writes: as counters and a histogram.

cursor      which rows are new, whenever they come (pure)
counts      what they add up to, within bounds (pure)
statements  the SQL that folds and groups them
tables      one step through either table
follower    steps in the background, and what they counted in the incident store
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from auraconnect_exporter.database_step import Steps
from auraconnect_exporter.request_log.follower import Follower, Following
from auraconnect_exporter.request_log.tables import Errors, ErrorState, Requests, RequestState

if TYPE_CHECKING:
    from auraconnect_exporter.model import Clock
    from auraconnect_exporter.store.engine import Store
    from auraconnect_exporter.targets import PostgresServer


@dataclass(frozen=True, slots=True)
class RequestLogView:
    """What is known of both tables."""

    requests: Following[RequestState]
    errors: Following[ErrorState]


NOTHING_COUNTED: Final = RequestLogView(
    Following(Requests.name, counted=Requests.empty), Following(Errors.name, counted=Errors.empty)
)
"""Both tables without a row."""


class RequestLog:
    """Counts the requests and errors of one database, each table by itself: neither waits for the other."""

    def __init__(self, server: PostgresServer, store: Store, clock: Clock) -> None:
        requests, errors = (Steps(server, clock, table, name="request log") for table in (Requests.name, Errors.name))
        self._requests = Follower(Requests(), requests, store, clock)
        self._errors = Follower(Errors(), errors, store, clock)

    @property
    def latest(self) -> RequestLogView:
        """What is known now."""
        return RequestLogView(self._requests.latest, self._errors.latest)

    async def run(self) -> None:
        """Count until cancelled."""
        await asyncio.gather(self._requests.run(), self._errors.run())
