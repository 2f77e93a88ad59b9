"""Celery's jobs in flight: read once, in bounds, and what they say of those that wait."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as Client

from auraconnect_exporter.probes import celery_in_flight
from auraconnect_exporter.probes.celery_in_flight import (
    PAUSE_SECONDS,
    SETTLE_SECONDS,
    InFlight,
    Job,
    in_progress,
    left_behind,
    parse_origin,
    waiting_ages,
)
from tests.probes.support import asking, connected
from tools.servers import Redis

RECORDED = (  # from Celery 5.7 with Redis as its broker, a job for later
    b'[{"body": "W1siL2RvbmUiXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgI'
    b'mNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang'
    b'": "py", "task": "wait_for", "id": "88861471-571b-4206-a0de-bf2548197fa8", "shadow": null, "eta": "2027-'
    b'01-02T03:04:05.500000+00:00", "expires": null, "group": null, "group_index": null, "retries": 0, "timeli'
    b'mit": [null, null], "root_id": "88861471-571b-4206-a0de-bf2548197fa8", "parent_id": null, "argsrepr": "['
    b'\'/done\']", "kwargsrepr": "{}", "origin": "gen28988@vm", "ignore_result": null, "replaced_task_nesting": '
    b'0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "88861471-571b-4206-a0de-bf2'
    b'548197fa8", "reply_to": "3b9407a8-1585-3226-be18-8cdf8fbfb62a", "delivery_mode": 2, "delivery_info": {"e'
    b'xchange": "", "routing_key": "exports"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "7c08'
    b'17e0-3d0b-4729-ba72-d06dcd087234"}}, "", "exports"]'
)


def content(queue: str, eta: str | None = None, size: int = 10) -> str:
    """Return a message as kombu keeps it in flight."""
    return json.dumps([{"body": "x" * size, "headers": {"eta": eta}, "properties": {}}, "", queue])


async def take(client: Client, jobs: Iterable[tuple[str, float, str]]) -> None:
    """Put jobs in flight: tag, time and content."""
    for tag, taken, message in jobs:
        await client.zadd("unacked_index", {tag: taken})
        await client.hset("unacked", tag, message)


def jobs(in_flight: InFlight, at: float) -> list[tuple[str, float, float]]:
    """Return the jobs with their times by the wall clock, which is now at this moment of the monotonic one."""
    began = time.time() - at
    return [(job.queue, round(job.taken + began, 1), round(job.due + began, 1)) for job in in_flight.jobs]


async def test_jobs_are_counted_and_their_messages_read_once(redis: Redis) -> None:
    """Each by its queue; one that is acknowledged is gone, and only what is new is fetched."""
    in_flight = InFlight()
    async with connected(redis) as client, asking(redis) as connection:
        await in_flight.look(connection, 0.0)
        assert (in_flight.jobs, in_flight.problem) == ((), "")
        await take(
            client, [("a", 10.0, content("exports")), ("b", 11.5, content("webhooks", "1970-01-01T01:00:00+00:00"))]
        )
        await in_flight.look(connection, 1.0)
        assert jobs(in_flight, at=1.0) == [("exports", 10.0, 10.0), ("webhooks", 11.5, 3600.0)]
        assert in_progress(in_flight.jobs, ["exports", "idle"]) == {"exports": 1, "idle": 0}
        await client.delete("unacked")  # whoever would read a message again would miss it
        await client.zrem("unacked_index", "a")
        await in_flight.look(connection, 2.0)
        assert jobs(in_flight, at=2.0) == [("webhooks", 11.5, 3600.0)]


async def test_large_messages_are_read_bit_by_bit(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check fetches more than it may, save a single message; until all are known, it says so."""
    monkeypatch.setattr(celery_in_flight, "MAX_BYTES", 1000)
    in_flight = InFlight()
    async with connected(redis) as client, asking(redis) as connection:
        sizes = [300, 300, 300, 5000, 10]
        await take(
            client, [(str(place), float(place), content("exports", size=size)) for place, size in enumerate(sizes)]
        )
        problems = []
        for look in range(4):
            await in_flight.look(connection, float(look))
            problems.append((len(in_flight.jobs), in_flight.problem))
    assert problems == [
        (2, "of 5 jobs in flight, 3 have not been read"),
        (3, "of 5 jobs in flight, 2 have not been read"),
        (4, "of 5 jobs in flight, 1 have not been read"),
        (5, ""),
    ]


async def test_very_many_jobs_are_looked_at_rarely(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand scheduled jobs may be in flight all day: a minute's rest after each look, and a limit to all."""
    monkeypatch.setattr(celery_in_flight, "MAX_OFTEN", 3)
    monkeypatch.setattr(celery_in_flight, "MAX_JOBS", 5)
    in_flight = InFlight()
    async with connected(redis) as client, asking(redis) as connection:
        await take(client, [(str(place), float(place), content("exports")) for place in range(6)])
        await in_flight.look(connection, 0.0)
        assert (len(in_flight.jobs), in_flight.problem) == (3, "of 6 jobs in flight, 3 have not been read")
        await in_flight.look(connection, PAUSE_SECONDS - 1)
        assert len(in_flight.jobs) == 3
        await in_flight.look(connection, PAUSE_SECONDS)
        assert (len(in_flight.jobs), in_flight.problem) == (5, "of 6 jobs in flight, 1 have not been read")


def test_a_recorded_message_is_understood() -> None:
    """Queue and time of a real scheduled job."""
    assert parse_origin(RECORDED) == ("exports", 1798859045.5)


@pytest.mark.parametrize(
    ("message", "origin"),
    [
        (b"", ("", -math.inf)),
        (b"[]", ("", -math.inf)),
        (b'[{"headers": {"eta": 3}}, "", "q"]', ("", -math.inf)),
        (b'[{"properties": {}}, "", "q"]', ("q", -math.inf)),
        (content("q", "soon").encode(), ("q", -math.inf)),
        (content("q", "0001-01-01T00:00:00+14:00").encode(), ("q", pytest.approx(-62135647200))),
        (content("q", "1970-01-01T00:00:05").encode(), ("q", 5.0)),
        (b"[" * 100_000, ("", -math.inf)),
    ],
    ids=["nothing", "empty", "a number", "first protocol", "no date", "year 1", "no zone", "deep"],
)
def test_other_messages_are_for_at_once(message: bytes, origin: tuple[str, float]) -> None:
    """Applications write what they like."""
    assert parse_origin(message) == origin


@given(st.binary())
def test_no_bytes_raise(message: bytes) -> None:
    """Whatever stands there is a job of some queue."""
    parse_origin(message)
    parse_origin(b'[{"headers": {"eta": "' + message + b'"}}, "", "q"]')


def test_a_job_that_is_held_grows_old_unless_it_may_run() -> None:
    """Two run: of three jobs of a queue that are due, the one taken last waits, wherever the other two are."""
    jobs = [Job("a", 10, 10), Job("a", 30, 30), Job("a", 20, 20), Job("a", 5, 500), Job("b", 1, 1)]
    assert waiting_ages(jobs, 2, 100.0) == {"a": 70.0}
    assert waiting_ages(jobs, 0, 100.0) == {"a": 90.0, "b": 99.0}
    assert waiting_ages(jobs, 0, 600.0)["a"] == 590.0
    assert waiting_ages(jobs, 9, 600.0) == {}
    assert waiting_ages([Job("a", 5, 500)], 0, 499.0) == {}


@given(st.data())
def test_the_age_of_a_held_job_is_never_more_than_the_truth(data: st.DataObject) -> None:
    """Whichever jobs run, the one that has waited for longest has waited for at least as long."""
    due = data.draw(st.lists(st.integers(0, 99), max_size=8))
    runs = data.draw(st.lists(st.booleans(), min_size=len(due), max_size=len(due)))
    active = sum(runs) + data.draw(st.integers(0, 3))  # other queues have jobs, too
    bound = waiting_ages([Job("q", time, time) for time in due], active, 100.0).get("q", 0.0)
    truth = max((100.0 - time for time, is_running in zip(due, runs, strict=True) if not is_running), default=0.0)
    assert bound <= truth


@pytest.mark.parametrize(
    ("taken", "active", "now", "lost"),
    [
        ([10, 20], 0, 40.0, 2),
        ([10, 20], 1, 40.0, 1),
        ([10, 20, 35], 1, 40.0, 1),
        ([10, 20, 35], 1, 31 + SETTLE_SECONDS, 2),
        ([35, 36], 0, 40.0, 0),
        ([10], 3, 40.0, 0),
    ],
    ids=["all idle", "one may run", "one came later", "the later one runs", "none from before", "all may run"],
)
def test_what_was_taken_before_a_death_and_runs_nowhere_is_lost(
    taken: list[float], active: int, now: float, lost: int
) -> None:
    """A worker took jobs until 30, and died."""
    assert left_behind([Job("q", time, time) for time in taken], 30.0, active, now) == lost


def test_a_job_for_later_is_not_lost_before_its_time() -> None:
    """It will be missed when it is due."""
    jobs = [Job("q", 10.0, 1000.0)]
    assert left_behind(jobs, 30.0, 0, 999.0) == 0
    assert left_behind(jobs, 30.0, 0, 1001.0) == 1
