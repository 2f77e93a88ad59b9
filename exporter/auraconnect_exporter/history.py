"""The health of each component over the last day, in cells of half an hour, as Prometheus remembers it. Pure.

A cell shows the worst that was seen in it, and unknown only where nothing else was: a restart of the exporter is no
outage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from auraconnect_exporter.clients.prometheus import Series
from auraconnect_exporter.model import Component, Health
from auraconnect_exporter.records import SECOND, Moment

CELLS: Final = 48
CELL_SECONDS: Final = 1800

EXPRESSION: Final = f"max by (component, state) (max_over_time(auraconnect_component_health[{CELL_SECONDS}s]))"
"""Asked over a range whose steps are the cells' ends."""

_SEEN_FIRST: Final = (Health.UNHEALTHY, Health.DEGRADED, Health.HEALTHY)

Strips = Mapping[Component, tuple[Health, ...]]
"""The cells of each component, oldest first."""


def ends(now: Moment) -> tuple[Moment, Moment]:
    """Return the ends of the first and of the last cell; the last one holds ``now``."""
    cell = CELL_SECONDS * SECOND
    last = -(-now // cell) * cell
    return last - (CELLS - 1) * cell, last


def strips(series: Iterable[Series], first: Moment) -> Strips:
    """Return the cells that an answer to EXPRESSION shows; components that nobody has watched are left out."""
    seen: dict[Component, list[set[Health]]] = {}
    components, states = set(Component), set(Health)
    for one in series:
        component, state = one.labels.get("component"), one.labels.get("state")
        if component not in components or state not in states:
            continue
        cells = seen.setdefault(Component(component), [set() for _ in range(CELLS)])
        for at, value in one.points:
            index = round((at - first) / (CELL_SECONDS * SECOND))
            if 0 <= index < CELLS and not math.isnan(value) and value > 0:
                cells[index].add(Health(state))
    return {component: tuple(map(_worst, seen[component])) for component in Component if component in seen}


def _worst(states: set[Health]) -> Health:
    return next((state for state in _SEEN_FIRST if state in states), Health.UNKNOWN)
