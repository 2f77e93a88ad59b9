"""Watches every target, each in a task of its own, and knows what they look like now."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from auraconnect_exporter import health
from auraconnect_exporter.model import Clock, Part, Snapshot, TargetId, TargetState, TargetView
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.runner import Runner
from auraconnect_exporter.targets import Target

SPREAD_SECONDS = 0.02
"""From the first check of one target to that of the next, so that hundreds don't all come at once, again and again."""

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
                health.backoff(watch.state, watch.target.interval),
            )
            for watch in self._watches.values()
        )
        causes = health.causes(targets)
        targets = tuple(replace(view, cause=causes.get(view.id, "")) for view in targets)
        return Snapshot(self._clock.time(), health.system(targets), health.components(targets), targets)

    async def watch(self, targets: Iterable[Target]) -> None:
        """Watch these targets from now on. One that is equal to a watched one keeps its task and state."""
        wanted = {target.id: target for target in targets}
        ended = [watch for id_, watch in self._watches.items() if wanted.get(id_) != watch.target]
        kept = {id_: watch for id_, watch in self._watches.items() if wanted.get(id_) == watch.target}
        await _stop(ended)
        new = [id_ for id_ in wanted if id_ not in kept]
        waits = {id_: min(SPREAD_SECONDS, wanted[id_].interval / len(new)) * index for index, id_ in enumerate(new)}
        self._watches = {id_: kept.get(id_) or self._start(target, waits[id_]) for id_, target in wanted.items()}

    async def close(self) -> None:
        """Stop watching; frozen targets don't hold this up."""
        await self.watch(())

    def _start(self, target: Target, wait: float) -> _Watch:
        state = TargetState()
        task = asyncio.create_task(self._run(target, wait), name=f"watch {target.id}")
        return _Watch(target, state, task)

    async def _run(self, target: Target, wait: float) -> None:
        runner = Runner(lambda: self._make_probe(target), target.timeout, self._clock)
        due = self._clock.monotonic() + wait
        try:
            while True:
                await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
                begun = self._clock.monotonic()
                attempt = await runner.attempt(max(0.0, begun - due))
                watch = self._watches[target.id]
                before, watch.state = watch.state, health.step(watch.state, attempt)
                _log_change(target, before, watch.state)
                _log_problems(target, before, watch.state)
                due = max(
                    self._clock.monotonic(),
                    begun + health.delay(watch.state, target.interval, random.random()),  # noqa: S311  # no secret
                )
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


def _log_problems(target: Target, before: TargetState, after: TargetState) -> None:
    """Say once of a part of the target that it can't be read, or can be again, while the target itself answers."""
    if after.last is None or not after.last.ok:
        return
    known = {part.collector: part for part in before.last_success.reading.parts} if before.last_success else {}
    for part in after.last.reading.parts:
        was = known.get(part.collector, Part(part.collector))
        if (part.problem, part.absent) == (was.problem, was.absent):
            continue
        message = "the part of the target can be read again"
        if part.problem:
            message = "a part of the target can't be read"
        elif part.absent:
            message = "a part of the target is not there to be read"
        log.log(
            logging.WARNING if part.problem else logging.INFO,
            message,
            extra={
                "component": target.id.component,
                "target": target.id.name,
                "collector": part.collector,
                "detail": part.problem or part.absent,
            },
        )
