"""Celery's workers: which of them live, and which fell silent, from the heartbeats that they publish.

Source: Celery's monitoring guide. A worker publishes ``worker-heartbeat`` every two seconds, also without ``-E``, and
``worker-offline`` when it stops because it was told to. Checked against Celery 5.7.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final

import msgspec

from auraconnect_exporter.model import Sample
from auraconnect_exporter.probes.worker_metrics import ACTIVE_TASKS, MAX_NAME, MAX_WORKERS, PROCESSED

HEARTBEAT_WINDOW_SECONDS: Final = 10.0
"""A worker is alive this long after its last heartbeat, five of them by default."""

HEARTBEAT_SECONDS: Final = 2.0
"""From one heartbeat to the next, unless set; what a worker may still have done after its last one."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself; ``pid`` is 0 where it does not say."""

    worker: str
    active: int
    processed: int
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker's last heartbeat, and when it came, in seconds of the monotonic clock."""

    heartbeat: Heartbeat
    time: float
    leaves: bool = False
    """Whether it has said that it stops, which leaves no job behind."""

    @property
    def last_deed(self) -> float:
        """Until when it may have taken jobs."""
        return self.time + HEARTBEAT_SECONDS


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Envelope(msgspec.Struct):
    body: str


class _Body(msgspec.Struct):
    hostname: Annotated[str, msgspec.Meta(min_length=1)]
    active: _Count = 0
    processed: _Count = 0
    pid: _Count = 0


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_BODY: Final = msgspec.json.Decoder(_Body)


def parse_heartbeat(message: bytes) -> Heartbeat | None:
    """Return the heartbeat in a pub/sub message of kombu's; None for anything else."""
    try:
        body = _BODY.decode(base64.b64decode(_ENVELOPE.decode(message).body))
    except (ValueError, RecursionError):  # msgspec's and base64's errors are ValueErrors; deep nesting is not
        return None
    return Heartbeat(body.hostname[:MAX_NAME], body.active, body.processed, body.pid)


class Roll:
    """Who is there: workers by their names, and processes (name and id) that fell silent without a word."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard: dict[str, Heard] = {}
        self._lost: dict[tuple[str, int], float] = {}

    def hear(self, heartbeat: Heartbeat, *, leaves: bool) -> None:
        """Remember what a worker has said. Another process of the same name has taken the place of one that died."""
        before = self._heard.get(heartbeat.worker)
        if before is not None and before.heartbeat.pid != heartbeat.pid and not before.leaves:
            self._lost[heartbeat.worker, before.heartbeat.pid] = before.last_deed
        self._lost.pop((heartbeat.worker, heartbeat.pid), None)
        if len(self._heard) > 2 * MAX_WORKERS:
            self.alive()
        if not leaves:
            self._heard[heartbeat.worker] = Heard(heartbeat, self._monotonic())
        elif before is not None:
            self._heard[heartbeat.worker] = replace(before, leaves=True)

    def alive(self) -> list[Heartbeat]:
        """Return the last heartbeats of those that live."""
        since = self._monotonic() - HEARTBEAT_WINDOW_SECONDS
        newest = sorted(self._heard.items(), key=lambda item: item[1].time, reverse=True)[:MAX_WORKERS]
        for name, heard in newest:
            if heard.time < since and not heard.leaves:
                self._lost[name, heard.heartbeat.pid] = heard.last_deed
        self._heard = {name: heard for name, heard in newest if heard.time >= since}
        return [heard.heartbeat for heard in self._heard.values()]

    def lost_since(self, oldest: float) -> tuple[str, float] | None:
        """Return the worker that fell silent last, and until when it may have taken jobs.

        Those that could have taken jobs only before ``oldest`` are forgotten.
        """
        recent = sorted(((until, who) for who, until in self._lost.items() if until >= oldest), reverse=True)
        self._lost = {who: until for until, who in recent[:MAX_WORKERS]}
        return (recent[0][1][0], recent[0][0]) if recent else None


def worker_samples(alive: Iterable[Heartbeat]) -> tuple[Sample, ...]:
    """Return what each live worker says, in the order of their names."""
    by_name = sorted(alive, key=lambda heartbeat: heartbeat.worker)
    return tuple(ACTIVE_TASKS.sample(heartbeat.active, heartbeat.worker) for heartbeat in by_name) + tuple(
        PROCESSED.sample(heartbeat.processed, heartbeat.worker) for heartbeat in by_name
    )
