"""What the tests of the probes share: real clocks, what an attempt measured, what the process holds open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Final

from redis.asyncio import Redis as Client
from redis.asyncio.connection import AbstractConnection

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Attempt, Clock, Component, Reason, TargetId
from auraconnect_exporter.probes import make_probe
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.redis_connection import Connector
from auraconnect_exporter.probes.runner import Runner
from auraconnect_exporter.targets import Postgres, System, Target, Workers
from auraconnect_exporter.targets import Redis as RedisSystem
from tools.programs import program
from tools.servers import PostgreSQL, Redis

CLOCK: Final[Clock] = time

PASSWORD: Final = "Hunter2-never-shown"
"""The password of every server here; no attempt, log record or ``repr`` may hold it."""

OVERRUN: Final = 0.5
"""What an attempt may take beyond its deadline, in seconds."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ShiftedClock:
    """The real time, and so many seconds later."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Watched:
    """A system under watch, as the monitor does it, with all attempts so far."""

    def __init__(self, make: Callable[[], Probe], timeout: float) -> None:
        self.runner = Runner(make, timeout, CLOCK)
        self.timeout = timeout
        self.attempts: list[Attempt] = []

    async def attempt(self) -> Attempt:
        """Make one attempt, which must end in time whatever happens."""
        made = await self.runner.attempt()
        self.attempts.append(made)
        assert made.duration < self.timeout + OVERRUN, made
        return made

    async def until(self, reason: Reason | None) -> Attempt:
        """Attempt until one succeeds, or fails for this reason: a server takes a moment to notice what happens."""
        for _ in range(50):
            made = await self.attempt()
            if made.reason is reason:
                return made
            await asyncio.sleep(0.02)
        raise AssertionError(made)


def watch_system(system: System, timeout: float = 2.0, clock: Clock = CLOCK) -> Watched:
    """Return a system under watch; ``clock`` is the one that its probe sees."""
    target = Target(TargetId(Component.API, "test"), critical=True, interval=5.0, timeout=timeout, system=system)
    return Watched(lambda: make_probe(target, clock, Trust()), timeout)


def database(server: PostgreSQL) -> Postgres:
    """Return a PostgreSQL as the configuration would name it; nothing it does is slow, and it counts no statements."""
    return Postgres(endpoints.postgres(server.dsn), slow=60.0, statements=False)


def cache(server: Redis) -> RedisSystem:
    """Return a Redis as the configuration would name it; nothing it does is slow."""
    return RedisSystem(endpoints.redis(server.url), slow=60.0)


def celery(server: Redis, *queues: str) -> Workers:
    """Return the Celery workers on a Redis as the configuration would name them."""
    return Workers("celery", endpoints.redis(server.url), queues or ("exports",))


@asynccontextmanager
async def connected(server: Redis) -> AsyncIterator[Client]:
    """Open a client of the test's own to a Redis."""
    client = Client.from_url(server.url)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def asking(server: Redis) -> AsyncIterator[AbstractConnection]:
    """Open a connection such as the probes have."""
    async with Connector(endpoints.redis(server.url), Trust()).connected() as connection:
        yield connection


def values(attempt: Attempt, metric: str) -> dict[tuple[str, ...], float]:
    """Return the values of one metric in an attempt by its labels."""
    samples = [sample for sample in attempt.reading.samples if sample.metric.name == metric]
    found = {sample.label_values: sample.value for sample in samples}
    assert len(found) == len(samples), f"{metric} has a series twice"
    return found


def value(attempt: Attempt, metric: str, *labels: str) -> float:
    """Return one value of an attempt."""
    return values(attempt, metric)[labels]


def descriptors() -> dict[int, str]:
    """Return this process's open sockets: what each descriptor is."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists the folder
            found[int(descriptor.name)] = str(descriptor.readlink())
    return {number: what for number, what in found.items() if what.startswith("socket:")}


def watched_descriptors() -> set[int]:
    """Return the descriptors that the running loop waits for."""
    # asyncio has no public view of them.
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    return set(selector.get_map())


class Leaks:
    """Counts what is open and what runs, when it is made and when it is asked."""

    def __init__(self) -> None:
        self._before = self._count()

    async def found(self) -> dict[str, int]:
        """Return how much more there is than at first, where there is more; what is closing has a moment for it."""
        more: dict[str, int] = {}
        for _ in range(20):
            now = self._count()
            more = {what: now[what] - count for what, count in self._before.items() if now[what] > count}
            if not more:
                break
            await asyncio.sleep(0.01)
        return more

    def _count(self) -> dict[str, int]:
        gc.collect()
        return {
            "sockets": len(descriptors()),
            "descriptors that the loop watches": len(watched_descriptors()),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1", tls: SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port, which is yielded, until the block ends; then every connection is closed."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections)


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Accept, and never answer."""
    while await reader.read(4096):
        pass


async def say_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what belongs to no protocol."""
    await reader.read(4096)
    writer.write(b"\x16\x00garbage, not an answer\r\n\r\n" * 8)
    await writer.drain()
    await reader.read(4096)


async def close_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accept, and close."""


def self_signed(folder: Path, *names: str, days: int = 2) -> tuple[Path, Path]:
    """Make a certificate that signs itself, for host names; returns the certificate's file and the key's."""
    certificate, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        [
            *(
                program("openssl"),
                "req",
                "-x509",
                "-nodes",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={alternatives}", "-days", str(days)),
            *("-out", certificate, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def issued(folder: Path, name: str, days: int, authority: tuple[Path, Path] | None = None) -> tuple[Path, Path]:
    """Make a certificate for a host name, that an authority or it itself has signed; ``days`` may have gone by."""
    key, request, certificate = (folder / f"{name}-{days}.{kind}" for kind in ("key", "csr", "pem"))
    openssl = program("openssl")
    subject: list[str | Path] = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    kind = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    signer: list[str | Path] = ["-CA", authority[0], "-CAkey", authority[1]] if authority else ["-signkey", key]
    sign: list[str | Path] = ["x509", "-req", "-in", request, *signer, "-days", str(days), "-copy_extensions", "copy"]
    for command in (["req", "-new", *kind, *subject, "-keyout", key, "-out", request], [*sign, "-out", certificate]):
        subprocess.run([openssl, *command], check=True, capture_output=True)
    return certificate, key
