"""What is read for the dashboard in the background: once for everybody, and it says what it could not read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auraconnect_exporter import dashboard
from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.prometheus import Sample, Series
from auraconnect_exporter.dashboard import CLOCKS_SERIES, DELAYS_SERIES, SUMMARY_HOURS, TOP, BackgroundReader
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import Figures
from auraconnect_exporter.model import Component, Health
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.records import SECOND, Actor, ErrorRecord, Identity, Moment
from auraconnect_exporter.store import Store, open_store
from tests.builders import FakeClock


class Asked:
    """Answers with seven endpoints, each busier than the one before, or not at all; counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0
        self.failure: Exception | None = None
        self.asked = asyncio.Event()
        self.clocks: list[Sample] = []
        self.histories = 0

    async def query_range(self, expression: str, start: Moment, end: Moment, step: float) -> list[Series]:
        del expression, step
        self.histories += 1
        return [Series({"component": "database", "state": "unhealthy"}, ((start, 1.0), (end, 0.0)))]

    async def query(self, expression: str) -> list[Sample]:
        if expression == CLOCKS_SERIES:
            return self.clocks
        if expression == DELAYS_SERIES:
            return [Sample({"severity": "critical", "escalation": "secondary"}, 60.0)]
        self.times += 1
        self.asked.set()
        if self.failure is not None:
            raise self.failure
        return [
            Sample(
                {"figure": "exporter/requests", "service": "api", "handler": f"/{number}", "method": "GET"},
                300.0 * (number + 1),
            )
            for number in range(7)
        ]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store("", tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def errors(store: Store, clock: FakeClock) -> Errors:
    return Errors(store, clock)


async def log(errors: Errors, count: int) -> None:
    for number in range(count):
        record = ErrorRecord(id="", error_type=f"E{number}", error_message="m", created_at=0)
        await errors.log(record, Actor("tester"))


def test_before_the_first_reading_nothing_is_claimed(errors: Errors, clock: FakeClock) -> None:
    """No figures and no summary, and the reason why."""
    latest = BackgroundReader(None, None, errors, Notices(errors._store, clock), clock).latest
    assert (latest.totals, latest.performance, latest.errors, latest.summary) == (None, (), (), None)
    assert latest.unavailable == {"prometheus": "not asked yet", "store": "not asked yet"}


async def test_it_reads_the_busiest_endpoints_and_the_newest_errors(errors: Errors, clock: FakeClock) -> None:
    """As many as the dashboard shows, the totals, and the summary of a day."""
    reader = BackgroundReader(asked := Asked(), Figures(asked, clock), errors, Notices(errors._store, clock), clock)
    for _ in range(7):
        await log(errors, 1)
        clock.advance(60)
    await reader.read()
    latest = reader.latest
    assert [line.endpoint for line in latest.performance] == ["/6", "/5", "/4", "/3", "/2"]
    assert latest.totals is not None
    assert latest.totals.request_rate_per_second == 28.0
    assert len(latest.errors) == TOP
    assert latest.errors[0].created_at > latest.errors[-1].created_at
    assert latest.summary is not None
    assert (latest.summary.total_errors, latest.unavailable) == (7, {})
    clock.advance(SUMMARY_HOURS * 3600 + 60)
    await reader.read()
    assert (reader.latest.errors, reader.latest.summary and reader.latest.summary.total_errors) == ((), 0)


async def test_without_prometheus_the_errors_are_there(errors: Errors, clock: FakeClock) -> None:
    """One source that is missing does not hide the other."""
    await log(errors, 1)
    reader = BackgroundReader(None, None, errors, Notices(errors._store, clock), clock)
    await reader.read()
    assert len(reader.latest.errors) == 1
    assert reader.latest.unavailable == {"prometheus": "no Prometheus is configured"}


async def test_prometheus_away_and_back(errors: Errors, clock: FakeClock) -> None:
    """What was known of the requests is not shown as if it were now; why, and since when, is told."""
    prometheus = Asked()
    reader = BackgroundReader(prometheus, Figures(prometheus, clock), errors, Notices(errors._store, clock), clock)
    await reader.read()
    prometheus.failure = ClientError("Prometheus at http://p can't be asked: connection refused")
    clock.advance(5)
    await reader.read()
    assert (reader.latest.totals, reader.latest.performance) == (None, ())
    said = "Prometheus at http://p can't be asked: connection refused (since 2026-05-28T20:26:45Z)"
    assert reader.latest.unavailable == {"prometheus": said}
    prometheus.failure = None
    clock.advance(5)
    await reader.read()
    assert (len(reader.latest.performance), reader.latest.unavailable) == (5, {})


async def test_the_store_away(errors: Errors, store: Store, clock: FakeClock) -> None:
    """A store that can't be used leaves the figures, and no summary that says zero."""
    reader = BackgroundReader(asked := Asked(), Figures(asked, clock), errors, Notices(errors._store, clock), clock)
    await store.close()
    await reader.read()
    assert (len(reader.latest.performance), reader.latest.errors, reader.latest.summary) == (5, (), None)
    assert reader.latest.unavailable == {"store": "the incident store can't be used at the moment"}


async def test_what_nobody_changed_is_not_read_again(
    errors: Errors, store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors are read after a write and each minute, since they grow old, not every five seconds for nothing."""
    reader = BackgroundReader(None, None, errors, Notices(store, clock), clock)
    await log(errors, 1)
    reads = 0
    read = store.read

    async def counted(query: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(query)

    monkeypatch.setattr(store, "read", counted)
    seen = []
    for act in (None, None, "write", None, "minute", None):
        if act == "write":
            await log(errors, 1)
        if act == "minute":
            clock.advance(60)
        before = reads
        await reader.read()
        seen.append((reads > before, len(reader.latest.errors)))
    assert seen == [(True, 1), (False, 1), (True, 2), (False, 2), (True, 2), (False, 2)]


async def test_it_reads_again_and_again_whatever_happens(
    errors: Errors, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is logged, and does not leave the dashboard as it was for ever."""
    monkeypatch.setattr(dashboard, "EVERY_SECONDS", 0.0)
    prometheus = Asked()
    prometheus.failure = RuntimeError("a fault")
    reader = BackgroundReader(prometheus, Figures(prometheus, clock), errors, Notices(errors._store, clock), clock)
    running = asyncio.create_task(reader.run())
    async with asyncio.timeout(10):
        await prometheus.asked.wait()
        prometheus.failure = None
        while reader.latest.totals is None:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "reading for the dashboard failed; it goes on" in caplog.text


async def test_the_clocks_of_escalation_and_the_history_come_along(errors: Errors, clock: FakeClock) -> None:
    """Since when an alert climbs and for how long a level waits is Prometheus's to say; the day comes each minute."""
    prometheus = Asked()
    labels = {
        "alertname": "A",
        "severity": "critical",
        "component": "database",
        "target": "primary",
    }
    prometheus.clocks = [Sample(labels, clock.time() - 30), Sample({**labels, "target": "other"}, math.nan)]
    reader = BackgroundReader(prometheus, Figures(prometheus, clock), errors, Notices(errors._store, clock), clock)
    for _ in range(12):
        await reader.read()
        clock.advance(5.0)
    latest = reader.latest
    since = round((clock.time() - 90) * SECOND)
    assert latest.clocks == {Identity("A", "critical", "database", "primary"): since}
    assert latest.delays == {("critical", "secondary"): 60.0}
    assert latest.strips[Component.DATABASE] == (Health.UNHEALTHY, *[Health.UNKNOWN] * 47)
    assert prometheus.histories == 1
    await reader.read()
    assert prometheus.histories == 2
