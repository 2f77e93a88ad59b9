"""Figures of the requests: what Prometheus answers on histories that we wrote, on a live API, and how it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import yaml

from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.prometheus import Prometheus, Sample
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.figures import (
    KEPT_SECONDS,
    EndpointPerformance,
    Figures,
    FiguresUnavailable,
    Totals,
    expression,
    performance,
    quantile,
    read,
    totals,
)
from auraconnect_exporter.records import SECOND, Moment
from tests.builders import FakeClock
from tools import servers
from tools.programs import program

Labels = Mapping[str, str]

STEP: Final = 5
"""Seconds between two samples, as the pack's Prometheus scrapes."""

HISTORY: Final = 900
"""Seconds that the histories are long."""

API_BUCKETS: Final = {"0.1": 0.5, "0.5": 0.9, "1.0": 0.97, "+Inf": 1.0}
"""The instrumentator's buckets, and which share of the requests each holds."""

EXPORTER_BUCKETS: Final = {"0.1": 0.2, "1": 0.6, "5": 0.96, "10": 1.0, "+Inf": 1.0}


class History:
    """Series in OpenMetrics, each value a function of the seconds from the end (-900 … 0), None where there is none."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._series: dict[str, list[str]] = {}

    def add(self, name: str, labels: Labels, value: Callable[[int], float | None]) -> None:
        """Add one series."""
        written = ",".join(f'{label}="{text}"' for label, text in labels.items())
        lines = self._series.setdefault(name, [])
        for at in range(-HISTORY, 1, STEP):
            found = value(at)
            if found is not None:
                lines.append(f"{name}{{{written}}} {found} {self._end + at}")

    def requests(
        self, prefix: str, labels: Labels, rate: float, buckets: Mapping[str, float], errors: float = 0.0
    ) -> None:
        """Add an endpoint's counters: so many requests and failures a second, of 0.3 s on average."""
        for status, each in (("2xx", rate - errors), ("5xx", errors)):
            if each:
                self.add(f"{prefix}requests_total", {**labels, "status": status}, growing(each))
        self.add(f"{prefix}request_duration_seconds_sum", labels, growing(rate * 0.3))
        for bound, share in buckets.items():
            bucket = {**labels, "le": bound}
            self.add(f"{prefix}request_duration_seconds_bucket", bucket, growing(rate * share))

    def write(self, path: Path) -> None:
        """Write the file; the samples of one metric stand together."""
        metrics = [line for name, lines in self._series.items() for line in (f"# TYPE {name} unknown", *lines)]
        path.write_text("\n".join([*metrics, "# EOF", ""]))


def growing(rate: float, start: int = -HISTORY, end: int = 0, first: float = 1000.0) -> Callable[[int], float | None]:
    """Return a counter that grows by so much a second from start to end, counted from ``first``."""
    return lambda at: first + rate * (at - start) if start <= at <= end else None


def constant(value: float, start: int = -HISTORY, end: int = 0) -> Callable[[int], float | None]:
    """Return a value that stays."""
    return lambda at: value if start <= at <= end else None


def up(history: History, job: str, instance: str, start: int = -HISTORY) -> Labels:
    """Add a target that answers from some moment on, and return its labels."""
    target = {"job": job, "instance": instance}
    history.add("up", target, constant(1, start))
    return target


def endpoint(service: str, handler: str, method: str = "GET") -> Labels:
    """Return the labels of an endpoint's series."""
    return {"service": service, "handler": handler, "method": method}


def histories(end: int) -> History:
    """Return what happened to some services, each with handlers of its own name."""
    history = History(end)
    api = [up(history, "auraconnect-api", f"api:{number}") for number in (1, 2)]
    exporters = [up(history, "auraconnect-exporter", f"exporter:{number}") for number in (1, 2)]

    # Two processes, each with its own requests; their scrapes are none. The exporter counts them as well.
    for one in api:
        history.requests("http_", {**one, **endpoint("api", "/api")}, 2.5, API_BUCKETS, errors=0.5)
        history.requests("http_", {**one, **endpoint("api", "/metrics")}, 50, API_BUCKETS)
    for one in exporters:
        history.requests("auraconnect_http_", {**one, **endpoint("api", "/api")}, 1, EXPORTER_BUCKETS, errors=1)

    # Only a log: both exporters count the same, one of them since a moment ago.
    young = up(history, "auraconnect-exporter", "exporter:3", start=-100)
    logged = endpoint("logged", "/logged/{id}", "PUT")
    for one in exporters:
        history.requests("auraconnect_http_", {**one, **logged}, 4, EXPORTER_BUCKETS, errors=1)
    history.add("auraconnect_http_requests_total", {**young, **logged, "status": "2xx"}, growing(3, start=-100))

    # The API's own counters are gone since six minutes, or don't move; the exporter goes on.
    went = growing(1, end=-360)
    history.add("http_requests_total", {**api[0], **endpoint("gone", "/gone/api"), "status": "2xx"}, went)
    still = {**api[0], **endpoint("still", "/still/api"), "status": "2xx"}
    history.add("http_requests_total", still, constant(1000))
    for service in ("gone", "still"):
        log = {**exporters[0], **endpoint(service, f"/{service}/exporter"), "status": "200"}
        history.add("auraconnect_http_requests_total", log, growing(2))

    # Gone with nobody else to ask: what it said counts.
    alone = {**api[0], **endpoint("alone", "/alone"), "status": "2xx"}
    history.add("http_requests_total", alone, growing(1, end=-360))

    # An endpoint whose first request failed, 100 s ago.
    born = {**api[0], **endpoint("api", "/born", "POST")}
    history.add("http_requests_total", {**born, "status": "5xx"}, constant(1, start=-100))
    history.add("http_request_duration_seconds_sum", born, constant(0.7, start=-100))
    for bound, count in {"0.1": 0, "0.5": 0, "1.0": 1, "+Inf": 1}.items():
        history.add("http_request_duration_seconds_bucket", {**born, "le": bound}, constant(count, start=-100))

    # A process that was there before anybody looked.
    found = up(history, "auraconnect-api", "api:3", start=-200)
    labels = {**found, **endpoint("api", "/found"), "status": "2xx"}
    history.add("http_requests_total", labels, growing(1, start=-200))

    # Prometheus 3 took over from 2, and writes the bounds in another way.
    upgraded = {**exporters[0], **endpoint("upgraded", "/upgraded")}
    history.add("auraconnect_http_requests_total", {**upgraded, "status": "200"}, growing(10))
    for bound, ends, starts in (("0.5", -900, -900), ("1", -150, -900), ("1.0", 0, -145), ("+Inf", 0, -900)):
        share = {"0.5": 0, "+Inf": 1}.get(bound, 0.5)
        bucket = {**upgraded, "le": bound}
        counter = growing(10 * share, starts, 0 if bound == "0.5" else ends, 50_000 if bound == "1.0" else 1000)
        history.add("auraconnect_http_request_duration_seconds_bucket", bucket, counter)
    return history


Known = tuple[Server, Moment]


@pytest.fixture(scope="module", params=["oldest", "newest"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """Return a Prometheus that knows the histories, and the moment of their end; nobody changes it."""
    release = str(request.param)
    folder = tmp_path_factory.mktemp(release)
    end = int(time.time()) // STEP * STEP - STEP
    histories(end).write(folder / "history.om")
    promtool = (program("promtool", release), "tsdb", "create-blocks-from", "openmetrics")
    subprocess.run([*promtool, folder / "history.om", folder / "prometheus"], check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("{}")
    with servers.Prometheus(folder, folder / "prometheus.yml", release=release) as server:
        yield Server(base(server.url)), end * SECOND


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[Prometheus]:
    """Return a client, closed at the end of the block."""
    client = Prometheus(server)
    try:
        yield client
    finally:
        await client.close()


async def lines(known: Known, minutes: int = 5) -> dict[str, EndpointPerformance]:
    """Return what is told of the histories, by endpoint."""
    server, end = known
    async with asking(server) as client:
        samples = await client.query(expression(minutes), end)
    found = performance(read(samples), minutes)
    assert len({line.endpoint for line in found}) == len(found)
    return {line.endpoint: line for line in found}


async def prometheus_quantile(known: Known, share: float, buckets: str) -> float:
    """Return what Prometheus itself says of a quantile of five minutes, in milliseconds."""
    server, end = known
    async with asking(server) as client:
        (sample,) = await client.query(f"histogram_quantile({share}, {buckets})", end)
    return sample.value * 1000


async def test_several_processes_of_an_api_are_added_up(known: Known) -> None:
    """Twice 2.5 requests a second for 5 minutes, a fifth failed; no scrapes, nor the exporter's count."""
    found = await lines(known)
    line = found["/api"]
    assert (line.method, line.request_count, line.error_count, line.error_rate) == ("GET", 1500, 300, 20.0)
    assert line.avg_response_time_ms == pytest.approx(300)
    assert line.time_window_minutes == 5
    assert "/metrics" not in found


async def test_quantiles_are_prometheus_own(known: Known) -> None:
    """Interpolated in the same way, and beyond the last bound the last bound, for both sources' buckets."""
    found = await lines(known)
    for handler, buckets in {
        "/api": 'sum by (le) (increase(http_request_duration_seconds_bucket{handler="/api",service="api"}[5m]))',
        "/logged/{id}": "max by (le) (increase(auraconnect_http_request_duration_seconds_bucket"
        '{handler="/logged/{id}"}[5m]))',
    }.items():
        line = found[handler]
        expected = [await prometheus_quantile(known, share, buckets) for share in (0.5, 0.95, 0.99)]
        told = [line.p50_response_time_ms, line.p95_response_time_ms, line.p99_response_time_ms]
        assert told == pytest.approx(expected, abs=0.001)
    assert found["/api"].p99_response_time_ms == 1000
    assert found["/api"].p95_response_time_ms == pytest.approx(500 + 500 * 5 / 7, abs=0.001)
    assert found["/logged/{id}"].p50_response_time_ms == pytest.approx(100 + 900 * 0.3 / 0.4, abs=0.001)


async def test_several_exporters_are_not_added_up(known: Known) -> None:
    """The one that has seen the most counts: 4 requests a second, also where one looks for 100 s only."""
    line = (await lines(known))["/logged/{id}"]
    assert (line.method, line.request_count, line.error_count, line.error_rate) == ("PUT", 1200, 300, 25.0)
    assert line.avg_response_time_ms == pytest.approx(300)


async def test_the_exporter_counts_where_the_api_does_not(known: Known) -> None:
    """Its targets are gone, or its counters don't move; never both, and without an exporter what there was."""
    found = await lines(known, minutes=10)
    assert found["/gone/exporter"].request_count == 1200
    assert found["/still/exporter"].request_count == 1200
    assert not found.keys() & {"/gone/api", "/still/api"}
    assert found["/alone"].request_count == pytest.approx(240, abs=5)
    assert found["/alone"].p95_response_time_ms is None
    assert found["/alone"].avg_response_time_ms is None


async def test_the_first_request_of_an_endpoint_counts(known: Known) -> None:
    """Its counter is born at 1, which is no increase; so are those of its duration."""
    line = (await lines(known))["/born"]
    assert (line.request_count, line.error_count, line.error_rate) == (1, 1, 100.0)
    assert line.avg_response_time_ms == 700
    assert line.p50_response_time_ms == 750


async def test_what_was_there_before_anybody_looked_does_not_count(known: Known) -> None:
    """Of a process that is watched since 200 s only its increase since then is known."""
    assert (await lines(known))["/found"].request_count == pytest.approx(200, rel=0.02)


async def test_a_bound_that_is_written_in_another_way_is_the_same_bound(known: Known) -> None:
    """Half of the requests took less than a second, before and after Prometheus was upgraded."""
    line = (await lines(known))["/upgraded"]
    assert line.request_count == 3000
    assert line.p50_response_time_ms == pytest.approx(1000, rel=0.02)
    assert line.p95_response_time_ms == 1000


async def test_totals_are_those_of_all_services(known: Known) -> None:
    """Requests and failures a second, and the average of what was timed."""
    server, end = known
    async with asking(server) as client:
        figure = read(await client.query(expression(5), end))
    found = totals(figure, 5)
    every = performance(figure, 5)
    assert found.request_rate_per_second == pytest.approx(sum(line.request_count for line in every) / 300, abs=0.01)
    assert found.error_rate_per_second == pytest.approx(sum(line.error_count for line in every) / 300, abs=0.01)
    assert found.request_rate_per_second == pytest.approx(5 + 4 + 2 + 2 + 10 + 200 / 300 + 1 / 300, abs=0.02)
    # 5 and 4 requests a second of 0.3 s, one of 0.7 s, and 10 a second whose sum nobody tells.
    assert found.average_response_time_ms == pytest.approx(1000 * (9 * 300 * 0.3 + 0.7) / (19 * 300 + 1), abs=1)


async def test_the_busiest_come_first_and_one_can_be_asked_for(known: Known) -> None:
    """In the order of requests; an endpoint is looked up as it is, and what is PromQL elsewhere is only a name here."""
    server, end = known
    async with asking(server) as client:
        figure = read(await client.query(expression(5), end))
    every = performance(figure, 5)
    assert [line.request_count for line in every] == sorted((line.request_count for line in every), reverse=True)
    assert [line.endpoint for line in performance(figure, 5, "/born")] == ["/born"]
    for hostile in ("", "/BORN", ".*", '"} or vector(1) #', "/born\0", "x" * 100_000):
        assert performance(figure, 5, hostile) == ()


@asynccontextmanager
async def live(folder: Path, release: str) -> AsyncIterator[tuple[str, Server]]:
    """Run the API with its metrics as they come, and a Prometheus that scrapes it; yield the addresses of both."""
    port = servers.free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.live.api:app", f"--port={port}", "--no-access-log"]
    static = {"targets": [f"127.0.0.1:{port}"], "labels": {"service": "auraconnect-api"}}
    scrape = {"job_name": "auraconnect-api", "static_configs": [static]}
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with servers.HTTPServer("api", command, folder / "api.log", url=f"http://127.0.0.1:{port}") as api:
        await order(api.url, fail="false")
        await order(api.url, fail="true")
        with servers.Prometheus(folder, folder / "prometheus.yml", release=release) as server:
            yield api.url, Server(base(server.url))


async def order(url: str, **parameters: str) -> None:
    """Send one request to the API."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/orders", params=parameters):
        pass


@pytest.mark.parametrize("release", ["oldest", "newest"])
async def test_a_live_api_is_told_of(tmp_path: Path, release: str) -> None:
    """A quarter fails, a quarter takes 0.3 s, which the instrumentator's buckets see as between 0.1 and 0.5 s."""
    async with live(tmp_path, release) as (url, server), asking(server) as client:
        figures = Figures(client, time)
        # What was counted before is known to Prometheus, so what comes is an increase.
        await until(client, 'http_requests_total{handler="/orders",status="5xx"} > 0')
        kinds = [{"fail": "true"}, {"seconds": "0.3"}, {}, {}]
        await asyncio.gather(*(order(url, **kind) for kind in kinds * 20))
        await until(client, 'sum(http_requests_total{handler="/orders"}) >= 82')
        (line,) = await figures.performance(1, "/orders")
        found = await figures.totals()
    assert (line.endpoint, line.method, line.time_window_minutes) == ("/orders", "GET", 1)
    assert 80 <= line.request_count <= 160  # Prometheus extrapolates over a scrape, and there are few
    assert line.error_rate == pytest.approx(25, abs=2)  # by how much depends on the counter
    assert line.p50_response_time_ms is not None
    assert line.p50_response_time_ms <= 100
    assert line.p95_response_time_ms == pytest.approx(100 + 400 * 0.8, abs=60)
    assert line.avg_response_time_ms == pytest.approx(75, abs=60)
    assert found.request_rate_per_second is not None
    assert found.request_rate_per_second > 80 / 300


async def until(client: Prometheus, expression: str) -> None:
    """Ask Prometheus until it has an answer; it tells nobody by itself."""
    for _ in range(300):
        if await client.query(expression):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"Prometheus has seen nothing of {expression}")


@pytest.mark.parametrize(
    ("buckets", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({math.inf: 5}, 0.5, None),
        ({1: 5}, 0.5, None),
        ({1: 0, math.inf: 0}, 0.5, None),
        ({1: 10, math.inf: 10}, 0.0, 0.0),
        ({1: 10, math.inf: 10}, 0.5, 0.5),
        ({1: 10, math.inf: 10}, 1.0, 1.0),
        ({1: 0, 2: 10, math.inf: 10}, 0.5, 1.5),
        ({1: 5, 2: 5, 4: 10, math.inf: 10}, 0.5, 1.0),
        ({1: 5, 2: 5, 4: 10, math.inf: 10}, 0.75, 3.0),
        ({1: 0, 2: 0, math.inf: 10}, 0.5, 2.0),
        ({1: 5, 2: 4.9999, math.inf: 10}, 0.5, 1.0),
        ({1: 5, 2: 4.9999, math.inf: 10}, 0.6, 2.0),
    ],
)
def test_a_quantile_is_interpolated_in_its_bucket(
    buckets: dict[float, float], share: float, seconds: float | None
) -> None:
    """Worked out by hand; what lies beyond the last bound is the last bound."""
    assert quantile(share, buckets) == seconds


def test_without_a_source_nothing_is_claimed() -> None:
    """Nobody counts: no endpoint, and null instead of 0."""
    assert performance(read([]), 5) == ()
    assert totals(read([]), 5) == Totals(None, None, None)


def test_without_requests_there_are_none() -> None:
    """A source that counts nothing says 0, and no endpoint."""
    labels = {"figure": "api/requests", "service": "api", "handler": "/x", "method": "GET", "status": "2xx"}
    figure = read([Sample(labels, 0.0)])
    assert performance(figure, 5) == ()
    assert totals(figure, 5) == Totals(0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_no_request(value: float) -> None:
    """NaN and infinities would spoil every sum, and are no JSON; nor does somebody's own bucket do harm."""
    labels = {"service": "api", "handler": "/x", "method": "GET", "status": "2xx"}
    samples = [Sample({**labels, "figure": "api/requests"}, number) for number in (value, 3.0)]
    samples += [Sample({**labels, "figure": "api/seconds"}, value), Sample({**labels, "figure": "api/bucket"}, 5.0)]
    (line,) = performance(read(samples), 5)
    assert (line.request_count, line.avg_response_time_ms, line.p50_response_time_ms) == (3, None, None)


class Asked:
    """Answers when a test lets it, and notes what is asked."""

    def __init__(self) -> None:
        self.expressions: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure = ""

    async def query(self, expression: str) -> list[Sample]:
        self.expressions.append(expression)
        await self.answers.wait()
        if self.failure:
            raise ClientError(self.failure)
        labels = {"figure": "api/requests", "service": "api", "handler": "/x", "method": "GET", "status": "500"}
        return [Sample(labels, 300.0 * len(self.expressions))]


async def test_an_answer_is_good_for_five_seconds() -> None:
    """For every endpoint and the totals; then Prometheus is asked again. Another window is another question."""
    prometheus, clock = Asked(), FakeClock()
    figures = Figures(prometheus, clock)
    first = await figures.performance(5)
    clock.advance(KEPT_SECONDS - 0.1)
    assert await figures.performance(5) == first
    assert await figures.performance(5, "/other") == ()
    assert (await figures.totals()).error_rate_per_second == 1.0
    assert prometheus.expressions == [expression(5)]
    await figures.performance(1)
    assert prometheus.expressions == [expression(5), expression(1)]
    clock.advance(0.1)
    assert (await figures.totals()).error_rate_per_second == 3.0


async def test_who_asks_at_once_shares_one_question_and_may_go_away() -> None:
    """A hundred callers cost Prometheus one query; that the first is cancelled is nothing to the others."""
    prometheus = Asked()
    prometheus.answers.clear()
    figures = Figures(prometheus, FakeClock())
    first = asyncio.create_task(figures.performance(5))
    others = [asyncio.create_task(figures.performance(5)) for _ in range(100)]
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    prometheus.answers.set()
    assert {len(lines) for lines in await asyncio.gather(*others)} == {1}
    assert len(prometheus.expressions) == 1
    assert first.cancelled()


async def test_that_prometheus_is_away_is_said_with_since_when() -> None:
    """Asked at most every five seconds then, too; the first failure's time stays until an answer comes."""
    prometheus, clock = Asked(), FakeClock()
    prometheus.failure = "Prometheus at http://prometheus:9090 can't be asked: connection refused"
    figures = Figures(prometheus, clock)
    assert figures.failing_since is None
    for _ in range(3):
        with pytest.raises(FiguresUnavailable) as failed:
            await figures.performance(5)
        with pytest.raises(FiguresUnavailable):
            await figures.totals()
        assert str(failed.value) == f"{prometheus.failure} (since 2026-05-28T20:26:40Z)"
        clock.advance(KEPT_SECONDS)
    assert len(prometheus.expressions) == 3
    assert figures.failing_since == 1_780_000_000 * SECOND
    prometheus.failure = ""
    assert len(await figures.performance(5)) == 1
    assert figures.failing_since is None


async def test_closing_ends_what_is_asked() -> None:
    """A shutdown waits for no Prometheus."""
    prometheus = Asked()
    prometheus.answers.clear()
    figures = Figures(prometheus, FakeClock())
    waiting = asyncio.create_task(figures.totals())
    await asyncio.sleep(0)
    await figures.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("minutes", [0, -1, 61])
async def test_a_window_has_limits(minutes: int) -> None:
    """Others are the caller's mistake, not a question to Prometheus."""
    prometheus = Asked()
    with pytest.raises(ValueError, match="1 to 60"):
        await Figures(prometheus, FakeClock()).performance(minutes)
    assert prometheus.expressions == []
