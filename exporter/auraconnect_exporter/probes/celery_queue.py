r"""Celery on a Redis broker: how deep are the queues, what is in flight, and which workers live.

Source: kombu's Redis transport (a queue ``q`` is the list ``q`` and one more for each priority step,
``q\x06\\x16<priority>``). Checked against Celery 5.7.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection

from auraconnect_exporter.model import Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.celery_in_flight import InFlight, in_progress, left_behind, waiting_ages
from auraconnect_exporter.probes.celery_waiting import WaitingSince
from auraconnect_exporter.probes.celery_workers import (
    HEARTBEAT_WINDOW_SECONDS,
    Heartbeat,
    Roll,
    parse_heartbeat,
    worker_samples,
)
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.redis_connection import Connector, Refusals, ask, explain_redis
from auraconnect_exporter.probes.worker_memory import WorkerMemory
from auraconnect_exporter.probes.worker_metrics import (
    JOBS_IN_PROGRESS,
    ONLINE,
    QueueFigures,
    queue_findings,
    queue_samples,
)
from auraconnect_exporter.targets import Workers

WAIT_SHARE: Final = 0.8
"""How much of the deadline a check waits for a first heartbeat."""

DETAIL_SHARE: Final = 0.7
"""How much of the deadline may have passed when jobs are still looked at one by one; a slow Redis is not down."""

MAX_MESSAGES: Final = 5000
"""How many heartbeats are taken in at a time: those of all workers that are counted, for the longest backoff."""

PRIORITIES: Final = range(10)


def priority_lists(queue: str) -> list[str]:
    """Return the keys of all lists that a queue may be made of."""
    return [queue, *(f"{queue}\x06\x16{priority}" for priority in PRIORITIES[1:])]


class CeleryProbe(Probe):
    """Watches the Celery workers of one broker.

    Keeps one subscription to the heartbeats from check to check; the server holds what comes in between.
    """

    collectors = ("queues", "in_flight", "workers")

    def __init__(self, system: Workers, timeout: float, monotonic: Callable[[], float], trust: Trust) -> None:
        self._system = system
        self._timeout = timeout
        self._monotonic = monotonic
        self._memory = WorkerMemory(monotonic)
        self._connector = Connector(system.server, trust)
        self._refusals = Refusals(monotonic)
        self._lists = {queue: priority_lists(queue) for queue in system.queues}
        self._waiting = WaitingSince()
        self._in_flight = InFlight()
        self._channels = [f"/{system.server.database}.celeryev/worker.{event}" for event in ("heartbeat", "offline")]
        self._client: Redis | None = None
        self._subscription: PubSub | None = None
        self._roll = Roll(monotonic)

    async def check(self) -> Reading:
        """Read the queues and listen for workers. Fails when there is no live worker."""
        began = asyncio.get_running_loop().time()
        until = began + self._timeout * WAIT_SHARE
        try:
            async with self._connector.connected() as connection:
                lengths = await self._lengths(connection)
                age_problem, flight_problem = await self._details(
                    connection, lengths, began + self._timeout * DETAIL_SHARE
                )
            try:
                alive = await self._listen(until)
            except exceptions.ConnectionError:  # the subscription may have been cut since the last check
                await self.close()
                alive = await self._listen(until)
        except exceptions.RedisError as error:
            await self.close()
            raise explain_redis(error) from None
        except BaseException:
            await self.close()
            raise
        active = sum(heartbeat.active for heartbeat in alive)
        held = {} if flight_problem else waiting_ages(self._in_flight.jobs, active, self._monotonic())
        queues = self._queues(lengths, None if age_problem else held)
        running = () if flight_problem else self._running()
        abandoned = () if flight_problem else self._abandoned(active)
        if not alive:
            message = "; ".join(
                (f"no Celery worker has sent a heartbeat for {HEARTBEAT_WINDOW_SECONDS:g} s", *abandoned)
            )
            raise ProbeError(Reason.TIMEOUT, message, (*queue_samples(queues), *running, ONLINE.sample(0)))
        memory = await self._memory.of_celery({heartbeat.worker: heartbeat.pid for heartbeat in alive})
        return Reading(
            (
                Part("queues", queue_samples(queues), queue_findings(self._system, queues), age_problem),
                Part("in_flight", running, abandoned, flight_problem or self._in_flight.problem),
                Part(
                    "workers", (ONLINE.sample(len(alive)), *worker_samples(alive), *memory), self._missing(len(alive))
                ),
            )
        )

    async def close(self) -> None:
        """Drop the subscription; the heartbeats heard so far still count."""
        subscription, self._subscription = self._subscription, None
        client, self._client = self._client, None
        if subscription is not None:
            await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py's own gap
        if client is not None:
            await client.aclose()

    async def _lengths(self, connection: AbstractConnection) -> dict[str, int]:
        """Return the length of each list."""
        keys = [key for lists in self._lists.values() for key in lists]
        return dict(zip(keys, await ask(connection, [("LLEN", key) for key in keys]), strict=True))

    async def _details(
        self, connection: AbstractConnection, lengths: Mapping[str, int], until: float
    ) -> tuple[str, str]:
        """Look at jobs that wait and at those in flight; return why the former, and the latter, are not known."""
        now = self._monotonic()
        unless_refused = self._refusals.unless_refused
        age, in_flight = "age of jobs: Redis is too slow", "jobs in flight: Redis is too slow"
        try:
            async with asyncio.timeout_at(until):
                age = await unless_refused("age of jobs", lambda: self._waiting.look(connection, lengths, now))
                in_flight = await unless_refused("jobs in flight", lambda: self._in_flight.look(connection, now))
        except TimeoutError:
            pass
        return age, in_flight

    def _queues(self, lengths: Mapping[str, int], held: Mapping[str, float] | None) -> list[QueueFigures]:
        """Return the queues as they are; ``held`` is how long jobs have waited in workers, None if no age is known."""
        now = self._monotonic()
        return [
            QueueFigures(
                queue,
                waiting=sum(lengths[key] for key in lists),
                oldest_age=None
                if held is None
                else max(held.get(queue, 0.0), *(self._waiting.age(key, now) for key in lists)),
            )
            for queue, lists in self._lists.items()
        ]

    def _running(self) -> tuple[Sample, ...]:
        counts = in_progress(self._in_flight.jobs, self._system.queues)
        return tuple(JOBS_IN_PROGRESS.sample(count, queue) for queue, count in counts.items())

    def _abandoned(self, active: int) -> tuple[str, ...]:
        """Say so when a worker has fallen silent and jobs from before are still in flight."""
        jobs = self._in_flight.jobs
        lost = self._roll.lost_since(min((job.taken for job in jobs), default=math.inf))
        if lost is None:
            return ()
        worker, until = lost
        count = left_behind(jobs, until, active, self._monotonic())
        return (
            (f"{worker} fell silent; jobs that were taken before and seem to be lost in it: {count}",) if count else ()
        )

    def _missing(self, online: int) -> tuple[str, ...]:
        """Say so when fewer workers live than there should be."""
        wanted = self._system.min_workers
        return (f"{online} of {wanted} workers are online",) if online < wanted else ()

    async def _listen(self, until: float) -> list[Heartbeat]:
        """Take in what has arrived; when nobody is known to live, wait for the first, on the loop's clock ``until``."""
        if self._client is None:
            self._client = self._connector.client()
        if self._subscription is None:
            self._subscription = self._client.pubsub()
            await self._subscription.subscribe(*self._channels)
        try:
            async with asyncio.timeout_at(until):
                await self._take_all(self._subscription)
                while not self._roll.alive():
                    await self._take(self._subscription, wait=True)
                    await self._take_all(self._subscription)
        except TimeoutError:
            pass
        return self._roll.alive()

    async def _take_all(self, subscription: PubSub) -> None:
        """Take in what has arrived, up to a limit: whoever floods the channel must not keep us from all else."""
        for _ in range(MAX_MESSAGES):
            if not await self._take(subscription, wait=False):
                break

    async def _take(self, subscription: PubSub, *, wait: bool) -> bool:
        """Take one message in; False when none has arrived."""
        message = await subscription.get_message(timeout=None if wait else 0)
        is_published = message is not None and message["type"] == "message"  # others tell of the subscription itself
        heartbeat = parse_heartbeat(message["data"]) if is_published else None
        if heartbeat is not None:
            self._roll.hear(heartbeat, leaves=message["channel"] == self._channels[1].encode())
        return message is not None
