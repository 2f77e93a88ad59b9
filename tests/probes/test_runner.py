"""An attempt ends in time and leaves nothing behind, whatever the system does: frozen, silent or deaf to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine

import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.model import Attempt, Metric, Part, Reading, Reason
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.runner import MAX_MESSAGE, MAX_SERIES
from auraconnect_exporter.targets import Http, Postgres, System
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import (
    OVERRUN,
    Leaks,
    Watched,
    cache,
    celery,
    connected,
    database,
    say_nothing,
    serving,
    value,
    watch_system,
)
from tools.servers import PostgreSQL, Redis

DEADLINE = 0.3
CYCLES = 6


@pytest.mark.parametrize("fresh", [1, 2], ids=["querying", "connecting"])
async def test_a_frozen_postgres_holds_no_attempt_and_leaves_nothing_behind(
    postgres: PostgreSQL, watch: Watch, fresh: int
) -> None:
    """A freeze under a kept connection, and under a new one, costs a timeout a check; after a thaw all is as before."""
    watched = watch(database(postgres), timeout=DEADLINE)
    assert (await watched.attempt()).ok
    leaks = Leaks()
    for _ in range(CYCLES):
        postgres.freeze()
        attempts = [await watched.attempt() for _ in range(fresh)]
        postgres.thaw()
        assert [attempt.reason for attempt in attempts] == [Reason.TIMEOUT] * fresh
        await watched.until(None)
    assert await leaks.found() == {}


async def test_a_query_that_is_given_up_is_not_tried_again_on_a_new_connection(
    postgres: PostgreSQL, watch: Watch
) -> None:
    """A kept connection that hangs ends with the deadline, not after one more connect."""
    watched = watch(database(postgres), timeout=DEADLINE)
    await watched.attempt()
    postgres.freeze()
    attempt = await watched.attempt()
    postgres.thaw()
    assert attempt.duration < DEADLINE + 0.1


@pytest.mark.parametrize("make_system", [cache, celery])
async def test_a_frozen_redis_holds_no_attempt_and_leaves_nothing_behind(
    redis: Redis, watch: Watch, make_system: Callable[[Redis], System]
) -> None:
    """A Redis stopped between two checks costs a timeout each; after a thaw all is as before."""
    watched = watch(make_system(redis), timeout=DEADLINE)
    await watched.attempt()
    leaks = Leaks()
    for _ in range(CYCLES):
        redis.freeze()
        attempts = [await watched.attempt() for _ in range(2)]
        redis.thaw()
        assert [attempt.reason for attempt in attempts] == [Reason.TIMEOUT] * 2
        await watched.attempt()
    assert await leaks.found() == {}


async def test_a_frozen_system_takes_no_descriptor_from_another(
    postgres: PostgreSQL, redis: Redis, tmp_path_factory: pytest.TempPathFactory, watch: Watch
) -> None:
    """While one PostgreSQL freezes again and again, another and a Redis answer every check, each for itself."""
    folder = tmp_path_factory.mktemp("other")
    with PostgreSQL(folder, settings={"max_connections": "33"}) as other:
        frozen = watch(database(postgres), timeout=DEADLINE)
        healthy, cached = watch(database(other)), watch(cache(redis))
        for _ in range(CYCLES):
            await frozen.until(None)
            postgres.freeze()
            hanging = asyncio.create_task(frozen.attempt())
            again = asyncio.create_task(wait_then(hanging, frozen.attempt))
            while not again.done():
                attempts = await asyncio.gather(healthy.attempt(), cached.attempt())
                assert [attempt.message for attempt in attempts] == ["", ""]
                assert value(attempts[0], "postgres_max_connections") == 33
                assert value(attempts[1], "redis_connected_clients") == 1
            assert {(await hanging).reason, (await again).reason} == {Reason.TIMEOUT}
            postgres.thaw()
        assert value(await frozen.until(None), "postgres_max_connections") == 10


async def wait_then(first: asyncio.Task[Attempt], then: Callable[[], Coroutine[None, None, Attempt]]) -> Attempt:
    await asyncio.wait({first})
    return await then()


async def test_a_redis_that_stops_answering_on_an_open_connection_holds_no_attempt(redis: Redis, watch: Watch) -> None:
    """A server that signs us in and then answers nothing more is a timeout."""
    watched = watch(cache(redis), timeout=DEADLINE)
    async with connected(redis) as client:
        await client.client_pause(60_000)
        leaks = Leaks()
        assert [(await watched.attempt()).reason for _ in range(3)] == [Reason.TIMEOUT] * 3
        assert await leaks.found() == {}


async def test_an_api_that_never_answers_holds_no_attempt_and_leaves_nothing_behind(watch: Watch) -> None:
    """Silence after the request, and silence in the TLS handshake, are timeouts that free their connection."""
    async with serving(say_nothing) as port:
        for scheme in ("http", "https"):
            url = endpoints.http(f"{scheme}://127.0.0.1:{port}/")
            watched = watch(Http(url, frozenset({200}), slow=60.0), timeout=DEADLINE)
            leaks = Leaks()
            assert [(await watched.attempt()).reason for _ in range(CYCLES)] == [Reason.TIMEOUT] * CYCLES
            assert await leaks.found() == {}


class Scripted(Probe):
    """Runs what it is given."""

    collectors = ("one", "two")

    def __init__(self, check: Callable[[], Coroutine[None, None, Reading]]) -> None:
        self._check = check

    async def check(self) -> Reading:
        return await self._check()


async def test_a_check_that_ignores_its_end_is_left_behind_and_a_new_probe_takes_over() -> None:
    """A probe deaf to cancellation costs one timeout and is never used again."""
    released = asyncio.Event()

    async def deaf() -> Reading:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        raise RuntimeError("nobody hears of this")

    async def answer() -> Reading:
        return Reading()

    probes = [Scripted(deaf), Scripted(answer)]
    watched = Watched(lambda: probes.pop(0), DEADLINE)
    try:
        stuck, good = await watched.attempt(), await watched.attempt()
        assert (stuck.reason, good.reason, probes) == (Reason.TIMEOUT, None, [])
    finally:
        released.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


async def test_a_check_that_is_cancelled_from_within_is_a_failure_like_any_other() -> None:
    """A driver that cancels itself does not end the watch."""

    async def cancel() -> Reading:
        raise asyncio.CancelledError

    assert (await Watched(lambda: Scripted(cancel), DEADLINE).attempt()).reason is Reason.ERROR


async def test_a_failure_is_told_in_one_short_line_and_all_collectors_fail() -> None:
    """What a server says goes to logs and pages: no line breaks, no control characters, no endless text."""

    async def fail() -> Reading:
        raise ProbeError(Reason.QUERY, "first\n  second\x1b[31m\x00 " + 500 * "x")

    attempt = await Watched(lambda: Scripted(fail), DEADLINE).attempt()
    assert attempt.message.startswith("first second?[31m? xxx")
    assert (len(attempt.message), attempt.message[-1]) == (MAX_MESSAGE, "…")
    assert collectors(attempt) == {"one": False, "two": False}


async def test_an_unforeseen_exception_is_a_failure_that_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug in a probe is told by its type on the page and in full in the debug log."""

    async def fail() -> Reading:
        raise LookupError("of a driver")

    caplog.set_level("DEBUG")
    attempt = await Watched(lambda: Scripted(fail), DEADLINE).attempt()
    assert (attempt.reason, attempt.message) == (Reason.ERROR, "unexpected LookupError")
    assert "LookupError: of a driver" in caplog.text


@pytest.mark.parametrize("kept", [False, True], ids=["connecting", "querying"])
async def test_a_shutdown_waits_for_no_frozen_postgres(postgres: PostgreSQL, watch: Watch, *, kept: bool) -> None:
    """Cancelled in the middle of a hanging check, the watch ends within half a second."""
    watched = watch(database(postgres), timeout=30.0)
    if kept:
        await watched.attempt()
    postgres.freeze()
    await cancelled_in_time(watched)
    postgres.thaw()


@pytest.mark.parametrize("make_system", [cache, celery])
async def test_a_shutdown_waits_for_no_frozen_redis(
    redis: Redis, watch: Watch, make_system: Callable[[Redis], System]
) -> None:
    """Cancelled in the middle of a hanging check, the watch ends within half a second."""
    watched = watch(make_system(redis), timeout=30.0)
    redis.freeze()
    await cancelled_in_time(watched)
    redis.thaw()


async def cancelled_in_time(watched: Watched) -> None:
    task = asyncio.create_task(watched.attempt())
    await asyncio.wait({task}, timeout=DEADLINE)
    assert not task.done()
    begun = time.monotonic()
    task.cancel()
    await asyncio.wait({task})
    await watched.runner.close()
    assert task.cancelled()
    assert time.monotonic() - begun < OVERRUN


def test_a_name_server_that_hangs_holds_neither_an_attempt_nor_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that never returns costs a timeout, and the loop closes without waiting for its thread."""
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    systems: list[System] = [
        Postgres(endpoints.postgres("postgresql://user@database.test/name"), slow=1.0),
        RedisSystem(endpoints.redis("redis://cache.test"), slow=1.0),
        Http(endpoints.http("https://api.test"), frozenset({200}), slow=1.0),
    ]
    with asyncio.Runner(loop_factory=ExporterLoop) as runner:
        for system in systems:
            assert runner.run(watch_system(system, DEADLINE).attempt()).reason is Reason.TIMEOUT
        begun = time.monotonic()
    assert time.monotonic() - begun < OVERRUN
    released.set()
    for thread in threading.enumerate():
        if thread.name == "blocking call":
            thread.join()


async def test_a_collector_that_names_without_end_is_cut_at_its_budget() -> None:
    """What is beyond the budget of series is left out and counted, and the other collectors lose nothing."""
    depth = Metric("worker_queue_depth", "gauge", "Jobs that wait.", ("queue",))

    async def flood() -> Reading:
        many = tuple(depth.sample(index, f"q{index}") for index in range(MAX_SERIES + 7))
        return Reading((Part("one", many), Part("two", many[:3])))

    attempt = await Watched(lambda: Scripted(flood), DEADLINE).attempt()
    assert [(len(part.samples), part.dropped) for part in attempt.reading.parts] == [(MAX_SERIES, 7), (3, 0)]
