"""One bounded attempt at a target: the one place that owns deadline, duration and the naming of failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from auraconnect_exporter.model import Attempt, Clock, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError, explain

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 0.2
"""What a check may take to clean up after its deadline; twice this is the most that an attempt can overrun."""

MAX_MESSAGE: Final = 200


class Runner:
    """Makes attempts with one probe, and a new probe when there is none or one can't be brought to an end."""

    def __init__(self, make_probe: Callable[[], Probe], timeout: float, clock: Clock) -> None:
        self._make_probe = make_probe
        self._probe: Probe | None = None
        self._timeout = timeout
        self._clock = clock
        self._stuck: set[asyncio.Task[Reading]] = set()

    async def attempt(self) -> Attempt:
        """Check the target once. Ends at the latest ``timeout`` + twice ``GRACE_SECONDS`` after it began."""
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
            return _nothing(probe), ProbeError(Reason.TIMEOUT, f"no answer within {self._timeout:g} s")
        if task.cancelled():  # by the driver itself: not our own end
            return _nothing(probe), ProbeError(Reason.ERROR, "the check cancelled itself")
        cause = task.exception()
        if cause is None:
            return task.result(), None
        failure = explain(cause)
        if failure.reason is Reason.ERROR and failure is not cause:
            log.debug("a check failed in an unexpected way", exc_info=cause)
        return _nothing(probe, failure.samples), failure

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


def _nothing(probe: Probe, samples: tuple[Sample, ...] = ()) -> Reading:
    """Return the reading of a failed check: every part of it has failed."""
    return Reading(samples, collectors=dict.fromkeys(probe.collectors, False))


def _retrieve(task: asyncio.Task[Reading]) -> None:
    """Look at a task's exception, or asyncio reports it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _one_line(text: str) -> str:
    """Return text that is fit for a log and a page: one line, printable, short."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"
