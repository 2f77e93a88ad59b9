"""How probes speak to Redis: one connection, no retries, failures named."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError, explain
from auraconnect_exporter.probes.certificates import Trust, trusting_anyone
from auraconnect_exporter.targets import RedisServer

FORBIDDEN_SECONDS: Final = 3600.0
"""How long a command that was refused is not sent again: each time, Redis counts one more denied access."""


class Connector:
    """Connects to one server, again and again with what was prepared once.

    redis-py's own retries held a refused probe for 4.6 s, so there are none, nor deadlines of its own: the runner's is
    the one. It does not introduce itself (CLIENT SETNAME and SETINFO): a user with no right to that would fail, or be
    counted by Redis as one whose access was denied.
    """

    def __init__(self, server: RedisServer, trust: Trust) -> None:
        self._class, place = _place(server, trust)
        self._arguments = {
            **place,
            "db": server.database,
            "username": server.user,
            "password": server.password.reveal() if server.password else None,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "protocol": 2,
        }

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AbstractConnection]:
        """Open a connection, signed in, for one check; it costs half of what a client costs."""
        connection = self._class(**self._arguments)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's own gap
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    def client(self) -> Redis:
        """Return a client that connects when first used."""
        return Redis.from_pool(ConnectionPool(connection_class=self._class, max_connections=1, **self._arguments))


async def ask(connection: AbstractConnection, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
    """Send commands at once and return their answers as they came, in their order.

    Raises the first error among the answers, once all are read, or RedisError.
    """
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    errors: list[exceptions.ResponseError] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except exceptions.ResponseError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return answers


class Refusals:
    """Remembers what was refused for want of a right, so that it is asked for again only after an hour."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refused: dict[str, tuple[float, str]] = {}

    async def unless_refused(self, what: str, request: Callable[[], Awaitable[None]]) -> str:
        """Make a request; return the problem, in words, where the right to it is missing. Raises other RedisErrors."""
        until, problem = self._refused.get(what, (0.0, ""))
        if problem and self._monotonic() < until:
            return problem
        try:
            await request()
        except exceptions.NoPermissionError as error:
            problem = f"{what}: {error}; asked again in an hour"
            self._refused[what] = (self._monotonic() + FORBIDDEN_SECONDS, problem)
            return problem
        self._refused.pop(what, None)
        return ""


class _TLSConnection(SSLConnection):
    """A connection with a context of ours.

    redis-py would build one each time, which takes 17 ms, and would trust the system's authorities beside the file that
    stands in their place.
    """

    def __init__(self, *, context: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = context


def _place(server: RedisServer, trust: Trust) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """Return the kind of connection, and where it leads to. Raises OSError or SSLError for a file of authorities."""
    if server.socket_path is not None:
        return UnixDomainSocketConnection, {"path": server.socket_path}
    place = {"host": server.host, "port": server.port}
    if not server.tls:
        return Connection, place
    context = trust.context(server.ca_file) if server.verify else trusting_anyone()
    return _TLSConnection, {**place, "context": context}


# What the server says, or that it hung up; the first row that fits counts.
_FAILURES: Final = (
    (exceptions.AuthenticationError, "", Reason.AUTH),
    (exceptions.NoPermissionError, "", Reason.AUTH),
    (exceptions.BusyLoadingError, "", Reason.REFUSED),
    (exceptions.MasterDownError, "", Reason.REFUSED),
    (exceptions.ConnectionError, "max number of clients reached", Reason.REFUSED),
    (exceptions.ConnectionError, "closed by server", Reason.PROTOCOL),
    (exceptions.ResponseError, "BUSY ", Reason.REFUSED),  # a script runs for too long: nobody is served
    (exceptions.ResponseError, "", Reason.QUERY),
)


def explain_redis(error: exceptions.RedisError) -> ProbeError:
    """Name a failure of redis-py: what the server said, else the operating system's error behind it."""
    if isinstance(error, exceptions.InvalidResponse):
        return ProbeError(Reason.PROTOCOL, "what answers does not speak Redis")
    text = str(error)
    for kind, fragment, reason in _FAILURES:
        if isinstance(error, kind) and fragment in text:
            return ProbeError(reason, text)
    return explain(error)
