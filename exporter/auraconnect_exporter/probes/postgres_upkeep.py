"""What PostgreSQL tells of its long run: counters and size, transaction ids, archiving, backups, who may do what.

Source: PostgreSQL's documentation, "The Cumulative Statistics System" (pg_stat_database, pg_stat_archiver), "Preventing
Transaction ID Wraparound Failures", "pg_roles". Roles' passwords are hidden from everybody but superusers, so a changed
password is no change here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from auraconnect_exporter.model import Metric, Part
from auraconnect_exporter.probes.postgres_collector import ONCE_A_MINUTE, Collector, always
from auraconnect_exporter.probes.postgres_connection import Rows

TRANSACTIONS = Metric("postgres_transactions_total", "counter", "Transactions of this database.", ("result",))
DEADLOCKS = Metric("postgres_deadlocks_total", "counter", "Deadlocks detected in this database.")
BLOCKS_HIT = Metric("postgres_blocks_hit_total", "counter", "Blocks found in the buffer cache.")
BLOCKS_READ = Metric("postgres_blocks_read_total", "counter", "Blocks read from disk.")
DATABASE_SIZE = Metric("postgres_database_size_bytes", "gauge", "Size of a database on disk.", ("database",))
XID_AGE = Metric("postgres_xid_age", "gauge", "Transactions since the oldest that is not frozen, of any database.")
ARCHIVE_LAST_SUCCESS = Metric(
    "postgres_archive_last_success_timestamp_seconds", "gauge", "When a piece of the log was last archived."
)
ARCHIVE_FAILURES = Metric("postgres_archive_failures_total", "counter", "Failed attempts to archive.")
BACKUP_LAST_SUCCESS = Metric(
    "postgres_backup_last_success_timestamp_seconds", "gauge", "When the last backup ended, as backup_query says."
)
ROLE_CHANGES = Metric(
    "postgres_role_changes_total", "counter", "How often roles, their attributes or memberships were found changed."
)

MAX_DATABASES: Final = 100
"""Databases whose size is asked for, the watched one first: each means to look at all of its files."""

CLOCKS_APART: Final = 300.0
"""Seconds by which a backup may seem to end in the future, because two clocks differ."""

DATABASE_SQL: Final = """
SELECT xact_commit, xact_rollback, deadlocks, blks_hit, blks_read
FROM pg_stat_database WHERE datname = current_database()
"""

SIZES_SQL: Final = f"""
SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                     THEN pg_database_size(oid) END
FROM pg_database WHERE NOT datistemplate
ORDER BY datname <> current_database(), oid LIMIT {MAX_DATABASES}
"""  # noqa: S608  # of constants

XID_SQL: Final = "SELECT max(age(datfrozenxid)) FROM pg_database"

ARCHIVE_SQL: Final = "SELECT extract(epoch FROM last_archived_time)::float8, failed_count FROM pg_stat_archiver"

ROLES_SQL: Final = """
SELECT hashtextextended(string_agg(kind || oid || line, ' ' ORDER BY kind, oid, line), 0)
FROM (SELECT 'role ' AS kind, oid, r::text AS line FROM pg_roles r
      UNION ALL SELECT 'member ', roleid, m::text FROM pg_auth_members m) AS known
"""


class Upkeep:
    """The collectors of the long run; ``backup_query`` may be empty, ``time`` is the wall clock in Unix seconds."""

    def __init__(self, backup_query: str, time: Callable[[], float]) -> None:
        self._backup_query = backup_query
        self._time = time
        self._roles: int | None = None
        self._role_changes = 0

    def collectors(self) -> tuple[Collector, ...]:
        """Return them."""
        asked = (
            Collector("database", always(DATABASE_SQL), database),
            Collector("size", always(SIZES_SQL), sizes, ONCE_A_MINUTE),
            Collector("xid", always(XID_SQL), xid, ONCE_A_MINUTE),
            Collector("archive", always(ARCHIVE_SQL), archive, ONCE_A_MINUTE),
            Collector("roles", always(ROLES_SQL), self.roles, ONCE_A_MINUTE),
        )
        if not self._backup_query:
            return asked
        return (*asked, Collector("backup", always(self._backup_query), self.backup, ONCE_A_MINUTE))

    def roles(self, rows: Rows) -> Part:
        """Count one change whenever the fingerprint of all roles and memberships is not what it was."""
        (fingerprint,) = rows[0]
        if self._roles is not None and fingerprint != self._roles:
            self._role_changes += 1
        self._roles = fingerprint
        return Part("roles", (ROLE_CHANGES.sample(self._role_changes),))

    def backup(self, rows: Rows) -> Part:
        """Turn what ``backup_query`` answers, a time or Unix seconds, into a sample."""
        found = rows[0][0] if rows and rows[0] else None
        if found is None:
            return Part("backup", problem="backup_query knows of no backup")
        seconds = _unix_seconds(found)
        if seconds is None:
            return Part("backup", problem="backup_query answers neither a time nor Unix seconds")
        if seconds > self._time() + CLOCKS_APART:
            return Part("backup", problem="backup_query answers a time in the future")
        return Part("backup", (BACKUP_LAST_SUCCESS.sample(seconds),))


def database(rows: Rows) -> Part:
    """Turn the row of DATABASE_SQL into samples."""
    committed, rolled_back, deadlocks, hit, read = rows[0]
    return Part(
        "database",
        (
            TRANSACTIONS.sample(committed, "commit"),
            TRANSACTIONS.sample(rolled_back, "rollback"),
            DEADLOCKS.sample(deadlocks),
            BLOCKS_HIT.sample(hit),
            BLOCKS_READ.sample(read),
        ),
    )


def sizes(rows: Rows) -> Part:
    """Turn the rows of SIZES_SQL into samples; a size that this role may not see has none."""
    hidden = sum(size is None for _, size in rows)
    problem = f"the size of {hidden} databases can't be seen without the role pg_monitor" if hidden else ""
    return Part("size", tuple(DATABASE_SIZE.sample(size, name) for name, size in rows if size is not None), (), problem)


def xid(rows: Rows) -> Part:
    """Turn the row of XID_SQL into a sample."""
    return Part("xid", (XID_AGE.sample(rows[0][0]),))


def archive(rows: Rows) -> Part:
    """Turn the row of ARCHIVE_SQL into samples; a server that never archived anything has no last success."""
    succeeded, failures = rows[0]
    last = (ARCHIVE_LAST_SUCCESS.sample(succeeded),) if succeeded is not None else ()
    return Part("archive", (*last, ARCHIVE_FAILURES.sample(failures)))


def _unix_seconds(found: object) -> float | None:
    """Return a time of the database as Unix seconds; one without a zone is in UTC."""
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if isinstance(found, int | float | Decimal) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    return None
