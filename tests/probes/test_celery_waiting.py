"""The age of Celery's jobs: a bound that is never more than the truth, on a real Redis."""

from __future__ import annotations

import random
from collections import deque

import pytest

from auraconnect_exporter.probes import celery_waiting
from auraconnect_exporter.probes.celery_waiting import MARK_SECONDS, MAX_MARKS, MAX_MESSAGE_BYTES, Marks, WaitingSince
from tests.probes.support import asking, connected
from tools.servers import Redis

LIST = "exports\x06\x163"


async def test_a_job_that_nobody_takes_grows_old(redis: Redis) -> None:
    """Its age is the time since it was first seen, whatever comes after it; gone, the next one's time begins anew."""
    waiting = WaitingSince()
    async with connected(redis) as client, asking(redis) as connection:
        for seconds in (0, 7, 500):
            await client.lpush(LIST, f"job {seconds}")
            await waiting.look(connection, {LIST: await client.llen(LIST)}, 1000.0 + seconds)
            assert waiting.age(LIST, 1000.0 + seconds) == seconds
        assert await client.rpop(LIST) == b"job 0"
        await waiting.look(connection, {LIST: 2}, 1510.0)
        assert waiting.age(LIST, 1510.0) == 10  # of the job that was at the head at 500
        await client.delete(LIST)
        await waiting.look(connection, {LIST: 0}, 1520.0)
        assert waiting.age(LIST, 1520.0) == 0


async def test_the_age_of_a_queue_that_moves_is_bounded_closely(redis: Redis) -> None:
    """Jobs come and go by chance, some are put back: the bound never exceeds the age, and is not far below it."""
    chance = random.Random(7)  # noqa: S311  # no secret
    waiting = WaitingSince()
    truth: deque[tuple[bytes, float]] = deque()
    far_off = 0
    async with connected(redis) as client, asking(redis) as connection:
        for step in range(400):
            now = 5.0 * step
            for number in range(chance.choice([0, 1, 2, 40] if step < 200 else [0, 0, 1])):
                job = f"{step} {number}".encode()
                await client.lpush(LIST, job)
                truth.append((job, now))
            for _ in range(chance.randrange(12)):
                if (taken := await client.rpop(LIST)) is not None:
                    assert taken == truth.popleft()[0]
            if truth and chance.random() < 0.1:  # as kombu does when a worker stops
                job, since = truth.popleft()
                job += b" redelivered"
                await client.rpop(LIST)
                await client.rpush(LIST, job)
                truth.appendleft((job, since))
            await waiting.look(connection, {LIST: len(truth)}, now)
            bound = waiting.age(LIST, now)
            age = now - truth[0][1] if truth else 0.0
            assert 0 <= bound <= age
            far_off += age - bound > max(2 * MARK_SECONDS, age / 4)
    assert far_off < 20


async def test_jobs_far_from_the_tail_are_left_alone(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a list is, a mark is near enough to its tail to be found again at a price that is known."""
    monkeypatch.setattr(celery_waiting, "MAX_SCAN", 10)
    waiting = WaitingSince()
    async with connected(redis) as client, asking(redis) as connection:
        await client.lpush(LIST, *range(100))
        await waiting.look(connection, {LIST: 100}, 0.0)
        for _ in range(9):
            await client.rpop(LIST)
        await waiting.look(connection, {LIST: 91}, 5.0)
        assert waiting.age(LIST, 5.0) == 5
        await client.rpop(LIST)
        await waiting.look(connection, {LIST: 90}, 6.0)
        assert waiting.age(LIST, 6.0) == 0


def test_marks_stay_few_and_small() -> None:
    """A queue that stands still for a day costs a handful of messages, and a huge one is not kept at all."""
    marks = Marks()
    marks.add(0.0, b"x" * (MAX_MESSAGE_BYTES + 1))
    assert not marks
    added = 0
    for seconds in range(0, 86_400, 5):
        if marks.wants_another(float(seconds)):
            marks.add(float(seconds), str(seconds).encode())
            added += 1
    assert marks.age(86_400.0) == 86_400
    kept = 0
    while marks:
        marks.drop_oldest()
        kept += 1
    assert (MAX_MARKS / 2 <= kept <= MAX_MARKS, added < 100) == (True, True)
