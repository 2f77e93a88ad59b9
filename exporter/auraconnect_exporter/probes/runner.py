"""One bounded attempt at a target: the one place that owns deadline, duration and the naming of failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from auraconnect_exporter.model import Attempt, Clock, Part, Reading, Reason
from auraconnect_exporter.probes.base import Probe, ProbeError, explain

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 0.2
"""What a check may take to clean up after its deadline; twice this is the most that an attempt can overrun."""

MAX_MESSAGE: Final = 200

MAX_SERIES: Final = 1000
"""How many series a collector may fill: what a system names without end (queues, tables) must not fill Prometheus."""


class Runner:
    """Makes attempts with one probe, and a new probe when there is none or one can't be brought to an end."""

    def __init__(self, make_probe: Callable[[], Probe], timeout: float, clock: Clock) -> None:
        self._make_probe = make_probe
        self._probe: Probe | None = None
        self._timeout = timeout
        self._clock = clock
        self._stuck: set[asyncio.Task[Reading]] = set()

    async def attempt(self, lateness: float = 0.0) -> Attempt:
        """Check the target once. Ends at the latest ``timeout`` + twice ``GRACE_SECONDS`` after it began.

        ``lateness`` is how long ago it was due, in seconds.
        """
        started, begun = self._clock.time(), self._clock.monotonic()
        reading, failure = await self._check()
        ended = self._clock.monotonic()
        return Attempt(
            started=started,
            ended=ended,
            duration=ended - begun,
            reading=reading,
            reason=failure.reason if failure else None,
            message=_one_line(str(failure)) if failure else "",
            lateness=lateness,
        )

    async def close(self) -> None:
        """Let go of the target; takes at most ``GRACE_SECONDS``."""
        if self._probe is None:
            return
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._probe.close()
        except Exception:  # it is let go of either way
            log.debug("closing a probe failed", exc_info=True)

    async def _check(self) -> tuple[Reading, ProbeError | None]:
        try:
            probe = self._probe = self._probe or self._make_probe()
        except Exception as error:  # noqa: BLE001  # a file that went away since the configuration was read, say
            return Reading(), explain(error)
        task = asyncio.create_task(probe.check())
        try:
            finished, _ = await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._end(probe, task)
            raise
        if not finished:
            await self._end(probe, task)
            failure = ProbeError(Reason.TIMEOUT, f"no answer within {self._timeout:g} s")
        elif task.cancelled():  # by the driver itself: not our own end
            failure = ProbeError(Reason.ERROR, "the check cancelled itself")
        elif (cause := task.exception()) is None:
            return Reading(tuple(_bounded(part) for part in task.result().parts)), None
        else:
            failure = explain(cause)
            if failure.reason is Reason.ERROR and failure is not cause:
                log.debug("a check failed in an unexpected way", exc_info=cause)
        return _failed(probe, failure), failure

    async def _end(self, probe: Probe, task: asyncio.Task[Reading]) -> None:
        """Bring a check to its end: wake it, else cancel it, else leave it and its probe behind."""
        if not probe.interrupt():
            task.cancel()
        await asyncio.wait({task}, timeout=GRACE_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE_SECONDS)
        if task.done():
            _retrieve(task)
            return
        log.error("a check can't be ended, so it goes on behind a new probe")
        self._stuck.add(task)
        task.add_done_callback(self._stuck.discard)
        task.add_done_callback(_retrieve)
        self._probe = None


def _failed(probe: Probe, failure: ProbeError) -> Reading:
    """Return the reading of a failed check: every part of it has failed, whatever was measured before."""
    measured = {probe.collectors[0]: failure.samples} if probe.collectors else {}
    return Reading(
        tuple(_bounded(Part(name, measured.get(name, ()), problem=str(failure))) for name in probe.collectors)
    )


def _bounded(part: Part) -> Part:
    """Return a part that keeps to the budget of series, its problem fit for a log and a page."""
    dropped = max(0, len(part.samples) - MAX_SERIES)
    return replace(part, samples=part.samples[:MAX_SERIES], problem=_one_line(part.problem), dropped=dropped)


def _retrieve(task: asyncio.Task[Reading]) -> None:
    """Look at a task's exception, or asyncio reports it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _one_line(text: str) -> str:
    """Return text that is fit for a log and a page: one line, printable, short."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
