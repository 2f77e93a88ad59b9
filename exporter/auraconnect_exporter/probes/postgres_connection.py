"""One connection to PostgreSQL, or to what speaks like it, and how to leave it whatever state the server is in.

Every statement runs in a transaction that is read-only and carries its own timeouts: a session setting would stay
behind in a server connection of PgBouncer and leak into production.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from auraconnect_exporter.model import Metric, Part
from auraconnect_exporter.targets import PostgresServer

CONNECT_DURATION = Metric("postgres_connect_duration_seconds", "gauge", "Time to open a new connection.")
QUERY_DURATION = Metric("postgres_query_duration_seconds", "gauge", "Time of a trivial query on an open connection.")

CHECKS_PER_CONNECTION: Final = 2
"""A connection serves so many checks and is then renewed: a kept one knows nothing of a changed password or of a
server that takes no more connections, which is down for everybody who comes."""

CONNECT_ROUND_TRIPS: Final = 5
"""To ask for TLS, to greet, and to prove that one has the password. A server so slow that these can't fit into a check
is asked on the connection that there is: slow is not down."""

Rows = list[TupleRow]


class Session:
    """Opens, renews and closes the one connection of a probe."""

    def __init__(self, server: PostgresServer, timeout: float, monotonic: Callable[[], float]) -> None:
        self._connect_arguments = connect_arguments(server)
        self._timeout = timeout
        self._monotonic = monotonic
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._checks = 0
        self._query_seconds = 0.0
        self._interrupted = False
        self.connect_seconds = 0.0
        """How long the last connect took."""

    @property
    def version(self) -> int:
        """Return the server's version, such as 150004; 0 without a connection."""
        return self._connection.info.server_version if self._connection is not None else 0

    @property
    def is_usable(self) -> bool:
        """Return whether the connection is open: an error then belongs to the statement alone."""
        return self._connection is not None and not self._connection.closed

    async def ping(self, statement: str) -> float:
        """Return the seconds of a trivial statement, on a connection that is opened or renewed first where due.

        A kept connection may have been cut by a restart or a firewall since the last check. That alone is no
        failure: a new one is tried.
        """
        self._interrupted = False
        can_be_renewed = CONNECT_ROUND_TRIPS * self._query_seconds < self._timeout
        if self._connection is not None and (self._checks < CHECKS_PER_CONNECTION or not can_be_renewed):
            self._checks += 1
            try:
                return await self._timed(statement)
            except psycopg.OperationalError:
                if self._interrupted or self.is_usable:
                    raise
        await self.close()
        begun = self._monotonic()
        self._connection = await psycopg.AsyncConnection.connect(**self._connect_arguments)
        self.connect_seconds = self._monotonic() - begun
        self._checks = 1
        return await self._timed(statement)

    def latency(self, query_seconds: float, slow: float) -> Part:
        """Return the part that says how long connecting and a trivial query took."""
        findings = [f"connecting took {self.connect_seconds:.2f} s"] if self.connect_seconds > slow else []
        findings += [f"a trivial query took {query_seconds:.2f} s"] if query_seconds > slow else []
        samples = (CONNECT_DURATION.sample(self.connect_seconds), QUERY_DURATION.sample(query_seconds))
        return Part("latency", samples, tuple(findings))

    async def query(self, text: str) -> list[Rows]:
        """Run one or several statements in one round trip; return the rows of each that has any."""
        cursor = await self._execute(text)
        found: list[Rows] = []
        while True:
            if cursor.description is not None:
                found.append(await cursor.fetchall())
            if not cursor.nextset():
                return found

    async def table(self, text: str) -> list[dict[str, Any]]:
        """Run one statement; return its rows by the names of their columns, which versions order differently."""
        cursor = await self._execute(text)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    async def transaction(self, statements: Sequence[str], milliseconds: int) -> list[Rows]:
        """Read in a transaction in which each statement has so long, and half of that to wait for a lock.

        One that fails takes the others along; the session is then out of the transaction again.
        """
        try:
            return await self.query(f"{begin(milliseconds)}{'; '.join(statements)}; COMMIT")
        except psycopg.Error:
            if self.is_usable:
                await self.query("ROLLBACK")
            raise

    def interrupt(self) -> bool:
        """Let the query that runs fail at once; False where none can."""
        if self._connection is None or not shut_down(self._connection):
            return False
        self._interrupted = True
        return True

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _execute(self, text: str) -> psycopg.AsyncCursor[TupleRow]:
        if self._connection is None:
            raise psycopg.OperationalError("the connection is closed")
        return await self._connection.execute(text.encode())

    async def _timed(self, statement: str) -> float:
        begun = self._monotonic()
        await self.query(statement)
        self._query_seconds = self._monotonic() - begun
        return self._query_seconds


def begin(milliseconds: int) -> str:
    """Return what opens a transaction that can't write and in which no statement takes longer."""
    most = max(1, milliseconds)
    return f"BEGIN READ ONLY; SET LOCAL statement_timeout = {most}; SET LOCAL lock_timeout = {max(1, most // 2)}; "


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
        "client_encoding": "UTF8",  # a database without an encoding would hand out bytes
        "prepare_threshold": None,  # PgBouncer in transaction mode has no prepared statements
    }
