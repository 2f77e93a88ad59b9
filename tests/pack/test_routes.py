"""Who is told of what: Alertmanager's configuration as amtool reads it, and as people do."""

import re
import subprocess
from typing import Any

import pytest

from tests.pack.files import ALERTMANAGER, alert_id, alerts, load
from tests.pack.live import routes
from tools.servers import program


def amtool(release: str, *arguments: str) -> str:
    """Run amtool in Alertmanager's folder; return what it printed, fail with it unless it succeeds."""
    done = subprocess.run(
        [program("amtool", release), *arguments], cwd=ALERTMANAGER.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_configuration_is_valid(release: str) -> None:
    """Alertmanager takes its configuration and finds its templates."""
    assert "1 templates" in amtool(release, "check-config", ALERTMANAGER.name)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical component=database", "oncall-engineer-page"),
        ('severity=critical escalation=""', "oncall-engineer-page"),
        ("severity=critical escalation=secondary source_alert=SystemDown", "lead-engineer-page"),
        ("severity=critical escalation=manager source_alert=SystemDown", "cto-page"),
        ("severity=warning component=host", "oncall-engineer-notify"),
        ("severity=warning escalation=secondary", "senior-engineer-notify"),
        ("severity=warning escalation=manager", "engineering-manager-notify"),
        ("severity=info component=api", "support-team-notify"),
        ("severity=info escalation=secondary", "oncall-engineer-notify"),
        ("severity=info escalation=manager", "team-lead-notify"),
        # Surprises are told to a person.
        ("severity=catastrophic", "oncall-engineer-notify"),
        ("severity=none", "oncall-engineer-notify"),
        ("severity=none escalation=manager", "oncall-engineer-notify"),
        ("alertname=Unlabelled", "oncall-engineer-notify"),
        ("severity=critical escalation=nobody", "oncall-engineer-notify"),
        ("severity=Critical", "oncall-engineer-notify"),
    ],
)
def test_an_alert_reaches_its_role_and_the_incident_log(labels: str, receiver: str, release: str) -> None:
    """The escalation matrix, and a person for whatever no route names; the incident log is first."""
    assert told(labels, release) == ["incident-log", receiver]


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=Watchdog severity=none", "watchdog"),
        ("alertname=MaintenanceActive severity=none component=all", "nobody"),
        # Whatever else they say, they are what their names say.
        ("alertname=Watchdog severity=critical", "watchdog"),
        ("alertname=MaintenanceActive severity=critical", "nobody"),
    ],
)
def test_what_is_no_alert_reaches_no_person_and_no_record(labels: str, receiver: str, release: str) -> None:
    """The mute and the heartbeat go where they belong, and nowhere else."""
    assert told(labels, release) == [receiver]


def told(labels: str, release: str) -> list[str]:
    """Return who is told of an alert with these labels, in order."""
    said = amtool(release, "config", "routes", "test", f"--config.file={ALERTMANAGER.name}", *labels.split())
    return said.strip().split(",")


@pytest.mark.parametrize("alert", [alert for alert in alerts() if "severity" in alert["labels"]], ids=alert_id)
def test_no_alert_of_the_pack_falls_through_to_the_last_route(alert: dict[str, Any]) -> None:
    """Every alert of ours is named by a route, so that the last one is for surprises only."""
    severity = alert["labels"]["severity"]
    assert severity in {"critical", "warning", "info"} or alert["alert"] in {"Watchdog", "MaintenanceActive"}


def test_the_last_route_takes_everything() -> None:
    """The last route has no condition and does not hand on."""
    last = load(ALERTMANAGER)["route"]["routes"][-1]
    assert not last.keys() & {"matchers", "match", "match_re", "continue"}


def test_only_the_first_route_hands_on() -> None:
    """Each alert is recorded by itself and at once, and then one role is told, not two."""
    first, *others = load(ALERTMANAGER)["route"]["routes"]
    assert (first["receiver"], first["continue"], first["group_by"]) == ("incident-log", True, ["..."])
    assert (first["group_wait"], first["group_interval"]) == ("0s", "1s")
    assert not any("continue" in route for route in others)


def test_critical_waits_for_nothing() -> None:
    """A page goes out at once, each target by itself, and what follows within ten seconds."""
    pages = [route for route in routes(load(ALERTMANAGER)["route"]) if route["receiver"].endswith("-page")]
    assert len(pages) == 3
    for page in pages:
        assert (page["group_wait"], page["group_interval"]) == ("0s", "10s")
        assert {"alertname", "severity", "component", "target"} <= set(page["group_by"])


def test_an_escalation_is_grouped_by_its_source_and_told_in_time() -> None:
    """Acknowledging one acknowledges one; and a level is told within 20 s of its time, so it waits for 5 at most."""
    escalations = [one for one in routes(load(ALERTMANAGER)["route"]) if 'escalation = "' in str(one.get("matchers"))]
    levels = [one for one in escalations if 'escalation = ""' not in str(one["matchers"])]
    assert len(levels) == 6
    for level in levels:
        assert "source_alert" in level["group_by"]
        assert level["group_wait"] in {"0s", "5s"}


def test_infos_have_office_hours_at_every_level_and_nothing_else_has() -> None:
    """Nobody is called at night for an info, nor for its escalations; whatever is worse is told at any time."""
    for route in routes(load(ALERTMANAGER)["route"]):
        is_info = 'severity = "info"' in str(route.get("matchers"))
        assert route.get("active_time_intervals", []) == (["office-hours"] if is_info else [])
        assert "mute_time_intervals" not in route


def test_every_route_names_its_timings() -> None:
    """None is inherited unseen; what is worse is repeated sooner, what is recorded once a day."""
    repeats = {"critical": "1h", "warning": "4h", "info": "24h"}
    for route in routes(load(ALERTMANAGER)["route"]):
        assert {"receiver", "group_by", "group_wait", "group_interval", "repeat_interval"} <= route.keys()
        for severity, repeat in repeats.items():
            if f'severity = "{severity}"' in str(route.get("matchers")):
                assert route["repeat_interval"] == repeat


def test_routed_receivers_and_defined_receivers_are_the_same() -> None:
    """Every route leads to a receiver, and every receiver is led to."""
    config = load(ALERTMANAGER)
    assert {route["receiver"] for route in routes(config["route"])} == {entry["name"] for entry in config["receivers"]}


def test_a_page_takes_every_channel_and_a_notice_those_that_wake_nobody() -> None:
    """PagerDuty, SMS, Slack and email for a page; Slack and email for a notice; all say when it is over."""
    receivers = load(ALERTMANAGER)["receivers"]
    webhooks = {receiver["name"]: receiver.get("webhook_configs") for receiver in receivers}
    for receiver in receivers:
        channels = {key for key in receiver if key.endswith("_configs")}
        if receiver["name"].endswith("-page"):
            assert channels == {
                *("pagerduty_configs", "sns_configs", "slack_configs", "email_configs"),
                "webhook_configs",  # the incident log, for acknowledgements in PagerDuty
            }
            assert receiver["webhook_configs"] == webhooks["incident-log"]
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
    complete = ['escalation = ""', 'component != ""', 'symptom != ""']
    assert [(rule["source_matchers"], rule["target_matchers"]) for rule in rules] == [
        (['severity = "critical"', *complete], ['severity =~ "warning|info"', 'escalation = ""']),
        (['severity = "warning"', *complete], ['severity = "info"', 'escalation = ""']),
    ]


def test_each_role_has_its_own_addresses() -> None:
    """A receiver's key, topic and address are those of the role that it is named after, and everybody's address."""
    for receiver in load(ALERTMANAGER)["receivers"]:
        role = re.sub("-(page|notify)$", "", receiver["name"])
        for entry in receiver.get("pagerduty_configs", []):
            assert entry["routing_key_file"] == f"secrets/pagerduty-{role}"
        for entry in receiver.get("sns_configs", []):
            assert entry["topic_arn"].endswith(f":auraconnect-{role}")
        for entry in receiver.get("email_configs", []):
            assert entry["to"] == f"incidents@auraconnect.ai, {role}@auraconnect.ai"
        for entry in receiver.get("slack_configs", []):
            assert entry["channel"] == "#incidents"


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
