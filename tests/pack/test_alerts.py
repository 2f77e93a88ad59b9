"""What every alert of the pack owes to the people who are called by it."""

import re
import subprocess
import textwrap
from collections import Counter
from typing import Any

import pytest

from tests.pack.files import PROMETHEUS, RULE_TESTS, RULES, RUNBOOKS, alert_id, alert_names, alerts, load, rules

ESCALATING = {"critical", "warning", "info"}
SEVERITIES = ESCALATING | {"none"}
SYMPTOMS = {"availability", "errors", "latency", "saturation", "security", "maintenance", "monitoring"}
RUNBOOK_SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Escalation"]
# What an alert may carry beside the labels that all have: an escalation says for whom it is, and what climbed; a
# reminder which of the two it is, a maintenance whether it mutes critical alerts, too.
EXTRA_LABELS = {name: {"escalation", "source_alert"} for name in ("EscalatedToSecondary", "EscalatedToManager")} | {
    "ScheduledMaintenanceUpcoming": {"reminder"},
    "MaintenanceActive": {"mute_critical"},
}
BASE = '{{ with query "auraconnect:external_url:info" }}{{ . | first | label "url" }}{{ end }}'

each_alert = pytest.mark.parametrize("alert", alerts(), ids=alert_id)
each_name = pytest.mark.parametrize("name", alert_names())


def expected_alerts(name: str) -> list[dict[str, Any]]:
    """Return every firing alert that the promtool test of `name` expects in full."""
    return [
        expected
        for case in load(RULES / f"tests/{name}.yml")["tests"]
        for check in case.get("alert_rule_test", [])
        if check["alertname"] == name
        for expected in check["exp_alerts"]
    ]


@each_alert
def test_an_alert_says_how_severe_it_is_and_what_it_is_a_symptom_of(alert: dict[str, Any]) -> None:
    """Severity and symptom are words that routes and escalation know; an escalation takes those of its source."""
    labels = alert["labels"]
    if "escalation" in labels:
        assert not labels.keys() & {"severity", "component", "target", "symptom"}
    else:
        assert labels["severity"] in SEVERITIES
        assert labels["symptom"] in SYMPTOMS


@each_alert
def test_an_alert_tells_people_what_to_do(alert: dict[str, Any]) -> None:
    """Exactly the four annotations, the links below the one base; the summary is the same for every target."""
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert annotations["runbook_url"] == f"{BASE}/runbooks/{alert['alert']}"
    assert annotations["dashboard_url"] == f"{BASE}/dashboard"
    assert "{{" not in annotations["summary"]


@each_name
def test_an_alert_is_tested_with_the_labels_that_identify_it(name: str) -> None:
    """Its promtool test sees it fire, with a component and no label that would break its identity."""
    seen = expected_alerts(name)
    assert seen
    for expected in seen:
        labels = expected["exp_labels"].keys()
        assert {"severity", "component", "symptom"} <= labels
        assert labels <= {"severity", "component", "target", "symptom"} | EXTRA_LABELS.get(name, set())


@each_name
def test_an_alert_fires_with_absolute_links(name: str) -> None:
    """What people get is a link that they can follow, with nothing left of the template."""
    for expected in expected_alerts(name):
        annotations = expected["exp_annotations"]
        assert annotations["runbook_url"] == f"http://localhost:9850/runbooks/{name}"
        assert not re.search(r"\{\{|%!|<no value>", str(annotations))


@each_name
def test_an_alert_is_tested_while_it_stays_silent(name: str) -> None:
    """Its promtool test also sees a moment without it (but for the one that always fires)."""
    text = (RULES / f"tests/{name}.yml").read_text()
    assert (name == "Watchdog") != bool(re.search(r"exp_alerts: \[\]", text))


@each_name
def test_an_alert_has_a_runbook_that_acts(name: str) -> None:
    """Its runbook has the five sections in order, and commands where commands are needed."""
    text = next(path for path in RUNBOOKS if path.stem == name).read_text()
    assert text.startswith(f"# {name}\n")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == RUNBOOK_SECTIONS
    assert all(body.strip() for body in sections.values())
    assert "```bash\n" in sections["Diagnosis"]
    assert "```bash\n" in sections["Mitigation"]


@each_name
def test_a_runbooks_commands_can_be_pasted(name: str) -> None:
    """Every block of commands is valid bash."""
    text = (RUNBOOKS[0].parent / f"{name}.md").read_text()
    blocks = re.findall(r"^( *)```bash\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for _, block in blocks:
        done = subprocess.run(["bash", "-n"], input=textwrap.dedent(block), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_runbooks_and_tests_belong_to_alerts() -> None:
    """No runbook and no test is left over from an alert that is gone."""
    assert [path.stem for path in RUNBOOKS] == alert_names()
    assert [path.stem for path in RULE_TESTS if not path.stem.startswith("interplay_")] == alert_names()


def test_thresholdmissing_names_every_series_that_rules_read() -> None:
    """A series that some rule compares with, or takes its links from, cannot vanish unseen."""
    selector = re.compile(r"auraconnect:\w+:(?:threshold|seconds)\{[^}]*\}|auraconnect:external_url:info")
    watched = next(alert["expr"] for alert in alerts() if alert["alert"] == "ThresholdMissing")
    read = {
        found
        for rule in rules()
        if rule.get("alert") != "ThresholdMissing"
        for text in (rule["expr"], *rule.get("annotations", {}).values())
        for found in selector.findall(text)
    }
    # The delays of escalation are joined on severity, so that one reading means each of them.
    joined = {found for found in read if "escalation=" in found}
    read -= joined
    read |= {found.replace("{", f'{{severity="{severity}", ') for found in joined for severity in ESCALATING}
    assert set(re.findall(r"absent\(([^)]*)\)", watched)) == read
    assert read


def test_every_threshold_is_read() -> None:
    """A number that no rule compares with would be a promise that nobody keeps."""
    recorded = Counter(rule["record"] for rule in rules() if rule.get("record", "").endswith(":threshold"))
    read = " ".join(rule["expr"] for rule in rules() if rule.get("alert") != "ThresholdMissing")
    assert recorded
    assert [name for name in recorded if name not in read] == []


def test_no_external_label_changes_the_identity_of_alerts() -> None:
    """Prometheus would add external labels to every alert."""
    assert "external_labels" not in load(PROMETHEUS)["global"]
