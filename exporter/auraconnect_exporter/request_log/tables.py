"""The two tables on a real connection: one step of each, in one transaction with one snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

import msgspec

from auraconnect_exporter.database_step import Row, Session
from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError
from auraconnect_exporter.records import Moment, instant_of
from auraconnect_exporter.request_log import statements
from auraconnect_exporter.request_log.counts import BOUNDS, ErrorCounts, Histogram, RequestCounts, RequestGroup
from auraconnect_exporter.request_log.cursor import (
    ErrorCursor,
    Glance,
    RequestCursor,
    Watch,
    Window,
    advanced,
    error_window,
    errors_advanced,
    window,
)

MOST_UNINDEXED: Final = 100_000
"""Rows of a table that is read without an index on ``created_at``."""

_ONE_SNAPSHOT: Final = "ISOLATION LEVEL REPEATABLE READ"


class Unindexed(ProbeError):
    """A table is too large to be read without the index that it lacks."""

    def __init__(self, table: str, rows: float) -> None:
        super().__init__(
            Reason.QUERY,
            f"{table} has about {rows:.2g} rows and no index that begins with created_at, so it is not read "
            "(the statement that makes one: docs/configuration.md)",
        )


@dataclass(frozen=True, slots=True)
class RequestState:
    """The requests counted so far, and what decides which come next; ``skipped`` is time that was not read."""

    cursor: RequestCursor | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    skipped: Moment = 0


@dataclass(frozen=True, slots=True)
class ErrorState:
    """The errors counted so far, and what decides which come next."""

    cursor: ErrorCursor | None = None
    counts: ErrorCounts = field(default_factory=ErrorCounts)


S = TypeVar("S")


class Table(Protocol[S]):
    """A table that is counted."""

    @property
    def name(self) -> str:
        """Its name in the database."""

    @property
    def empty(self) -> S:
        """The state before anything is counted."""

    async def step(self, session: Session, state: S) -> tuple[S, bool] | None:
        """Count what is new; returns the state behind it and whether there is more, None without such a table.

        Raises ProbeError and psycopg.Error.
        """

    def encode(self, state: S) -> str:
        """Return a state as text."""

    def decode(self, text: str) -> S:
        """Return the state that was written as this text. Raises ValueError."""


class Requests:
    """``performance_metrics``: a row for each request."""

    name: Final = "performance_metrics"
    empty: Final = RequestState()

    async def step(self, session: Session, state: RequestState) -> tuple[RequestState, bool] | None:
        """Count what is new."""
        glance = await _glance(session, self.name)
        if glance is None:
            return None
        todo = window(state.cursor, glance)
        rows = await session.query(
            f"{statements.PLAN} {statements.REQUESTS}",
            {
                "since": _naive(todo.since),
                "late": _naive(todo.late),
                "until": None if todo.until is None else _naive(todo.until),
                "now": _naive(glance.now),
                "horizon": _as_rows_say(todo.cursor.horizon),
                "oldest_open": _as_rows_say(glance.oldest_open),
                "seen": [str(transaction) for transaction in todo.cursor.seen],
                "handlers": sorted(state.counts.handlers),
            },
        )
        late = 0
        if todo.watch is not None:
            before = todo.cursor.watch or todo.watch
            again, rows_now = (await session.query(statements.WATCH, _ranges(before, todo.watch)))[0]
            late = max(0, again - before.rows) if todo.cursor.watch else 0
            todo = replace(todo, watch=replace(todo.watch, rows=rows_now))
        return _counted(state, todo, glance, rows, late), todo.until is not None

    def encode(self, state: RequestState) -> str:
        """Return a state as text."""
        return msgspec.json.encode(_saved_requests(state)).decode()

    def decode(self, text: str) -> RequestState:
        """Return the state that was written as this text. Raises ValueError."""
        return _requests_of(msgspec.json.decode(text, type=_SavedRequests))


class Errors:
    """``error_logs``: a row for each error."""

    name: Final = "error_logs"
    empty: Final = ErrorState()

    async def step(self, session: Session, state: ErrorState) -> tuple[ErrorState, bool] | None:
        """Count what is new."""
        glance = await _glance(session, self.name)
        if glance is None:
            return None
        cursor, since = error_window(state.cursor, glance.now)
        rows = await session.query(
            f"{statements.PLAN} {statements.ERRORS}",
            {"since": _naive(since), "now": _naive(glance.now), "types": sorted(state.counts.errors)},
        )
        found: dict[int, dict[str, int]] = {}
        for second, error_type, count in rows:
            found.setdefault(second, {})[error_type] = count
        cursor, new = errors_advanced(cursor, found)
        return ErrorState(cursor, state.counts.plus(new)), False

    def encode(self, state: ErrorState) -> str:
        """Return a state as text."""
        return msgspec.json.encode(state).decode()

    def decode(self, text: str) -> ErrorState:
        """Return the state that was written as this text. Raises ValueError."""
        return msgspec.json.decode(text, type=ErrorState)


async def _glance(session: Session, table: str) -> Glance | None:
    """Begin a transaction and look around; None without such a table. Raises Unindexed."""
    rows = await session.begin(statements.GLANCE, {"table": table}, _ONE_SNAPSHOT)
    now, oldest_open, following, server, exists, indexed, estimate = rows[0]
    if not exists:
        return None
    if not indexed and estimate > MOST_UNINDEXED:
        raise Unindexed(table, estimate)
    return Glance(now, oldest_open, following, server)


def _counted(state: RequestState, done: Window, glance: Glance, rows: list[Row], late: int) -> RequestState:
    """Return the state behind the rows of REQUESTS, and ``late`` ones beside."""
    groups, newest, open_ = [], None, {}
    for handler, method, status, bucket, count, seconds, at, transaction in rows:
        if transaction is not None:
            open_[transaction] = at
        elif handler is None:
            late += count
        else:
            groups.append(RequestGroup(handler, method, status, bucket, count, seconds))
            newest = max(at, newest or at)
    return RequestState(
        cursor=advanced(done, glance, newest, open_),
        counts=state.counts.plus(groups, late),
        skipped=state.skipped + done.skipped,
    )


def _as_rows_say(transaction: int | None) -> str | None:
    """Return the number of a transaction as a row that it wrote shows it."""
    return None if transaction is None else str(transaction % 2**32)


def _ranges(before: Watch, now: Watch) -> dict[str, object]:
    return {
        "since": _naive(min(before.since, now.since)),
        "until": _naive(max(before.until, now.until)),
        "since_before": _naive(before.since),
        "until_before": _naive(before.until),
        "since_now": _naive(now.since),
        "until_now": _naive(now.until),
    }


def _naive(at: Moment) -> object:
    return instant_of(at).replace(tzinfo=None)


class _SavedRequests(msgspec.Struct, frozen=True, array_like=True):
    """A state in the order in which it is saved; histograms belong to the bounds that they were counted with."""

    cursor: RequestCursor | None
    requests: list[tuple[str, str, str, int]]
    bounds: tuple[float, ...]
    durations: list[tuple[str, str, tuple[int, ...], float]]
    late: int
    skipped: int


def _saved_requests(state: RequestState) -> _SavedRequests:
    counts = state.counts
    return _SavedRequests(
        cursor=state.cursor,
        requests=[(*key, count) for key, count in counts.requests.items()],
        bounds=BOUNDS,
        durations=[(*key, histogram.counts, histogram.seconds) for key, histogram in counts.durations.items()],
        late=counts.late,
        skipped=state.skipped,
    )


def _requests_of(saved: _SavedRequests) -> RequestState:
    durations = {(handler, method): Histogram(counts, seconds) for handler, method, counts, seconds in saved.durations}
    return RequestState(
        cursor=saved.cursor,
        counts=RequestCounts(
            requests={(handler, method, status): count for handler, method, status, count in saved.requests},
            durations=durations if saved.bounds == BOUNDS else {},
            late=saved.late,
        ),
        skipped=saved.skipped,
    )
