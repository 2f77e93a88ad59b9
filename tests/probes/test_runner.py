"""An attempt ends in time and leaves nothing behind, whatever the system does: frozen, silent or deaf to us."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Attempt, Reading, Reason
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.blocking import ExporterLoop
from auraconnect_exporter.probes.runner import MAX_MESSAGE, Runner
from auraconnect_exporter.targets import Host, Http, System
from tests.probes.conftest import Watch
from tests.probes.support import (
    CLOCK,
    OVERRUN,
    Watched,
    celery,
    database,
    cache,
    descriptors,
    say_nothing,
    serving,
    value,
    watch_system,
    watched_descriptors,
)
from tools.servers import PostgreSQL, Redis

DEADLINE = 0.3
CYCLES = 6


class Leaks:
    """Counts what is open and what runs, when it is made and when it is asked."""

    def __init__(self) -> None:
        self._before = self._count()

    def found(self) -> dict[str, int]:
        """Return how much more there is than at first, where there is more."""
        now = self._count()
        return {what: now[what] - count for what, count in self._before.items() if now[what] > count}

    def _count(self) -> dict[str, int]:
        gc.collect()
        return {
            "sockets": len(descriptors()),
            "descriptors that the loop watches": len(watched_descriptors()),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }


async def until_good(watched: Watched) -> Attempt:
    """Return the first good attempt: a server that was just thawed sees off a backlog of dead connections first."""
    for _ in range(20):
        attempt = await watched.attempt()
        if attempt.ok:
            return attempt
    raise AssertionError(watched.attempts[-1])


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
        await until_good(watched)
    assert leaks.found() == {}


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
    redis: Redis, watch: Watch, make_system: type[System]
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
    assert leaks.found() == {}
