"""Who is told of what: Alertmanager's configuration as amtool reads it, and as people do."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pack.files import ALERTMANAGER, alert_id, alerts, load
from tools.servers import program


def amtool(release: str, *arguments: str) -> str:
    """Run amtool in Alertmanager's folder; return what it printed, fail with it unless it succeeds."""
    done = subprocess.run(
        [program("amtool", release), *arguments], cwd=ALERTMANAGER.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def routes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a route and all those below it."""
    yield node
    for child in node.get("routes", []):
        yield from routes(child)


def test_configuration_is_valid(release: str) -> None:
    """Alertmanager takes its configuration and finds its templates."""
    assert "1 templates" in amtool(release, "check-config", ALERTMANAGER.name)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical component=database", "oncall-engineer-page"),
        ('severity=critical escalation=""', "oncall-engineer-page"),
        ("severity=warning component=host", "oncall-engineer-notify"),
        ("severity=info component=api", "support-team-notify"),
        ("alertname=Watchdog severity=none", "watchdog"),
        ("alertname=MaintenanceActive severity=none component=all", "nobody"),
        ("severity=catastrophic", "oncall-engineer-notify"),
        ("severity=none", "oncall-engineer-notify"),
        ("alertname=Unlabelled", "oncall-engineer-notify"),
        ("severity=critical escalation=nobody", "oncall-engineer-notify"),
    ],
)
def test_an_alert_reaches_its_receiver(labels: str, receiver: str, release: str) -> None:
    """The primary contacts of the matrix, and a person for whatever no route names."""
    tested = amtool(release, "config", "routes", "test", f"--config.file={ALERTMANAGER.name}", *labels.split())
    assert tested.split() == [receiver]


@pytest.mark.parametrize("alert", [alert for alert in alerts() if "severity" in alert["labels"]], ids=alert_id)
def test_no_alert_of_the_pack_falls_through_to_the_last_route(alert: dict[str, Any]) -> None:
    """Every alert of ours is named by a route, so that the last one is for surprises only."""
    severity = alert["labels"]["severity"]
    assert severity in {"critical", "warning", "info"} or alert["alert"] in {"Watchdog", "MaintenanceActive"}


def test_the_last_route_takes_everything() -> None:
    """The last route has no condition and does not hand on."""
    last = load(ALERTMANAGER)["route"]["routes"][-1]
    assert not last.keys() & {"matchers", "match", "match_re", "continue"}


def test_critical_waits_for_nothing() -> None:
    """A page goes out at once, each target by itself, and what follows within ten seconds."""
    page = next(route for route in routes(load(ALERTMANAGER)["route"]) if route["receiver"] == "oncall-engineer-page")
    assert (page["group_wait"], page["group_interval"]) == ("0s", "10s")
    assert page["group_by"] == ["alertname", "severity", "component", "target"]


def test_routed_receivers_and_defined_receivers_are_the_same() -> None:
    """Every route leads to a receiver, and every receiver is led to."""
    config = load(ALERTMANAGER)
    assert {route["receiver"] for route in routes(config["route"])} == {entry["name"] for entry in config["receivers"]}


def test_a_page_takes_every_channel_and_a_notice_those_that_wake_nobody() -> None:
    """PagerDuty, SMS, Slack and email for a page; Slack and email for a notice; all say when it is over."""
    for receiver in load(ALERTMANAGER)["receivers"]:
        channels = {key for key in receiver if key.endswith("_configs")}
        if receiver["name"].endswith("-page"):
            assert channels == {"pagerduty_configs", "sns_configs", "slack_configs", "email_configs"}
        if receiver["name"].endswith("-notify"):
            assert channels == {"slack_configs", "email_configs"}
        for channel in channels:
            for entry in receiver[channel]:
                assert entry["send_resolved"] is (receiver["name"] != "watchdog")


def test_only_lower_severities_of_the_very_same_thing_are_inhibited() -> None:
    """An inhibition across components, targets or symptoms would hide a fault of its own, but for maintenance."""
    rules = [rule for rule in load(ALERTMANAGER)["inhibit_rules"] if "MaintenanceActive" not in str(rule)]
    for rule in rules:
        assert rule["equal"] == ["component", "target", "symptom"]
    assert [(rule["source_matchers"], rule["target_matchers"]) for rule in rules] == [
        (['severity = "critical"'], ['severity =~ "warning|info"']),
        (['severity = "warning"'], ['severity = "info"']),
    ]


def test_every_secret_is_a_file_with_an_example() -> None:
    """No secret stands in the configuration; each file that it names has an example and a line in the README."""
    text = ALERTMANAGER.read_text()
    folder = ALERTMANAGER.parent / "secrets"
    # Only a comment names the file of SMS, since Alertmanager has no setting for it.
    named = set(re.findall(r"^[^#\n]*secrets/([\w-]+)", text, re.MULTILINE)) | {"aws-credentials"}
    assert {path.stem for path in folder.glob("*.example")} == named
    assert all(f"`{name}`" in (folder / "README.md").read_text() for name in named)
    assert not re.search(
        r"^\s*(- )?(routing_key|api_url|smtp_auth_password|credentials|secret_key):", text, re.MULTILINE
    )
