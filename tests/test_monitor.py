"""The monitor: one task a target, verdicts from real attempts, reloads that keep what is equal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from auraconnect_exporter.model import Attempt, Component, Health, Part, Reading, Reason, TargetId
from auraconnect_exporter.monitor import Monitor
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.targets import Host, Target
from tests.builders import collectors

TARGET = Target(TargetId(Component.HOST, "a"), critical=True, interval=0.1, timeout=0.1, system=Host())


class ScriptedProbe(Probe):
    """Answers as its script says, then stays with the last line of it; tells who waits after each check."""

    collectors = ("part",)

    def __init__(self, script: list[Reason | None]) -> None:
        self.script = script
        self.checks = 0
        self.closed = False
        self.problems: list[str] = []
        self.absent = ""
        self._checked = asyncio.Event()

    async def check(self) -> Reading:
        reason = self.script[min(self.checks, len(self.script) - 1)]
        self.checks += 1
        self._checked.set()
        if reason is not None:
            raise ProbeError(reason, "scripted")
        return Reading((Part("part", problem=self.problems.pop(0) if self.problems else "", absent=self.absent),))

    async def close(self) -> None:
        self.closed = True

    async def begun(self) -> None:
        """Return when a check has begun."""
        while not self.checks:
            self._checked.clear()
            await self._checked.wait()

    async def after(self, checks: int) -> None:
        """Return when so many checks are over: the one that follows has begun."""
        while self.checks <= checks:
            self._checked.clear()
            await self._checked.wait()


async def test_a_failure_is_confirmed_before_it_is_a_verdict() -> None:
    """Two failures leave a target healthy, the third turns it unhealthy, with its reason."""
    probe = ScriptedProbe([None, Reason.REFUSED, Reason.REFUSED, Reason.REFUSED])
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    await probe.after(3)
    assert monitor.snapshot().targets[0].health is Health.HEALTHY
    await probe.after(4)
    (view,) = monitor.snapshot().targets
    assert (view.health, view.state.last and view.state.last.reason) == (Health.UNHEALTHY, Reason.REFUSED)
    assert monitor.snapshot().system is Health.UNHEALTHY
    await monitor.close()


async def test_a_failed_check_shows_its_collectors_as_failed() -> None:
    """What can't be reached has no part that could be read."""
    probe = ScriptedProbe([Reason.REFUSED])
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    await probe.after(1)
    last = monitor.snapshot().targets[0].state.last
    assert last is not None
    assert collectors(last) == {"part": False}
    await monitor.close()


async def test_an_equal_target_keeps_its_state_and_a_changed_one_starts_anew() -> None:
    """A reload touches only what has changed, and closes what is gone."""
    probes: dict[str, list[ScriptedProbe]] = {}

    def make(target: Target) -> ScriptedProbe:
        probes.setdefault(target.id.name, []).append(ScriptedProbe([None]))
        return probes[target.id.name][-1]

    kept, changed, gone = (replace(TARGET, id=TargetId(Component.HOST, name)) for name in ("kept", "changed", "gone"))
    monitor = Monitor(make, time)
    await monitor.watch([kept, changed, gone])
    await asyncio.gather(*(asyncio.create_task(_made(probes, name)) for name in ("kept", "changed", "gone")))
    await monitor.watch([kept, replace(changed, critical=False)])
    views = {view.id.name: view for view in monitor.snapshot().targets}
    assert views["kept"].health is Health.HEALTHY
    assert views["changed"].health is Health.UNKNOWN
    assert set(views) == {"kept", "changed"}
    assert [len(made) for made in probes.values()] == [1, 1, 1]
    assert (probes["gone"][0].closed, probes["changed"][0].closed, probes["kept"][0].closed) == (True, True, False)
    await monitor.close()


async def _made(probes: dict[str, list[ScriptedProbe]], name: str) -> None:
    while name not in probes:
        await asyncio.sleep(0)
    await probes[name][0].after(1)


async def test_a_probe_that_cannot_be_made_is_a_failure_not_the_end() -> None:
    """A certificate file that went away makes attempts fail until it is back."""
    broken = asyncio.Event()
    probe = ScriptedProbe([None])

    def make(_: Target) -> ScriptedProbe:
        if not broken.is_set():
            broken.set()
            raise FileNotFoundError(2, "No such file or directory")
        return probe

    monitor = Monitor(make, time)
    await monitor.watch([TARGET])
    await probe.after(1)
    (view,) = monitor.snapshot().targets
    assert view.state.results == {"error": 1, "success": 1}
    await monitor.close()


async def test_what_is_not_checked_any_more_turns_unknown() -> None:
    """When nothing has been tried for three intervals, the last verdict no longer counts."""

    class LateClock:
        late = 0.0

        def time(self) -> float:
            return time.time()

        def monotonic(self) -> float:
            return time.monotonic() + self.late

    clock = LateClock()
    probe = ScriptedProbe([None])
    monitor = Monitor(lambda _: probe, clock)
    await monitor.watch([replace(TARGET, interval=100.0)])
    while monitor.snapshot().targets[0].health is Health.UNKNOWN:
        await asyncio.sleep(0)
    clock.late = 301.0
    assert monitor.snapshot().targets[0].health is Health.UNKNOWN
    await monitor.close()


async def test_a_change_of_health_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which target has changed, from what to what, and why."""
    probe = ScriptedProbe([Reason.DNS])
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    await probe.after(3)
    await monitor.close()
    (record,) = [record.__dict__ for record in caplog.records]
    assert {key: str(record[key]) for key in ("component", "target", "was", "is", "reason", "detail")} == {
        "component": "host",
        "target": "a",
        "was": "unknown",
        "is": "unhealthy",
        "reason": "dns",
        "detail": "scripted",
    }


async def test_a_part_that_cannot_be_read_is_logged_once_and_again_when_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A missing right is said in one line, however many checks meet it, and its end in another."""
    caplog.set_level("INFO")
    probe = ScriptedProbe([None])
    probe.problems = ["permission denied", "permission denied", "permission denied", ""]
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    await probe.after(5)
    await monitor.close()
    said = [(record.message, record.__dict__.get("detail")) for record in caplog.records if "part" in record.message]
    assert said == [
        ("a part of the target can't be read", "permission denied"),
        ("the part of the target can be read again", ""),
    ]


async def test_a_part_that_is_absent_is_said_once_and_without_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """An extension that nobody has installed is no fault."""
    caplog.set_level("INFO")
    probe = ScriptedProbe([None])
    probe.absent = "the extension is not installed"
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    await probe.after(3)
    await monitor.close()
    said = [(record.levelname, record.message) for record in caplog.records if "part" in record.message]
    assert said == [("INFO", "a part of the target is not there to be read")]


async def test_many_targets_begin_one_after_the_other() -> None:
    """The first checks of a hundred targets don't come at the same moment, and all within their interval."""
    begun: list[float] = []

    class Noting(ScriptedProbe):
        async def check(self) -> Reading:
            begun.append(time.monotonic())
            return await super().check()

    probes = [Noting([None]) for _ in range(10)]
    waiting = iter(probes)
    monitor = Monitor(lambda _: next(waiting), time)
    await monitor.watch(
        [replace(TARGET, id=TargetId(Component.HOST, f"h{index}"), interval=60.0) for index in range(10)]
    )
    for probe in probes:
        await probe.begun()
    await monitor.close()
    assert begun[-1] - begun[0] >= 0.9 * 9 * 0.02


async def test_an_attempt_tells_how_late_it_was() -> None:
    """A loop that was held up shows in the next attempts."""
    probe = ScriptedProbe([None])
    monitor = Monitor(lambda _: probe, time)
    await monitor.watch([TARGET])
    first = await _attempts(monitor, 1)
    time.sleep(0.3)  # what holds the loop up is what the test is about
    second = await _attempts(monitor, 2)
    assert (first.lateness < 0.1, second.lateness > 0.1) == (True, True)
    await monitor.close()


async def _attempts(monitor: Monitor, count: int) -> Attempt:
    """Return the last attempt once there are so many."""
    while True:
        state = monitor.snapshot().targets[0].state
        if state.last is not None and sum(state.results.values()) >= count:
            return state.last
        await asyncio.sleep(0)
