"""Which statements take PostgreSQL's time: the busiest ones by their id, and the rest together.

Source: PostgreSQL's documentation, "pg_stat_statements". The text of a statement is neither read nor shown: it may hold
what a user typed. To find one: ``SELECT query FROM pg_stat_statements WHERE queryid = …``.

Each series counts the time since it became a series of its own (at our start: since the server began to count), so that
time is counted once: what a statement took before, or takes after it has left, is in ``other``. Where the server starts
over (a reset) or drops statements that it has no room for, ``other`` stands still for one reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from auraconnect_exporter.model import Metric, Part
from auraconnect_exporter.probes.postgres_collector import ONCE_A_MINUTE, Collector
from auraconnect_exporter.probes.postgres_connection import Rows

SECONDS = Metric(
    "postgres_statement_seconds_total", "counter", "Execution time of the busiest statements, and of all other.",
    ("queryid",),
)  # fmt: skip

TOP: Final = 20
"""Statements with a series of their own."""

CANDIDATES: Final = 200
"""Statements that are looked at; what is not among those with the most time in all is not busy either."""

MEMORY: Final = 0.9
"""What one reading's share counts in the next one: half is forgotten in some seven minutes."""

CLEARLY: Final = 2.0
"""How many times as busy as the least busy of the top a statement must be to take its place."""

WORTH: Final = 0.01
"""Which share of all that was busy of late it must have besides."""

EXTENSION: Final = "pg_stat_statements"

SQL: Final = """
SELECT set_config('search_path', quote_ident(nspname), true)
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_stat_statements';
SELECT queryid, seconds, sum(seconds) OVER ()
FROM (SELECT queryid, sum(total_exec_time) / 1000 AS seconds FROM pg_stat_statements(false) GROUP BY queryid) AS each
ORDER BY queryid = ANY ('{%s}') DESC NULLS LAST, queryid IS NULL, seconds DESC LIMIT %d
"""
"""The extension may be in any schema, so the first statement looks there for what the second one calls."""


class Statements:
    """The collector of statements, with the counters that it continues."""

    def __init__(self) -> None:
        self._counted: dict[int, float] = {}
        """The seconds that each series shows."""
        self._last: dict[int, float] = {}
        """The seconds that the server showed of each candidate."""
        self._busy: dict[int, float] = {}
        """How busy each candidate was of late."""
        self._other = 0.0
        self._last_other: float | None = None

    def collectors(self) -> tuple[Collector, ...]:
        """Return it."""
        return (Collector("statements", self.statement, self.read, ONCE_A_MINUTE, extension=EXTENSION),)

    def statement(self, _: int) -> str:
        """Return SQL for those that have a series now and those that may get one."""
        return SQL % (",".join(map(str, self._counted)), CANDIDATES + TOP)

    def read(self, rows: Rows) -> Part:
        """Turn the rows of SQL (queryid, seconds, seconds of all) into samples."""
        now = {queryid: seconds for queryid, seconds, _ in rows if queryid is not None}
        total = rows[0][2] if rows else 0.0
        first = self._last_other is None
        gained = {queryid: _gain(seconds, self._last.get(queryid)) for queryid, seconds in now.items()}
        for queryid in self._counted:
            self._counted[queryid] += gained.get(queryid, 0.0)
        rest = total - sum(now.get(queryid, 0.0) for queryid in self._counted)
        if self._last_other is not None:
            self._other += max(0.0, rest - self._last_other)
        self._last = {**now, **{queryid: now.get(queryid, 0.0) for queryid in self._counted}}
        self._busy = {queryid: MEMORY * self._busy.get(queryid, 0.0) + gain for queryid, gain in gained.items()}
        if first:
            self._counted = dict(sorted(now.items(), key=lambda one: one[1], reverse=True)[:TOP])
        else:
            self._choose(gained)
        self._last_other = total - sum(now.get(queryid, 0.0) for queryid in self._counted)
        if first:
            self._other = self._last_other
        samples = tuple(SECONDS.sample(seconds, str(queryid)) for queryid, seconds in self._counted.items())
        hidden = any(queryid is None for queryid, *_ in rows)
        problem = "other roles' statements can't be told apart without the role pg_monitor" if hidden else ""
        return Part("statements", (*samples, SECONDS.sample(max(0.0, self._other), "other")), (), problem)

    def _choose(self, gained: Mapping[int, float]) -> None:
        """Let the busiest in, where there is room or one is clearly less busy; each begins at 0.

        What the one that leaves took since the last reading, which its series will not show, goes to the others.
        """
        floor = WORTH * sum(self._busy.values())
        for queryid in sorted(self._busy, key=self._busy.__getitem__, reverse=True)[:TOP]:
            if queryid in self._counted:
                continue
            if len(self._counted) >= TOP:
                least = min(self._counted, key=lambda one: self._busy.get(one, 0.0))
                if self._busy[queryid] <= max(floor, CLEARLY * self._busy.get(least, 0.0)):
                    break
                del self._counted[least]
                self._other += gained.get(least, 0.0)
            self._counted[queryid] = 0.0


def _gain(seconds: float, before: float | None) -> float:
    """Return what a statement took since the last reading; one that the server counts anew took all of it since."""
    if before is None:
        return 0.0
    return seconds - before if seconds >= before else seconds
