"""Faults that befall every probe alike, watched by the monitor as the exporter does it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial

import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Component, Health, Snapshot, TargetId, TargetView
from auraconnect_exporter.monitor import Monitor
from auraconnect_exporter.probes import make_probe
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.targets import Host, Http, System, Target
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.probes.support import Handler, cache, serving
from tools.servers import Redis, free_port

INTERVAL = 0.1
HOUR = 3600.0

# Nothing of these is full or slow, whatever the machine that runs the tests is like.
ANY_HOST = Host(("/",), memory_usage=1.0, disk_usage=1.0, memory_pressure=1.0)


class SteppedClock:
    """Real time; once it is ``stepped``, the wall clock is an hour ahead and an hour behind by turns, at every look."""

    def __init__(self) -> None:
        self.stepped = False
        self._hours = itertools.cycle((HOUR, -HOUR))

    def time(self) -> float:
        return time.time() + (next(self._hours) if self.stepped else 0.0)

    def monotonic(self) -> float:
        return time.monotonic()


def targets(**systems: tuple[Component, System]) -> list[Target]:
    return [
        Target(TargetId(component, name), critical=True, interval=INTERVAL, timeout=2.0, system=system)
        for name, (component, system) in systems.items()
    ]


async def until(monitor: Monitor, reached: Callable[[TargetView], bool]) -> Snapshot:
    """Look at the monitor until each of its targets has got so far."""
    async with asyncio.timeout(30):
        while not all(map(reached, (now := monitor.snapshot()).targets)):
            await asyncio.sleep(INTERVAL / 10)
    return now


def attempts(view: TargetView) -> int:
    return sum(view.state.results.values())


def has_more(seen: Mapping[TargetId, int], view: TargetView) -> bool:
    return attempts(view) > seen[view.id]


def says_ok() -> Handler:
    """Answer every request on a connection of its own with 200."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    return handle


def durations(view: TargetView) -> Mapping[str, float]:
    """Return everything that the last attempt says of how long something took or how old it is."""
    last = view.state.last
    assert last is not None
    found = {"duration": last.duration, "lateness": last.lateness}
    for sample in last.reading.samples:
        name = sample.metric.name
        if "_seconds" in name and "timestamp" not in name and sample.metric.kind == "gauge":
            found[f"{name}{sample.label_values}"] = sample.value
    return found


async def test_a_clock_that_is_stepped_changes_no_verdict(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """An hour there and back, within a check too: what is up stays up, what is down stays down, nothing takes hours."""
    caplog.set_level("INFO")
    clock = SteppedClock()
    monitor = Monitor(lambda target: make_probe(target, clock, Trust()), clock)
    down = RedisSystem(endpoints.redis(f"redis://127.0.0.1:{free_port()}"), slow=60.0)
    async with serving(says_ok()) as port:
        api = Http(endpoints.http(f"http://127.0.0.1:{port}/", None), frozenset({200}), slow=60.0)
        await monitor.watch(
            targets(
                machine=(Component.HOST, ANY_HOST),
                api=(Component.API, api),
                cache=(Component.REDIS, cache(redis)),
                down=(Component.REDIS, down),
            )
        )
        expected = {"machine": Health.HEALTHY, "api": Health.HEALTHY, "cache": Health.HEALTHY, "down": Health.UNHEALTHY}
        before = await until(monitor, lambda view: view.health is expected[view.id.name])
        clock.stepped = True
        for _ in range(6):
            seen = {view.id: attempts(view) for view in before.targets}
            before = await until(monitor, partial(has_more, seen))
            assert {view.id.name: view.health for view in before.targets} == expected
            for view in before.targets:
                assert {name: taken for name, taken in durations(view).items() if not 0 <= taken < 5} == {}
                assert view.state.last is not None
                assert abs(view.state.last.started - time.time()) == pytest.approx(HOUR, abs=5)
        await monitor.close()
    changes = [record for record in caplog.records if record.message == "the target's health has changed"]
    assert len(changes) == len(expected)  # each once, when it was first known
