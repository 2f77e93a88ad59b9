"""AuraConnect's table ``error_logs``, read step by step in the background, so that the store can copy it.

Source: the table as AuraConnect writes it: naive timestamps in UTC, ``id`` a UUID, an index on ``created_at``. A step
reads one batch, oldest first, over a connection of its own, in a read-only transaction with timeouts, and is over in
time even when the server is frozen (the probes' runner sees to that).

A row is written with the time at which its request failed and seen when its transaction commits, so rows come late.
Each time the end is reached, the next step begins a minute before the newest row again; whoever keeps the records
ignores those that it has, by ``source``. Within that minute a row comes again with its flags of now (``resolved``,
``resolved_at``); what is changed later is not seen, since an error that is marked as resolved leaves no trace in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from auraconnect_exporter.clients.json_client import decode
from auraconnect_exporter.database_step import TIMEOUT, Session, Steps
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import SECOND, ErrorRecord, Moment, instant_of
from auraconnect_exporter.targets import PostgresServer

LOOK_BACK: Final = 60 * SECOND
"""How late a row may be seen, in microseconds."""

BATCH: Final = 200
"""Rows of a step; with the longest traces these are some 10 MB."""

MAX_TEXT: Final = 32_768
"""Characters of a stack trace, a message or the tags; what is longer is cut off, of the tags left out."""

MAX_DEPTH: Final = 32
"""Levels of the tags; deeper ones stay text."""

SQL: Final = """
SELECT id::text, round(extract(epoch FROM created_at) * 1000000)::bigint,
       coalesce(error_type, ''), left(coalesce(error_message, ''), %(most)s), left(stack_trace, %(most)s),
       endpoint, method, status_code::int, user_id::text, restaurant_id::text, request_id::text,
       CASE WHEN length(tags::text) <= %(most)s THEN tags::text END,
       coalesce(resolved, false), round(extract(epoch FROM resolved_at) * 1000000)::bigint,
       round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM error_logs
WHERE created_at >= %(at)s AND created_at < timestamp '9999-01-01'
  AND (created_at, id::text COLLATE "C") > (%(at)s, %(id)s)
ORDER BY created_at, id::text COLLATE "C"
LIMIT %(batch)s
"""
"""The rows behind a cursor; the first condition is the one that finds them by the index."""


@dataclass(frozen=True, slots=True)
class ErrorCursor:
    """How far the table has been read: up to the row ``id`` of the moment ``at``; ``newest`` is the newest row seen."""

    at: Moment
    id: str = ""
    newest: Moment = 0

    def __str__(self) -> str:
        return f"{self.at} {self.newest} {self.id}"

    @classmethod
    def parse(cls, text: str) -> ErrorCursor:
        """Return the cursor that was written as this text. Raises ValueError."""
        at, newest, id_ = text.split(" ", 2)
        return cls(int(at), id_, int(newest))


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has read, and the cursor to save once that is kept; ``more`` rows may be had at once."""

    records: tuple[ErrorRecord, ...]
    cursor: ErrorCursor
    more: bool = False


class ErrorLogReader:
    """Reads the errors of one database. ``problem`` says in a sentence why the last step could not, or is empty."""

    def __init__(self, server: PostgresServer, clock: Clock, *, timeout: float = TIMEOUT, batch: int = BATCH) -> None:
        self._steps = Steps(server, clock, table="error_logs", name="errors", timeout=timeout)
        self._batch = batch

    @property
    def problem(self) -> str:
        """Why the last step could not read, in a sentence."""
        return self._steps.problem

    async def step(self, cursor: ErrorCursor) -> Step:
        """Read what comes behind the cursor; nothing while that is impossible, which is logged once, not each time."""

        async def act(session: Session) -> Step:
            rows = await session.begin(
                f"{SQL}; COMMIT",
                {
                    "at": instant_of(cursor.at).replace(tzinfo=None),
                    "id": cursor.id,
                    "batch": self._batch,
                    "most": MAX_TEXT,
                },
            )
            return _step(cursor, rows, self._batch)

        return await self._steps.run(act) or Step((), cursor)


def _step(cursor: ErrorCursor, rows: Sequence[tuple[Any, ...]], size: int) -> Step:
    """Return the records of rows, and where to go on: behind the last one, or at the end a minute before the newest.

    A row from the future (a clock that is wrong) must not move the minute away from where the others are written.
    """
    newest = max([cursor.newest, *(min(row[1], row[-1]) for row in rows)])
    records = tuple(_record(row) for row in rows)
    if len(rows) == size:
        return Step(records, ErrorCursor(rows[-1][1], rows[-1][0], newest), more=True)
    # With nothing seen so far there is nothing to go back from.
    return Step(records, ErrorCursor(newest - LOOK_BACK, "", newest) if newest else cursor)


def _record(row: tuple[Any, ...]) -> ErrorRecord:
    id_, created, kind, message, trace, endpoint, method, status, user, restaurant, request, tags, *rest = row
    resolved, resolved_at, _ = rest
    return ErrorRecord(
        id=id_,
        error_type=kind,
        error_message=message,
        created_at=created,
        stack_trace=trace,
        endpoint=endpoint,
        method=method,
        status_code=status,
        user_id=user,
        restaurant_id=restaurant,
        request_id=request,
        tags=_tags(tags),
        resolved=resolved,
        resolved_at=resolved_at,
        source=f"error_logs:{id_}",
    )


def _tags(text: str | None) -> Any:
    """Return JSON as data; as it is where no other database could keep it (PostgreSQL's ``json`` checks little)."""
    if text is None:
        return None
    try:
        value = decode(text.encode(), object)
    except ValueError:
        return text
    return value if r"\u0000" not in text and _is_shallow(value, MAX_DEPTH) else text


def _is_shallow(value: object, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)
