"""The benchmark of the exporters: what it reads from scrapes, when it is content, and that it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.exporters import (
    OURS,
    Cost,
    Grown,
    beside_report,
    count_series,
    growth_report,
    lateness,
    main,
    percentile,
)

PAGE = """# HELP auraconnect_component_probe_lateness_seconds How late.
# TYPE auraconnect_component_probe_lateness_seconds gauge
auraconnect_component_probe_lateness_seconds{component="redis",target="a"} 0.25
auraconnect_component_probe_lateness_seconds{component="redis",target="b"} 1e-05
up 1.0
"""

OTHER = Cost(60.0, 0.25, 20_000_000, 18_000_000, (0.010, 0.020, 0.010), 100)
"""What each of two others costs: together 30 s an hour, 40 and 36 MB, 20 ms for a scrape."""
MINE = Cost(60.0, 0.5, 40_000_000, 36_000_000, (0.004, 0.009, 0.004), 100)
"""Just as much as is allowed."""


def test_a_page_is_counted_and_lateness_read_from_it() -> None:
    """Comments are no series, and every target says how late its last check began."""
    assert (count_series(PAGE), lateness(PAGE)) == (3, [0.25, 0.00001])


def test_of_few_values_the_worst_is_the_99th_percentile() -> None:
    """A short run doesn't make up what it has not seen."""
    assert percentile([1.0, 3.0, 2.0]) == 3.0
    assert percentile([*range(1, 101)]) == pytest.approx(99.99)


@pytest.mark.parametrize(
    ("ours", "held"),
    [
        (MINE, True),
        (replace(MINE, scrapes=(0.0041,)), False),
        (replace(MINE, scrapes=(0.004, 0.004, 9.0)), True),
        (replace(MINE, cpu=0.51), False),
        (replace(MINE, resident=40_100_000), False),
        (replace(MINE, proportional=36_100_000), False),
    ],
)
def test_ours_is_compared_with_the_sum_of_the_others(ours: Cost, held: bool) -> None:
    """A fifth of the scrape time in the median, no more processor time, no more memory; each bar counts."""
    text, good = beside_report({"one": OTHER, "two": OTHER, OURS: ours})
    assert good is held
    assert "| the four | 20.0 | 40.0 | 30.0 | 40.0 | 36.0 | 200 |" in text


@pytest.mark.parametrize(
    ("memory", "late", "held"), [(79_000_000, 0.59, True), (80_000_000, 0.59, False), (79_000_000, 0.6, False)]
)
def test_a_hundred_targets_are_compared_with_ten_and_with_an_idle_loop(memory: int, late: float, held: bool) -> None:
    """Less than twice the memory; under half a second of lateness that is not the machine's."""
    ten, hundred = Grown(10, MINE, 0.2, 0.1), Grown(100, replace(MINE, resident=memory), late, 0.1)
    assert growth_report([ten, hundred])[1] is held
    assert growth_report([hundred])[1]  # with nothing beside it there is nothing to miss


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run starts everything, scrapes it, and prints each table."""
    status = main(["--seconds", "1", "--warm-up", "0.1", "--targets", "3", "--series", "300"])
    printed = capsys.readouterr().out
    assert status in {0, 1}
    for name in ("node-exporter", "postgres-exporter", "redis-exporter", "blackbox-exporter", "**ours**"):
        assert f"\n| {name} | " in printed
    assert "\n| 3 | " in printed
    assert printed.count("| series |") == 3
