"""Celery's jobs in flight: taken by a worker and not acknowledged yet, so that Redis keeps them for another.

Source: kombu's Redis transport. The hash ``unacked`` holds them by delivery tag, each as JSON: the message, exchange
and routing key; the sorted set ``unacked_index`` has the time (Unix seconds) at which each was taken. A job that is
scheduled for later (``eta``, ``countdown``) is taken at once and kept there. Nothing tells which worker holds one.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
from redis.asyncio.connection import AbstractConnection

from auraconnect_exporter.probes.redis_connection import ask

MAX_OFTEN: Final = 1000
"""More jobs in flight than these are read only every ``PAUSE_SECONDS``."""

MAX_JOBS: Final = 20_000
PAUSE_SECONDS: Final = 60.0

MAX_BYTES: Final = 4 * 1024 * 1024
"""How much of messages that are not known yet one check reads, the first of them in any case."""

SETTLE_SECONDS: Final = 300.0
"""How long after a worker's death a job that was taken before it may run in another one without being suspicious."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job in flight: its queue, when it was taken, and when it was (or will be) due if later.

    Both in seconds of the exporter's monotonic clock, in which Redis's own time is expressed: ours may be stepped.
    """

    queue: str
    taken: float
    due: float


class _Headers(msgspec.Struct):
    eta: str | None = None


class _Message(msgspec.Struct):
    headers: _Headers = msgspec.field(default_factory=_Headers)


_DECODER: Final = msgspec.json.Decoder(tuple[_Message, str, str])


def parse_origin(content: bytes) -> tuple[str, float]:
    """Return the queue and the time of a message in ``unacked``: Unix seconds, or -inf when it is for at once.

    The queue is the routing key, which is so unless an application makes exchanges of its own. Of what is no such
    message the queue is empty.
    """
    try:
        message, _, routing_key = _DECODER.decode(content)
    except (ValueError, RecursionError):
        return "", -math.inf
    try:
        eta = datetime.fromisoformat(message.headers.eta) if message.headers.eta else None
        return routing_key, eta.replace(tzinfo=eta.tzinfo or UTC).timestamp() if eta else -math.inf
    except (ValueError, OverflowError):
        return routing_key, -math.inf


class InFlight:
    """The jobs in flight, of which each message is read only once."""

    def __init__(self) -> None:
        self._origins: dict[bytes, tuple[str, float]] = {}
        self.jobs: tuple[Job, ...] = ()
        self.problem = ""
        self._next = -math.inf

    async def look(self, connection: AbstractConnection, now: float) -> None:
        """Read what has changed, when it is time for it; ``now`` is of the monotonic clock.

        One round trip, two more when there is anything new. Raises RedisError.
        """
        if now < self._next:
            return
        (seconds, microseconds), count, index = await ask(
            connection,
            [("TIME",), ("ZCARD", "unacked_index"), ("ZRANGE", "unacked_index", 0, MAX_JOBS - 1, "WITHSCORES")],
        )
        began = int(seconds) + int(microseconds) / 1e6 - now  # the monotonic clock's zero, in Redis's time
        taken = {tag: float(score) - began for tag, score in zip(index[::2], index[1::2], strict=True)}
        known = self._origins | await _read_origins(connection, [tag for tag in taken if tag not in self._origins])
        self._origins = {tag: known[tag] for tag in taken if tag in known}
        self.jobs = tuple(
            Job(queue, taken[tag], max(taken[tag], eta - began)) for tag, (queue, eta) in self._origins.items()
        )
        self._next = now + (PAUSE_SECONDS if count > MAX_OFTEN else 0.0)
        unread = count - len(self.jobs)
        self.problem = f"of {count} jobs in flight, {unread} have not been read" if unread > 0 else ""


async def _read_origins(connection: AbstractConnection, tags: Sequence[bytes]) -> dict[bytes, tuple[str, float]]:
    """Read the messages of the first of these tags, as many as are not too much together."""
    if not tags:
        return {}
    sizes = itertools.accumulate(await ask(connection, [("HSTRLEN", "unacked", tag) for tag in tags[:MAX_OFTEN]]))
    number = max(1, sum(size <= MAX_BYTES for size in sizes))
    (contents,) = await ask(connection, [("HMGET", "unacked", *tags[:number])])
    return {tag: parse_origin(content or b"") for tag, content in zip(tags, contents, strict=False)}


def in_progress(jobs: Iterable[Job], queues: Iterable[str]) -> dict[str, int]:
    """Count the jobs in flight of each queue."""
    counts = Counter(job.queue for job in jobs)
    return {queue: counts[queue] for queue in queues}


def waiting_ages(jobs: Iterable[Job], active: int, now: float) -> dict[str, float]:
    """Return for how long a job of each queue has waited at least, in seconds, in the hands of a worker.

    ``active`` jobs run, and any may be among the oldest. Of the ``active`` + 1 that have been due for longest, at least
    one does not run.
    """
    due: dict[str, list[float]] = {}
    for job in jobs:
        if job.due <= now:
            due.setdefault(job.queue, []).append(job.due)
    return {queue: now - sorted(times)[active] for queue, times in due.items() if len(times) > active}


def left_behind(jobs: Iterable[Job], until: float, active: int, now: float) -> int:
    """Return how many of the jobs that were taken until then, and are due, seem to be run by nobody.

    ``active`` jobs run. At first any of them may be one of those; after ``SETTLE_SECONDS``, only as many as can't be
    among those that were taken later.
    """
    due = [job for job in jobs if job.due <= now]
    before = sum(job.taken <= until for job in due)
    if now - until > SETTLE_SECONDS:
        active -= len(due) - before
    return max(0, before - max(0, active))
