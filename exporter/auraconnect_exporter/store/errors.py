"""The application's errors, and how many there were: each hour and each minute is counted as they come in.

So a summary reads a row for each hour, however many errors there are; and each list of errors is one scan of one
index, which ends after as many rows as are wanted.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from auraconnect_exporter.records import SECOND, ErrorRecord, Moment
from auraconnect_exporter.store.driver import ROWS_A_STATEMENT, insert_rows
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

_JSON: Final = msgspec.json.Encoder()
_LIST: Final = msgspec.json.Decoder(list[dict[str, int]])

COLUMNS: Final = (
    "id, error_type, error_message, created_at, stack_trace, endpoint, method, status_code, user_id, restaurant_id, "
    "request_id, tags, resolved, resolved_at, source, created_by"
)


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
        "SELECT total, types, endpoints FROM error_counts WHERE width = ? AND start >= ? UNION ALL "
        "SELECT total, types, endpoints FROM error_counts WHERE width = ? AND start >= ? AND start < ?",
        (HOUR, first_hour, MINUTE, start_of(MINUTE, since), first_hour),
    )
    total = sum(row[0] for row in rows)
    types, endpoints = _added_up(row[1] for row in rows), _added_up(row[2] for row in rows)
    return ErrorSummary(
        total_errors=total,
        unique_errors=len(types),
        error_rate_per_hour=total / hours,
        top_errors=_top(types),
        affected_endpoints=_top(endpoints),
    )


def start_of(width: int, at: Moment) -> Moment:
    """Return the start of the period of ``width`` seconds that a moment falls into."""
    return at - at % (width * SECOND)


def _top(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP])


def _added_up(counts: Iterable[str]) -> dict[str, int]:
    added: dict[str, int] = {}
    for each in _LIST.decode(f"[{','.join(counts)}]"):
        for name, count in each.items():
            added[name] = added.get(name, 0) + count
    return added


@dataclass(slots=True)
class _Counts:
    """What is counted of one period."""

    total: int = 0
    types: dict[str, int] = field(default_factory=dict)
    endpoints: dict[str, int] = field(default_factory=dict)

    def add(self, error: ErrorRecord) -> None:
        """Count one more."""
        self.total += 1
        _count_name(self.types, error.error_type)
        if error.endpoint is not None:
            _count_name(self.endpoints, error.endpoint)


def _count_name(counts: dict[str, int], name: str) -> None:
    counted = name if name in counts or len(counts) < NAMES else OTHER
    counts[counted] = counts.get(counted, 0) + 1


def _count(transaction: Transaction, errors: Sequence[ErrorRecord]) -> None:
    for width in (HOUR, MINUTE):
        counts = _counted(transaction, width, {start_of(width, error.created_at) for error in errors})
        for error in errors:
            counts[start_of(width, error.created_at)].add(error)
        insert_rows(
            transaction,
            "error_counts (width, start, total, types, endpoints)",
            (
                (width, start, one.total, _JSON.encode(one.types).decode(), _JSON.encode(one.endpoints).decode())
                for start, one in counts.items()
            ),
            "ON CONFLICT (width, start) DO UPDATE SET "
            "total = excluded.total, types = excluded.types, endpoints = excluded.endpoints",
        )


def _counted(transaction: Transaction, width: int, starts: Iterable[Moment]) -> dict[Moment, _Counts]:
    """Return what is counted of the periods of one width so far."""
    counts = {start: _Counts() for start in starts}
    left = iter(counts)
    while some := list(itertools.islice(left, ROWS_A_STATEMENT)):
        rows = transaction.execute(
            "SELECT start, total, types, endpoints FROM error_counts "  # noqa: S608  # marks only
            f"WHERE width = ? AND start IN ({', '.join('?' for _ in some)})",
            (width, *some),
        )
        for start, total, types, endpoints in rows:
            counts[start] = _Counts(total, *_LIST.decode(f"[{types},{endpoints}]"))
    return counts


def _clipped(error: ErrorRecord) -> ErrorRecord:
    return replace(
        error,
        error_type=error.error_type[:ERROR_TYPE_CHARACTERS],
        endpoint=None if error.endpoint is None else error.endpoint[:ENDPOINT_CHARACTERS],
    )


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
