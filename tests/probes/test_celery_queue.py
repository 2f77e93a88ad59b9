"""Celery as it really is: real workers on a real Redis, their queues, their heartbeats, their deaths."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import pytest
from celery import Celery  # type: ignore[import-untyped]  # Celery has no types
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as Client

from auraconnect_exporter.model import Attempt, Reason
from auraconnect_exporter.probes.celery_in_flight import SETTLE_SECONDS
from auraconnect_exporter.probes.celery_queue import priority_lists
from auraconnect_exporter.probes.celery_workers import HEARTBEAT_WINDOW_SECONDS, Heartbeat, parse_heartbeat
from auraconnect_exporter.probes.worker_metrics import MAX_WORKERS
from auraconnect_exporter.targets import Workers
from tests.builders import FakeClock, collectors
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, ShiftedClock, Watched, celery, connected, serving, value, values
from tools.servers import Redis, Server

CHANNEL = "/0.celeryev/worker.heartbeat"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"


class Worker(Server):
    """A real Celery worker of one process, ready when it says so."""

    def __init__(self, folder: Path, redis: Redis, queues: str, name: str = "one@here", prefetch: int = 1) -> None:
        command = [
            *(sys.executable, "-m", "celery", "-A", "tests.probes.celery_app", "worker"),
            *("--concurrency", "1", "--without-mingle", "--heartbeat-interval", "1", "--loglevel", "INFO"),
            *("--prefetch-multiplier", str(prefetch), "--queues", queues, "--hostname", name),
        ]
        env = {**os.environ, "BROKER_URL": redis.url, "PYTHONPATH": str(Path(__file__).parents[2])}
        super().__init__(name, command, folder / f"{name}.log", env=env)

    def is_ready(self) -> bool:
        """Return whether its log says so."""
        return " ready." in self.log.read_text()


@pytest.fixture
def app(redis: Redis) -> Iterator[Celery]:
    """Return the application as those see it who send it tasks."""
    sender = Celery("watched", broker=redis.url)
    sender.conf.broker_transport_options = {"priority_steps": list(range(10)), "queue_order_strategy": "priority"}
    with sender:
        yield sender
    sender.pool.force_close_all()


@dataclass
class Clock:
    """A clock that goes when it is told to."""

    seconds: float = 1000.0

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def heartbeat(worker: str = "one@here", **fields: object) -> bytes:
    """Return a heartbeat as kombu publishes it."""
    body = {"hostname": worker, "active": 0, "processed": 0, **fields}
    return json.dumps({"body": base64.b64encode(json.dumps(body).encode()).decode()}).encode()


async def test_queues_of_all_priorities_are_counted(redis: Redis, app: Celery, watch: Watch) -> None:
    """A task of each of ten priorities waits in a list of its own; the depth is that of all, queue by queue."""
    for priority in range(10):
        app.send_task("any", queue="payroll_heavy", priority=priority)
    app.send_task("any", queue="exports", priority=0)
    attempt = await watch(celery(redis, "payroll_heavy", "exports", "webhooks"), timeout=0.5).attempt()
    assert values(attempt, "worker_queue_depth") == {("payroll_heavy",): 10, ("exports",): 1, ("webhooks",): 0}
    async with connected(redis) as client:
        lists = await client.keys("payroll_heavy*")
    assert set(lists) == {key.encode() for key in priority_lists("payroll_heavy")}


async def test_without_a_worker_it_fails_and_still_counts(redis: Redis, app: Celery, watch: Watch) -> None:
    """Nobody lives: a timeout that shows the queue, which grows meanwhile."""
    app.send_task("any", queue="exports")
    attempt = await watch(celery(redis), timeout=0.5).attempt()
    assert attempt.reason is Reason.TIMEOUT
    assert attempt.message == "no Celery worker has sent a heartbeat for 10 s"
    assert value(attempt, "worker_online") == 0
    assert value(attempt, "worker_queue_depth", "exports") == 1
    assert collectors(attempt) == {"queues": False, "in_flight": False, "workers": False}


async def test_a_real_worker_lives_works_and_dies(redis: Redis, app: Celery, tmp_path: Path, watch: Watch) -> None:
    """Seen through its heartbeats, idle and at work; killed, it is gone when the window is over."""
    clock = Clock()
    watched = watch(celery(redis), clock=clock)
    done = tmp_path / "done"
    with Worker(tmp_path, redis, "exports") as worker:
        idle = await watched.until(None)
        assert value(idle, "worker_online") == 1
        assert value(idle, "worker_active_tasks", "one@here") == 0
        assert value(idle, "worker_processed_total", "one@here") == 0
        for _ in range(2):
            app.send_task("wait_for", args=[str(done)], queue="exports")
        busy = await until_value(watched, "worker_active_tasks", 1)
        assert value(busy, "worker_processed_total", "one@here") >= 1
        assert value(busy, "worker_queue_depth", "exports") <= 1
        done.touch()
        finished = await until_value(watched, "worker_active_tasks", 0)
        assert value(finished, "worker_processed_total", "one@here") == 2
        worker.kill()
    assert (await watched.attempt()).ok
    clock.seconds += HEARTBEAT_WINDOW_SECONDS + 1
    attempt = await watched.attempt()
    assert (attempt.reason, value(attempt, "worker_online")) == (Reason.TIMEOUT, 0)


async def test_the_figures_are_those_of_celery_and_redis(
    redis: Redis, app: Celery, tmp_path: Path, watch: Watch
) -> None:
    """At one moment: one job runs, one is held ready, two are scheduled, eleven wait in ten lists, as Celery says too.

    Then the worker is killed with its jobs: they stay in flight, and who comes after it, and stops as it was told to,
    does not run them.
    """
    clock = ShiftedClock()
    system = dataclasses.replace(celery(redis, "payroll_heavy", "exports"), min_workers=1, queue_depth=10)
    watched = watch(system, clock=clock)
    name = f"one@{socket.gethostname()}"
    done = tmp_path / "done"
    with Worker(tmp_path, redis, "payroll_heavy,exports", name, prefetch=2) as worker:
        for _ in range(2):
            app.send_task("wait_for", args=[str(done)], queue="exports", countdown=3600)
        await until_value(watched, "worker_jobs_in_progress", 2, "exports")
        for _ in range(2):
            app.send_task("wait_for", args=[str(done)], queue="payroll_heavy")
        await until_value(watched, "worker_jobs_in_progress", 2, "payroll_heavy")
        for number in range(11):
            app.send_task("wait_for", args=[str(done)], queue="payroll_heavy", priority=number % 10)
        attempt = await until_value(watched, "worker_active_tasks", 1, name)
        inspect = app.control.inspect(timeout=1.0, limit=1)
        said = await asyncio.to_thread(
            lambda: [inspect.active(), inspect.reserved(), inspect.scheduled(), inspect.stats()]
        )
        active, reserved, scheduled, stats = (answer[name] for answer in said)
        counts = Counter(task["delivery_info"]["routing_key"] for task in [*active, *reserved])
        counts.update(task["request"]["delivery_info"]["routing_key"] for task in scheduled)
        assert (len(active), len(reserved), len(scheduled)) == (1, 1, 2)
        assert values(attempt, "worker_jobs_in_progress") == {(queue,): count for queue, count in counts.items()}
        assert value(attempt, "worker_active_tasks", name) == len(active)
        assert value(attempt, "worker_processed_total", name) == sum(stats["total"].values())
        async with connected(redis) as client:
            waiting = sum([await client.llen(key) for key in priority_lists("payroll_heavy")])
        assert value(attempt, "worker_queue_depth", "payroll_heavy") == waiting == 11
        assert attempt.reading.degraded == ("11 jobs wait in payroll_heavy",)
        process = psutil.Process(stats["pid"])
        resident = sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
        assert value(attempt, "worker_resident_memory_bytes", name) == pytest.approx(resident, rel=0.3)
        await let_pass(redis, clock, system.queue_age + 1)
        late = await watched.until(None)
        assert value(late, "worker_queue_oldest_job_age_seconds", "payroll_heavy") == pytest.approx(302, abs=5)
        assert value(late, "worker_queue_oldest_job_age_seconds", "exports") == 0  # what is scheduled is not late
        assert late.reading.degraded[0].startswith("a job of payroll_heavy has waited for 30")
        worker.kill()
    await let_pass(redis, clock, HEARTBEAT_WINDOW_SECONDS + 1)
    attempt = await watched.attempt()
    assert attempt.message == (
        f"no Celery worker has sent a heartbeat for 10 s; {name} fell silent; "
        "jobs that were taken before and seem to be lost in it: 2"
    )
    with Worker(tmp_path, redis, "payroll_heavy", "two@elsewhere"):
        attempt = await until_value(watched, "worker_active_tasks", 1, "two@elsewhere")
        told = f"{name} fell silent; jobs that were taken before and seem to be lost in it: "
        assert f"{told}1" in attempt.reading.degraded  # the other might be the one that runs
        await let_pass(redis, clock, SETTLE_SECONDS)
        assert f"{told}2" in (await watched.until(None)).reading.degraded
        assert values(attempt, "worker_resident_memory_bytes") == {}
        done.touch()
    await watched.attempt()  # hears that it stopped, so that it is not the one who fell silent last
    await let_pass(redis, clock, HEARTBEAT_WINDOW_SECONDS + 1)
    assert (await watched.attempt()).message == f"no Celery worker has sent a heartbeat for 10 s; {told}2"


async def let_pass(redis: Redis, clock: ShiftedClock, seconds: float) -> None:
    """Make it later: by our clock, and by the times at which the jobs in flight were taken."""
    clock.ahead += seconds
    async with connected(redis) as client:
        for tag in cast("list[bytes]", await client.zrange("unacked_index", 0, -1)):
            await client.zincrby("unacked_index", -seconds, tag)


async def until_value(watched: Watched, metric: str, wanted: float, label: str = "one@here") -> Attempt:
    """Attempt until the worker says this of itself; it speaks every two seconds."""
    for _ in range(100):
        attempt = await watched.attempt()
        if values(attempt, metric).get((label,)) == wanted:
            return attempt
        await asyncio.sleep(0.05)
    raise AssertionError(attempt)


async def test_a_worker_is_alive_for_the_window_after_its_last_heartbeat(redis: Redis, watch: Watch) -> None:
    """Ten seconds, to the second."""
    clock = Clock()
    watched = watch(celery(redis), timeout=0.5, clock=clock)
    await heard(redis, watched, heartbeat(active=2, processed=7))
    clock.seconds += HEARTBEAT_WINDOW_SECONDS
    attempt = await watched.attempt()
    assert attempt.ok
    assert value(attempt, "worker_active_tasks", "one@here") == 2
    assert value(attempt, "worker_processed_total", "one@here") == 7
    clock.seconds += 0.001
    assert (await watched.attempt()).reason is Reason.TIMEOUT


async def heard(redis: Redis, watched: Watched, *messages: bytes, channel: str = CHANNEL) -> None:
    """Make one attempt that hears these messages, sent once it listens."""
    task = asyncio.create_task(watched.attempt())
    async with connected(redis) as client:
        while not (await client.pubsub_numsub(channel))[0][1]:
            await asyncio.sleep(0.01)
        for message in messages:
            await client.publish(channel, message)
    assert (await task).ok


async def test_messages_that_are_no_heartbeats_are_passed_over(redis: Redis, watch: Watch) -> None:
    """Anybody may publish; the good one among them counts."""
    watched = watch(celery(redis), timeout=0.5)
    nonsense = (b"", b"[]", b"\xff", b'{"body": "%%%"}', b'{"body": "\xc3\xbc"}', heartbeat(active="many"))
    await heard(redis, watched, *nonsense, heartbeat("good@here"))
    assert values(watched.attempts[-1], "worker_active_tasks") == {("good@here",): 0}


async def test_the_latest_of_many_heartbeats_counts(redis: Redis, watch: Watch) -> None:
    """What comes in between two checks waits, and all of it is taken in at the next."""
    watched = watch(celery(redis), timeout=0.5)
    await heard(redis, watched, heartbeat())
    async with connected(redis) as client:
        for processed in range(100):
            await client.publish(CHANNEL, heartbeat(processed=processed))
            await client.publish(CHANNEL, heartbeat("two@here", processed=processed))
    attempt = await watched.attempt()
    assert values(attempt, "worker_processed_total") == {("one@here",): 99, ("two@here",): 99}
    assert value(attempt, "worker_online") == 2


async def test_workers_are_limited_in_number(redis: Redis, watch: Watch) -> None:
    """A stranger who invents names can't fill the memory, nor the metrics."""
    watched = watch(celery(redis), timeout=2.0)
    await heard(redis, watched, *(heartbeat(f"{number}@here") for number in range(MAX_WORKERS + 50)))
    attempt = await watched.attempt()
    assert value(attempt, "worker_online") == MAX_WORKERS
    assert len(values(attempt, "worker_active_tasks")) == MAX_WORKERS


async def test_the_age_of_a_job_goes_on_over_failed_checks(redis: Redis, app: Celery, watch: Watch) -> None:
    """Nobody works and the checks fail, which is when it matters; one that could not reach Redis forgets nothing."""
    clock = FakeClock()
    watched = watch(celery(redis), timeout=0.3, clock=clock)
    app.send_task("any", queue="exports", priority=7)
    ages = []
    for _ in range(3):
        attempt = await watched.attempt()
        ages.append(value(attempt, "worker_queue_oldest_job_age_seconds", "exports"))
        clock.advance(100)
        redis.freeze()
        assert (await watched.attempt()).reason is Reason.TIMEOUT
        redis.thaw()
    assert ages == [0, 100, 200]


async def test_too_few_workers_are_degraded(redis: Redis, watch: Watch) -> None:
    """One of two lives, which serves all queues, but not as fast as it should."""
    watched = watch(dataclasses.replace(celery(redis), min_workers=2), timeout=0.5)
    await heard(redis, watched, heartbeat("one@here"))
    assert watched.attempts[-1].reading.degraded == ("1 of 2 workers are online",)
    async with connected(redis) as client:
        await client.publish(CHANNEL, heartbeat("two@here"))
    assert (await watched.attempt()).reading.degraded == ()


async def test_the_documented_user_may_do_all_that_is_asked(redis: Redis, app: Celery, watch: Watch) -> None:
    """Every part is read, and Redis has nothing to deny."""
    documented = re.findall(r"^ACL SETUSER (monitoring .*)$", DOCUMENTATION.read_text("utf-8"), re.MULTILINE)[-1]
    for _ in range(2):
        app.send_task("any", queue="exports")
    async with connected(redis) as client:
        await in_flight(client, "tag")
        watched = watch(await as_user(redis, client, documented.replace(">choose-one", f">{PASSWORD}")), timeout=0.5)
        await heard(redis, watched, heartbeat())
        attempt = await watched.attempt()
        assert collectors(attempt) == {"queues": True, "in_flight": True, "workers": True}
        assert value(attempt, "worker_jobs_in_progress", "exports") == 1
        assert await client.acl_log() == []


async def test_a_missing_right_costs_its_part(redis: Redis, app: Celery, watch: Watch) -> None:
    """Who may see the queues alone sees them, is told what is missing, and is not denied it again and again."""
    app.send_task("any", queue="exports")
    clock = FakeClock()
    async with connected(redis) as client:
        await in_flight(client, "tag")
        rights = f"monitoring on >{PASSWORD} -@all +llen +subscribe ~exports* &*"
        watched = watch(await as_user(redis, client, rights), timeout=0.5, clock=clock)
        await heard(redis, watched, heartbeat())
        for _ in range(3):
            attempt = await watched.attempt()
        assert collectors(attempt) == {"queues": False, "in_flight": False, "workers": True}
        assert value(attempt, "worker_queue_depth", "exports") == 1
        assert values(attempt, "worker_queue_oldest_job_age_seconds") == {}
        assert values(attempt, "worker_jobs_in_progress") == {}
        (age, flight, _) = [part.problem for part in attempt.reading.parts]
        assert age.startswith("age of jobs: ")
        assert age.endswith(" has no permissions to run the 'lindex' command; asked again in an hour")
        assert flight.startswith("jobs in flight: ")
        denied = cast("list[dict[str, object]]", await client.acl_log())
        assert {entry["object"]: entry["count"] for entry in denied} == dict.fromkeys(
            ["lindex", "time", "zcard", "zrange"], 1
        )


async def test_a_slow_redis_is_asked_for_less(redis: Redis, app: Celery, watch: Watch) -> None:
    """Each answer takes a third of the deadline: the depth and the workers are known, the rest is left."""
    app.send_task("any", queue="exports")
    delay = 0.0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", redis.port)
        back = asyncio.create_task(pump(behind, writer, lambda: delay))
        try:
            await pump(reader, before, lambda: 0.0)
        finally:
            back.cancel()
            before.close()

    async with serving(pass_on) as port:
        system = celery(redis)
        watched = watch(dataclasses.replace(system, server=dataclasses.replace(system.server, port=port)), timeout=1.6)
        await heard(redis, watched, heartbeat())
        delay = 0.5
        attempt = await watched.attempt()
        await watched.runner.close()
    assert collectors(attempt) == {"queues": False, "in_flight": False, "workers": True}
    assert (value(attempt, "worker_queue_depth", "exports"), value(attempt, "worker_online")) == (1, 1)
    assert values(attempt, "worker_queue_oldest_job_age_seconds") == {}
    assert values(attempt, "worker_jobs_in_progress") == {}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float]) -> None:
    """Pass everything on, each piece after a while."""
    while content := await reader.read(65536):
        await asyncio.sleep(delay())
        writer.write(content)


async def in_flight(client: Client, tag: str) -> None:
    """Put a job of the queue exports in flight."""
    await client.zadd("unacked_index", {tag: 1.0})
    await client.hset("unacked", tag, '[{"headers": {}}, "", "exports"]')


async def as_user(redis: Redis, client: Client, rights: str) -> Workers:
    """Make a user, and return the workers as that one sees them."""
    await client.execute_command("ACL", "SETUSER", *rights.split())  # type: ignore[no-untyped-call]  # redis-py's gap
    system = celery(redis)
    return dataclasses.replace(system, server=dataclasses.replace(system.server, user="monitoring"))


async def test_the_subscription_survives_a_restart_of_redis(redis: Redis, watch: Watch) -> None:
    """A connection cut between two checks is no failure, and heartbeats are heard again."""
    watched = watch(celery(redis), timeout=0.5)
    await heard(redis, watched, heartbeat(processed=1))
    redis.kill()
    assert (await watched.attempt()).reason is Reason.REFUSED
    redis.start()
    assert (await watched.attempt()).ok
    async with connected(redis) as client:
        assert await client.publish(CHANNEL, heartbeat(processed=2)) == 1
    assert value(await watched.attempt(), "worker_processed_total", "one@here") == 2
    redis.stop()
    redis.start()
    assert (await watched.attempt()).ok


async def test_workers_of_another_database_are_others(redis: Redis, watch: Watch) -> None:
    """Pub/sub knows no databases, so the channel's name carries the number."""
    system = celery(redis)
    watched = watch(dataclasses.replace(system, server=dataclasses.replace(system.server, database=3)), timeout=0.5)
    await heard(redis, watched, heartbeat(), channel="/3.celeryev/worker.heartbeat")
    async with connected(redis) as client:
        assert await client.publish(CHANNEL, heartbeat("other@here")) == 0
    assert values(await watched.attempt(), "worker_active_tasks") == {("one@here",): 0}


RECORDED = (  # from Celery 5.7 with Redis as its broker
    b'{"body": "eyJob3N0bmFtZSI6ICJvbmVAaGVyZSIsICJ1dGNvZmZzZXQiOiAwLjAsICJwaWQiOiAxNzc0MCwgImNsb2NrIjogMiwgImZyZXEiOi'
    b"AyLjAsICJhY3RpdmUiOiAzLCAicHJvY2Vzc2VkIjogMTIsICJsb2FkYXZnIjogWzMuNjMsIDIuODEsIDEuNjVdLCAic3dfaWRlbnQiOiAicHkt"
    b"Y2VsZXJ5IiwgInN3X3ZlciI6ICI1LjcuMCIsICJzd19zeXMiOiAiTGludXgiLCAidGltZXN0YW1wIjogMTc5NTQ2MDU3My42NjQ3MTEyLCAidH"
    b'lwZSI6ICJ3b3JrZXItaGVhcnRiZWF0In0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": '
    b'{"hostname": "one@here"}, "properties": {"delivery_mode": 1, "priority": 0, "body_encoding": "base64"}}'
)


def test_a_recorded_heartbeat_is_understood() -> None:
    """What a real worker published, read without one."""
    assert parse_heartbeat(RECORDED) == Heartbeat(worker="one@here", active=3, processed=12, pid=17740)


@pytest.mark.parametrize(
    "message",
    [
        b'{"body": "\xc3\xbc"}',
        b'{"other": ' + b"[" * 100_000,
        heartbeat(active=10**400),
        heartbeat(processed=-1),
        heartbeat(active=1.5),
        heartbeat(worker=""),
    ],
    ids=["not ASCII", "deep", "huge", "negative", "a fraction", "no name"],
)
def test_a_malformed_heartbeat_is_none(message: bytes) -> None:
    """Anybody can publish; nothing that is said there can hurt."""
    assert parse_heartbeat(message) is None


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise(content: bytes) -> None:
    """Whatever comes, as a message or within one, is a heartbeat or nothing."""
    parse_heartbeat(content)
    parse_heartbeat(b'{"body": "' + content + b'"}')
    parse_heartbeat(json.dumps({"body": base64.b64encode(content).decode()}).encode())
