"""Watches every target, each in a task of its own, and knows what they look like now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auraconnect_exporter import health
from auraconnect_exporter.model import Clock, Snapshot, TargetId, TargetState, TargetView
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.runner import Runner
from auraconnect_exporter.targets import Target

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watch:
    """A target, what is known of it, and the task that keeps it so."""

    target: Target
    state: TargetState
    task: asyncio.Task[None]


class Monitor:
    """Owns the targets' tasks and states; ``make_probe`` is called for each target, again if a probe is stuck."""

    def __init__(self, make_probe: Callable[[Target], Probe], clock: Clock) -> None:
        self._make_probe = make_probe
        self._clock = clock
        self._watches: dict[TargetId, _Watch] = {}

    def snapshot(self) -> Snapshot:
        """Return everything known at this moment."""
        now = self._clock.monotonic()
        targets = tuple(
            TargetView(
                watch.target.id,
                watch.target.critical,
                health.current(watch.state, now, watch.target.interval, watch.target.timeout),
                watch.state,
            )
            for watch in self._watches.values()
        )
        return Snapshot(self._clock.time(), health.system(targets), health.components(targets), targets)

    async def watch(self, targets: Iterable[Target]) -> None:
        """Watch these targets from now on. One that is equal to a watched one keeps its task and state."""
        wanted = {target.id: target for target in targets}
        ended = [watch for id_, watch in self._watches.items() if wanted.get(id_) != watch.target]
        kept = {id_: watch for id_, watch in self._watches.items() if wanted.get(id_) == watch.target}
        await _stop(ended)
        self._watches = {id_: kept.get(id_) or self._start(target) for id_, target in wanted.items()}

    async def close(self) -> None:
        """Stop watching; frozen targets don't hold this up."""
        await self.watch(())

    def _start(self, target: Target) -> _Watch:
        state = TargetState()
        task = asyncio.create_task(self._run(target), name=f"watch {target.id}")
        return _Watch(target, state, task)

    async def _run(self, target: Target) -> None:
        runner = Runner(lambda: self._make_probe(target), target.timeout, self._clock)
        try:
            while True:
                begun = self._clock.monotonic()
                attempt = await runner.attempt()
                watch = self._watches[target.id]
                before, watch.state = watch.state, health.step(watch.state, attempt)
                _log_change(target, before, watch.state)
                spent = self._clock.monotonic() - begun
                await asyncio.sleep(max(0.0, health.delay(watch.state, target.interval) - spent))
        finally:
            await runner.close()


async def _stop(watches: Iterable[_Watch]) -> None:
    tasks = [watch.task for watch in watches]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _log_change(target: Target, before: TargetState, after: TargetState) -> None:
    if after.verdict is before.verdict or after.last is None:
        return
    attempt = after.last
    log.log(
        logging.INFO if attempt.ok and not attempt.reading.degraded else logging.WARNING,
        "the target's health has changed",
        extra={
            "component": target.id.component,
            "target": target.id.name,
            "was": before.verdict,
            "is": after.verdict,
            "reason": attempt.result,
            "detail": attempt.message or "; ".join(attempt.reading.degraded),
        },
    )
