"""What Grafana 10 to 12 read of a dashboard, strictly: no field that they don't know, no word that means nothing."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field


class _Strict(Struct, forbid_unknown_fields=True, rename="camel"):
    pass


class Source(_Strict):
    type: Literal["prometheus"]
    uid: Literal["${datasource}"]


class Grid(_Strict):
    h: int
    w: int
    x: int
    y: int


class Target(_Strict):
    datasource: Source
    editor_mode: Literal["code"]
    expr: str
    format: Literal["table", "time_series"]
    instant: bool
    range: bool
    legend_format: str
    ref_id: str


class Fixed(_Strict):
    mode: Literal["fixed", "palette-classic"]
    fixed_color: str | UnsetType = UNSET


class Step(_Strict):
    color: str
    value: None


class Thresholds(_Strict):
    mode: Literal["absolute"]
    steps: list[Step]


class Meaning(_Strict):
    color: str
    index: int
    text: str


class Values(_Strict, tag="value"):
    options: dict[str, Meaning]


class SpecialOptions(_Strict):
    match: Literal["null+nan"]
    result: Meaning


class Special(_Strict, tag="special"):
    options: SpecialOptions


Mapping = Values | Special


class DataLink(_Strict):
    target_blank: bool
    title: str
    url: str


class Stacking(_Strict):
    group: str
    mode: Literal["none", "normal"]


class Scale(_Strict):
    type: Literal["linear"]


class Style(_Strict):
    mode: Literal["off"]


class LinesCustom(_Strict):
    axis_border_show: bool
    axis_label: str
    axis_placement: Literal["auto"]
    draw_style: Literal["line"]
    fill_opacity: int
    line_interpolation: Literal["linear"]
    line_width: int
    point_size: int
    scale_distribution: Scale
    show_points: Literal["auto"]
    span_nulls: bool
    stacking: Stacking
    thresholds_style: Style
    axis_soft_max: float | UnsetType = UNSET


class TimelineCustom(_Strict):
    fill_opacity: int
    line_width: int
    span_nulls: bool


Unit = Literal[
    "none", "short", "s", "bytes", "Bps", "pps", "cps", "reqps", "percentunit", "dateTimeFromNow"
]  # fmt: skip


class Defaults(_Strict):
    unit: Unit
    no_value: str
    color: Fixed | UnsetType = UNSET
    custom: dict[str, Any] | UnsetType = UNSET
    links: list[DataLink] | UnsetType = UNSET
    mappings: list[Mapping] | UnsetType = UNSET
    max: Literal[1] | UnsetType = UNSET
    min: Literal[0] | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET


class Matcher(_Strict):
    id: Literal["byFrameRefID", "byName"]
    options: str


class Property(_Strict):
    id: Literal[
        "color", "custom.lineStyle", "custom.fillOpacity", "custom.lineWidth", "custom.showPoints", "custom.stacking",
        "custom.axisPlacement", "custom.width", "custom.cellOptions", "unit", "links", "mappings",
    ]  # fmt: skip
    value: Any


class Override(_Strict):
    matcher: Matcher
    properties: list[Property]


class FieldConfig(_Strict):
    defaults: Defaults
    overrides: list[Override]


class Legend(_Strict):
    display_mode: Literal["list", "table"]
    placement: Literal["bottom"]
    show_legend: bool
    calcs: list[Literal["last"]] | UnsetType = UNSET


class Tooltip(_Strict):
    mode: Literal["single", "multi"]
    sort: Literal["none", "desc"]


class LinesOptions(_Strict):
    legend: Legend
    tooltip: Tooltip


class TimelineOptions(_Strict):
    align_value: Literal["left"]
    legend: Legend
    merge_values: bool
    row_height: float
    show_value: Literal["auto"]
    tooltip: Tooltip


class Reduce(_Strict):
    calcs: list[Literal["last"]]
    fields: str
    values: bool


class StatOptions(_Strict):
    color_mode: Literal["background", "none"]
    graph_mode: Literal["none"]
    justify_mode: Literal["auto"]
    orientation: Literal["auto"]
    reduce_options: Reduce
    text_mode: Literal["auto"]
    wide_layout: bool


class BarsOptions(_Strict):
    display_mode: Literal["basic"]
    min_viz_height: int
    min_viz_width: int
    orientation: Literal["horizontal"]
    reduce_options: Reduce
    show_unfilled: bool
    value_mode: Literal["text"]


class SortBy(_Strict):
    desc: bool
    display_name: str


class Footer(_Strict):
    count_rows: bool
    fields: str
    reducer: list[str]
    show: bool


class TableOptions(_Strict):
    cell_height: Literal["sm"]
    footer: Footer
    show_header: bool
    sort_by: list[SortBy]


class Transformation(_Strict):
    id: Literal["merge", "filterFieldsByName", "organize"]
    options: dict[str, Any]


class Panel(_Strict):
    id: int
    grid_pos: Grid
    title: str
    datasource: Source
    description: str
    field_config: FieldConfig
    links: list[DataLink]
    targets: list[Target]


class RowPanel(_Strict, tag="row"):
    id: int
    grid_pos: Grid
    title: str
    collapsed: bool
    panels: list[None]


class Lines(Panel, tag="timeseries"):
    options: LinesOptions


class States(Panel, tag="state-timeline"):
    options: TimelineOptions


class Stat(Panel, tag="stat"):
    options: StatOptions


class Bars(Panel, tag="bargauge"):
    options: BarsOptions


class Table(Panel, tag="table"):
    options: TableOptions
    transformations: list[Transformation]


class MarkTarget(_Strict):
    expr: str
    interval: str
    ref_id: Literal["Anno"]


class Mark(_Strict):
    datasource: Source
    enable: bool
    expr: str
    hide: bool
    icon_color: str
    name: str
    step: str
    tag_keys: str
    target: MarkTarget
    text_format: str
    title_format: str
    use_value_for_time: bool


class Marks(_Strict):
    list: list[Mark]


class Link(_Strict):
    as_dropdown: bool
    icon: Literal["dashboard", "external link"]
    include_vars: bool
    keep_time: bool
    tags: list[str]
    target_blank: bool
    title: str
    tooltip: str
    type: Literal["link"]
    url: str


class VariableQuery(_Strict):
    qry_type: int
    query: str
    ref_id: str


class DataSourceVariable(_Strict, tag="datasource"):
    current: dict[str, Any]
    hide: int
    include_all: bool
    label: str
    multi: bool
    name: str
    options: list[Any]
    query: Literal["prometheus"]
    refresh: int
    regex: str
    skip_url_sync: bool


class QueryVariable(_Strict, tag="query"):
    current: dict[str, Any]
    datasource: Source
    definition: str
    hide: int
    include_all: bool
    label: str
    multi: bool
    name: str
    options: list[Any]
    query: VariableQuery
    refresh: int
    regex: str
    skip_url_sync: bool
    sort: int
    all_value: str | UnsetType = UNSET


class Templating(_Strict):
    list: list[DataSourceVariable | QueryVariable]


class Time(_Strict):
    from_: str = field(name="from")
    to: Literal["now"]


class Picker(_Strict):
    refresh_intervals: list[str] = field(name="refresh_intervals")


class Dashboard(_Strict):
    annotations: Marks
    description: str
    editable: bool
    fiscal_year_start_month: int
    graph_tooltip: Literal[1]
    id: None
    links: list[Link]
    panels: list[RowPanel | Lines | States | Stat | Bars | Table]
    refresh: str
    schema_version: Literal[39]
    tags: list[str]
    templating: Templating
    time: Time
    timepicker: Picker
    timezone: Literal["browser"]
    title: str
    uid: str
    version: Literal[1]
    week_start: str


def check(text: str) -> Dashboard:
    """Return a dashboard; raises msgspec.ValidationError, with a path, for one that Grafana would read otherwise."""
    dashboard = msgspec.json.decode(text, type=Dashboard)
    for panel in dashboard.panels:
        if isinstance(panel, Lines | States):
            drawn: type[LinesCustom | TimelineCustom] = LinesCustom if isinstance(panel, Lines) else TimelineCustom
            msgspec.convert(panel.field_config.defaults.custom, drawn)
    return dashboard
