"""What promtool's lint does not see: identity, names that nothing exports, buckets that nobody has."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pack.files import alert_id, alerts, rules
from tests.pack.labels import ANY, labels, recorded_labels
from tests.scrape import declared
from tools.promql import Matcher, Node, Selector, parse, walk

IDENTITY = {"severity", "component", "target", "symptom"}
COMPONENTS = {"database", "redis", "api", "workers", "host", "monitoring", "other", "all"}
# An escalation names its source, and what it is escalated to; its own name replaces that of its source.
ESCALATION = {"alertname", "source_alert", "escalation"}
EXTRA = {
    "EscalatedToSecondary": ESCALATION,
    "EscalatedToManager": ESCALATION,
    "MaintenanceActive": {"mute_critical"},
    "ScheduledMaintenanceUpcoming": {"reminder"},
}

INSTRUMENTATOR = {"http_requests_total", "http_request_duration_seconds", "http_request_duration_highr_seconds"}
SERVERS = {
    "up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "alertmanager_config_last_reload_successful",
    "alertmanager_notifications_failed_total",
    "prometheus_config_last_reload_successful",
    "prometheus_notifications_alertmanagers_discovered",
    "prometheus_notifications_dropped_total",
    "prometheus_notifications_errors_total",
    "prometheus_rule_evaluation_failures_total",
}

RECORDED = recorded_labels(rules())
each_alert = pytest.mark.parametrize("alert", alerts(), ids=alert_id)
QUERY = re.compile(r"(?:query|printf) `([^`]*)`|query \"([^\"]*)\"")


def expressions() -> Iterator[Node]:
    """Yield the tree of every expression of the pack, those in annotations included.

    An annotation may put a query together: a selector that another printf made (%[1]s) is seen where it is made.
    """
    for rule in rules():
        yield parse(rule["expr"])
        for text in rule.get("annotations", {}).values():
            for query in QUERY.findall(text):
                yield parse("".join(query).replace("%q", '"x"').replace("%f", "1").replace("%[1]s", "up"))


def selectors() -> Iterator[Selector]:
    """Yield every selector of the pack."""
    for tree in expressions():
        yield from (node for node in walk(tree) if isinstance(node, Selector))


@each_alert
def test_an_alert_has_the_labels_of_its_identity_and_no_other(alert: dict[str, Any]) -> None:
    """Instance and job are aggregated away, so that (alertname, severity, component, target) names one alert."""
    found = labels(parse(alert["expr"]), RECORDED)
    assert ANY not in found
    assert found | alert["labels"].keys() <= IDENTITY | EXTRA.get(alert["alert"], set())
    assert alert["labels"].get("component", "other") in COMPONENTS


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", {ANY}),
        ("max by (job, target) (up) > 1", {"job", "target"}),
        ("max by (target) (up) > on () group_left () recorded", {"target"}),
        ("max by (target) (up) * on (target) recorded", {"target"}),
        ("recorded unless on () up", {"a"}),
        ("recorded or up", {"a", ANY}),
        ('label_replace(recorded, "b", "$1", "a", "(.*)")', {"a", "b"}),
        ("sum by (a, b) (recorded)", {"a"}),
        ("max without (a) (recorded)", set()),
        ('count_values("n", recorded)', {"n"}),
        ('absent(up{job="x", y=~"z"})', {"job"}),
        ('absent(up{job="x"} == 1)', set()),
        ("vector(1)", set()),
        ("rate(up[5m] offset 1h)", {ANY}),
    ],
)
def test_labels_are_read_from_an_expression(expression: str, expected: set[str]) -> None:
    """Aggregations and joins keep what Prometheus keeps."""
    assert labels(parse(expression), {"recorded": frozenset("a")}) == expected


def test_every_metric_is_exported_by_something() -> None:
    """Rules and descriptions read only what the exporter, the API, Prometheus or Alertmanager export, or record it."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = declared().keys() | INSTRUMENTATOR | SERVERS | recorded
    read = {re.sub(r"_(bucket|count|sum)$", "", node.name) for node in selectors()}
    assert read - known == set()


def test_every_recorded_series_is_read_by_something() -> None:
    """A series that no rule reads would be for dashboards alone; there are none of those yet."""
    read = {node.name for node in selectors()}
    assert {rule["record"] for rule in rules() if "record" in rule} - read == {"auraconnect:rule_pack:info"} - read


def test_buckets_are_matched_as_both_releases_write_them_and_seconds_among_them() -> None:
    """`le` is matched as 5 and as 5.0, and 2 and 5 seconds are among what is matched."""
    matched = [
        node.value.value
        for tree in expressions()
        for node in walk(tree)
        if isinstance(node, Matcher) and node.label == "le" and node.operator.text == "=~"
    ]
    assert matched
    for value in matched:
        assert all(re.fullmatch(value, bound) for bound in ("2", "2.0", "5", "5.0"))
    assert not [
        node
        for tree in expressions()
        for node in walk(tree)
        if isinstance(node, Matcher) and node.label == "le" and node.operator.text != "=~"
    ]
