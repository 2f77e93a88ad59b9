"""PostgreSQL: a schema of our own in any database, for several exporters at once; also through PgBouncer.

Everything that a session could keep is said again in each transaction (SET LOCAL), since PgBouncer in transaction
mode gives each transaction another session, and ours to others.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg

from auraconnect_exporter.store.driver import storable
from auraconnect_exporter.store.problems import StoreError, StoreUnavailable
from auraconnect_exporter.store.transaction import Row
from auraconnect_exporter.targets import PostgresServer

SCHEMA: Final = "auraconnect_monitoring"

CONNECT_SECONDS: Final = 2
"""How long to try to connect; libpq takes no less."""

WRITER_LOCK: Final = 5_208_347_519_042_873
"""The number of the advisory lock that a writer holds; arbitrary, but for ever the same."""

_PASSING_CLASSES: Final = frozenset({"08", "25", "28", "40", "53", "55", "57", "58"})
"""SQLSTATE classes of failures that may be over when one tries again: connection, read-only or aborted, sign-in,
rollback, resources, locks, intervention, system. A changed password or a standby is put right outside as well."""


class PostgreSQL:
    """One database of one server."""

    shared = True
    types: Mapping[str, str] = {
        "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "blob": "BYTEA",
    }  # Mapping has no setter

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"PostgreSQL({self._server!r})"

    def connect(self, *, read_only: bool) -> PostgreSQLConnection:
        """Connect, within CONNECT_SECONDS an address. Raises StoreUnavailable."""
        server = self._server
        options: dict[str, Any] = {"gssencmode": "disable", **dict(server.options)}  # else it asks for Kerberos first
        try:
            raw = psycopg.connect(
                **options,
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password.reveal() if server.password else "",
                dbname=server.dbname,
                connect_timeout=CONNECT_SECONDS,
                application_name="auraconnect-exporter store",
                autocommit=True,  # we say BEGIN ourselves
                prepare_threshold=None,  # PgBouncer in transaction mode has no prepared statements
            )
        except psycopg.Error as error:
            # Not chained: the failed call, with its password, would stay in the traceback's frames.
            raise StoreUnavailable(f"The store's PostgreSQL can't be reached: {_first_line(error)}.") from None
        return PostgreSQLConnection(raw, read_only=read_only)

    def close(self) -> None:
        """Do nothing: the connections are all there is."""


class PostgreSQLConnection:
    """One connection to the database."""

    def __init__(self, raw: psycopg.Connection[Row], *, read_only: bool) -> None:
        self._raw = raw
        self._read_only = read_only
        self._interrupted = False
        # A second descriptor of the socket, ours for as long as the connection: libpq may close its own at any moment,
        # and its number may then be somebody else's socket.
        self._socket = socket.socket(fileno=os.dup(raw.pgconn.socket))
        self._closing = threading.Lock()

    def begin(self, limit: float | None) -> None:
        """Begin; a writer first waits for its turn."""
        milliseconds = 0 if limit is None else max(1, int(limit * 1000))
        statements = [
            # What is read in one transaction belongs together, as it does in SQLite.
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if self._read_only else "BEGIN READ WRITE",
            f"SET LOCAL search_path = {SCHEMA}",
            f"SET LOCAL statement_timeout = {milliseconds}",
            f"SET LOCAL lock_timeout = {milliseconds * 4 // 5}",  # says what it waited for, before the other ends it
            f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds * 2}",
        ]
        if not self._read_only:
            # Writers of all exporters take turns, as they do in SQLite. So whoever looks whether something is there
            # and then writes it needs no other lock and no retry, and ids grow in the order of the commits. Each
            # statement after it sees what the writer before has committed (READ COMMITTED).
            statements.append(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
        with self._explained():
            self._raw.execute("; ".join(statements).encode())

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        with self._explained():
            cursor = self._raw.execute(sql.replace("%", "%%").replace("?", "%s").encode(), storable(parameters))
            return cursor.fetchall() if cursor.description is not None else []

    def commit(self) -> None:
        """Commit, unless interrupted before."""
        with self._explained():
            # A transaction that failed answers a COMMIT with ROLLBACK, and without an error.
            if self._raw.execute("COMMIT").statusmessage != "COMMIT":
                raise StoreError("The store did not commit: a statement had failed, and the failure was passed over.")

    def rollback(self) -> None:
        """Roll back."""
        with self._explained():
            self._raw.execute("ROLLBACK")

    def interrupt(self) -> None:
        """Shut the socket down, so that the statement fails at once; the server rolls back.

        Not by cancelling: on a frozen server that takes psycopg ten seconds, or never ends.
        """
        with self._closing:
            self._interrupted = True
            with contextlib.suppress(OSError):  # the other side was quicker, or it is closed
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; the server rolls back what is not committed."""
        with self._closing:
            with contextlib.suppress(psycopg.Error):
                self._raw.close()
            self._socket.close()

    def tables(self) -> frozenset[str]:
        """Return the names of the tables of our schema."""
        rows = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = ?", (SCHEMA,))
        return frozenset(str(name) for (name,) in rows)

    def make_place(self) -> None:
        """Make the schema; ``IF NOT EXISTS`` would want the right to make it even where an administrator has."""
        if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (SCHEMA,)):
            self.execute(f"CREATE SCHEMA {SCHEMA}")

    def faults(self) -> list[str]:
        """Return nothing: PostgreSQL finds damage when it reads, and then says so."""
        return []

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        if self._interrupted:
            raise StoreUnavailable("The store took too long and was interrupted.")
        try:
            yield
        except psycopg.Error as error:
            if self._interrupted:
                raise StoreUnavailable("The store took too long and was interrupted.") from None
            raise _explain(error) from None


def _explain(error: psycopg.Error) -> StoreError:
    said = _first_line(error)
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"The connection to the store's PostgreSQL is lost: {said}.")
    if error.sqlstate is not None and error.sqlstate[:2] in _PASSING_CLASSES:
        return StoreUnavailable(f"The store's PostgreSQL can't do it just now: {said}.")
    return StoreError(f"The store's PostgreSQL refused a statement: {said}.")


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
