"""The benchmark of the health API: what it reads from wrk and from the exporter, and how it sums up."""

import pytest

from benchmarks.api import Polled, Run, dashboard_report, parse_wrk, rate_report, stored_report
from benchmarks.pollers import Head, parse

WRK = """Running 2s test @ http://127.0.0.1:9961/api/v1/health
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.60ms    1.22ms  21.93ms   94.97%
    Req/Sec    10.68k     2.32k   14.99k    65.00%
  21294 requests in 2.01s, 3.25MB read
  Non-2xx or 3xx responses: 21294
Requests/sec:  10605.87
Transfer/sec:      1.62MB
"""
"""What wrk 4.1 prints of a system that is unhealthy (503)."""


def test_wrk_s_output_is_read() -> None:
    """The number of requests and the rate; answers with 503 count, since they are what is asked for."""
    assert parse_wrk(WRK) == (21294, 10605.87)


@pytest.mark.parametrize("printed", ["", WRK + "  Socket errors: connect 0, read 5, write 0, timeout 0\n"])
def test_a_run_that_failed_is_no_result(printed: str) -> None:
    """Requests that were not answered must not look like quick ones."""
    with pytest.raises(ValueError, match="wrk says"):
        parse_wrk(printed)


@pytest.mark.parametrize(("median", "good"), [(6000, True), (5999, False)])
def test_the_medians_of_the_rates_are_compared(median: float, good: bool) -> None:
    """One slow run of either is no matter; 60% is enough, less is not."""
    empty = [Run(rate, 0.0001) for rate in (10_000, 1, 10_000)]
    ours = [Run(rate, 0.0002) for rate in (median, 9_000, 2)]
    text, held = rate_report(empty, ours)
    assert ("| aiohttp, a handler that does nothing | 10000 | 10000, 1, 10000 | 100 |" in text, held) == (True, good)


@pytest.mark.parametrize(
    ("cpu", "answers", "good"),
    [
        (7.4, {"200": 1000, "304": 2000}, True),
        (7.6, {"200": 1000, "304": 2000}, False),
        (7.4, {"200": 1000, "500": 1}, False),
        (0.1, {}, False),
    ],
)
def test_the_dashboard_costs_processor_time_by_time(cpu: float, answers: dict[str, int], good: bool) -> None:
    """A quarter of a core is too much; and what was not answered costs nothing, so it does not count as cheap."""
    text, held = dashboard_report(Polled(cpu, 30.0, answers), 500)
    assert (text.startswith(f"**{cpu / 30:.1%} of one core** for 500 people"), held) == (True, good)


@pytest.mark.parametrize(("many", "good"), [(0.004, True), (0.0041, False)])
def test_each_reading_is_under_the_bar(many: float, good: bool) -> None:
    """Twice as long is allowed; one reading over it is enough to miss it."""
    text, held = stored_report("SQLite", 1000, 1_000_000, {"/a": (0.002, 0.002), "/b": (0.002, many)})
    assert ("| SQLite | 1000 errors, ms | 1000000 errors, ms | ratio |" in text, held) == (True, good)
    assert "| `GET /a` | 2.00 | 2.00 | 1.00 |" in text


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "a"\r\n\r\n', Head(200, '"a"', 5)),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n', Head(304, '"a"', 0)),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Head(503, "", 0)),
    ],
)
def test_the_people_read_what_is_answered(head: bytes, expected: Head) -> None:
    """Status, tag and length; a 304 has no content whatever it says."""
    assert parse(head) == expected
