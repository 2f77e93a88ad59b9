"""PostgreSQL: can one connect and query, how long does it take, and how near are its limits.

Source: PostgreSQL's documentation, "The Cumulative Statistics System" (pg_stat_activity, pg_stat_database). Works as
a role with no rights of its own; ``pg_monitor`` lets it see other roles' sessions.

Every statement runs in a transaction that is read-only and carries its own timeouts: a session setting would stay
behind in a server connection of PgBouncer and leak into production.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.targets import Postgres, PostgresServer

CONNECT_DURATION = Metric("postgres_connect_duration_seconds", "gauge", "Time to open a new connection.")
QUERY_DURATION = Metric("postgres_query_duration_seconds", "gauge", "Time of a trivial query on an open connection.")
CONNECTIONS = Metric("postgres_connections", "gauge", "Client connections by state.", ("state",))
MAX_CONNECTIONS = Metric("postgres_max_connections", "gauge", "Connections that the server allows.")
LONGEST_TRANSACTION = Metric(
    "postgres_longest_transaction_seconds", "gauge", "Age of the oldest open transaction of a client."
)
BLOCKED_QUERIES = Metric("postgres_blocked_queries", "gauge", "Sessions that wait for a lock.")
TRANSACTIONS = Metric("postgres_transactions_total", "counter", "Transactions of this database.", ("result",))
DEADLOCKS = Metric("postgres_deadlocks_total", "counter", "Deadlocks detected in this database.")
BLOCKS_HIT = Metric("postgres_blocks_hit_total", "counter", "Blocks found in the buffer cache.")
BLOCKS_READ = Metric("postgres_blocks_read_total", "counter", "Blocks read from disk.")

CONNECTIONS_LIMIT_RATIO: Final = 0.8

CHECKS_PER_CONNECTION: Final = 2
"""A connection serves so many checks and is then renewed: a kept one knows nothing of a changed password or of a
server that takes no more connections, which is down for everybody who comes."""

ACTIVITY_SQL: Final = """
SELECT coalesce(state, 'not visible'), count(*),
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
                FILTER (WHERE pid <> pg_backend_pid()), 0)::float8,
       count(*) FILTER (WHERE wait_event_type = 'Lock'),
       current_setting('max_connections')::int
FROM pg_stat_activity
WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)
GROUP BY 1
"""
"""Of another role's session even the type is hidden; what tells it from a background process is database and role."""

DATABASE_SQL: Final = """
SELECT xact_commit, xact_rollback, deadlocks, blks_hit, blks_read
FROM pg_stat_database WHERE datname = current_database()
"""

Rows = list[TupleRow]


class PostgresProbe(Probe):
    """Watches one PostgreSQL server over one connection."""

    collectors = ("latency", "activity", "database")

    def __init__(self, system: Postgres, timeout: float, monotonic: Callable[[], float]) -> None:
        self._slow = system.slow
        self._connect_arguments = connect_arguments(system.server)
        milliseconds = max(1, int(timeout * 1000))
        self._begin = (
            f"BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}; "
            f"SET LOCAL lock_timeout = {max(1, milliseconds // 2)}; "
        )
        self._monotonic = monotonic
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._checks = 0
        self._interrupted = False
        self._connect_seconds = 0.0

    async def check(self) -> Reading:
        """Query once, and read what the statistics views say."""
        self._interrupted = False
        try:
            return await self._read()
        except BaseException as error:
            await self.close()
            if isinstance(error, psycopg.Error):
                raise explain_psycopg(error) from None
            raise

    def interrupt(self) -> bool:
        """Let the query fail at once."""
        if self._connection is None or not shut_down(self._connection):
            return False
        self._interrupted = True
        return True

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _read(self) -> Reading:
        return Reading(
            (
                self._latency(await self._ping()),
                await self._collect("activity", ACTIVITY_SQL, activity_samples, connection_findings),
                await self._collect("database", DATABASE_SQL, database_samples),
            )
        )

    def _latency(self, query_seconds: float) -> Part:
        slow = (f"a trivial query took {query_seconds:.2f} s",) if query_seconds > self._slow else ()
        return Part(
            "latency", (CONNECT_DURATION.sample(self._connect_seconds), QUERY_DURATION.sample(query_seconds)), slow
        )

    async def _ping(self) -> float:
        """Return the seconds of a trivial query, on a connection that is opened or renewed first where due.

        A kept connection may have been cut by a restart or a firewall since the last check. That alone is no
        failure: a new one is tried.
        """
        if self._connection is not None and self._checks < CHECKS_PER_CONNECTION:
            self._checks += 1
            try:
                return await self._timed_query()
            except psycopg.OperationalError:
                if self._interrupted or not self._connection.closed:
                    raise
        await self.close()
        begun = self._monotonic()
        self._connection = await psycopg.AsyncConnection.connect(**self._connect_arguments)
        self._connect_seconds = self._monotonic() - begun
        self._checks = 1
        return await self._timed_query()

    async def _timed_query(self) -> float:
        begun = self._monotonic()
        await self._query("SELECT 1")
        return self._monotonic() - begun

    async def _query(self, sql: str) -> Rows:
        """Run one SELECT in a transaction of its own, in one round trip."""
        if self._connection is None:
            raise psycopg.OperationalError("the connection is closed")
        cursor = await self._connection.execute(f"{self._begin}{sql}; COMMIT".encode())
        rows: Rows = []
        while True:
            if cursor.description is not None:
                rows = await cursor.fetchall()
            if not cursor.nextset():
                return rows

    async def _collect(
        self,
        collector: str,
        sql: str,
        samples: Callable[[Rows], list[Sample]],
        findings: Callable[[Rows], list[str]] = lambda _: [],
    ) -> Part:
        """Run one SELECT; where this server refuses this one, that costs only its part of the reading."""
        try:
            rows = await self._query(sql)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except psycopg.Error as error:
            if self._connection is not None:
                await self._connection.execute(b"ROLLBACK")
            return Part(collector, problem=str(error))
        return Part(collector, tuple(samples(rows)), tuple(findings(rows)))


def shut_down(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Shut a connection's socket down through a duplicate, so that its query fails at once; False if it was closed.

    Measured on a frozen server: to cancel a query takes psycopg ten seconds or never ends; closing the connection under
    the query frees a descriptor that the loop still watches, and the next probe to get that descriptor never wakes.
    While connecting there is nothing to shut, and a plain cancel is right.
    """
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.OperationalError):  # closed already: the query is about to fail by itself
        return False
    return True


def connect_arguments(server: PostgresServer) -> dict[str, Any]:
    """Return what psycopg connects with."""
    return {
        "gssencmode": "disable",  # else every connect asks for Kerberos first
        **dict(server.options),
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password.reveal() if server.password else "",
        "dbname": server.dbname,
        "application_name": "auraconnect-exporter",
        "autocommit": True,
        "prepare_threshold": None,  # PgBouncer in transaction mode has no prepared statements
    }


def activity_samples(rows: Rows) -> list[Sample]:
    """Turn the rows of ACTIVITY_SQL (state, sessions, oldest transaction, blocked, limit) into samples."""
    samples = [CONNECTIONS.sample(row[1], row[0]) for row in rows]
    samples.append(LONGEST_TRANSACTION.sample(max(row[2] for row in rows)))
    samples.append(BLOCKED_QUERIES.sample(sum(row[3] for row in rows)))
    samples.append(MAX_CONNECTIONS.sample(rows[0][4]))
    return samples


def connection_findings(rows: Rows) -> list[str]:
    """Say so when the connections come near their limit."""
    used, limit = sum(row[1] for row in rows), rows[0][4]
    return [f"{used} of {limit} connections are in use"] if used > CONNECTIONS_LIMIT_RATIO * limit else []


def database_samples(rows: Rows) -> list[Sample]:
    """Turn the row of DATABASE_SQL into samples."""
    committed, rolled_back, deadlocks, hit, read = rows[0]
    return [
        TRANSACTIONS.sample(committed, "commit"),
        TRANSACTIONS.sample(rolled_back, "rollback"),
        DEADLOCKS.sample(deadlocks),
        BLOCKS_HIT.sample(hit),
        BLOCKS_READ.sample(read),
    ]


# Failures to connect carry no SQLSTATE, only text. The first row that fits counts. Whoever answered at all is looked
# for before who did not: a name with two addresses reports both, and the other one is often merely refused.
_CONNECT_FAILURES: Final = (
    (Reason.PROTOCOL, ("received invalid response", "expected authentication")),
    (Reason.TLS, ("root certificate file",)),
    (Reason.AUTH, ("authentication failed", "no password supplied", "pg_hba.conf", "does not exist")),
    (Reason.AUTH, ("not permitted to log in", "permission denied", "no such user", "no such database")),
    (Reason.REFUSED, ("too many clients", "remaining connection slots", "too many connections")),
    (Reason.REFUSED, ("is starting up", "is shutting down", "recovery mode", "accepting connections")),
    (Reason.REFUSED, ("max_client_conn", "server_login_retry", "cannot connect to server")),  # PgBouncer
    (Reason.TLS, ("SSL", "certificate", "TLS")),
    (Reason.DNS, ("failed to resolve", "could not translate host name")),
    (Reason.TIMEOUT, ("timeout expired", "timed out")),
    (Reason.PROTOCOL, ("closed the connection unexpectedly", "Connection reset", "connection is lost")),
    (Reason.REFUSED, ("Connection refused", "No such file or directory")),
)
_SQLSTATE_CLASSES: Final = {"28": Reason.AUTH, "53": Reason.REFUSED, "57": Reason.REFUSED}


def explain_psycopg(error: psycopg.Error) -> ProbeError:
    """Name a failure of psycopg: by SQLSTATE where there is one, else by what libpq and the server say.

    PgBouncer gives all of its own failures the SQLSTATE 08P01, so their text decides as well.
    """
    text = str(error)
    if error.sqlstate == "57014":  # our own statement_timeout
        return ProbeError(Reason.TIMEOUT, text)
    if error.sqlstate is not None and not error.sqlstate.startswith("08"):
        return ProbeError(_SQLSTATE_CLASSES.get(error.sqlstate[:2], Reason.QUERY), text)
    for reason, fragments in _CONNECT_FAILURES:
        if any(fragment in text for fragment in fragments):
            return ProbeError(reason, text)
    return ProbeError(Reason.PROTOCOL if error.sqlstate else Reason.ERROR, text)
