"""Alerting pipeline: is the watching itself all right? From the probes to the message on somebody's phone."""

from typing import Final

from tools.boards.alerts import WATCHING
from tools.boards.model import GREY, Board, Graph, Query, Row, State, Timeline
from tools.boards.queries import CIRCUIT, GOOD, REACHED, limit, or_unknown

_READ: Final = "max by (component, target, collector) (auraconnect_collector_success)"
_JOBS: Final = "auraconnect-exporter|auraconnect-api|prometheus|alertmanager"


def _messages(counter: str) -> str:
    """Return messages per minute by channel, of those channels that have ever sent one."""
    return (
        f"60 * max by (integration) (sum by (instance, integration) (rate({counter}[$__rate_interval])))"
        " and on (integration) alertmanager_notifications_total > 0"
    )


UP: Final = (
    WATCHING,
    Timeline(
        title="Who can be scraped",
        description="Whether Prometheus reaches what it scrapes; down when any of a job's addresses does not answer. "
        "While the exporter is down, nothing is known of anything.",
        unit="none",
        runbooks=("TargetDown", "ExporterDown", "AlertmanagerDown"),
        width=10,
        queries=(
            Query(
                or_unknown(f'min by (job) (up{{job=~"{_JOBS}"}})', "job", f'up{{job=~"{_JOBS}"}}'),
                "{{job}}",
            ),
        ),
        states=REACHED,
    ),
    Timeline(
        title="Whom the exporter reaches",
        description="Whether the exporter reaches Prometheus, the Alertmanagers and its store. Without them "
        "acknowledgements and posted alerts wait.",
        unit="none",
        width=9,
        queries=(Query(or_unknown("max by (peer) (auraconnect_peer_up)", "peer", "auraconnect_peer_up"), "{{peer}}"),),
        states=REACHED,
    ),
)

PROBES: Final = (
    Graph(
        title="Failed checks by reason",
        description="Checks per second that failed, and why. One now and then is nothing; three in a row are an "
        "outage.",
        unit="cps",
        queries=(
            Query(
                "max by (component, target, result) "
                '(rate(auraconnect_component_probes_total{result!="success"}[$__rate_interval]))',
                "{{component}} {{target}}: {{result}}",
            ),
        ),
    ),
    Graph(
        title="Age of the last check",
        description="How long ago the last check of each target began. Above the limit nothing is known of it, and "
        "ProbeStale fires.",
        unit="s",
        runbooks=("ProbeStale",),
        queries=(
            Query(
                "time() - max by (component, target) (auraconnect_component_probe_last_run_timestamp_seconds)",
                "{{component}} {{target}}",
            ),
            limit("auraconnect:probe_age_seconds:threshold", "warning"),
        ),
    ),
    Graph(
        title="Duration and lateness of checks",
        description="How long the last check of each target took, and how long after it was due it began. Above the "
        "limit the exporter has too much to do, or its machine has.",
        unit="s",
        runbooks=("ProbesLate",),
        queries=(
            Query(
                "max by (component, target) (auraconnect_component_probe_duration_seconds)", "{{component}} {{target}}"
            ),
            Query(
                "max by (component, target) (auraconnect_component_probe_lateness_seconds)",
                "{{component}} {{target}}: late by",
            ),
            limit("auraconnect:probe_lateness_seconds:threshold", "warning", "limit: late by"),
        ),
    ),
    Timeline(
        title="Parts that can't be read",
        description="Whether all parts of each target could be read, and each part that could not. A right that is "
        "missing fails here, an extension that the server does not have is not there. The alerts that need the "
        "figures are blind.",
        unit="none",
        runbooks=("CollectorFailing", "RequestLogUnread"),
        width=12,
        height=9,
        queries=(
            Query(
                or_unknown(
                    f"min by (component, target) ({_READ})", "component, target", "auraconnect_collector_success"
                ),
                "{{component}} {{target}}",
            ),
            Query(
                f"{_READ} == 0 or 2 * max by (component, target, collector) (auraconnect_collector_absent)",
                "{{component}} {{target}}: {{collector}}",
            ),
            Query(
                or_unknown(
                    "max by (table) (auraconnect_request_log_success)", "table", "auraconnect_request_log_success"
                ),
                "the API's table {{table}}",
            ),
        ),
        states=(*GOOD, State(2, "not there", GREY)),
    ),
    Timeline(
        title="Asked less often",
        description="Targets that have been down for so long that they are asked less often, so as not to stand in "
        "the way of their recovery.",
        unit="none",
        width=12,
        height=9,
        queries=(
            Query(
                or_unknown(
                    "min by (component, target) (auraconnect_component_circuit_open)",
                    "component, target",
                    "auraconnect_component_circuit_open",
                ),
                "{{component}} {{target}}",
            ),
        ),
        states=CIRCUIT,
    ),
)

RULES: Final = (
    Graph(
        title="Rules that fail",
        description="Evaluations per second that failed, of the five groups with most. Anything but zero: an alert "
        "is blind.",
        unit="cps",
        runbooks=("RuleFailures", "ThresholdMissing"),
        queries=(
            Query(
                "label_replace("
                "topk(5, max by (rule_group) (rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))), "
                '"group", "$1", "rule_group", ".*;(.*)")',
                "{{group}}",
            ),
        ),
    ),
    Graph(
        title="Time to evaluate the rules",
        description="How long the five slowest groups of rules took, of their intervals. Near 100% one falls behind, "
        "and pages come late.",
        unit="percentunit",
        queries=(
            Query(
                "label_replace(topk(5, max by (rule_group) (prometheus_rule_group_last_duration_seconds) "
                "/ max by (rule_group) (prometheus_rule_group_interval_seconds)), "
                '"group", "$1", "rule_group", ".*;(.*)")',
                "{{group}}",
            ),
        ),
    ),
    Timeline(
        title="Configurations",
        description="Whether the last reading of each configuration succeeded. If not, the one before is in force, "
        "and a restart would fail.",
        unit="none",
        runbooks=("ConfigurationReloadFailed",),
        queries=tuple(
            Query(f"min({of}_config_last_reload_successful) or on () vector(4)", name)
            for of, name in (
                ("auraconnect_exporter", "exporter"),
                ("prometheus", "Prometheus"),
                ("alertmanager", "Alertmanager"),
            )
        ),
        states=GOOD,
    ),
)

DELIVERY: Final = (
    Graph(
        title="Alerts lost between Prometheus and Alertmanager",
        description="Alerts per second that could not be sent to an Alertmanager, and that were dropped because none "
        "took them.",
        unit="cps",
        runbooks=("SendingAlertsFailing",),
        queries=(
            Query("max(rate(prometheus_notifications_errors_total[$__rate_interval]))", "failed at one"),
            Query("max(rate(prometheus_notifications_dropped_total[$__rate_interval]))", "lost"),
        ),
    ),
    Graph(
        title="Messages to people",
        description="Messages per minute that Alertmanager has sent, by channel, the incident log (webhook) "
        "included, and those that failed after all retries.",
        unit="short",
        runbooks=("NotificationsFailing",),
        queries=(
            Query(
                _messages("alertmanager_notifications_total"),
                "{{integration}}",
            ),
            Query(
                _messages("alertmanager_notifications_failed_total"),
                "{{integration}}: failed",
            ),
        ),
    ),
    Graph(
        title="What the incident log was told",
        description="Deliveries of Alertmanager per minute, by what became of them. Those put aside could not be read.",
        unit="short",
        queries=(
            Query("60 * max by (result) (rate(auraconnect_webhook_deliveries_total[$__rate_interval]))", "{{result}}"),
        ),
    ),
)

COST: Final = (
    Graph(
        title="Figures left out",
        description="Samples per second beyond a part's budget of series, and scrapes per second from which "
        "something was missing because it could not be written.",
        unit="cps",
        runbooks=("SeriesDropped", "RequestLogIncomplete"),
        width=12,
        queries=(
            Query(
                "max by (component, target, collector) (rate(auraconnect_series_dropped_total[$__rate_interval]))",
                "{{component}} {{target}}: {{collector}}",
            ),
            Query(
                "max by (part) (rate(auraconnect_exporter_render_failures_total[$__rate_interval]))",
                "not written: {{part}}",
            ),
            Query(
                "max by (table) (rate(auraconnect_request_log_rows_dropped_total[$__rate_interval]))",
                "too late to be counted: {{table}}",
            ),
        ),
    ),
    Graph(
        title="The exporter itself",
        description="Memory and processor of the exporter. Memory that grows for days is a fault of ours.",
        unit="bytes",
        width=12,
        queries=(
            Query(
                'max by (instance) (process_resident_memory_bytes{job="auraconnect-exporter"})', "{{instance}}: memory"
            ),
            Query(
                'max by (instance) (rate(process_cpu_seconds_total{job="auraconnect-exporter"}[$__rate_interval]))',
                "{{instance}}: processors",
                unit="percentunit",
            ),
        ),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-pipeline",
    title="AuraConnect · Alerting pipeline",
    description="Whether the watching itself is all right, from the checks to the message on somebody's phone.",
    rows=(
        Row("Does anybody watch?", UP),
        Row("Do messages arrive?", DELIVERY),
        Row("Do the rules work?", RULES),
        Row("Do the checks work?", PROBES),
        Row("The exporter", COST),
    ),
)
