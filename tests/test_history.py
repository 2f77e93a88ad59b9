"""The strips of the last day: which cell shows what."""

from __future__ import annotations

import math

from auraconnect_exporter.clients.prometheus import Series
from auraconnect_exporter.history import CELL_SECONDS, CELLS, ends, strips
from auraconnect_exporter.model import Component, Health
from auraconnect_exporter.records import SECOND

CELL = CELL_SECONDS * SECOND
FIRST = 1_779_915_600 * SECOND


def series(component: str, state: str, *cells: tuple[int, float]) -> Series:
    """Return values at the ends of some cells."""
    labels = {"component": component, "state": state}
    return Series(labels, tuple((FIRST + number * CELL, value) for number, value in cells))


def test_the_last_cell_holds_the_present() -> None:
    """The ends are on the clock, so that a cell stays the same from one reading to the next."""
    for now in (1_780_000_000 * SECOND, 1_780_000_000 * SECOND + 600 * SECOND):
        first, last = ends(now)
        assert last - CELL < now <= last
        assert (last % CELL, (last - first) // CELL) == (0, CELLS - 1)


def test_a_cell_shows_the_worst_and_unknown_only_alone() -> None:
    """A restart of the exporter within half an hour of health is no gap."""
    found = strips(
        [
            series("database", "healthy", (0, 1), (1, 1), (2, 1)),
            series("database", "degraded", (0, 0), (1, 1), (2, 1)),
            series("database", "unhealthy", (0, 0), (1, 0), (2, 1)),
            series("database", "unknown", (0, 1), (1, 1), (2, 1), (3, 1)),
        ],
        FIRST,
    )
    worst = (Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY, Health.UNKNOWN)
    assert found[Component.DATABASE] == (*worst, *[Health.UNKNOWN] * (CELLS - 4))


def test_what_was_not_watched_has_no_strip_and_nonsense_no_effect() -> None:
    """Only components and states that exist, at moments that were asked for, with numbers."""
    found = strips(
        [
            series("toaster", "healthy", (0, 1)),
            series("redis", "on fire", (0, 1)),
            Series({"state": "healthy"}, ((FIRST, 1.0),)),
            series("api", "healthy", (CELLS, 1), (-1, 1), (5, math.nan)),
        ],
        FIRST,
    )
    assert found == {Component.API: (Health.UNKNOWN,) * CELLS}
