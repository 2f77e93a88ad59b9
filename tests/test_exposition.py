"""The text of a scrape: both formats as strict parsers read them, and one broken part that never blanks the page."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric as ClientFamily
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from auraconnect_exporter.exposition import (
    OPENMETRICS,
    PLAIN,
    Page,
    labels_cache,
    number,
    wanted_type,
)
from auraconnect_exporter.model import Metric, Sample

DEPTH = Metric("depth", "gauge", "Jobs that wait.", ("queue",))
DONE = Metric("done_total", "counter", "Jobs that are done.\nAll of \\them.")


def page() -> Page:
    return Page(labels_cache())


def parsed(made: Page, content_type: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return a page's values by sample name and labels, as a strict parser of its format reads them."""
    text = made.body(content_type).decode()
    families = parse_openmetrics(text) if content_type is OPENMETRICS else parse_text(text)  # type: ignore[no-untyped-call]
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


both = pytest.mark.parametrize("content_type", [PLAIN, OPENMETRICS], ids=["text", "openmetrics"])


@both
def test_families_of_every_kind_are_read_by_parsers_of_both_formats(content_type: str) -> None:
    """Gauges, counters, histograms and what probes measure come out as they went in."""
    counter = CounterMetricFamily("seen_total", "Seen.", labels=("by",))
    counter.add_metric(("me",), 3)
    histogram = HistogramMetricFamily("took_seconds", "Took.", labels=("severity",))
    histogram.add_metric(("info",), [("1.0", 2.0), ("+Inf", 3.0)], 4.5)
    made = page()
    made.add("a", [GaugeMetricFamily("up", "Up.", 1), counter, histogram])
    assert made.add_samples("b", "our_", "x", (DEPTH.sample(3, "exports"), DONE.sample(12)))
    assert parsed(made, content_type) == {
        "up": {(): 1},
        "seen_total": {(("by", "me"),): 3},
        "took_seconds_bucket": {(("le", "1.0"), ("severity", "info")): 2, (("le", "+Inf"), ("severity", "info")): 3},
        "took_seconds_count": {(("severity", "info"),): 3},
        "took_seconds_sum": {(("severity", "info"),): 4.5},
        "our_depth": {(("queue", "exports"), ("target", "x")): 3},
        "our_done_total": {(("target", "x"),): 12},
    }


@both
@given(label=st.text(), value=st.floats())
def test_any_label_and_value_is_read_as_it_was(content_type: str, label: str, value: float) -> None:
    """Names from outside and values that are no number for people: nothing breaks the line."""
    made = page()
    assert made.add_samples("a", "", "x", (DEPTH.sample(value, label),))
    # Their parsers split at every line end that Unicode knows, Prometheus's at \n alone.
    lines = made.body(content_type).decode().split("\n")
    assert len(lines) == (4 if content_type is PLAIN else 5)
    assert lines[2].startswith("depth{")
    assert lines[2].endswith(f" {number(value)}")
    assert float(number(value)) == value or math.isnan(value)
    written = lines[2][len('depth{queue="') : lines[2].rindex('",target="x"}')]
    unescaped = written.replace("\\\\", "\0").replace('\\"', '"').replace("\\n", "\n").replace("\0", "\\")
    assert "\0" in label or unescaped == label


@both
def test_a_part_that_cannot_be_written_costs_itself_alone(content_type: str) -> None:
    """A value that is no number, a label too few or of another type, a second kind: each is left out, whole."""
    broken = {
        "value": (Sample(DEPTH, "many", ("q",)),),  # type: ignore[arg-type]
        "label": (DEPTH.sample(1, "kept out"), Sample(DEPTH, 1.0, (None,))),  # type: ignore[arg-type]
        "labels": (Sample(DEPTH, 1.0, ()),),
        "kind": (Metric("done_total", "gauge", "Another.").sample(1),),
    }
    made = page()
    assert made.add_samples("good", "", "x", (DONE.sample(1),))
    for part, samples in broken.items():
        assert not made.add_samples(part, "", "x", samples)
    assert made.add_samples("also good", "", "x", (DEPTH.sample(2, "q"),))
    assert made.failures.keys() == broken.keys()
    assert parsed(made, content_type) == {
        "done_total": {(("target", "x"),): 1},
        "depth": {(("queue", "q"), ("target", "x")): 2},
    }


@both
def test_a_family_that_raises_or_is_broken_costs_itself_alone(content_type: str) -> None:
    """What a collector yielded before it raised stays, and so does what stands beside a broken family."""

    def raises() -> Iterator[ClientFamily]:
        yield GaugeMetricFamily("before", "Before.", 1)
        raise RuntimeError

    broken = GaugeMetricFamily("broken", "Broken.", labels=("a",))
    broken.add_metric((7,), 1)  # type: ignore[arg-type]
    made = page()
    made.add("raises", raises())
    made.add("broken", [broken, GaugeMetricFamily("beside", "Beside.", 2)])
    made.add("good", [GaugeMetricFamily("after", "After.", 3)])
    assert made.failures.keys() == {"raises", "broken"}
    assert parsed(made, content_type) == {"before": {(): 1}, "beside": {(): 2}, "after": {(): 3}}


def test_a_series_stands_once() -> None:
    """Two names that were cut to the same label must not make Prometheus complain; the first stays, as there."""
    made = page()
    assert made.add_samples("a", "", "x", (DEPTH.sample(1, "q"), DEPTH.sample(2, "q")))
    lines = made.body(PLAIN).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ['depth{queue="q",target="x"} 1.0']


def test_what_is_no_unicode_becomes_a_question_mark() -> None:
    """A path of other bytes, as Python hands it on, is no reason to lose the page."""
    made = page()
    assert made.add_samples("a", "", "x", (DEPTH.sample(1, "q\udcff"),))
    assert parsed(made, PLAIN) == {"depth": {(("queue", "q?"), ("target", "x")): 1}}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        # Prometheus 2.42, Prometheus 3, and Prometheus 3 told to prefer the text format.
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.4", OPENMETRICS),
        ("text/plain;version=1.0.0;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=much", PLAIN),
        (";;,,q=", PLAIN),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, expected: str) -> None:
    """OpenMetrics for those who prefer it; whatever else is sent gets the text format."""
    assert wanted_type(accept) is expected
