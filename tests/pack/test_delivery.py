"""What leaves Alertmanager with the pack's own configuration, seen by services that check it as the real ones do."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.pack.files import ALERTMANAGER
from tests.standins.pagerduty import PagerDuty
from tests.standins.service import Answer, Request, StandIn
from tests.standins.slack import Slack
from tools.servers import Alertmanager

KEY = "0123456789abcdef0123456789abcdef"
LINKS = {"runbook_url": "http://localhost:9850/runbooks/X", "dashboard_url": "http://localhost:9850/dashboard"}


class Heartbeat(StandIn):
    """The service that the watchdog's beats go to."""

    def answer(self, request: Request) -> Answer:
        """Take the beat."""
        return Answer(200 if request.headers.get("authorization") == "Bearer beat" else 401, "")


def configuration(folder: Path, pagerduty: PagerDuty, slack: Slack, heartbeat: Heartbeat) -> Path:
    """Write the pack's configuration with the services' addresses and secrets, without email and SMS."""
    (folder / "pagerduty-oncall-engineer").write_text(KEY)
    (folder / "slack-webhook-url").write_text(slack.url)
    (folder / "heartbeat-token").write_text("beat")
    config = yaml.safe_load(ALERTMANAGER.read_text().replace("secrets/", f"{folder}/"))
    config["templates"] = [str(ALERTMANAGER.parent / "templates/*.tmpl")]
    for receiver in config["receivers"]:
        receiver.pop("email_configs", None)
        receiver.pop("sns_configs", None)
        for entry in receiver.get("pagerduty_configs", []):
            entry["url"] = pagerduty.url
        for entry in receiver.get("webhook_configs", []):
            entry["url"] = heartbeat.base_url
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def post(alertmanager: Alertmanager, *alerts: dict[str, Any]) -> None:
    """Post alerts as Prometheus does."""
    request = urllib.request.Request(
        f"{alertmanager.url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).close()


def test_a_page_a_notice_and_a_beat_arrive_as_their_services_want_them(release: str, tmp_path: Path) -> None:
    """PagerDuty accepts one critical trigger with its parts and links, Slack both messages, the heartbeat its token."""
    lost = {
        "labels": {
            "alertname": "DatabaseConnectionLost",
            "severity": "critical",
            "component": "database",
            "target": "primary",
            "symptom": "availability",
        },
        "annotations": {"summary": "A critical database does not answer", "description": "It failed.", **LINKS},
    }
    bare = {"labels": {"alertname": "PostedBySomebody", "severity": "critical"}}
    beat = {"labels": {"alertname": "Watchdog", "severity": "none"}}
    with PagerDuty(KEY) as pagerduty, Slack("token", ["#incidents"]) as slack, Heartbeat() as heartbeat:
        config = configuration(tmp_path, pagerduty, slack, heartbeat)
        with Alertmanager(tmp_path, config, release=release) as alertmanager:
            post(alertmanager, lost)
            pagerduty.wait_for(lambda: len(pagerduty.triggers) == 1, 10)
            post(alertmanager, bare, beat)
            pagerduty.wait_for(lambda: len(pagerduty.triggers) == 2, 10)
            slack.wait_for(lambda: len(slack.messages) == 2, 10)
            heartbeat.wait_for(lambda: len(heartbeat.requests) == 1, 10)
            post(alertmanager, {**lost, "endsAt": "2026-01-01T00:00:00Z", "startsAt": "2025-12-31T23:00:00Z"})
            pagerduty.wait_for(lambda: len(pagerduty.resolves) == 1, 30)

    first, second = pagerduty.triggers
    assert first.payload["severity"] == "critical"
    assert first.payload["summary"] == "[CRITICAL] database/primary: A critical database does not answer"
    parts = {name: first.payload[name] for name in ("component", "group", "class")}
    assert parts == {"component": "database", "group": "primary", "class": "availability"}
    assert first.payload["custom_details"]["alert"] == "DatabaseConnectionLost"
    assert first.links == (LINKS["runbook_url"], LINKS["dashboard_url"])
    assert second.payload["summary"] == "[CRITICAL] AuraConnect: PostedBySomebody"
    assert pagerduty.resolves[0].dedup_key == first.dedup_key != second.dedup_key
    assert "A critical database does not answer" in slack.messages[0].text
    assert LINKS["runbook_url"] in slack.messages[0].text
    assert [answer.status for _, answer in heartbeat.requests] == [200]
