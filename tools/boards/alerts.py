"""What fires and who knows of it: panels that several boards have."""

from typing import Final

from tools.boards.model import GREEN, ORANGE, RED, YELLOW, Column, Figure, Graph, Query, State, Table
from tools.boards.queries import SEVERITY


def ranked(expression: str) -> str:
    """Return an expression with a label `rank`, by which the worst severity comes first: 1, 2, 3."""
    for rank, severity in enumerate(("critical", "warning", "info"), 1):
        expression = f'label_replace({expression}, "rank", "{rank}", "severity", "{severity}")'
    return expression


def alert_columns(*more: Column) -> tuple[Column, ...]:
    """Return the columns that name an alert."""
    return (
        Column("rank", "Rank", width=60),
        Column("alertname", "Alert", link="${exporter:raw}/runbooks/${__value.raw}"),
        Column("severity", "Severity", width=80),
        Column("component", "Component", width=100),
        Column("target", "Target"),
        *more,
    )


def escalation_delays() -> tuple[Query, ...]:
    """Return the recorded delays after which the next contact of each severity is told, to be drawn dashed."""
    return tuple(
        Query(
            f'max(auraconnect:escalation_delay:seconds{{severity="{severity}", escalation="{escalation}"}})',
            f"{severity}: {escalation}",
            limit=severity,
        )
        for severity in ("critical", "warning", "info")
        for escalation in ("secondary", "manager")
    )


_FIRING: Final = f'alertstate="firing", severity=~"{SEVERITY}"'
_ALERT: Final = "alertname, severity, component, target, source_alert"
_SOURCE_ALERT: Final = "source_alert, severity, component, target"

ACTIVE: Final = Table(
    title="Active alerts",
    description="What fires now, and for how long, escalations among it. A click on a name opens its runbook. Empty "
    "is good only while Watching says so.",
    unit="s",
    width=14,
    height=9,
    missing="No alert fires, if Watching says so",
    sort_by="Rank",
    ascending=True,
    queries=(
        Query(
            ranked(
                f'time() - max by ({_ALERT}) (ALERTS_FOR_STATE{{severity=~"{SEVERITY}"}})'
                f" and on ({_ALERT}) ALERTS{{{_FIRING}}}"
            ),
            "{{alertname}} {{component}} {{target}}",
        ),
    ),
    columns=alert_columns(Column("source_alert", "Escalates"), Column("Value", "For", unit="s", width=110)),
)

UNACKNOWLEDGED: Final = Figure(
    title="Nobody has acknowledged",
    description="Open alerts that nobody has taken, and that nobody silenced, by severity.",
    unit="short",
    width=5,
    queries=(
        Query('max(auraconnect_alerts{state="unacknowledged", severity="critical"})', "critical"),
        Query('max(auraconnect_alerts{state="unacknowledged", severity="warning"})', "warning"),
        Query('max(auraconnect_alerts{state="unacknowledged", severity="info"})', "info"),
    ),
)

WATCHING: Final = Figure(
    title="Watching",
    description="Whether the rules are evaluated (the Watchdog fires, as it always should) and an exporter can be "
    "scraped. If not, everything else on this page is the past.",
    unit="none",
    runbooks=("Watchdog", "ExporterDown"),
    width=5,
    missing="nobody watches",
    queries=(
        Query(
            'max(ALERTS{alertname="Watchdog", alertstate="firing"}) * max(up{job="auraconnect-exporter"})',
            "watch",
        ),
    ),
    states=(State(1, "watching", GREEN), State(0, "exporter is gone", RED)),
)


def _left(escalation: str) -> str:
    """Return the seconds until a level is told, of what it is not told yet."""
    delay = f'auraconnect:escalation_delay:seconds{{escalation="{escalation}"}}'
    left = f"-(alert:unacknowledged:seconds - on (severity) group_left () {delay}) > 0"
    return f'label_replace({left}, "next", "{escalation}", "", "")'


TOLD: Final = Table(
    title="Who is told, and when the next one is",
    description="Alerts that fire and that nobody has acknowledged. Critical: the on-call engineer, then the lead "
    "engineer, then the CTO. Warning: on-call engineer, senior engineer, engineering manager. Info: support team, "
    "on-call engineer, team lead. What is silenced does not climb.",
    unit="s",
    width=14,
    height=7,
    missing="Nothing waits for an acknowledgement, if Watching says so",
    sort_by="Unacknowledged for",
    queries=(
        Query(f"max by ({_SOURCE_ALERT}) (alert:unacknowledged:seconds)", "unacknowledged"),
        Query(
            f"min by ({_SOURCE_ALERT}) ({_left('secondary')} or {_left('manager')})",
            "next",
        ),
        Query(
            f'count by ({_SOURCE_ALERT}) (ALERTS{{alertname=~"EscalatedToSecondary|EscalatedToManager", '
            'alertstate="firing"})',
            "told",
        ),
    ),
    columns=(
        Column("source_alert", "Alert", link="${exporter:raw}/runbooks/${__value.raw}"),
        Column("severity", "Severity", width=80),
        Column("component", "Component", width=100),
        Column("target", "Target"),
        Column(
            "Value #C",
            "Escalated to",
            states=(State(1, "secondary", YELLOW), State(2, "manager", ORANGE)),
            missing="nobody yet",
            width=120,
        ),
        Column("Value #A", "Unacknowledged for", unit="s", width=150),
        Column("Value #B", "Next is told in", unit="s", width=130),
    ),
)

CLIMBING: Final = Graph(
    title="Unacknowledged, against the delays of the escalation",
    description="How long each alert has fired without anybody taking it. Where a line crosses the dashed one of its "
    "severity, the next contact is told.",
    unit="s",
    width=14,
    queries=(
        Query(
            "max by (source_alert, component, target) (alert:unacknowledged:seconds)",
            "{{source_alert}} {{component}} {{target}}",
        ),
        *escalation_delays(),
    ),
)
