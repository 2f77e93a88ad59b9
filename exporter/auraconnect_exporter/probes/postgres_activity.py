"""PostgreSQL's sessions: how many, in which state, how long their transactions last, who waits for whom.

Source: PostgreSQL's documentation, "The Cumulative Statistics System" (pg_stat_activity), "Connections and
Authentication" (reserved connections), "System Information Functions" (pg_blocking_pids). Of other roles' sessions a
role without ``pg_monitor`` sees neither state nor transaction: what is measured then is of those that it sees.
"""

from __future__ import annotations

from typing import Final

from auraconnect_exporter.model import Metric, Part
from auraconnect_exporter.probes.postgres_collector import Collector, always, since
from auraconnect_exporter.probes.postgres_connection import Rows
from auraconnect_exporter.targets import Postgres

CONNECTIONS = Metric("postgres_connections", "gauge", "Client connections by state.", ("state",))
MAX_CONNECTIONS = Metric("postgres_max_connections", "gauge", "Connections that the server allows.")
RESERVED_CONNECTIONS = Metric(
    "postgres_reserved_connections", "gauge", "How many of these are kept for superusers and privileged roles."
)
LONGEST_TRANSACTION = Metric(
    "postgres_longest_transaction_seconds", "gauge", "Age of the oldest open transaction of a client."
)
LONGEST_IDLE_TRANSACTION = Metric(
    "postgres_longest_idle_transaction_seconds", "gauge", "How long a client has done nothing in an open transaction."
)
BLOCKED_QUERIES = Metric("postgres_blocked_queries", "gauge", "Sessions that wait for a lock.")
BLOCKED_LONGEST = Metric("postgres_blocked_longest_seconds", "gauge", "How long a session has waited for a lock.")
BLOCKING_SESSIONS = Metric(
    "postgres_blocking_sessions", "gauge", "Sessions, or prepared transactions, that others wait for and wait not."
)
BLOCKING_LONGEST = Metric("postgres_blocking_longest_seconds", "gauge", "Age of the oldest transaction of these.")

MAX_WAITING: Final = 20
"""Sessions that are asked for whom they wait: the question takes PostgreSQL's lock manager as a whole."""

IDLE_IN_TRANSACTION: Final = "idle in transaction"

ACTIVITY_SQL: Final = """
SELECT coalesce(state, 'not visible'), count(*), count(*) FILTER (WHERE backend_type IS NULL),
       count(*) FILTER (WHERE wait_event_type = 'Lock'),
       extract(epoch FROM clock_timestamp() - min(xact_start) FILTER (WHERE pid <> pg_backend_pid()))::float8,
       (array_agg(pid || ' ' || application_name ORDER BY xact_start)
           FILTER (WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()))[1],
       extract(epoch FROM clock_timestamp() - min(state_change))::float8,
       (array_agg(pid || ' ' || application_name ORDER BY state_change))[1],
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0)
FROM pg_stat_activity
WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)
GROUP BY 1
"""
"""Of another role's session even the type is hidden; what tells it from a background process is database and role."""

_LOCKS_SQL: Final = f"""
WITH waiting AS MATERIALIZED (
    SELECT pid, query_start, pg_blocking_pids(pid) AS blockers
    FROM pg_stat_activity WHERE wait_event_type = 'Lock' ORDER BY query_start LIMIT {MAX_WAITING}
)
SELECT pid, application_name, state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8,
       extract(epoch FROM clock_timestamp() - (SELECT {{since}} FROM waiting w WHERE w.pid = a.pid))::float8,
       pid IN (SELECT pid FROM waiting)
FROM pg_stat_activity a
WHERE pid IN (SELECT pid FROM waiting UNION ALL SELECT unnest(blockers) FROM waiting)
UNION ALL
SELECT 0, '', 'prepared', extract(epoch FROM clock_timestamp() - min(prepared))::float8, NULL, false
FROM pg_prepared_xacts WHERE 0 IN (SELECT unnest(blockers) FROM waiting) HAVING count(*) > 0
"""  # noqa: S608  # of constants
LOCKS_SQL: Final = _LOCKS_SQL.format(since="query_start")
LOCKS_SQL_14: Final = _LOCKS_SQL.format(
    since="coalesce((SELECT min(waitstart) FROM pg_locks l WHERE l.pid = w.pid AND NOT granted), query_start)"
)
"""Since when a session waits is known from PostgreSQL 14 on; before, its statement's start is the earliest moment."""


class Activity:
    """The collectors of sessions, with the limits above which something is wrong."""

    def __init__(self, system: Postgres) -> None:
        self._system = system
        self._blocked = 0

    def collectors(self) -> tuple[Collector, ...]:
        """Return them."""
        return (
            Collector("activity", always(ACTIVITY_SQL), self.activity),
            Collector("locks", since(140000, LOCKS_SQL_14, LOCKS_SQL), self.locks, only_if=lambda: self._blocked > 0),
        )

    def activity(self, rows: Rows) -> Part:
        """Turn the rows of ACTIVITY_SQL, one a state, into samples and findings."""
        used, hidden = sum(row[1] for row in rows), sum(row[2] for row in rows)
        most, reserved = rows[0][8:]
        self._blocked = sum(row[3] for row in rows)
        open_since = max(((row[4], row[5]) for row in rows if row[4] is not None), default=(0.0, ""))
        idle_since = max(
            ((row[6], row[7]) for row in rows if row[0].startswith(IDLE_IN_TRANSACTION) and row[6] is not None),
            default=(0.0, ""),
        )
        samples = [CONNECTIONS.sample(row[1], row[0]) for row in rows]
        samples += [
            MAX_CONNECTIONS.sample(most),
            RESERVED_CONNECTIONS.sample(reserved),
            LONGEST_TRANSACTION.sample(max(0.0, open_since[0])),
            LONGEST_IDLE_TRANSACTION.sample(max(0.0, idle_since[0])),
            BLOCKED_QUERIES.sample(self._blocked),
        ]
        findings = []
        if used > self._system.connections * (most - reserved):
            findings.append(f"{used} of {most - reserved} connections are in use")
        if open_since[0] > self._system.longest_transaction:
            findings.append(f"a transaction has been open for {open_since[0]:.0f} s: {session(open_since[1])}")
        if idle_since[0] > self._system.longest_idle_transaction:
            findings.append(f"a transaction has stood idle for {idle_since[0]:.0f} s: {session(idle_since[1])}")
        problem = f"{hidden} of {used} sessions can't be seen without the role pg_monitor" if hidden else ""
        return Part("activity", tuple(samples), tuple(findings), problem)

    def locks(self, rows: Rows) -> Part:
        """Turn the rows of LOCKS_SQL, one a session that waits or is waited for, into samples and a finding."""
        waited = [row[4] for row in rows if row[5] and row[4] is not None]
        blockers = [row for row in rows if not row[5]]
        longest, oldest = max(waited, default=0.0), max((row[3] or 0.0 for row in blockers), default=0.0)
        samples = (
            BLOCKED_LONGEST.sample(max(0.0, longest)),
            BLOCKING_SESSIONS.sample(len(blockers)),
            BLOCKING_LONGEST.sample(max(0.0, oldest)),
        )
        if longest <= self._system.longest_wait:
            return Part("locks", samples)
        culprit = max(blockers, key=lambda row: row[3] or 0.0, default=None)
        blame = f", for {_culprit(culprit)}" if culprit else ""
        return Part("locks", samples, (f"a query has waited for a lock for {longest:.0f} s{blame}",))


def session(text: str) -> str:
    """Name a session for people, from "pid application"."""
    pid, _, application = text.partition(" ")
    return f"pid {pid} ({application})" if application else f"pid {pid}"


def _culprit(row: tuple[object, ...]) -> str:
    pid, application, state, *_ = row
    if pid == 0:
        return "a prepared transaction"
    return f"{session(f'{pid} {application}')}, {state or 'state not visible'}"
