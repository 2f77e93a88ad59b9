"""arq: how many jobs are due, how long has the oldest been, and does a worker serve each queue.

Source: arq 0.28's ``arq/worker.py`` and ``constants.py``. A queue is a sorted set scored by due time in milliseconds; a
job stays in it while it runs, marked by ``arq:in-progress:<id>``; a worker keeps ``<queue>:health-check`` alive.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.celery_queue import ONLINE, QUEUE_DEPTH
from auraconnect_exporter.probes.redis_connection import explain_redis, open_redis
from auraconnect_exporter.targets import Workers

OLDEST_JOB_AGE = Metric(
    "worker_queue_oldest_job_age_seconds", "gauge", "How long the oldest job that waits has been due.", ("queue",)
)
JOBS_IN_PROGRESS = Metric("worker_jobs_in_progress", "gauge", "Jobs that are running.", ("queue",))

ABANDONED_SECONDS: Final = 30.0
"""A job that has been due for so long, while nothing in its queue runs, has no worker. The worker's own health key can
outlive it by an hour."""

MAX_DUE_JOBS: Final = 1000
"""How many of the oldest due jobs are looked at one by one for whether they run."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue at one moment: jobs due (running ones apart) and the age of the oldest of them, in seconds."""

    name: str
    waiting: int
    running: int
    oldest_age: float
    has_health_key: bool

    @property
    def is_served(self) -> bool:
        """Whether a worker seems to be there."""
        return self.has_health_key and not (self.oldest_age > ABANDONED_SECONDS and self.running == 0)


class ArqProbe(Probe):
    """Watches the arq workers of one Redis."""

    collectors = ("queues",)

    def __init__(self, system: Workers, time: Callable[[], float]) -> None:
        self._system = system
        self._time = time

    async def check(self) -> Reading:
        """Read every queue. Fails when one of them has no worker."""
        try:
            async with aclosing(open_redis(self._system.server)) as client:
                queues = [await _read(client, name, self._time()) for name in self._system.queues]
        except RedisError as error:
            raise explain_redis(error) from None
        samples = tuple(sample for queue in queues for sample in queue_samples(queue))
        samples += (ONLINE.sample(sum(queue.is_served for queue in queues)),)
        unserved = [queue.name for queue in queues if not queue.is_served]
        if unserved:
            raise ProbeError(Reason.TIMEOUT, f"no arq worker serves {', '.join(unserved)}", samples)
        return Reading((Part("queues", samples),))


async def _read(client: Redis, name: str, now: float) -> Queue:
    """Read one queue in two round trips; ``now`` in Unix seconds."""
    milliseconds = int(now * 1000)
    pipeline = client.pipeline(transaction=False)
    pipeline.zcount(name, "-inf", milliseconds)
    pipeline.zrange(name, "-inf", milliseconds, byscore=True, withscores=True, offset=0, num=MAX_DUE_JOBS)
    pipeline.exists(f"{name}:health-check")
    due, oldest, health_key = await pipeline.execute()
    marks = client.pipeline(transaction=False)
    for job, _ in oldest:
        marks.exists(b"arq:in-progress:" + job)
    runs = await marks.execute() if oldest else []
    waiting_since = [score for (_, score), is_running in zip(oldest, runs, strict=True) if not is_running]
    return Queue(
        name=name,
        waiting=due - sum(runs),
        running=sum(runs),
        oldest_age=now - min(waiting_since) / 1000 if waiting_since else 0.0,
        has_health_key=bool(health_key),
    )


def queue_samples(queue: Queue) -> tuple[Sample, ...]:
    """Return what one queue shows."""
    return (
        QUEUE_DEPTH.sample(queue.waiting, queue.name),
        JOBS_IN_PROGRESS.sample(queue.running, queue.name),
        OLDEST_JOB_AGE.sample(queue.oldest_age, queue.name),
    )
