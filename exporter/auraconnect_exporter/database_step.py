"""One bounded step through AuraConnect's database: what the readers of its tables share.

A step has a connection of its own and is over in time even when the server is frozen: the probes' runner sees to that.
What it does runs in read-only transactions that carry their own timeouts, since a session setting would stay behind in
a server connection of PgBouncer and leak into production.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from auraconnect_exporter.model import Clock, Reading, Reason
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.postgres_connection import connect_arguments, shut_down
from auraconnect_exporter.probes.postgres_failures import explain_psycopg
from auraconnect_exporter.probes.runner import Runner
from auraconnect_exporter.targets import PostgresServer

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0
"""Seconds of a step."""

T = TypeVar("T")
Row = tuple[Any, ...]


class Session:
    """The connection of one step."""

    def __init__(self, connection: psycopg.AsyncConnection[Row], timeout: float) -> None:
        self._connection = connection
        self._milliseconds = max(1, int(timeout * 1000))

    async def begin(self, sql: str, parameters: Mapping[str, object], isolation: str = "") -> list[Row]:
        """Begin a read-only transaction in which times are UTC, and return the rows of its first query."""
        return await self.query(
            f"BEGIN {isolation} READ ONLY; SET LOCAL statement_timeout = {self._milliseconds}; "
            f"SET LOCAL lock_timeout = {max(1, self._milliseconds // 2)}; SET LOCAL timezone = 'UTC'; {sql}",
            parameters,
        )

    async def query(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run statements in one round trip, and return the rows of the one that has some. Raises psycopg.Error."""
        cursor = await self._connection.execute(sql.encode(), parameters)
        while cursor.description is None and cursor.nextset():
            pass
        return [] if cursor.description is None else await cursor.fetchall()


class Steps:
    """Makes steps, one at a time. ``problem`` says in a sentence why the last one failed, or is empty."""

    def __init__(
        self, server: PostgresServer, clock: Clock, table: str, *, name: str, timeout: float = TIMEOUT
    ) -> None:
        """``name`` is what the server's list of sessions shows behind the exporter's."""
        self._server = server
        self._clock = clock
        self._table = table
        self._name = name
        self._timeout = timeout
        self.problem = ""

    async def run(self, act: Callable[[Session], Awaitable[T]]) -> T | None:
        """Return what ``act`` reads; None while that is impossible, which is logged once, not each time.

        ``act`` need not end its transaction, and raises psycopg.Error or ProbeError.
        """
        step = _Step(self._server, act, self._table, self._name, self._timeout)
        runner = Runner(lambda: step, self._timeout, self._clock)
        try:
            attempt = await runner.attempt()
        finally:
            await runner.close()
        if attempt.message != self.problem:
            self.problem = attempt.message
            if attempt.message:
                log.warning("AuraConnect's %s can't be read", self._table, extra={"reason": attempt.message})
            else:
                log.info("AuraConnect's %s can be read again", self._table)
        return step.result if attempt.ok else None


class _Step(Probe):
    """One step, in the form that the runner brings to an end."""

    collectors = ()

    def __init__(
        self, server: PostgresServer, act: Callable[[Session], Awaitable[T]], table: str, name: str, timeout: float
    ) -> None:
        self.result: Any = None
        self._server = server
        self._act = act
        self._table = table
        self._name = name
        self._timeout = timeout
        self._connection: psycopg.AsyncConnection[Row] | None = None

    async def check(self) -> Reading:
        """Connect and act. Raises ProbeError."""
        arguments = connect_arguments(self._server) | {
            "application_name": f"auraconnect-exporter {self._name}",
            "cursor_factory": psycopg.AsyncClientCursor,  # several statements in one go
        }
        try:
            self._connection = await psycopg.AsyncConnection.connect(**arguments)
            self.result = await self._act(Session(self._connection, self._timeout))
            if self._connection.info.transaction_status is not TransactionStatus.IDLE:
                await self._connection.execute("COMMIT")  # else PgBouncer drops its own connection as well
        except psycopg.errors.UndefinedTable:
            raise ProbeError(Reason.QUERY, f"there is no table {self._table}") from None
        except psycopg.Error as error:
            failure = explain_psycopg(error)
            raise ProbeError(failure.reason, error.diag.message_primary or str(failure)) from None
        return Reading()

    def interrupt(self) -> bool:
        """Let the query fail at once."""
        return self._connection is not None and shut_down(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
