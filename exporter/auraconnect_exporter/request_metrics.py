"""The counted requests and errors as metrics: what the rules of error rates and response times read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from auraconnect_exporter.alert_metrics import Family
from auraconnect_exporter.records import SECOND
from auraconnect_exporter.request_log import RequestLogView
from auraconnect_exporter.request_log.counts import BOUNDS, ErrorCounts, RequestCounts

_PREFIX: Final = "auraconnect_"

SERVICE: Final = "auraconnect-api"
"""The label ``service``, as the scrape of the API itself has it: so the rules know that both count the same."""


def families(view: RequestLogView) -> Iterator[Family]:
    """Yield the families of what is known; of a table that does not exist nothing."""
    if (requests := view.requests.counted) is not None:
        yield from _requests(requests.counts)
        dropped = CounterMetricFamily(
            f"{_PREFIX}request_log_rows_dropped", "Rows that came too late to be counted.", labels=("table", "reason")
        )
        dropped.add_metric((view.requests.table, "late"), requests.counts.late)
        skipped = CounterMetricFamily(
            f"{_PREFIX}request_log_skipped_seconds", "Time that was missed and not made up for.", labels=("table",)
        )
        skipped.add_metric((view.requests.table,), requests.skipped / SECOND)
        yield from (dropped, skipped)
    if (errors := view.errors.counted) is not None:
        yield _errors(errors.counts)
    yield from _reading(view)


def _requests(counts: RequestCounts) -> Iterator[Family]:
    total = CounterMetricFamily(
        f"{_PREFIX}http_requests",
        "Requests that AuraConnect's API has answered, from its table performance_metrics.",
        labels=("service", "handler", "method", "status"),
    )
    for key, count in counts.requests.items():
        total.add_metric((SERVICE, *key), count)
    yield total
    durations = HistogramMetricFamily(
        f"{_PREFIX}http_request_duration_seconds",
        "How long AuraConnect's API took to answer, from its table performance_metrics.",
        labels=("service", "handler", "method"),
    )
    for pair, histogram in counts.durations.items():
        below, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        durations.add_metric((SERVICE, *pair), buckets, histogram.seconds)
    yield durations


def _errors(counts: ErrorCounts) -> Family:
    family = CounterMetricFamily(
        f"{_PREFIX}errors", "Errors that AuraConnect has logged, from its table error_logs.", labels=("error_type",)
    )
    for error_type, count in counts.errors.items():
        family.add_metric((error_type,), count)
    return family


def _reading(view: RequestLogView) -> Iterator[Family]:
    success = GaugeMetricFamily(
        f"{_PREFIX}request_log_success",
        "Whether the table could be read the last time; absent where there is none.",
        labels=("table",),
    )
    read_at = GaugeMetricFamily(
        f"{_PREFIX}request_log_last_read_timestamp_seconds",
        "When the table was last read up to its end.",
        labels=("table",),
    )
    for following in (view.requests, view.errors):
        if following.ok is not None:
            success.add_metric((following.table,), float(following.ok))
        if following.read_at is not None:
            read_at.add_metric((following.table,), following.read_at)
    yield from (success, read_at)
