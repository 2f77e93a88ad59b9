"""Escalation and response: whether somebody takes care, how soon, and how often nobody does."""

from typing import Final

from tools.boards.alerts import CLIMBING, TOLD, alert_columns, ranked
from tools.boards.model import (
    GREEN,
    GREY,
    ORANGE,
    YELLOW,
    Bars,
    Board,
    Column,
    Figure,
    Graph,
    Query,
    Row,
    State,
    Table,
    Timeline,
)
from tools.boards.queries import SEVERITY

_ALERT: Final = "alertname, severity, component, target"
_TO_ACKNOWLEDGE: Final = "auraconnect_alert_time_to_acknowledge_seconds"
_YES_OR_NO: Final = (State(1, "yes", GREEN), State(0, "no", GREY))
_TO_RESOLVE: Final = "auraconnect_alert_time_to_resolve_seconds"


def _kept(escalation: str) -> str:
    """Return the share of acknowledgements that came before a level was told; the rules' delay names the bucket."""
    buckets = f"max by (severity, le) (increase({_TO_ACKNOWLEDGE}_bucket[$__range]))"
    delay = f'auraconnect:escalation_delay:seconds{{escalation="{escalation}"}}'
    return (
        f'sum by (severity) (label_replace({buckets}, "seconds", "$1", "le", "(.+?)([.]0)?")'
        f' and on (severity, seconds) count_values by (severity) ("seconds", {delay}))'
        f" / (max by (severity) (increase({_TO_ACKNOWLEDGE}_count[$__range])) > 0)"
    )


def _quantile(histogram: str, quantile: float) -> str:
    # Of none there is no quantile.
    return f"histogram_quantile({quantile}, max by (severity, le) (increase({histogram}_bucket[$__range]))) >= 0"


def _times(title: str, description: str, histogram: str) -> Bars:
    return Bars(
        title=title,
        description=description,
        unit="s",
        missing="none in this time",
        queries=(
            Query(_quantile(histogram, 0.5), "{{severity}}: half within"),
            Query(_quantile(histogram, 0.9), "{{severity}}: nine of ten within"),
        ),
    )


NOW: Final = (
    Figure(
        title="Open alerts",
        description="Open alerts at this moment: nobody has taken them, somebody has, or they are kept from people "
        "(silenced, inhibited, or out of office hours).",
        unit="short",
        width=5,
        queries=(Query("sum by (state) (max by (severity, state) (auraconnect_alerts))", "{{state}}"),),
    ),
    Figure(
        title="Longest without anybody",
        description="How long the oldest alert has fired that nobody has acknowledged, by severity.",
        unit="s",
        width=5,
        missing="nothing waits",
        queries=(Query("max by (severity) (alert:unacknowledged:seconds)", "{{severity}}"),),
    ),
    TOLD,
)

TARGETS: Final = (
    Bars(
        title="Taken before the secondary contact was told",
        description="The share of acknowledged alerts that the first contact took in time, in the range that is "
        "shown: before the delay after which the rules tell the second one.",
        unit="percentunit",
        highest=1,
        missing="none in this time",
        queries=(Query(_kept("secondary"), "{{severity}}"),),
    ),
    _times(
        "Time to acknowledge",
        "From the beginning of an alert until somebody took it, in the range that is shown. The histogram has few "
        "buckets, so that these are estimates.",
        _TO_ACKNOWLEDGE,
    ),
    _times(
        "Time to resolve",
        "From the beginning of an alert until it was over, in the range that is shown, whoever or whatever ended it.",
        _TO_RESOLVE,
    ),
)

OVER_TIME: Final = (
    CLIMBING,
    Timeline(
        title="Escalations",
        description="When an alert had been told to the secondary contact, and when to the manager. No line: no one "
        "else had to be told.",
        unit="none",
        runbooks=("EscalatedToSecondary", "EscalatedToManager"),
        width=10,
        queries=(
            Query(
                "count by (source_alert, component, target) "
                '(ALERTS{alertname=~"EscalatedToSecondary|EscalatedToManager", alertstate="firing"})',
                "{{source_alert}} {{component}} {{target}}",
            ),
        ),
        states=(State(1, "secondary is told", YELLOW), State(2, "manager is told, too", ORANGE)),
    ),
    Graph(
        title="Open alerts by severity",
        description="How many alerts were open. A level that never falls to zero is one that people stop to look at.",
        unit="short",
        width=12,
        stacked=True,
        queries=(Query("sum by (severity) (max by (severity, state) (auraconnect_alerts))", "{{severity}}"),),
    ),
    Graph(
        title="Acknowledged and ended",
        description="Alerts per hour that somebody acknowledged, and that ended.",
        unit="short",
        width=12,
        queries=(
            Query(
                f"3600 * sum(max by (severity) (rate({_TO_ACKNOWLEDGE}_count[$__rate_interval])))",
                "acknowledged per hour",
            ),
            Query(f"3600 * sum(max by (severity) (rate({_TO_RESOLVE}_count[$__rate_interval])))", "ended per hour"),
        ),
    ),
)

HABITS: Final = (
    Bars(
        title="What fires longest",
        description="For how long each alert has fired in the range that is shown, of all its targets together. What "
        "is at the top and needs nobody is noise: mend its cause, or its limit.",
        unit="s",
        width=12,
        height=9,
        missing="nothing has fired",
        queries=(
            Query(
                "topk(12, 60 * sum by (alertname) (count_over_time("
                f'ALERTS{{alertstate="firing", escalation="", severity=~"{SEVERITY}"}}[$__range:1m])))',
                "{{alertname}}",
            ),
        ),
    ),
    Table(
        title="Open, and how long",
        description="Every open alert of the incident log, those that were posted included, and whether somebody has "
        "it.",
        unit="s",
        width=12,
        height=9,
        missing="No alert is open, if the exporter answers",
        sort_by="Rank",
        ascending=True,
        queries=(
            Query(ranked(f"time() - min by ({_ALERT}) (auraconnect_alert_active_since_timestamp_seconds)"), "open"),
            Query(ranked(f"max by ({_ALERT}) (auraconnect_alert_acknowledged)"), "acknowledged"),
            Query(ranked(f"max by ({_ALERT}) (auraconnect_alert_suppressed)"), "suppressed"),
        ),
        columns=alert_columns(
            Column("Value #B", "Somebody has it", states=_YES_OR_NO, width=130),
            Column("Value #C", "Silenced", states=_YES_OR_NO, width=80),
            Column("Value #A", "Open for", unit="s", width=110),
        ),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-response",
    title="AuraConnect · Escalation and response",
    description="Whether somebody takes care of alerts, how soon, and who had to be told because nobody did.",
    since="now-7d",
    refresh="1m",
    rows=(
        Row("Now", NOW),
        Row("Were we in time?", TARGETS),
        Row("Over time", OVER_TIME),
        Row("Noise", HABITS),
    ),
)
