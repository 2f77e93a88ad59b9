"""Figures of the requests, from Prometheus: how many, how many failed, how long they took.

One query answers all, for every endpoint; which endpoint is asked for is looked up in the answer, so nothing that a
caller says gets into PromQL. As in ``rules/alerts/errors.yml`` requests are counted by two sources that are never added
up: the API's own counters (prometheus-fastapi-instrumentator) while one of its targets answers and they move, else the
exporter's. Several processes of an API each count their own requests (sum), several exporters all count the same (max).

A quantile is interpolated within its bucket, as ``histogram_quantile`` does it, and of what took longer than the last
bound nothing is known but that: then it is the last bound, which means "at least". The instrumentator's buckets end at
1 s unless somebody gave it more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.prometheus import Sample
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import Moment, instant_of, moment

TOTALS_MINUTES: Final = 5
"""The window of the totals."""

MAX_MINUTES: Final = 60

KEPT_SECONDS: Final = 5.0
"""How long an answer, or that there is none, is good for."""

_API, _EXPORTER = "api", "exporter"

_MATCHERS: Final = {
    _API: 'service!="",handler!="/metrics"',  # Prometheus' own scrapes are no requests
    _EXPORTER: 'service!=""',
}
_PREFIX: Final = {_API: "http_", _EXPORTER: "auraconnect_http_"}

# What is counted: the metric behind the prefix, and the labels by which the answer is split.
_KINDS: Final = {
    "requests": ("requests_total", "service, handler, method, status"),
    "seconds": ("request_duration_seconds_sum", "service, handler, method"),
    "bucket": ("request_duration_seconds_bucket", "service, handler, method, le"),
}


class FiguresUnavailable(Exception):
    """There are no figures at the moment; the message is a sentence that says why, and since when."""


class EndpointPerformance(msgspec.Struct, frozen=True):
    """The requests of one endpoint (a template such as ``/orders/{id}``) and method within the last minutes.

    Times are null where nobody measures them. ``error_rate`` is the percentage that was answered with 5xx.
    """

    endpoint: str
    method: str
    avg_response_time_ms: float | None
    p50_response_time_ms: float | None
    p95_response_time_ms: float | None
    p99_response_time_ms: float | None
    request_count: int
    error_count: int
    error_rate: float
    time_window_minutes: int


class Totals(msgspec.Struct, frozen=True):
    """All requests of the last five minutes; null where nobody counts. Without requests their time is 0."""

    request_rate_per_second: float | None
    error_rate_per_second: float | None
    average_response_time_ms: float | None


@dataclass(slots=True)
class Counted:
    """What was counted of some requests; ``buckets`` by their upper bound in seconds, each with those before it."""

    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: Counted) -> None:
        """Add requests that others served."""
        self.requests += other.requests
        self.errors += other.errors
        self.seconds += other.seconds
        for bound, count in other.buckets.items():
            self.buckets[bound] += count

    def average(self) -> float | None:
        """Return the average time in seconds; None where it was not measured."""
        measured = self.buckets.get(math.inf, 0.0)
        return self.seconds / measured if measured > 0 else None


Endpoint = tuple[str, str]
"""Handler and method."""

Figure = Mapping[Endpoint, Counted]
"""Everything that was counted in a window; empty without a source."""


def expression(minutes: int) -> str:
    """Return the PromQL for a window of some minutes up to now; ``read`` understands its answer."""
    parts = [
        f'label_replace({_counted(source, kind, minutes)}, "figure", "{source}/{kind}", "", "")'
        for source in _PREFIX
        for kind in _KINDS
    ]
    # A target that does not answer leaves no series for this moment.
    parts.append('label_replace(count by (service) (http_requests_total{service!=""}), "figure", "api/live", "", "")')
    return " or ".join(parts)


def _counted(source: str, kind: str, minutes: int) -> str:
    metric, labels = _KINDS[kind]
    counter = f"{_PREFIX[source]}{metric}{{{_MATCHERS[source]}}}"
    # A counter that is born within the window counts in full, which increase() does not; unless it may have been there
    # before, and only nobody looked. A bucket alone is never born: its bound is merely written in another way.
    unless = "unless ignoring (le)" if kind == "bucket" else "unless"
    born = (
        f"(last_over_time({counter}[{minutes}m]) {unless} last_over_time({counter}[10m] offset {minutes}m))"
        f" and on (job, instance) (up offset {minutes}m == 1)"
    )
    grown = f"({born} or increase({counter}[{minutes}m]))"
    if source == _API:
        return f"sum by ({labels}) {grown}"
    return f"max by ({labels}) (sum by ({labels}, job, instance) {grown})"


def read(samples: Iterable[Sample]) -> Figure:
    """Return what Prometheus answers to ``expression``: for each service the one source that counts it best."""
    counted: dict[tuple[str, str], dict[Endpoint, Counted]] = defaultdict(lambda: defaultdict(Counted))
    live: set[str] = set()
    for sample in samples:
        source, _, kind = sample.labels.get("figure", "").partition("/")
        service = sample.labels.get("service", "")
        if kind == "live":
            live.add(service)
            continue
        one = counted[service, source][sample.labels.get("handler", ""), sample.labels.get("method", "")]
        if math.isfinite(sample.value):
            _count(one, kind, sample)
    figure: dict[Endpoint, Counted] = defaultdict(Counted)
    for service in {service for service, _ in counted}:
        api, exporter = counted.get((service, _API), {}), counted.get((service, _EXPORTER), {})
        live_api = api if service in live else {}
        chosen = next((one for one in (live_api, exporter) if _moves(one)), api or exporter)
        for endpoint, one in chosen.items():
            figure[endpoint].add(one)
    return figure


def _count(one: Counted, kind: str, sample: Sample) -> None:
    if kind == "requests":
        one.requests += sample.value
        if sample.labels.get("status", "").startswith("5"):
            one.errors += sample.value
    elif kind == "seconds":
        one.seconds += sample.value
    elif kind == "bucket":
        # Prometheus 3 writes le="1.0" where 2 writes le="1"; an upgrade within the window has both.
        with contextlib.suppress(ValueError):  # somebody's own metric of this name
            one.buckets[float(sample.labels.get("le", ""))] += sample.value


def _moves(endpoints: Mapping[Endpoint, Counted]) -> bool:
    return any(one.requests > 0 for one in endpoints.values())


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return the seconds within which a share (0 to 1) of the requests ended; None without requests or buckets.

    Within a bucket they are taken to be spread evenly. What lies beyond the last bound is given as the last bound.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf or buckets[math.inf] <= 0:  # noqa: PLR2004  # a bound, and no bound
        return None
    rank = share * max(buckets.values())
    lower, before = 0.0, 0.0
    for bound in bounds[:-1]:
        until = max(before, buckets[bound])  # what is put together from several servers may fall by a hair
        if until >= rank:
            return lower + (bound - lower) * (rank - before) / (until - before) if until > before else bound
        lower, before = bound, until
    return lower


def performance(figure: Figure, minutes: int, endpoint: str | None = None) -> tuple[EndpointPerformance, ...]:
    """Return a line for each endpoint and method that had requests, or for one endpoint's; the busiest first."""
    lines = [
        _line(handler, method, one, minutes)
        for (handler, method), one in figure.items()
        if one.requests > 0 and endpoint in {None, handler}
    ]
    return tuple(sorted(lines, key=lambda line: (-line.request_count, line.endpoint, line.method)))


def _line(handler: str, method: str, one: Counted, minutes: int) -> EndpointPerformance:
    # What Prometheus extrapolates is no whole number.
    requests = max(1, round(one.requests))
    errors = min(requests, max(round(one.errors), 1 if one.errors > 0 else 0))
    return EndpointPerformance(
        endpoint=handler,
        method=method,
        avg_response_time_ms=_milliseconds(one.average()),
        p50_response_time_ms=_milliseconds(quantile(0.50, one.buckets)),
        p95_response_time_ms=_milliseconds(quantile(0.95, one.buckets)),
        p99_response_time_ms=_milliseconds(quantile(0.99, one.buckets)),
        request_count=requests,
        error_count=errors,
        error_rate=round(min(100.0, 100 * one.errors / one.requests), 2),
        time_window_minutes=minutes,
    )


def totals(figure: Figure, minutes: int) -> Totals:
    """Return the figures of all endpoints together."""
    if not figure:
        return Totals(None, None, None)
    every = Counted()
    for one in figure.values():
        every.add(one)
    average = every.average() if every.requests > 0 else 0.0
    return Totals(
        request_rate_per_second=round(every.requests / (60 * minutes), 4),
        error_rate_per_second=round(every.errors / (60 * minutes), 4),
        average_response_time_ms=_milliseconds(average),
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class Asks(Protocol):
    """What we need of a Prometheus: a deadline of its own, and ClientError where it fails."""

    async def query(self, expression: str) -> list[Sample]:
        """Return an expression's values now. Raises ClientError."""


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    """Monotonic seconds."""
    figure: Figure
    failure: str = ""


class Figures:
    """The figures, asked for at most once in five seconds however many want them, each time for one window.

    ``failing_since`` is when Prometheus was first seen to give no answer, until it gives one again.
    """

    def __init__(self, prometheus: Asks, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock
        self._answers: dict[int, _Answer] = {}
        self._asking: dict[int, asyncio.Task[_Answer]] = {}
        self.failing_since: Moment | None = None

    async def performance(self, minutes: int, endpoint: str | None = None) -> tuple[EndpointPerformance, ...]:
        """Return a line for each endpoint and method, or for one endpoint's. Raises FiguresUnavailable."""
        return performance(await self._figure(minutes), minutes, endpoint)

    async def totals(self) -> Totals:
        """Return the figures of all requests of five minutes. Raises FiguresUnavailable."""
        return totals(await self._figure(TOTALS_MINUTES), TOTALS_MINUTES)

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _figure(self, minutes: int) -> Figure:
        if not 1 <= minutes <= MAX_MINUTES:
            raise ValueError(f"a window has 1 to {MAX_MINUTES} minutes")
        answer = self._answers.get(minutes)
        if answer is None or self._clock.monotonic() - answer.at >= KEPT_SECONDS:
            task = self._asking.get(minutes)
            if task is None:
                task = self._asking[minutes] = asyncio.create_task(self._ask(minutes))
                task.add_done_callback(lambda _: self._asking.pop(minutes))
            answer = await asyncio.shield(task)  # who goes away takes nobody's answer along
        if answer.failure:
            raise FiguresUnavailable(answer.failure)
        return answer.figure

    async def _ask(self, minutes: int) -> _Answer:
        try:
            figure, failure = read(await self._prometheus.query(expression(minutes))), ""
            self.failing_since = None
        except ClientError as error:
            self.failing_since = self.failing_since or moment(self._clock.time())
            since = instant_of(self.failing_since).isoformat(timespec="seconds").replace("+00:00", "Z")
            figure, failure = {}, f"{error} (since {since})"
        now = self._clock.monotonic()
        answer = _Answer(now, figure, failure)
        kept = {window: one for window, one in self._answers.items() if now - one.at < KEPT_SECONDS}
        self._answers = {**kept, minutes: answer}
        return answer
