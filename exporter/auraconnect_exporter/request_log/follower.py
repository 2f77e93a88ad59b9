"""Follows one table: step by step in the background, with what was counted kept in the incident store.

Counters go on over a restart, since the store holds them together with the cursor that says what they hold. So they are
saved once a minute only: what was read since is read again, and comes to the same.

What was missed (we were down, or the database was) counts once it can be read. No counter may jump meanwhile, or
Prometheus takes hours for a burst of two minutes. So while the table has not been read up to its end for a minute, the
counters are shown to nobody. When they come back they have grown by what happened in between, and rate() over a gap is
the truth: what happened there in the time that it took.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from auraconnect_exporter.database_step import Session, Steps
from auraconnect_exporter.model import Clock
from auraconnect_exporter.request_log.tables import Table
from auraconnect_exporter.store import cursors
from auraconnect_exporter.store.engine import Store, StoreError

log = logging.getLogger(__name__)

STEP_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 10.0
ABSENT_SECONDS: Final = 60.0
"""How often it is looked for a table that is not there."""

SHOWN_SECONDS: Final = 60.0
"""For how long counts are shown after the table was read up to its end."""
SAVE_SECONDS: Final = 60.0

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Following(Generic[S]):
    """What is known of a table: ``counted`` is None while that is not known; ``ok`` is None without such a table."""

    table: str
    ok: bool | None = None
    read_at: float | None = None
    """When it was read up to its end, Unix seconds."""
    counted: S | None = None


class Follower(Generic[S]):
    """Follows one table of one database."""

    def __init__(self, table: Table[S], steps: Steps, store: Store, clock: Clock) -> None:
        self._table = table
        self._steps = steps
        self._store = store
        self._clock = clock
        self._cursor_name = f"{table.name} counts"
        self._saved: str | None = None
        self._saved_at: float | None = None
        self._state: S | None = None
        self._shown_until = 0.0
        self._following: Following[S] = Following(table.name)

    @property
    def problem(self) -> str:
        """Why the table could not be read, in a sentence; empty when it could."""
        return self._steps.problem

    @property
    def latest(self) -> Following[S]:
        """What is known of the table now."""
        if self._clock.monotonic() < self._shown_until:
            return self._following
        return replace(self._following, counted=None)

    async def run(self) -> None:
        """Count, again and again, until cancelled."""
        while True:
            try:
                pause = await self.step()
            except StoreError as error:
                log.warning("%s can't be counted; tried again soon", self._table.name, extra={"detail": str(error)})
                pause = RETRY_SECONDS
            except Exception:
                log.exception("counting %s failed; it goes on", self._table.name)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def step(self) -> float:
        """Count what is new; returns the seconds until the next step. Raises StoreError."""
        state = await self._load() if self._state is None else self._state

        async def act(session: Session) -> tuple[tuple[S, bool] | None]:
            return (await self._table.step(session, state),)

        done = await self._steps.run(act)
        if done is None:
            self._following = replace(self._following, ok=False)
            return RETRY_SECONDS
        if done[0] is None:
            self._following = replace(self._following, ok=None)
            return ABSENT_SECONDS
        self._state, more = done[0]
        if more:
            return 0.0
        self._following = Following(self._table.name, ok=True, read_at=self._clock.time(), counted=self._state)
        self._shown_until = self._clock.monotonic() + SHOWN_SECONDS
        if self._saved_at is None or self._clock.monotonic() >= self._saved_at + SAVE_SECONDS:
            await self._save(self._state)
        return STEP_SECONDS

    async def _load(self) -> S:
        """Return the state that the store has. Raises StoreError."""
        saved = await self._store.read(lambda transaction: cursors.get(transaction, self._cursor_name))
        self._saved = saved
        if saved is None:
            return self._table.empty
        try:
            return self._table.decode(saved)
        except ValueError:
            log.exception("what was counted of %s can't be read; counting begins anew", self._table.name)
            return self._table.empty

    async def _save(self, state: S) -> None:
        """Save a state, unless another exporter has saved its own, which then counts for both. Raises StoreError."""
        text, old = self._table.encode(state), self._saved
        self._state = None  # until the store has said what it holds
        if await self._store.write(lambda transaction: cursors.replace(transaction, self._cursor_name, old, text)):
            self._state, self._saved, self._saved_at = state, text, self._clock.monotonic()
