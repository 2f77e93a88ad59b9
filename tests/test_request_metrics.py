"""What was counted becomes the metrics that the rules read."""

from __future__ import annotations

from auraconnect_exporter import request_metrics
from auraconnect_exporter.request_log import RequestLogView
from auraconnect_exporter.request_log.counts import BOUNDS, ErrorCounts, RequestCounts, RequestGroup
from auraconnect_exporter.request_log.follower import Following
from auraconnect_exporter.request_log.tables import ErrorState, RequestState


def samples(view: RequestLogView) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and labels."""
    return {
        (sample.name.removeprefix("auraconnect_"), *sample.labels.values()): sample.value
        for family in request_metrics.families(view)
        for sample in family.samples
    }


def test_counters_and_a_histogram() -> None:
    """Buckets hold those before them, each request is in ``+Inf``; what was dropped and skipped stands beside."""
    counts = RequestCounts().plus(
        [
            RequestGroup("/orders/{id}", "GET", "200", BOUNDS.index(2.0), 3, 4.5),
            RequestGroup("/orders/{id}", "GET", "503", len(BOUNDS), 1, 40.0),
        ],
        late=2,
    )
    view = RequestLogView(
        Following("performance_metrics", ok=True, read_at=1000.0, counted=RequestState(None, counts, 1_500_000)),
        Following("error_logs", ok=False, counted=ErrorState(None, ErrorCounts({"ValueError": 7}))),
    )
    handler = ("auraconnect-api", "/orders/{id}", "GET")
    buckets = {"0.05": 0, "0.1": 0, "0.25": 0, "0.5": 0, "1.0": 0, "2.0": 3, "5.0": 3, "10.0": 3, "30.0": 3, "+Inf": 4}
    expected: dict[tuple[str, ...], float] = {
        ("http_requests_total", *handler, "200"): 3,
        ("http_requests_total", *handler, "503"): 1,
        **{("http_request_duration_seconds_bucket", *handler, le): count for le, count in buckets.items()},
        ("http_request_duration_seconds_count", *handler): 4,
        ("http_request_duration_seconds_sum", *handler): 44.5,
        ("request_log_rows_dropped_total", "performance_metrics", "late"): 2,
        ("request_log_skipped_seconds_total", "performance_metrics"): 1.5,
        ("errors_total", "ValueError"): 7,
        ("request_log_success", "performance_metrics"): 1,
        ("request_log_success", "error_logs"): 0,
        ("request_log_last_read_timestamp_seconds", "performance_metrics"): 1000.0,
    }
    assert samples(view) == expected


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    """Without tables there is nothing; counters that are behind are absent, and the reading says why."""
    nothing = RequestLogView(Following("performance_metrics"), Following("error_logs"))
    assert samples(nothing) == {}
    behind = RequestLogView(Following("performance_metrics", ok=False, read_at=7.0), Following("error_logs"))
    assert samples(behind) == {
        ("request_log_success", "performance_metrics"): 0,
        ("request_log_last_read_timestamp_seconds", "performance_metrics"): 7.0,
    }
