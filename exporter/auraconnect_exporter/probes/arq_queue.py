"""arq: how many jobs are due, how long has the oldest been, and does a worker serve each queue.

Source: arq 0.28's ``arq/worker.py`` and ``constants.py``. A queue is a sorted set scored by due time in milliseconds; a
job stays in it while it runs, marked by ``arq:in-progress:<id>``. A worker writes ``<queue>:health-check`` once an
interval (an hour unless set), and the key expires a second after the next writing is due. A worker that has room for a
job asks for one twice a second, by ``ZRANGEBYSCORE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from auraconnect_exporter.model import Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.redis_connection import Connector, Refusals, ask, explain_redis
from auraconnect_exporter.probes.worker_memory import WorkerMemory
from auraconnect_exporter.probes.worker_metrics import (
    ACTIVE_TASKS,
    JOBS_IN_PROGRESS,
    ONLINE,
    PROCESSED,
    QueueFigures,
    queue_findings,
    queue_samples,
)
from auraconnect_exporter.targets import Workers

ABANDONED_SECONDS: Final = 30.0
"""A job that has been due for so long, while nothing in its queue runs, has no worker. Neither has a queue where
nothing runs, when nobody has asked for a job for so long. The worker's own health key can outlive it by an hour."""

MAX_DUE_JOBS: Final = 1000
"""How many of the oldest due jobs of a queue are looked at one by one for whether they run."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue at one moment: jobs due (running ones apart) and the age of the oldest of them, in seconds.

    ``ended`` is how many jobs the worker says it has ended, None where it says nothing.
    """

    name: str
    waiting: int
    running: int
    oldest_age: float
    has_health_key: bool
    ended: int | None = None

    def is_served(self, *, asked_for: bool) -> bool:
        """Whether a worker seems to be there; ``asked_for`` says whether anybody asks for jobs."""
        idle = self.running == 0
        return self.has_health_key and not (idle and (self.oldest_age > ABANDONED_SECONDS or not asked_for))


class ArqProbe(Probe):
    """Watches the arq workers of one Redis."""

    collectors = ("queues", "workers")

    def __init__(self, system: Workers, monotonic: Callable[[], float], trust: Trust) -> None:
        self._system = system
        self._monotonic = monotonic
        self._memory = WorkerMemory(monotonic)
        self._connector = Connector(system.server, trust)
        self._refusals = Refusals(monotonic)
        self._demand = Demand()
        self._ended = {queue: Ended() for queue in system.queues}

    async def check(self) -> Reading:
        """Read every queue. Fails when one of them has no worker."""
        try:
            async with self._connector.connected() as connection:
                queues = await read_queues(connection, self._system.queues)
                await self._refusals.unless_refused("statistics", lambda: self._look_for_demand(connection))
        except RedisError as error:
            raise explain_redis(error) from None
        figures = [QueueFigures(queue.name, queue.waiting, queue.oldest_age) for queue in queues]
        samples = (
            *queue_samples(figures),
            *(JOBS_IN_PROGRESS.sample(queue.running, queue.name) for queue in queues),
        )
        unserved = [queue.name for queue in queues if not queue.is_served(asked_for=self._demand.exists)]
        online = ONLINE.sample(len(queues) - len(unserved))
        if unserved:
            raise ProbeError(Reason.TIMEOUT, f"no arq worker serves {', '.join(unserved)}", (*samples, online))
        workers = (online, *self._worker_samples(queues), *await self._memory.of_arq())
        return Reading((Part("queues", samples, queue_findings(self._system, figures)), Part("workers", workers)))

    async def _look_for_demand(self, connection: AbstractConnection) -> None:
        (statistics,) = await ask(connection, [("INFO", "commandstats")])
        self._demand.update(parse_asked(statistics), self._monotonic())

    def _worker_samples(self, queues: Sequence[Queue]) -> tuple[Sample, ...]:
        """Return what is known of the workers of each queue, by its name: they have none of their own."""
        ended = ((queue.name, self._ended[queue.name].update(queue.ended)) for queue in queues)
        return (
            *(ACTIVE_TASKS.sample(queue.running, queue.name) for queue in queues),
            *(PROCESSED.sample(count, name) for name, count in ended if count is not None),
        )


class Demand:
    """Whether any arq worker asks for jobs, from the number of calls that the server has counted."""

    def __init__(self) -> None:
        self._calls: int | None = None
        self._looked = 0.0
        self._quiet = 0.0

    @property
    def exists(self) -> bool:
        """Whether somebody has asked of late, or nothing is known of it."""
        return self._quiet <= ABANDONED_SECONDS

    def update(self, calls: int, now: float) -> None:
        """Take in how many calls there have been; ``now`` is of the monotonic clock.

        A long time without a look counts for little, since then the server may have been the one that was away.
        """
        if calls != self._calls:
            self._quiet = 0.0
        else:
            self._quiet += min(now - self._looked, ABANDONED_SECONDS / 2)
        self._calls, self._looked = calls, now


class Ended:
    """The count of ended jobs in a health key, which several workers of a queue overwrite for each other.

    A worker that starts says 0 first. A count that falls to anything else is another worker's: as a counter it would
    look like thousands of jobs at once, so none is told until one begins anew.
    """

    def __init__(self) -> None:
        self._last = 0
        self._mixed = False

    def update(self, count: int | None) -> int | None:
        """Return the count, or None when it can't be one worker's."""
        if count is None:
            return None
        self._mixed = count != 0 and (self._mixed or count < self._last)
        self._last = count
        return None if self._mixed else count


async def read_queues(connection: AbstractConnection, names: Sequence[str]) -> list[Queue]:
    """Read queues in two round trips, by Redis's own time: ours may be stepped. Raises RedisError."""
    first: list[tuple[str | int, ...]] = [("TIME",)]
    for name in names:
        first += [("ZRANGE", name, 0, MAX_DUE_JOBS - 1, "WITHSCORES"), ("GET", f"{name}:health-check")]
    (seconds, microseconds), *found = await ask(connection, first)
    now = int(seconds) + int(microseconds) / 1e6
    until = int(now * 1000)
    oldest = [
        {job: float(score) for job, score in zip(jobs[::2], jobs[1::2], strict=True) if float(score) <= until}
        for jobs in found[::2]
    ]
    marks = [b"arq:in-progress:" + job for due in oldest for job in due]
    second: list[tuple[str | bytes | int, ...]] = [("ZCOUNT", name, "-inf", until) for name in names]
    answers = await ask(connection, [*second, ("MGET", *marks)] if marks else second)
    runs = iter(answers.pop() if marks else [])
    queues = []
    for name, count, due, line in zip(names, answers, oldest, found[1::2], strict=True):
        waiting_since = [score for score in due.values() if next(runs) is None]
        running = len(due) - len(waiting_since)
        queues.append(
            Queue(
                name=name,
                waiting=max(0, count - running),
                running=running,
                oldest_age=now - waiting_since[0] / 1000 if waiting_since else 0.0,
                has_health_key=line is not None,
                ended=parse_health_check(line or b""),
            )
        )
    return queues


def parse_health_check(line: bytes) -> int | None:
    """Return how many jobs a worker says it has ended, well or not; None where the line does not say."""
    match = re.search(rb"\bj_complete=(\d{1,15}) j_failed=(\d{1,15}) j_retried=(\d{1,15})\b", line)
    return sum(map(int, match.groups())) if match else None


def parse_asked(statistics: bytes) -> int:
    """Return from INFO's command statistics how often the server has been asked for what is due."""
    match = re.search(rb"^cmdstat_zrangebyscore:calls=(\d+)", statistics, re.MULTILINE)
    return int(match[1]) if match else 0
