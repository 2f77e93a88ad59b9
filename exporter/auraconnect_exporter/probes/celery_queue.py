r"""Celery on a Redis broker: how deep are the queues, and which workers live.

Source: kombu's Redis transport (a queue ``q`` is the list ``q`` and one more for each priority step,
``q\x06\\x16<priority>``) and Celery's monitoring guide (workers publish ``worker-heartbeat`` every two seconds, also
without ``-E``). Checked against Celery 5.7.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.redis_connection import explain_redis, open_redis
from auraconnect_exporter.targets import Workers

QUEUE_DEPTH = Metric("worker_queue_depth", "gauge", "Jobs that wait, of all priorities.", ("queue",))
ONLINE = Metric("worker_online", "gauge", "Workers that are alive.")
ACTIVE_TASKS = Metric("worker_active_tasks", "gauge", "Tasks that the worker is running.", ("worker",))
PROCESSED = Metric(
    "worker_processed_total", "counter", "Tasks that the worker has taken since it started.", ("worker",)
)

HEARTBEAT_WINDOW_SECONDS: Final = 10.0
"""A worker is alive this long after its last heartbeat, five of them by default."""

WAIT_SHARE: Final = 0.8
"""How much of the deadline a check waits for a first heartbeat."""

PRIORITIES: Final = range(10)
MAX_WORKERS: Final = 200


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself."""

    worker: str
    active: int
    processed: int


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Envelope(msgspec.Struct):
    body: str


class _Body(msgspec.Struct):
    hostname: Annotated[str, msgspec.Meta(min_length=1)]
    active: _Count = 0
    processed: _Count = 0


def parse_heartbeat(message: bytes) -> Heartbeat | None:
    """Return the heartbeat in a pub/sub message of kombu's; None for anything else."""
    try:
        envelope = msgspec.json.decode(message, type=_Envelope)
        body = msgspec.json.decode(base64.b64decode(envelope.body), type=_Body)
    except (ValueError, RecursionError):  # msgspec's and base64's errors are ValueErrors; deep nesting is not
        return None
    return Heartbeat(body.hostname[:100], body.active, body.processed)


def priority_lists(queue: str) -> list[str]:
    """Return the keys of all lists that a queue may be made of."""
    return [queue, *(f"{queue}\x06\x16{priority}" for priority in PRIORITIES[1:])]


class CeleryProbe(Probe):
    """Watches the Celery workers of one broker.

    Keeps one subscription to the heartbeats from check to check; the server holds what comes in between.
    """

    collectors = ("queues", "workers")

    def __init__(self, system: Workers, timeout: float, monotonic: Callable[[], float]) -> None:
        self._system = system
        self._patience = timeout * WAIT_SHARE
        self._monotonic = monotonic
        self._client: Redis | None = None
        self._subscription: PubSub | None = None
        self._heard: dict[str, tuple[float, Heartbeat]] = {}

    async def check(self) -> Reading:
        """Count the queues and listen for workers. Fails when there is no live worker."""
        until = asyncio.get_running_loop().time() + self._patience
        try:
            depths = await self._depths()
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
        if not alive:
            message = f"no Celery worker has sent a heartbeat for {HEARTBEAT_WINDOW_SECONDS:g} s"
            raise ProbeError(Reason.TIMEOUT, message, (*depths, ONLINE.sample(0)))
        return Reading((Part("queues", depths), Part("workers", (ONLINE.sample(len(alive)), *worker_samples(alive)))))

    async def close(self) -> None:
        """Drop the subscription; the heartbeats heard so far still count."""
        subscription, self._subscription = self._subscription, None
        client, self._client = self._client, None
        if subscription is not None:
            await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py's own gap
        if client is not None:
            await client.aclose()

    async def _depths(self) -> tuple[Sample, ...]:
        async with aclosing(open_redis(self._system.server)) as client:
            pipeline = client.pipeline(transaction=False)
            for queue in self._system.queues:
                for key in priority_lists(queue):
                    pipeline.llen(key)
            lengths = await pipeline.execute()
        steps = len(PRIORITIES)
        return tuple(
            QUEUE_DEPTH.sample(sum(lengths[index * steps : (index + 1) * steps]), queue)
            for index, queue in enumerate(self._system.queues)
        )

    async def _listen(self, until: float) -> list[Heartbeat]:
        """Take in what has arrived; when nobody is known to live, wait for the first, on the loop's clock ``until``."""
        if self._client is None:
            self._client = open_redis(self._system.server)
        if self._subscription is None:
            self._subscription = self._client.pubsub()
            await self._subscription.subscribe(f"/{self._system.server.database}.celeryev/worker.heartbeat")
        try:
            async with asyncio.timeout_at(until):
                while await self._take(self._subscription, wait=not self._alive()):
                    pass
        except TimeoutError:
            pass
        return self._alive()

    async def _take(self, subscription: PubSub, *, wait: bool) -> bool:
        """Take one message in; False when none has arrived (and none was waited for)."""
        message = await subscription.get_message(timeout=None if wait else 0)
        is_published = message is not None and message["type"] == "message"  # others tell of the subscription itself
        heartbeat = parse_heartbeat(message["data"]) if is_published else None
        if heartbeat is not None:
            self._heard[heartbeat.worker] = (self._monotonic(), heartbeat)
        return message is not None or wait

    def _alive(self) -> list[Heartbeat]:
        since = self._monotonic() - HEARTBEAT_WINDOW_SECONDS
        newest = sorted(self._heard.items(), key=lambda item: item[1][0], reverse=True)[:MAX_WORKERS]
        self._heard = {worker: heard for worker, heard in newest if heard[0] >= since}
        return [heartbeat for _, heartbeat in self._heard.values()]


def worker_samples(alive: Iterable[Heartbeat]) -> tuple[Sample, ...]:
    """Return what each live worker says, in the order of their names."""
    by_name = sorted(alive, key=lambda heartbeat: heartbeat.worker)
    return tuple(ACTIVE_TASKS.sample(heartbeat.active, heartbeat.worker) for heartbeat in by_name) + tuple(
        PROCESSED.sample(heartbeat.processed, heartbeat.worker) for heartbeat in by_name
    )
