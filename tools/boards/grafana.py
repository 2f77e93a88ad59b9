"""Write boards as Grafana's JSON: schema 39, which Grafana 10 to 12 load. Pure."""

from collections.abc import Iterable
from typing import Any, Final

from tools.boards.annotations import ANNOTATIONS
from tools.boards.model import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Annotation,
    Bars,
    Board,
    Column,
    Figure,
    Graph,
    Panel,
    Place,
    Query,
    Row,
    State,
    Table,
    Timeline,
    Variable,
    places,
)

Json = dict[str, Any]

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_LIMITS: Final = {"critical": (RED, [20, 6]), "warning": (ORANGE, [10, 6]), "info": (BLUE, [3, 6])}
_UNKNOWN: Final = "unknown"
EXPORTER: Final = "${exporter:raw}"
"""The exporter's address, as the rules record it for links: a variable of every board."""


def dashboard(board: Board, boards: Iterable[Board]) -> Json:
    """Return a board's JSON; `boards` are all, which each links to."""
    return {
        "annotations": {"list": [_annotation(one) for one in ANNOTATIONS]},
        "description": board.description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": _links(board, boards),
        "panels": _panels(board.rows),
        "refresh": board.refresh,
        "schemaVersion": 39,
        "tags": ["auraconnect"],
        "templating": {"list": _variables(board.variables)},
        "time": {"from": board.since, "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "timezone": "browser",
        "title": board.title,
        "uid": board.uid,
        "version": 1,
        "weekStart": "",
    }


def _links(board: Board, boards: Iterable[Board]) -> list[Json]:
    """Return links to the other boards, and to the exporter's pages. The data source and the time go along."""
    others = [
        _link(other.title.removeprefix("AuraConnect · "), f"/d/{other.uid}?${{datasource:queryparam}}")
        for other in boards
        if other.uid != board.uid
    ]
    return [
        *others,
        _link("Five-second dashboard", f"{EXPORTER}/dashboard", "Acknowledge and resolve here", outside=True),
        _link("Runbooks", f"{EXPORTER}/runbooks/", "What to do, for each alert", outside=True),
    ]


def _link(title: str, url: str, tooltip: str = "", *, outside: bool = False) -> Json:
    return {
        "asDropdown": False,
        "icon": "external link" if outside else "dashboard",
        "includeVars": False,
        "keepTime": not outside,
        "tags": [],
        "targetBlank": outside,
        "title": title,
        "tooltip": tooltip,
        "type": "link",
        "url": url,
    }


def _annotation(annotation: Annotation) -> Json:
    return {
        "datasource": _SOURCE,
        "enable": annotation.enabled,
        "expr": annotation.expression,
        "hide": False,
        "iconColor": annotation.colour,
        "name": annotation.name,
        "step": "10s",
        "tagKeys": "severity,component",
        # Once more for versions that ask as panels do.
        "target": {"expr": annotation.expression, "interval": "10s", "refId": "Anno"},
        "textFormat": annotation.text,
        "titleFormat": annotation.title,
        "useValueForTime": annotation.at,
    }


def _variables(variables: Iterable[Variable]) -> list[Json]:
    source = {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }
    exporter = {
        **_values("exporter", "Exporter", "label_values(auraconnect:external_url:info, url)"),
        "hide": 2,
        "refresh": 1,
    }
    chosen = [
        {
            **_values(variable.name, variable.label, variable.values),
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "includeAll": True,
            "multi": True,
        }
        for variable in variables
    ]
    return [source, exporter, *chosen]


def _values(name: str, label: str, query: str) -> Json:
    return {
        "current": {},
        "datasource": _SOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": False,
        "label": label,
        "multi": False,
        "name": name,
        "options": [],
        "query": {"qryType": 5, "query": query, "refId": name},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def _panels(rows: tuple[Row, ...]) -> list[Json]:
    written: list[Json] = []
    for row, (heading, inside) in zip(rows, places(rows), strict=True):
        written.append(
            {
                "collapsed": False,
                "gridPos": _grid(heading),
                "id": len(written) + 1,
                "panels": [],
                "title": row.title,
                "type": "row",
            }
        )
        for panel, place in zip(row.panels, inside, strict=True):
            written.append({"id": len(written) + 1, "gridPos": _grid(place), **_panel(panel)})
    return written


def _grid(place: Place) -> Json:
    return {"h": place.height, "w": place.width, "x": place.x, "y": place.y}


def _panel(panel: Panel) -> Json:
    common: Json = {
        "datasource": _SOURCE,
        "description": panel.description,
        "links": [_data_link(f"Runbook: {name}", f"{EXPORTER}/runbooks/{name}") for name in panel.runbooks],
        "title": panel.title,
    }
    match panel:
        case Graph():
            kind, defaults, overrides, options = "timeseries", _graph(panel), _lines(panel.queries), _graph_options()
        case Timeline():
            kind, defaults, overrides, options = "state-timeline", _timeline(panel), [], _timeline_options()
        case Figure():
            kind, defaults, overrides, options = "stat", _figure(panel), [], _figure_options(panel)
        case Bars():
            kind, defaults, overrides, options = "bargauge", _bars(panel), [], _bars_options()
        case Table():
            common["transformations"] = _organised(panel)
            kind, defaults, options = "table", {"noValue": panel.missing}, _table_options(panel)
            overrides = [_column(column) for column in panel.columns]
        case _:
            raise TypeError(f"There is no way to write a {type(panel).__name__}.")
    return {
        **common,
        "fieldConfig": {"defaults": {"unit": panel.unit, **defaults}, "overrides": overrides},
        "options": options,
        "targets": _targets(panel),
        "type": kind,
    }


def _reference(number: int) -> str:
    return chr(ord("A") + number)


def _targets(panel: Panel) -> list[Json]:
    now = isinstance(panel, Figure | Bars | Table)
    return [
        {
            "datasource": _SOURCE,
            "editorMode": "code",
            "expr": query.expression,
            "format": "table" if isinstance(panel, Table) else "time_series",
            "instant": now,
            "legendFormat": query.legend,
            "range": not now,
            "refId": _reference(number),
        }
        for number, query in enumerate(panel.queries)
    ]


def _graph(panel: Graph) -> Json:
    lowest = {} if panel.signed else {"min": 0}
    highest = {} if panel.highest is None else {"axisSoftMax": panel.highest}
    return {
        **lowest,
        "color": {"mode": "palette-classic"},
        "custom": {
            "axisBorderShow": False,
            "axisLabel": "",
            "axisPlacement": "auto",
            **highest,
            "drawStyle": "line",
            "fillOpacity": 30 if panel.stacked else 5,
            "lineInterpolation": "linear",
            "lineWidth": 2,
            "pointSize": 5,
            "scaleDistribution": {"type": "linear"},
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "off"},
        },
        "noValue": _UNKNOWN,
    }


def _graph_options() -> Json:
    return {
        "legend": {"calcs": ["last"], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _lines(queries: Iterable[Query]) -> list[Json]:
    """Return what makes some series look otherwise: limits, and those with an axis of their own."""
    overrides = []
    for number, query in enumerate(queries):
        properties: list[Json] = []
        if query.limit:
            colour, dashes = _LIMITS[query.limit]
            properties += [
                {"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}},
                {"id": "custom.lineStyle", "value": {"dash": dashes, "fill": "dash"}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "custom.lineWidth", "value": 1},
                {"id": "custom.showPoints", "value": "never"},
                {"id": "custom.stacking", "value": {"group": "limits", "mode": "none"}},
            ]
        if query.unit:
            properties += [
                {"id": "unit", "value": query.unit},
                {"id": "custom.axisPlacement", "value": "right"},
            ]
        if properties:
            matcher = {"id": "byFrameRefID", "options": _reference(number)}
            overrides.append({"matcher": matcher, "properties": properties})
    return overrides


def _mappings(states: Iterable[State], missing: str) -> list[Json]:
    """Return what values mean, and what none does."""
    known = list(states)
    options = {
        str(state.value): {"color": state.colour, "index": number, "text": state.text}
        for number, state in enumerate(known)
    }
    nothing = {"color": PURPLE, "index": len(known), "text": missing}
    return [
        {"options": options, "type": "value"},
        {"options": {"match": "null+nan", "result": nothing}, "type": "special"},
    ]


def _fixed(colour: str) -> Json:
    """Return one colour whatever the value: there are no numbers of a limit in a board."""
    return {
        "color": {"fixedColor": colour, "mode": "fixed"},
        "thresholds": {"mode": "absolute", "steps": [{"color": colour, "value": None}]},
    }


def _timeline(panel: Timeline) -> Json:
    return {
        **_fixed(PURPLE),
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
        "links": _data_links(panel.link),
        "mappings": _mappings(panel.states, _UNKNOWN),
        "noValue": _UNKNOWN,
    }


def _timeline_options() -> Json:
    return {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }


def _figure(panel: Figure) -> Json:
    return {
        **_fixed(PURPLE if panel.states else GREY),
        "links": _data_links(panel.link),
        "mappings": _mappings(panel.states, panel.missing) if panel.states else [],
        "noValue": panel.missing,
    }


def _figure_options(panel: Figure) -> Json:
    return {
        "colorMode": "background" if panel.states else "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["last"], "fields": "", "values": False},
        "textMode": "auto",
        "wideLayout": True,
    }


def _bars(panel: Bars) -> Json:
    full = {} if panel.highest is None else {"max": panel.highest}
    return {**_fixed(BLUE), **full, "mappings": [], "min": 0, "noValue": panel.missing}


def _bars_options() -> Json:
    return {
        "displayMode": "basic",
        "minVizHeight": 10,
        "minVizWidth": 0,
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["last"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "text",
    }


def _organised(panel: Table) -> list[Json]:
    """Return the steps that join several queries and leave the named columns."""
    kept = {column.name: number for number, column in enumerate(panel.columns)}
    renamed = {column.name: column.heading for column in panel.columns}
    joined = [{"id": "merge", "options": {}}] if len(panel.queries) > 1 else []
    return [
        *joined,
        {"id": "filterFieldsByName", "options": {"include": {"names": list(kept)}}},
        {"id": "organize", "options": {"excludeByName": {}, "indexByName": kept, "renameByName": renamed}},
    ]


def _table_options(panel: Table) -> Json:
    return {
        "cellHeight": "sm",
        "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
        "showHeader": True,
        "sortBy": [{"desc": not panel.ascending, "displayName": panel.sort_by}] if panel.sort_by else [],
    }


def _column(column: Column) -> Json:
    properties: list[Json] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    if column.link:
        properties.append({"id": "links", "value": [_data_link(f"Open: {column.heading.lower()}", column.link)]})
    if column.states:
        properties += [
            {"id": "mappings", "value": _mappings(column.states, column.missing)},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    return {"matcher": {"id": "byName", "options": column.heading}, "properties": properties}


def _data_links(url: str) -> list[Json]:
    return [_data_link("Open the board of this component", url)] if url else []


def _data_link(title: str, url: str) -> Json:
    return {"targetBlank": url.startswith(EXPORTER), "title": title, "url": url}
