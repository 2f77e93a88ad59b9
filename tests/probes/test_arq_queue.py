"""arq as it really is: a real worker on a real Redis, jobs due and to come, a worker that dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
import pytest
from redis import Redis as Client
from redis.asyncio import Redis as AsyncClient

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Attempt, Reason
from auraconnect_exporter.probes.arq_queue import (
    ABANDONED_SECONDS,
    MAX_DUE_JOBS,
    Demand,
    Ended,
    Queue,
    parse_health_check,
)
from auraconnect_exporter.probes.redis_connection import FORBIDDEN_SECONDS
from auraconnect_exporter.targets import Workers
from tests.builders import FakeClock
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, ShiftedClock, Watched, connected, value, values
from tools.bootstrap import bootstrap
from tools.servers import Redis, Server

ROOT = Path(__file__).parents[2]
QUEUE = "payment_webhooks"


def python() -> Path:
    """Return the interpreter of arq's environment, which is made when it is first needed."""
    return bootstrap(Path(__file__).with_name("arq-requirements.lock"), ROOT / "build/arq", ROOT)


class Worker(Server):
    """A real arq worker, ready when it has said that it is healthy."""

    def __init__(self, folder: Path, redis: Redis, health_check_interval: float = 3600.0) -> None:
        self._redis = redis
        command: list[str | Path] = [python(), "-m", "arq", "tests.probes.arq_worker.Settings"]
        env = {"BROKER_URL": redis.url, "QUEUE": QUEUE, "HEALTH_CHECK_INTERVAL": str(health_check_interval)}
        super().__init__("arq", command, folder / "arq.log", env={**os.environ, **env, "PYTHONPATH": str(ROOT)})

    def is_ready(self) -> bool:
        """Return whether its health key is there."""
        with Client.from_url(self._redis.url) as client:
            return bool(client.exists(f"{QUEUE}:health-check"))


def enqueue(redis: Redis, file: Path, seconds: float = 0.0) -> None:
    """Add a job that runs until the file exists, as an application does."""
    arguments: list[str | Path] = [python(), "-m", "tests.probes.arq_worker", "enqueue", QUEUE, str(file), str(seconds)]
    subprocess.run(arguments, check=True, env={**os.environ, "BROKER_URL": redis.url}, cwd=ROOT, capture_output=True)


def arq(redis: Redis, *queues: str) -> Workers:
    """Return the arq workers on a Redis as the configuration would name them."""
    return Workers("arq", endpoints.redis(redis.url), queues or (QUEUE,))


async def test_a_real_worker_s_queue_is_counted(redis: Redis, tmp_path: Path, watch: Watch) -> None:
    """Of three jobs one runs, one is due and waits, one is for later; then two are done."""
    watched = watch(arq(redis))
    done = tmp_path / "done"
    with Worker(tmp_path, redis, health_check_interval=0.1) as worker:
        idle = await watched.attempt()
        assert (idle.ok, value(idle, "worker_online")) == (True, 1)
        resident = psutil.Process(worker.pid).memory_info().rss
        shown = value(idle, "worker_resident_memory_bytes", "tests.probes.arq_worker.Settings")
        assert shown == pytest.approx(resident, rel=0.3)
        enqueue(redis, done)
        async with connected(redis) as client:
            while not await client.keys("arq:in-progress:*"):
                await asyncio.sleep(0.02)
        enqueue(redis, done)
        enqueued = time.time()
        enqueue(redis, done, seconds=3600)
        await let_wait(redis, 20)
        busy = await watched.attempt()
        assert value(busy, "worker_jobs_in_progress", QUEUE) == 1
        assert value(busy, "worker_queue_depth", QUEUE) == 1
        age = time.time() + 20 - enqueued
        assert value(busy, "worker_queue_oldest_job_age_seconds", QUEUE) == pytest.approx(age, abs=1)
        await let_wait(redis, ABANDONED_SECONDS)
        assert (await watched.attempt()).ok  # a long job keeps others waiting; the worker lives
        done.touch()
        finished = await until_empty(watched)
        assert value(finished, "worker_queue_oldest_job_age_seconds", QUEUE) == 0
        while value(finished, "worker_processed_total", QUEUE) != 2:
            finished = await watched.attempt()
        assert value(finished, "worker_active_tasks", QUEUE) == 0


async def let_wait(redis: Redis, seconds: float) -> None:
    """Make all jobs that are due as much older."""
    async with connected(redis) as client:
        due = await client.zrange(QUEUE, "-inf", str(time.time() * 1000), byscore=True)
        for job in cast("list[bytes]", due):
            await client.zincrby(QUEUE, -seconds * 1000, job)


async def until_empty(watched: Watched) -> Attempt:
    """Attempt until no job is due or runs."""
    for _ in range(100):
        attempt = await watched.attempt()
        if not value(attempt, "worker_queue_depth", QUEUE) + value(attempt, "worker_jobs_in_progress", QUEUE):
            return attempt
        await asyncio.sleep(0.05)
    raise AssertionError(attempt)


async def test_a_worker_that_was_killed_is_missed_when_a_job_is_overdue(
    redis: Redis, tmp_path: Path, watch: Watch
) -> None:
    """Its health key would say for an hour that it lives; the job that nobody takes says otherwise."""
    watched = watch(arq(redis))
    with Worker(tmp_path, redis) as worker:
        worker.kill()
    enqueue(redis, tmp_path / "never")
    assert (await watched.attempt()).ok
    await let_wait(redis, ABANDONED_SECONDS + 1)
    attempt = await watched.attempt()
    assert (attempt.reason, attempt.message) == (Reason.TIMEOUT, "no arq worker serves payment_webhooks")
    assert value(attempt, "worker_online") == 0
    assert value(attempt, "worker_queue_depth", QUEUE) == 1


async def test_an_idle_worker_that_was_killed_is_missed_though_no_job_is_due(
    redis: Redis, tmp_path: Path, watch: Watch
) -> None:
    """While it lives it asks for jobs all the time; dead it does not, and half a minute later that is told."""
    clock = ShiftedClock()
    watched = watch(arq(redis), clock=clock)
    with Worker(tmp_path, redis) as worker:
        for _ in range(4):
            async with connected(redis) as client:
                asked = await calls(client)
                while await calls(client) == asked:
                    await asyncio.sleep(0.02)
            assert (await watched.attempt()).ok
            clock.ahead += ABANDONED_SECONDS
        worker.kill()
    looks = 0
    while (await watched.attempt()).ok:
        clock.ahead += ABANDONED_SECONDS / 2
        looks += 1
    assert looks in {2, 3}  # it may have asked once more after the last look
    assert watched.attempts[-1].message == "no arq worker serves payment_webhooks"
    with Worker(tmp_path, redis):
        await watched.until(None)


async def calls(client: AsyncClient) -> int:
    """Return how often anybody has asked for due jobs."""
    return int((await client.info("commandstats"))["cmdstat_zrangebyscore"]["calls"])


async def test_who_may_not_see_the_statistics_sees_the_rest(redis: Redis, watch: Watch) -> None:
    """The right to INFO is asked for once an hour, since each refusal counts as a denied access."""
    clock = FakeClock()
    async with connected(redis) as client:
        await client.acl_setuser(
            "reader", enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@read"], commands=["+time"], keys=["*"]
        )
        await client.set(f"{QUEUE}:health-check", HEALTH)
        system = arq(redis)
        watched = watch(replace(system, server=replace(system.server, user="reader")), clock=clock)
        for _ in range(5):
            assert (await watched.attempt()).ok
            clock.advance(ABANDONED_SECONDS)
        assert [entry["count"] for entry in cast("list[dict[str, int]]", await client.acl_log())] == [1]
        clock.advance(FORBIDDEN_SECONDS)
        assert (await watched.attempt()).ok
        assert sum(entry["count"] for entry in cast("list[dict[str, int]]", await client.acl_log())) == 2


async def test_a_job_that_waits_for_long_is_degraded(redis: Redis, watch: Watch) -> None:
    """A worker is at work, and does not get to it."""
    async with connected(redis) as client:
        await client.set(f"{QUEUE}:health-check", HEALTH)
        await client.zadd(QUEUE, {"runs": (time.time() - 500) * 1000, "waits": (time.time() - 400) * 1000})
        await client.set("arq:in-progress:runs", "1")
    attempt = await watch(arq(redis)).attempt()
    assert (attempt.ok, attempt.reading.degraded) == (True, ("a job of payment_webhooks has waited for 400 s",))


HEALTH = "Nov-25 08:11:52 j_complete=12 j_failed=3 j_retried=1 j_ongoing=0 queued=4"  # from arq 0.28


@pytest.mark.parametrize(
    ("line", "ended"),
    [(HEALTH.encode(), 16), (b"", None), (b"j_complete=1", None), (b"j_complete=-1 j_failed=0 j_retried=0", None)],
)
def test_a_health_check_says_how_many_jobs_have_ended(line: bytes, ended: int | None) -> None:
    """Well, badly or for another try; anything else says nothing."""
    assert parse_health_check(line) == ended


def test_a_count_that_several_workers_write_is_not_told() -> None:
    """As a counter it would jump up with each turn; a worker that starts anew, at 0, is believed again."""
    ended = Ended()
    said = [5, 7, 7, 0, 3, 1000, 4, 1001, None, 5, 0, 2]
    assert [ended.update(count) for count in said] == [5, 7, 7, 0, 3, 1000, None, None, None, None, 0, 2]


def test_demand_ends_after_half_a_minute_without_a_question() -> None:
    """A long time without a look counts for half of that: perhaps it was the server that was away."""
    demand = Demand()
    seen = []
    for now, asked in [(0, 7), (20, 7), (25, 7), (1000, 7), (1001, 7), (1002, 8), (1010, 1), (1020, 1)]:
        demand.update(asked, float(now))
        seen.append(demand.exists)
    assert seen == [True, True, True, False, False, True, True, True]


async def test_a_queue_without_a_health_key_has_no_worker(redis: Redis, watch: Watch) -> None:
    """One of two queues is served; the other is named, and both are counted."""
    async with connected(redis) as client:
        await client.set("notifications:health-check", "j_complete=0")
        await client.zadd(QUEUE, {"one": (time.time() - 5) * 1000, "two": (time.time() + 60) * 1000})
    attempt = await watch(arq(redis, QUEUE, "notifications")).attempt()
    assert (attempt.reason, attempt.message) == (Reason.TIMEOUT, "no arq worker serves payment_webhooks")
    assert value(attempt, "worker_online") == 1
    assert values(attempt, "worker_queue_depth") == {(QUEUE,): 1, ("notifications",): 0}
    assert value(attempt, "worker_queue_oldest_job_age_seconds", QUEUE) == pytest.approx(5, abs=1)


async def test_a_long_queue_is_counted_in_full(redis: Redis, watch: Watch) -> None:
    """Only the oldest are looked at one by one; none is forgotten in the count, and the one that runs has no age."""
    number = MAX_DUE_JOBS + 500
    async with connected(redis) as client:
        await client.set(f"{QUEUE}:health-check", "j_complete=0")
        now = time.time()
        await client.zadd(QUEUE, {str(job): (now - (100 if job == 0 else 10)) * 1000 for job in range(number)})
        await client.set("arq:in-progress:0", "1")
    attempt = await watch(arq(redis)).attempt()
    assert value(attempt, "worker_queue_oldest_job_age_seconds", QUEUE) == pytest.approx(10, abs=1)
    assert value(attempt, "worker_jobs_in_progress", QUEUE) == 1
    assert value(attempt, "worker_queue_depth", QUEUE) == number - 1


async def test_a_key_of_another_kind_is_a_query_failure(redis: Redis, watch: Watch) -> None:
    """A list is no arq queue: the kind of worker is configured wrongly."""
    async with connected(redis) as client:
        await client.rpush(QUEUE, "a Celery message")
    attempt = await watch(arq(redis)).attempt()
    assert attempt.reason is Reason.QUERY, attempt


@pytest.mark.parametrize(
    ("running", "age", "has_health_key", "served"),
    [
        (0, 0.0, True, True),
        (0, ABANDONED_SECONDS, True, True),
        (0, ABANDONED_SECONDS + 0.1, True, False),
        (1, ABANDONED_SECONDS + 0.1, True, True),
        (1, 0.0, False, False),
    ],
)
def test_a_queue_is_served_by_who_is_healthy_and_works(
    running: int, age: float, *, has_health_key: bool, served: bool
) -> None:
    """A health key, and no job that waits while none runs."""
    assert Queue("q", 1, running, age, has_health_key=has_health_key).is_served(asked_for=True) is served
    assert not Queue("q", 0, 0, 0.0, has_health_key=True).is_served(asked_for=False)
    assert Queue("q", 0, 1, 0.0, has_health_key=True).is_served(asked_for=False)
