"""What a board is made of: rows of panels, each with queries, a unit and a description in plain words. Frozen data.

Queries are PromQL as Grafana sends it, with its variables in them: `$target`, `$__rate_interval`, `$__range`.
Widths count of the 24 columns of Grafana's grid, heights its lines of 30 pixels.
"""

from dataclasses import dataclass
from typing import Final

COLUMNS: Final = 24

# By Okabe and Ito: told apart by people who see few colours. A word or a dash pattern always says the same.
GREEN: Final = "#009E73"
YELLOW: Final = "#F0E442"
RED: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
BLUE: Final = "#56B4E9"
ORANGE: Final = "#E69F00"
GREY: Final = "#999999"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` names its series for people: words and `{{label}}`.

    `limit` is the severity of a threshold, which is drawn dashed in its colour. A `unit` other than the panel's gets an
    axis of its own, on the right.
    """

    expression: str
    legend: str
    limit: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a value means, in a word and a colour."""

    value: int
    text: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What all kinds of panels have. `runbooks` are those of the alerts about what it shows, by name."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    runbooks: tuple[str, ...] = ()
    width: int = 8
    height: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph(Panel):
    """Lines over time. A gap stays a gap. The axis reaches `highest` at least (a ratio's 1).

    The axis begins at 0, unless values are `signed`.
    """

    stacked: bool = False
    highest: float | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Panel):
    """States over time, a line for each series; whatever is no known state looks unknown.

    `link` is where a click on a state leads.
    """

    states: tuple[State, ...]
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Panel):
    """What is now, in large: asked for this moment, so that nothing old is shown; `missing` says that nothing is known.

    With `states` the value is one of them. `link` is where a click leads.
    """

    missing: str = "unknown"
    states: tuple[State, ...] = ()
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars(Panel):
    """What is now, or of the whole range, as bars that are easily compared; a full one is `highest`, or the largest."""

    missing: str = "unknown"
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A label, or the value of a query (`Value`, or `Value #A` where there are several), under a heading.

    With `states` the value is one of them, and `missing` says what none means. `link` is where a click leads.
    """

    name: str
    heading: str
    unit: str = ""
    link: str = ""
    states: tuple[State, ...] = ()
    missing: str = "unknown"
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """Series of this moment, a line each; only the named columns, in their order.

    `sort_by` is a heading; the largest is first, unless `ascending`.
    """

    columns: tuple[Column, ...]
    missing: str
    sort_by: str = ""
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it, from left to right; where 24 columns are full, the next line begins."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a person chooses, one or several or all: the values of a label."""

    name: str
    label: str
    values: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mark in all graphs: where the expression has a value that is not 0, or with `at`, at the time (ms) that it is.

    `title` and `text` are words and `{{label}}`.
    """

    name: str
    expression: str
    title: str
    text: str
    colour: str
    enabled: bool = True
    at: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. Its `uid` is in people's bookmarks and in links, so it stays."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "now-3h"
    refresh: str = "10s"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in reading order."""
        return tuple(panel for row in self.rows for panel in row.panels)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is in the grid."""

    x: int
    y: int
    width: int
    height: int


def places(rows: tuple[Row, ...]) -> tuple[tuple[Place, tuple[Place, ...]], ...]:
    """Return for each row the place of its heading and of its panels. Raises ValueError for lines that do not fit.

    Panels that stand beside each other have one height, and each line is full, so that no hole looks like a panel
    that is missing.
    """
    found, y = [], 0
    for row in rows:
        heading, inside, x = Place(0, y, COLUMNS, 1), [], 0
        y += 1
        for panel in row.panels:
            inside.append(Place(x, y, panel.width, panel.height))
            x += panel.width
            if x >= COLUMNS:
                heights = {place.height for place in inside if place.y == y}
                if x > COLUMNS or len(heights) > 1:
                    raise ValueError(f"The line that ends with {panel.title!r} is too wide, or its heights differ.")
                x, y = 0, y + panel.height
        if x:
            raise ValueError(f"The last line of {row.title!r} is not full.")
        found.append((heading, tuple(inside)))
    return tuple(found)
