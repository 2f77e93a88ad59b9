"""What planned maintenance mutes, and what it never may: the pack's own rules of inhibition on a real Alertmanager."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pack.files import ALERTMANAGER, load
from tests.pack.inhibition import await_inhibited, fire, iso, muting
from tests.pack.live import live, post
from tools.servers import Alertmanager

Labels = dict[str, str]


def maintenance(component: str, **more: str) -> Labels:
    """Return the labels of a MaintenanceActive alert, as the rules make it."""
    return {
        "alertname": "MaintenanceActive",
        "severity": "none",
        "component": component,
        "symptom": "maintenance",
        **more,
    }


def alert(name: str, severity: str, component: str, target: str = "", symptom: str = "availability") -> Labels:
    """Return the labels of an alert; without a target it has no such label."""
    labels = {"alertname": name, "severity": severity, "component": component, "symptom": symptom}
    return labels | ({"target": target} if target else {})


FIRING = [
    alert("DatabaseConnectionLost", "critical", "database", "primary"),
    alert("ConnectionsNearLimit", "warning", "database", "primary", "saturation"),
    alert("NonCriticalServiceInterrupted", "info", "database", "replica"),
    alert("ComponentDegraded", "warning", "redis", "primary", "latency"),
    alert("RedisUnreachable", "critical", "redis", "primary"),
    alert("MemoryUsageHigh", "warning", "host", "host1", "saturation"),
    alert("DiskUsageHigh", "warning", "host", "host1:/var", "saturation"),
    alert("SystemDown", "critical", "api"),
    alert("ErrorRateElevated", "info", "api", "auraconnect-api", "errors"),
    # None of these may ever be muted, nor mute.
    alert("SecuritySignal", "warning", "host", "host1", "security"),
    alert("SecurityBreachDetected", "critical", "other", "several", "security"),
    alert("PostedBySomebody", "critical", "database", "", "security"),
    alert("PostedByTheDatabase", "critical", "database", "primary", "security"),
    alert("PostedWithoutSense", "catastrophic", "database", "primary"),
    alert("MaintenanceOverrun", "warning", "database", "primary", "maintenance"),
    alert("ScheduledMaintenanceUpcoming", "info", "all", "", "maintenance"),
    alert("ExporterDown", "critical", "monitoring", "", "monitoring"),
    alert("TargetMissing", "warning", "monitoring", "alertmanager", "availability"),
    alert("AlertmanagerDown", "critical", "monitoring", "alertmanager", "monitoring"),
    alert("EscalatedToManager", "warning", "database", "primary", "saturation")
    | {"escalation": "manager", "source_alert": "ConnectionsNearLimit"},
    alert("EscalatedToSecondary", "critical", "database", "primary")
    | {"escalation": "secondary", "source_alert": "DatabaseConnectionLost"},
]


DATABASE = {"ConnectionsNearLimit", "NonCriticalServiceInterrupted"}
HOST = {"MemoryUsageHigh", "DiskUsageHigh"}
NOTICES = DATABASE | HOST | {"ComponentDegraded", "ErrorRateElevated"}


@pytest.mark.parametrize(
    ("windows", "muted"),
    [
        pytest.param([maintenance("database")], DATABASE, id="component"),
        pytest.param(
            [maintenance("database", mute_critical="true")],
            DATABASE | {"DatabaseConnectionLost"},
            id="component and criticals",
        ),
        pytest.param([maintenance("database", target="primary")], {"ConnectionsNearLimit"}, id="target"),
        pytest.param(
            [maintenance("database", target="primary", mute_critical="true")],
            {"ConnectionsNearLimit", "DatabaseConnectionLost"},
            id="target and criticals",
        ),
        pytest.param([maintenance("host", target="host1")], {"MemoryUsageHigh"}, id="host"),
        pytest.param(
            [maintenance("host", target="host1"), maintenance("host", target="host1:/var")],
            HOST,
            id="host and its disk",
        ),
        pytest.param(
            [maintenance("api", mute_critical="true")], {"SystemDown", "ErrorRateElevated"}, id="alert without target"
        ),
        pytest.param([maintenance("all")], NOTICES, id="all"),
        pytest.param(
            [maintenance("all", mute_critical="true"), maintenance("database")],
            NOTICES | {"DatabaseConnectionLost", "RedisUnreachable", "SystemDown"},
            id="all and criticals",
        ),
        pytest.param(
            [
                maintenance("monitoring", mute_critical="true"),
                maintenance("monitoring", target="alertmanager", mute_critical="true"),
                maintenance("other", mute_critical="true"),
                maintenance("database", target="elsewhere", mute_critical="true"),
                maintenance("host", target="host1"),
            ],
            {"MemoryUsageHigh"},
            id="nothing of monitoring, security and other targets",
        ),
    ],
)
def test_a_window_mutes_what_it_covers_and_nothing_else(
    windows: list[Labels], muted: set[str], alertmanager: Alertmanager
) -> None:
    """Alertmanager inhibits the window's warnings and infos (criticals where it says so), whoever comes first."""
    before, after = FIRING[::2], FIRING[1::2]
    fire(alertmanager, *before)
    fire(alertmanager, *windows)
    fire(alertmanager, *after)
    await_inhibited(alertmanager, len(FIRING) + len(windows), muted)


def test_security_pages_through_a_window_that_mutes_critical_alerts(release: str, tmp_path: Path) -> None:
    """What leaves Alertmanager during maintenance is the page about security, and not the one that is muted."""
    window = maintenance("database", mute_critical="true")
    breach = alert("SecurityBreachDetected", "critical", "database", "", "security")
    with live(tmp_path, release) as running:
        server, pagerduty, slack = running.alertmanager, running.channels.pagerduty, running.channels.slack
        fire(server, window, alert("ConnectionsNearLimit", "warning", "database"))
        await_inhibited(server, 2, {"ConnectionsNearLimit"})
        fire(server, alert("DatabaseConnectionLost", "critical", "database", "primary"))
        fire(server, breach)
        pagerduty.wait_for(lambda: len(pagerduty.triggers) == 1, 10)
        slack.wait_for(lambda: len(slack.messages) == 1, 10)
    assert [page.payload["custom_details"]["alert"] for page in pagerduty.triggers] == ["SecurityBreachDetected"]


def test_when_the_window_ends_what_still_fires_is_told(alertmanager: Alertmanager) -> None:
    """An alert that was muted is active again as soon as the window has resolved."""
    warning = alert("ConnectionsNearLimit", "warning", "database", "primary", "saturation")
    fire(alertmanager, warning, maintenance("database"))
    await_inhibited(alertmanager, 2, {"ConnectionsNearLimit"})
    now = time.time()
    post(alertmanager, {"labels": maintenance("database"), "startsAt": iso(now - 60), "endsAt": iso(now - 1)})
    await_inhibited(alertmanager, 1, set())


def test_the_mute_itself_is_told_to_nobody() -> None:
    """MaintenanceActive is not the incident log's, and ends in a receiver without a channel."""
    config = load(ALERTMANAGER)
    log, first = config["route"]["routes"][:2]
    assert log["matchers"] == ['alertname !~ "MaintenanceActive|Watchdog"']
    assert (first["matchers"], first["receiver"]) == (['alertname = "MaintenanceActive"'], "nobody")
    assert "continue" not in first
    assert [receiver for receiver in config["receivers"] if receiver["name"] == "nobody"] == [{"name": "nobody"}]


@pytest.fixture
def alertmanager(release: str, tmp_path: Path) -> Iterator[Alertmanager]:
    with muting(tmp_path, release) as server:
        yield server
