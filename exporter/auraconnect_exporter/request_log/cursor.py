"""How far a table has been read, so that each row counts once, whenever it comes: pure.

Times can't tell which rows are new: many share one, and a row is seen when its transaction commits, up to a minute
after the time that it carries, behind others that were counted. Keeping the ids of a minute would (60,000 of them), but
PostgreSQL knows by itself: each row names the transaction that wrote it, and each snapshot the oldest one that was
still open. So a row is new if its transaction is not older than the oldest that was open when we last looked (the
``horizon``), and not one of those few that had ended all the same (``seen``). That is exact for any order, for rows
that share a time, and over restarts, as the cursor is saved with the counts. (A snapshot's own list of what is open
would not do: it leaves out savepoints, and a standby has none.)

Errors are marked as resolved, which writes the row anew in another transaction; so they are told apart in another way,
which is too dear for requests: the seconds of the last minute are counted again, and what they have more is new.

Times are microseconds since 1970 by the database's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from auraconnect_exporter.records import SECOND, Moment

LATE: Final = 60 * SECOND
"""How much older than the newest row a row may be that is counted."""

WATCHED: Final = 900 * SECOND
"""How much older a row may be that is noticed, and counted as dropped."""

WATCH_EVERY: Final = 60 * SECOND
"""How often it is looked for such rows."""

SLICE: Final = 60 * SECOND
"""How much time is read at once of what was missed."""

FIRST_REACH: Final = 300 * SECOND
"""How far back the first start looks."""

REACH: Final = 3600 * SECOND
"""How much time that was missed is made up for; what is older is skipped."""

_HALF: Final = 2**31
"""Transaction ids are compared modulo twice this."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What the database says before it is read: its clock, and which transactions its snapshot holds for ended.

    All before ``oldest_open`` have ended, none from ``next`` on has begun. ``server`` tells one cluster and database
    from another, whose transactions have numbers of their own.
    """

    now: Moment
    oldest_open: int
    next: int
    server: str


@dataclass(frozen=True, slots=True)
class Watch:
    """How many ``rows`` there were from ``since`` until ``until``, counted at ``at``: what comes there is too late."""

    at: Moment
    since: Moment
    until: Moment
    rows: int = 0


@dataclass(frozen=True, slots=True)
class RequestCursor:
    """All that decides whether a row was counted.

    Rows before ``closed`` are not looked at again; ``newest`` is the newest row, ``read_at`` when all were read last.
    Without a ``horizon`` every row is new. ``seen`` has the transactions from the horizon on that have been counted
    (as the rows name them, modulo 2³²), each with the time of its newest row. What comes later than ``newest`` allows
    is dropped: each step finds what is not older than the end of the ``watch``, and the watch the rest.
    """

    closed: Moment
    newest: Moment
    read_at: Moment
    server: str
    horizon: int | None = None
    seen: Mapping[int, Moment] = field(default_factory=dict)
    watch: Watch | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What a step reads: rows from ``since`` until ``until`` (None: all), of which those before ``late`` are dropped.

    ``cursor`` is where it begins; ``skipped`` time before that, in microseconds, is not made up for. Where it is time
    to, ``watch`` is to be counted, and the one of the cursor again.
    """

    cursor: RequestCursor
    since: Moment
    late: Moment
    until: Moment | None
    skipped: Moment = 0
    watch: Watch | None = None


def window(cursor: RequestCursor | None, glance: Glance) -> Window:
    """Return what to read next: a slice of what was missed, or all that is new."""
    now = glance.now
    if cursor is None:
        cursor = RequestCursor(now - FIRST_REACH, now - FIRST_REACH, now - FIRST_REACH, glance.server)
    elif not _is_continued(cursor, glance):
        # Restored, moved or failed over to where other transactions have these numbers: on from the newest row.
        cursor = replace(cursor, closed=cursor.newest + 1, server=glance.server, horizon=None, seen={}, watch=None)
    if now < cursor.closed:  # the clock was ahead
        cursor = replace(cursor, closed=now - LATE, watch=None)
    newest = min(cursor.newest, now)
    late = max(cursor.closed, newest - LATE)
    skipped = 0
    if now - cursor.read_at > REACH and late < now - REACH:
        skipped = now - REACH - late
        late = now - REACH
        cursor = replace(cursor, closed=late, watch=None)
    if now - cursor.read_at > SLICE + 2 * LATE and late + SLICE <= now - LATE:
        return Window(cursor, since=late, late=late, until=late + SLICE, skipped=skipped)
    watch = cursor.watch
    since = late if watch is None else max(cursor.closed, min(watch.until, late))
    due = watch is None or not 0 <= now - watch.at < WATCH_EVERY
    return Window(cursor, since, late, None, skipped, Watch(now, min(now - WATCHED, late), late) if due else None)


def advanced(done: Window, glance: Glance, newest: Moment | None, open_: Mapping[int, Moment]) -> RequestCursor:
    """Return the cursor behind a window that was read, and whose watch, if any, has been counted.

    ``newest`` is the newest row in it that is not from the future; ``open_`` has the transactions of its rows that are
    not older than the oldest that is still open, with their newest row.
    """
    cursor = done.cursor
    latest = max(min(cursor.newest, glance.now), newest or 0)
    if done.until is not None:
        return replace(cursor, closed=done.until, newest=latest)
    # A standby that lags behind must not take it back.
    horizon = max(cursor.horizon or 0, glance.oldest_open)
    watch = done.watch or cursor.watch
    seen = {
        transaction: max(at, cursor.seen.get(transaction, at))
        for transaction, at in {**cursor.seen, **open_}.items()
        if (transaction - horizon) % (2 * _HALF) < _HALF
    }
    return replace(
        cursor,
        newest=latest,
        read_at=glance.now,
        horizon=horizon,
        seen={transaction: at for transaction, at in seen.items() if watch is None or at >= watch.until},
        watch=watch,
    )


def _is_continued(cursor: RequestCursor, glance: Glance) -> bool:
    """Whether the transactions are the same ones, and not so many later that their numbers come again."""
    return cursor.server == glance.server and (cursor.horizon is None or glance.next - cursor.horizon < _HALF)


@dataclass(frozen=True, slots=True)
class ErrorCursor:
    """What was counted of the last minute: by second (since 1970) how many errors of each type."""

    closed: Moment
    newest: Moment
    counted: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


def error_window(cursor: ErrorCursor | None, now: Moment) -> tuple[ErrorCursor, Moment]:
    """Return where to begin, and the time from which errors are counted (until ``now``): a whole second."""
    if cursor is None:
        cursor = ErrorCursor(now - FIRST_REACH, now - FIRST_REACH)
    elif now < cursor.newest - LATE:  # the clock was ahead, and what it wrote then was counted
        cursor = ErrorCursor(now, now)
    since = max(cursor.closed, cursor.newest - LATE, now - REACH)
    return cursor, since // SECOND * SECOND


def errors_advanced(cursor: ErrorCursor, found: Mapping[int, Mapping[str, int]]) -> tuple[ErrorCursor, dict[str, int]]:
    """Return the cursor behind what was found, and how many errors of each type are new.

    A row that has gone since it was counted (old ones are removed) stays counted.
    """
    new: Counter[str] = Counter()
    counted: dict[int, Mapping[str, int]] = dict(cursor.counted)
    for second, types in found.items():
        before = counted.get(second, {})
        counted[second] = {kind: max(types.get(kind, 0), before.get(kind, 0)) for kind in types.keys() | before.keys()}
        new.update({kind: count - before.get(kind, 0) for kind, count in counted[second].items()})
    newest = max([cursor.newest, *(second * SECOND for second in found)])
    kept = {second: types for second, types in counted.items() if (second + 1) * SECOND > newest - LATE}
    return ErrorCursor(cursor.closed, newest, kept), dict(+new)
