"""The application's errors, and how many there were: each hour and each minute is counted as they come in.

So a summary reads the counts, a few hundred rows, however many errors there are; and each list of errors is one scan
of one index, which ends after as many rows as are wanted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from auraconnect_exporter.records import SECOND, ErrorRecord, Moment
from auraconnect_exporter.store.driver import insert_rows
from auraconnect_exporter.store.transaction import Row, Transaction

HOUR: Final = 3600
MINUTE: Final = 60

TOP: Final = 10
"""How many names a summary lists."""

NAMES: Final = 100
"""How many types and how many endpoints are counted by name in one period; what comes later in it counts as OTHER.
An endpoint may hold ids, and nobody reads a list of thousands."""

OTHER: Final = "other"

ERROR_TYPE_CHARACTERS: Final = 100
ENDPOINT_CHARACTERS: Final = 200
"""As long as in AuraConnect's own table. PostgreSQL refuses values of some kilobytes in an index."""

COLUMNS: Final = (
    "id, error_type, error_message, created_at, stack_trace, endpoint, method, status_code, user_id, restaurant_id, "
    "request_id, tags, resolved, resolved_at, source, created_by"
)

_Count = tuple[int, Moment, str, str]
"""Width of the period in seconds, its start, and what is counted: `all`, or a `type` or `endpoint` and its name."""


@dataclass(frozen=True, slots=True)
class ErrorFilter:
    """Which errors are wanted; None means any."""

    since: Moment
    error_type: str | None = None
    endpoint: str | None = None
    resolved: bool | None = None


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """How many errors there were in so many hours; ``unique_errors`` counts their types."""

    total_errors: int
    unique_errors: int
    error_rate_per_hour: float
    top_errors: tuple[tuple[str, int], ...]
    affected_endpoints: tuple[tuple[str, int], ...]


def insert(transaction: Transaction, error: ErrorRecord) -> None:
    """Add an error, and count it."""
    kept = _clipped(error)
    insert_rows(transaction, f"errors ({COLUMNS})", [_row(kept)])
    _count(transaction, [kept])


def insert_copied(transaction: Transaction, errors: Iterable[ErrorRecord]) -> int:
    """Add errors that another table holds, each with its ``source``; return how many were not here yet."""
    by_source = {error.source: _clipped(error) for error in errors}
    rows = insert_rows(
        transaction,
        f"errors ({COLUMNS})",
        [_row(error) for error in by_source.values()],
        "ON CONFLICT DO NOTHING RETURNING source",
    )
    _count(transaction, [by_source[source] for (source,) in rows])
    return len(rows)


def newest(transaction: Transaction, wanted: ErrorFilter, limit: int) -> list[ErrorRecord]:
    """Return errors, newest first."""
    conditions, values = ["resolved = ?", "created_at >= ?"], list[str | int]([wanted.since])
    for column, value in (("error_type", wanted.error_type), ("endpoint", wanted.endpoint)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    sql = (
        f"SELECT {COLUMNS} FROM errors WHERE {' AND '.join(conditions)} "  # noqa: S608  # names of ours, no values
        "ORDER BY created_at DESC, id DESC LIMIT ?"
    )
    # Each index has `resolved` before the time, so what may be either is read from two places of it.
    either = (False, True) if wanted.resolved is None else (wanted.resolved,)
    found = [_error(row) for resolved in either for row in transaction.execute(sql, (resolved, *values, limit))]
    return sorted(found, key=lambda error: (error.created_at, error.id), reverse=True)[:limit]


def summary(transaction: Transaction, now: Moment, hours: int) -> ErrorSummary:
    """Return the counts of the last ``hours``, the first of its minutes as a whole."""
    since = now - hours * HOUR * SECOND
    first_hour = start_of(HOUR, since + HOUR * SECOND - 1)
    rows = transaction.execute(
        "SELECT kind, name, CAST(SUM(count) AS BIGINT) FROM ("
        "SELECT kind, name, count FROM error_counts WHERE width = ? AND start >= ? UNION ALL "
        "SELECT kind, name, count FROM error_counts WHERE width = ? AND start >= ? AND start < ?"
        ") AS counted GROUP BY kind, name",
        (HOUR, first_hour, MINUTE, start_of(MINUTE, since), first_hour),
    )
    counts: dict[str, dict[str, int]] = {"all": {}, "type": {}, "endpoint": {}}
    for kind, name, count in rows:
        counts[kind][name] = count
    total = sum(counts["all"].values())
    return ErrorSummary(
        total_errors=total,
        unique_errors=len(counts["type"]),
        error_rate_per_hour=total / hours,
        top_errors=_top(counts["type"]),
        affected_endpoints=_top(counts["endpoint"]),
    )


def start_of(width: int, at: Moment) -> Moment:
    """Return the start of the period of ``width`` seconds that a moment falls into."""
    return at - at % (width * SECOND)


def _top(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP])


def _count(transaction: Transaction, errors: Iterable[ErrorRecord]) -> None:
    counts: Counter[_Count] = Counter()
    known: dict[tuple[int, Moment, str], set[str]] = {}
    for error in errors:
        for width in (HOUR, MINUTE):
            start = start_of(width, error.created_at)
            counts[width, start, "all", ""] += 1
            for kind, name in (("type", error.error_type), ("endpoint", error.endpoint)):
                if name is not None:
                    if (width, start, kind) not in known:
                        known[width, start, kind] = _names(transaction, width, start, kind)
                    names = known[width, start, kind]
                    counted = name if name in names or len(names) < NAMES else OTHER
                    names.add(counted)
                    counts[width, start, kind, counted] += 1
    insert_rows(
        transaction,
        "error_counts (width, start, kind, name, count)",
        ((*key, count) for key, count in counts.items()),
        "ON CONFLICT (width, start, kind, name) DO UPDATE SET count = error_counts.count + excluded.count",
    )


def _clipped(error: ErrorRecord) -> ErrorRecord:
    return replace(
        error,
        error_type=error.error_type[:ERROR_TYPE_CHARACTERS],
        endpoint=None if error.endpoint is None else error.endpoint[:ENDPOINT_CHARACTERS],
    )


def _names(transaction: Transaction, width: int, start: Moment, kind: str) -> set[str]:
    rows = transaction.execute(
        "SELECT name FROM error_counts WHERE width = ? AND start = ? AND kind = ?", (width, start, kind)
    )
    return {name for (name,) in rows}


def _row(error: ErrorRecord) -> Row:
    return (
        error.id,
        error.error_type,
        error.error_message,
        error.created_at,
        error.stack_trace,
        error.endpoint,
        error.method,
        error.status_code,
        error.user_id,
        error.restaurant_id,
        error.request_id,
        None if error.tags is None else json.dumps(error.tags),
        error.resolved,
        error.resolved_at,
        error.source,
        error.created_by,
    )


def _error(row: Row) -> ErrorRecord:
    values: list[Any] = list(row)
    values[11] = None if values[11] is None else json.loads(values[11])
    values[12] = bool(values[12])
    return ErrorRecord(*values)
