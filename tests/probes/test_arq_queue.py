"""arq as it really is: a real worker on a real Redis, jobs due and to come, a worker that dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis as Client

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Attempt, Reason
from auraconnect_exporter.probes.arq_queue import ABANDONED_SECONDS, MAX_DUE_JOBS, Queue
from auraconnect_exporter.targets import Workers
from tests.probes.conftest import Watch
from tests.probes.support import ShiftedClock, Watched, connected, value, values
from tools.bootstrap import bootstrap
from tools.servers import Redis, Server

ROOT = Path(__file__).parents[2]
QUEUE = "payment_webhooks"


def command(*arguments: str) -> list[str | Path]:
    """Return a command line that runs in arq's environment, which is made when it is first needed."""
    python = bootstrap(Path(__file__).with_name("arq-requirements.lock"), ROOT / "build/arq", ROOT)
    return [python, "-m", "tests.probes.arq_worker", *arguments]


class Worker(Server):
    """A real arq worker, ready when it has said that it is healthy."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self._redis = redis
        super().__init__("arq", command("work", QUEUE), folder / "arq.log", env={**os.environ, "BROKER_URL": redis.url})

    def is_ready(self) -> bool:
        """Return whether its health key is there."""
        with Client.from_url(self._redis.url) as client:
            return bool(client.exists(f"{QUEUE}:health-check"))


def enqueue(redis: Redis, file: Path, seconds: float = 0.0) -> None:
    """Add a job that runs until the file exists, as an application does."""
    arguments = command("enqueue", QUEUE, str(file), str(seconds))
    subprocess.run(arguments, check=True, env={**os.environ, "BROKER_URL": redis.url}, cwd=ROOT, capture_output=True)


def arq(redis: Redis, *queues: str) -> Workers:
    """Return the arq workers on a Redis as the configuration would name them."""
    return Workers("arq", endpoints.redis(redis.url), queues or (QUEUE,))


async def test_a_real_worker_s_queue_is_counted(redis: Redis, tmp_path: Path, watch: Watch) -> None:
    """Of three jobs one runs, one is due and waits, one is for later; then two are done."""
    clock = ShiftedClock()
    watched = watch(arq(redis), clock=clock)
    done = tmp_path / "done"
    with Worker(tmp_path, redis):
        idle = await watched.attempt()
        assert (idle.ok, value(idle, "worker_online")) == (True, 1)
        enqueue(redis, done)
        async with connected(redis) as client:
            while not await client.keys("arq:in-progress:*"):
                await asyncio.sleep(0.02)
        enqueue(redis, done)
        enqueued = time.time()
        enqueue(redis, done, seconds=3600)
        clock.ahead = 20
        busy = await watched.attempt()
        assert value(busy, "worker_jobs_in_progress", QUEUE) == 1
        assert value(busy, "worker_queue_depth", QUEUE) == 1
        age = time.time() + 20 - enqueued
        assert value(busy, "worker_queue_oldest_job_age_seconds", QUEUE) == pytest.approx(age, abs=1)
        clock.ahead = ABANDONED_SECONDS + 1
        assert (await watched.attempt()).ok  # a long job keeps others waiting; the worker lives
        clock.ahead = 0
        done.touch()
        finished = await until_empty(watched)
        assert value(finished, "worker_queue_oldest_job_age_seconds", QUEUE) == 0


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
    clock = ShiftedClock()
    watched = watch(arq(redis), clock=clock)
    with Worker(tmp_path, redis) as worker:
        worker.kill()
    enqueue(redis, tmp_path / "never")
    assert (await watched.attempt()).ok
    clock.ahead = ABANDONED_SECONDS + 1
    attempt = await watched.attempt()
    assert (attempt.reason, attempt.message) == (Reason.TIMEOUT, "no arq worker serves payment_webhooks")
    assert value(attempt, "worker_online") == 0
    assert value(attempt, "worker_queue_depth", QUEUE) == 1


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
    assert Queue("q", 1, running, age, has_health_key=has_health_key).is_served() is served
