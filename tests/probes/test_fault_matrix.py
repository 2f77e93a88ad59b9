"""What can befall Redis and the API: the right reason within the deadline, well again by itself, nothing left open."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import ResponseError

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.probes.conftest import Watch
from tests.probes.support import (
    PASSWORD,
    Handler,
    Leaks,
    cache,
    close_at_once,
    connected,
    say_garbage,
    say_nothing,
    serving,
)
from tests.probes.test_http_api import OK, answering, api, serves_as
from tools.servers import Redis, Server, free_port

DEADLINE = 0.4


@asynccontextmanager
async def killed(server: Server, _: Client | None = None) -> AsyncIterator[None]:
    server.kill()
    yield
    server.start()


@asynccontextmanager
async def frozen(server: Server, _: Client | None = None) -> AsyncIterator[None]:
    server.freeze()
    yield
    server.thaw()


@asynccontextmanager
async def another_password(_: Server, admin: Client) -> AsyncIterator[None]:
    await admin.config_set("requirepass", "another")
    yield
    await admin.config_set("requirepass", PASSWORD)


@asynccontextmanager
async def clients_used_up(_: Server, admin: Client) -> AsyncIterator[None]:
    await admin.config_set("maxclients", 1)
    yield
    await admin.config_set("maxclients", 100)


@asynccontextmanager
async def script_that_does_not_end(server: Redis, admin: Client) -> AsyncIterator[None]:
    await admin.config_set("busy-reply-threshold", 1)
    async with connected(server) as client:
        running = asyncio.ensure_future(client.eval("while true do end", 0))
        yield
        await admin.script_kill()
        with pytest.raises(ResponseError):
            await running


Fault = Callable[[Redis, Client], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (killed, Reason.REFUSED),
        (frozen, Reason.TIMEOUT),
        (another_password, Reason.AUTH),
        (clients_used_up, Reason.REFUSED),
        (script_that_does_not_end, Reason.REFUSED),
    ],
)
async def test_redis_comes_back_from_any_fault(redis: Redis, watch: Watch, fault: Fault, reason: Reason) -> None:
    """Each has its reason for as long as it lasts; afterwards the same watch sees a server that is well."""
    async with connected(redis) as admin:
        await admin.ping()
        watched = watch(cache(redis), timeout=DEADLINE)
        await watched.until(None)
        leaks = Leaks()
        async with fault(redis, admin):
            await watched.until(reason)
            assert [(await watched.attempt()).reason for _ in range(3)] == [reason] * 3
        await watched.until(None)
        assert await leaks.found() == {}


async def test_a_redis_that_is_slow_by_a_second_is_degraded(redis: Redis, watch: Watch) -> None:
    """It answers within the deadline, so it is not down; whoever comes must wait, and that is said."""
    async with connected(redis) as admin:
        await admin.client_pause(1000)
        attempt = await watch(RedisSystem(cache(redis).server, slow=0.5)).attempt()
    assert attempt.ok
    assert [finding.partition(" took ")[0] for finding in attempt.reading.degraded] == ["connecting"]


class Api(Server):
    """An HTTP server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
            folder,
            str(self.port),
        ]
        super().__init__("api", command, folder / "api.log")

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


async def test_an_api_comes_back_from_any_fault(tmp_path: Path, watch: Watch) -> None:
    """Killed and frozen, as a process is."""
    with Api(tmp_path) as server:
        watched = watch(api(f"http://127.0.0.1:{server.port}/"), timeout=DEADLINE)
        await watched.until(None)
        leaks = Leaks()
        for fault, reason in ((killed, Reason.REFUSED), (frozen, Reason.TIMEOUT)):
            async with fault(server):
                assert [(await watched.attempt()).reason for _ in range(3)] == [reason] * 3
            await watched.until(None)
        assert await leaks.found() == {}


class Moody:
    """Serves as it is told."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.handler(reader, writer)


STRANGERS = ((say_nothing, Reason.TIMEOUT), (say_garbage, Reason.PROTOCOL), (close_at_once, Reason.PROTOCOL))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_api_comes_back_from_any_stranger_in_its_place(tmp_path: Path, watch: Watch, scheme: str) -> None:
    """Something accepts and is silent, talks nonsense or hangs up, with and without TLS; then it is the API again."""
    certificate, tls = serves_as(tmp_path, "localhost")
    served = Moody(answering(OK))
    async with serving(served, tls=tls if scheme == "https" else None) as port:
        trusted = certificate if scheme == "https" else None
        watched = watch(api(f"{scheme}://localhost:{port}/", trusted), timeout=DEADLINE)
        await watched.until(None)
        leaks = Leaks()
        for handler, reason in STRANGERS:
            served.handler = handler
            assert [(await watched.attempt()).reason for _ in range(3)] == [reason] * 3
            served.handler = answering(OK)
            await watched.until(None)
        assert await leaks.found() == {}


async def test_a_redis_comes_back_from_any_stranger_in_its_place(redis: Redis, watch: Watch) -> None:
    """A proxy that passes nothing on, or nonsense, or hangs up, until it passes all."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", redis.port)
        try:
            await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))
        finally:
            behind[1].transport.abort()

    served = Moody(pass_on)
    async with serving(served) as port:
        system = RedisSystem(endpoints.redis(f"redis://:{PASSWORD}@127.0.0.1:{port}/0"), slow=60.0)
        watched = watch(system, timeout=DEADLINE)
        await watched.until(None)
        leaks = Leaks()
        for handler, reason in STRANGERS:
            served.handler = handler
            assert [(await watched.attempt()).reason for _ in range(3)] == [reason] * 3
            served.handler = pass_on
            await watched.until(None)
        assert await leaks.found() == {}


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends, and then the end."""
    while data := await source.read(65536):
        sink.write(data)
    sink.close()
