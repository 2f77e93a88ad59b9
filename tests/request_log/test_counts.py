"""Counting keeps to its bounds and loses nothing, whatever the rows say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.request_log.counts import (
    BOUNDS,
    MAX_ERROR_TYPES,
    MAX_HANDLERS,
    MAX_HISTOGRAMS,
    MAX_REQUEST_SERIES,
    OTHER,
    ErrorCounts,
    Histogram,
    RequestCounts,
    RequestGroup,
)


def group(handler: str = "/menu", method: str = "GET", status: str = "200", rows: int = 1) -> RequestGroup:
    """Return requests of a second each."""
    return RequestGroup(handler, method, status, BOUNDS.index(1.0), rows, float(rows))


GROUPS = st.builds(
    RequestGroup,
    handler=st.sampled_from(["", "/", "/menu", "/orders/{id}", OTHER]),
    method=st.sampled_from(["GET", "POST", OTHER]),
    status=st.sampled_from(["200", "404", "503", OTHER]),
    bucket=st.none() | st.integers(0, len(BOUNDS)),
    rows=st.integers(1, 1000),
    seconds=st.integers(0, 100).map(float),
)


@given(st.lists(st.lists(GROUPS, max_size=8), max_size=4))
def test_every_row_counts_once_and_no_counter_falls(steps: list[list[RequestGroup]]) -> None:
    """The sums of all label sets are the rows, those with a time are in one bucket, and each step only adds."""
    counts = RequestCounts()
    for step in steps:
        before, counts = counts, counts.plus(step)
        assert all(counts.requests[key] >= count for key, count in before.requests.items())
    rows = [row for step in steps for row in step]
    assert sum(counts.requests.values()) == sum(row.rows for row in rows)
    timed = [row for row in rows if row.bucket is not None]
    assert sum(sum(histogram.counts) for histogram in counts.durations.values()) == sum(row.rows for row in timed)
    assert sum(histogram.seconds for histogram in counts.durations.values()) == sum(row.seconds for row in timed)


def test_a_histogram_holds_the_requests_of_its_handler_and_method() -> None:
    """Whatever their status; what has no time is in none."""
    counts = RequestCounts().plus(
        [group(rows=2), group(status="500"), group(method="POST"), RequestGroup("/menu", "GET", "200", None, 5, 0.0)]
    )
    counted = [0] * (len(BOUNDS) + 1)
    counted[BOUNDS.index(1.0)] = 3
    assert counts.durations["/menu", "GET"] == Histogram(tuple(counted), 3.0)
    assert counts.requests == {("/menu", "GET", "200"): 7, ("/menu", "GET", "500"): 1, ("/menu", "POST", "200"): 1}


def test_names_are_given_once_the_busiest_first() -> None:
    """A full list stays as it is, however busy what comes later; its own handlers get new statuses all the same."""
    first = [group(f"/h{number}", rows=number + 1) for number in range(MAX_HANDLERS + 50)]
    counts = RequestCounts().plus(first)
    names = {f"/h{number}" for number in range(50, MAX_HANDLERS + 50)}
    assert counts.handlers == names
    assert counts.requests[OTHER, "GET", "200"] == sum(range(1, 51))
    counts = counts.plus([group("/late", rows=10**6), group("/h60", status="503")])
    assert counts.handlers == names
    assert counts.requests["/h60", "GET", "503"] == 1


def test_paths_that_do_not_exist_get_no_names() -> None:
    """Nor does what is refused; once a path has answered it is a handler, and then its refusals count for it."""
    refused = [group("/wp-admin.php", status="404"), group("/menu", status="401")]
    counts = RequestCounts().plus(refused)
    assert counts.requests == {(OTHER, "GET", "404"): 1, (OTHER, "GET", "401"): 1}
    counts = counts.plus([group("/menu", status="500")]).plus(refused)
    assert counts.requests["/menu", "GET", "401"] == 1
    assert counts.handlers == {"/menu"}


def test_label_sets_are_bounded_and_a_failure_stays_one() -> None:
    """Every handler with every method and status: beyond the budget the class of the status is left."""
    counts = RequestCounts().plus(
        group(f"/h{handler}", method, str(status))
        for handler in range(MAX_HANDLERS)
        for method in ("GET", "POST", "PUT")
        for status in (*range(200, 230), *range(500, 530), OTHER)
    )
    assert len(counts.requests) <= MAX_REQUEST_SERIES + 6
    assert counts.requests[OTHER, OTHER, "5xx"] > 0
    assert sum(counts.requests.values()) == MAX_HANDLERS * 3 * 61
    assert len(counts.durations) <= MAX_HISTOGRAMS + 1


def test_error_types_are_bounded() -> None:
    """The most frequent get their names first and keep them; nameless ones are ``other`` like the rest."""
    counts = ErrorCounts().plus({f"E{number}": number + 1 for number in range(MAX_ERROR_TYPES + 10)})
    assert len(counts.errors) == MAX_ERROR_TYPES + 1
    counts = counts.plus({"New": 1000, "": 5, "E109": 1})
    assert counts.errors[OTHER] == sum(range(1, 11)) + 1005
    assert counts.errors["E109"] == 111
