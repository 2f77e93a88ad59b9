"""The escalation on the whole stack: who is told when nobody acknowledges, and what stops it; only time runs faster."""

import hashlib
import hmac
import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from auraconnect_exporter import tokens
from tests.e2e import database as faults
from tests.e2e.database import PASSWORD, Database
from tests.e2e.stack import Stack, stack, wait_until
from tests.standins.pagerduty import Event
from tools.servers import free_port

FACTOR = 20
"""By how much faster time runs for the rules: the secondary is told after 15 seconds, the manager after 45."""

SECONDARY, MANAGER = 300 / FACTOR, 900 / FACTOR
LATE = 20.0
"""Seconds by which a level may come after its time."""

SIGNING_SECRET = "signing-secret"


class People:
    """What people do about alerts: over the health API, in PagerDuty, in Alertmanager."""

    def __init__(self, running: Stack, folder: Path) -> None:
        self._running = running
        self._token = tokens.create(folder / "data", "ada", ["system_admin"], None, time.time()).reveal()

    def post(self, title: str) -> str:
        """Post a critical alert; returns its id."""
        body = {"alert_type": "availability", "severity": "critical", "component": "payments", "title": title}
        posted: dict[str, Any] = self._api("POST", "/alerts", body)
        return str(posted["id"])

    def acknowledge(self, id_: str) -> None:
        """Acknowledge an alert over the health API."""
        self._api("PUT", f"/alerts/{id_}/acknowledge")

    def resolve(self, id_: str) -> None:
        """End a posted alert."""
        self._api("PUT", f"/alerts/{id_}/resolve")

    def id_of(self, alertname: str) -> str:
        """Return the id of the open alert of a rule, which may be paged before the exporter hears of it."""

        def found() -> list[str]:
            alerts = self._api("GET", "/alerts?resolved=false")
            return [str(alert["id"]) for alert in alerts if alert["alertname"] == alertname]

        wait_until(lambda: bool(found()), 10, f"an open {alertname}")
        return found()[0]

    def timeline(self, id_: str) -> list[str]:
        """Return what happened to an alert: kind and detail."""
        events = self._api("GET", f"/alerts/{id_}")["events"]
        return [f"{event['kind']} {event['detail']}".strip() for event in events]

    def acknowledge_in_pagerduty(self, page: Event) -> None:
        """Acknowledge a page there, of which PagerDuty tells us with a signature."""
        incident = {"id": "P1", "type": "incident", "incident_key": page.dedup_key}
        event = {"event_type": "incident.acknowledged", "agent": {"summary": "Ada"}, "data": incident}
        body = json.dumps({"event": event}).encode()
        signature = hmac.new(SIGNING_SECRET.encode(), body, hashlib.sha256).hexdigest()
        url = f"{self._running.exporter.url}/api/v1/health/alerts/pagerduty"
        request = urllib.request.Request(url, body, {"X-PagerDuty-Signature": f"v1={signature}"})
        urllib.request.urlopen(request, timeout=5).close()

    def silence(self, alertname: str) -> None:
        """Silence an alert in Alertmanager."""
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": "alertname", "value": alertname, "isRegex": False}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "ada",
            "comment": "known",
        }
        _call("POST", f"{self._running.alertmanager.url}/api/v2/silences", {}, silence)

    def _api(self, method: str, path: str, body: object = None) -> Any:
        url = f"{self._running.exporter.url}/api/v1/health{path}"
        return _call(method, url, {"Authorization": f"Bearer {self._token}"}, body)


def _call(method: str, url: str, headers: dict[str, str], body: object = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def pages(running: Stack, role: str, about: str) -> list[Event]:
    """Return the pages that a role got about something."""
    to = running.channels
    key = to.secrets[f"pagerduty-{role}"]
    return [event for event in to.pagerduty.triggers if event.routing_key == key and about in json.dumps(event.payload)]


def wait_for_page(running: Stack, role: str, about: str, timeout: float) -> Event:
    """Wait until a role is paged about something."""
    running.channels.pagerduty.wait_for(lambda: bool(pages(running, role, about)), timeout)
    return pages(running, role, about)[0]


def test_what_nobody_acknowledges_climbs_and_what_somebody_does_stays(database: Database, tmp_path: Path) -> None:
    """Each level is told at its time; an acknowledgement anywhere, or a silence, keeps an alert from climbing."""
    (tmp_path / "pagerduty-webhook").write_text(SIGNING_SECRET)
    config = {
        "database": [{"name": "primary", "url": database.url(), "password": PASSWORD}],
        "host": [],
        "pagerduty": {"signing_secret_files": [str(tmp_path / "pagerduty-webhook")]},
    }
    with stack(tmp_path, config, factor=FACTOR) as running:
        people = People(running, tmp_path)
        people.silence("Silenced trouble")
        silenced = people.post("Silenced trouble")
        ignored = people.post("Ignored trouble")
        known = people.post("Known trouble")
        people.post("Trouble known in PagerDuty")
        people.acknowledge(known)
        first = wait_for_page(running, "oncall-engineer", "Ignored trouble", 10)
        people.acknowledge_in_pagerduty(
            wait_for_page(running, "oncall-engineer", "Trouble known in PagerDuty", 10),
        )
        with faults.killed(database):
            lost = wait_for_page(running, "oncall-engineer", "database/primary", 40)

            second = wait_for_page(running, "lead-engineer", "Ignored trouble", SECONDARY + LATE)
            assert SECONDARY <= second.at - first.at + 1 <= SECONDARY + LATE

            escalated = wait_for_page(running, "lead-engineer", "database", SECONDARY + LATE)
            assert escalated.at - lost.at >= SECONDARY - 1
            people.acknowledge(people.id_of("DatabaseConnectionLost"))
            # Prometheus tells the end of what it has fired itself; after a restart it would know of no such alert.
            running.wait_for_query('absent(ALERTS{alertname="EscalatedToSecondary", component="database"})')
            running.wait_for_evaluation("auraconnect-escalation")

            # Prometheus is killed in the middle of the ladder, and neither loses a level nor tells one again.
            running.prometheus.kill()
            running.prometheus.start()

            third = wait_for_page(running, "cto", "Ignored trouble", MANAGER + LATE)
            assert MANAGER <= third.at - first.at + 1 <= MANAGER + LATE
            resolved = running.channels.pagerduty
            resolved.wait_for(lambda: escalated.dedup_key in {event.dedup_key for event in resolved.resolves}, 40)
        people.resolve(ignored)
        running.channels.pagerduty.wait_for(
            lambda: {second.dedup_key, third.dedup_key} <= {event.dedup_key for event in resolved.resolves}, 60
        )
        told = {event.payload["summary"] for event in running.channels.pagerduty.triggers}
        assert not [summary for summary in told if "Silenced" in summary]
        assert len(pages(running, "oncall-engineer", "Ignored trouble")) == 1
        for role in ("lead-engineer", "cto"):
            assert pages(running, role, "Known trouble") == []
            assert pages(running, role, "Trouble known in PagerDuty") == []
            assert len(pages(running, role, "Ignored trouble")) == 1
        assert pages(running, "cto", "database") == []
        history = people.timeline(ignored)
        assert history[:3] == ["fired", "escalated secondary", "escalated manager"]
        assert history.count("resolved") == 1
        assert "suppressed" in people.timeline(silenced)


def test_a_restart_of_alertmanager_in_the_ladder_neither_loses_nor_repeats_a_level(tmp_path: Path) -> None:
    """It has written down whom it told: told the same again it tells nobody, and it takes nothing back."""
    factor = 30
    with stack(tmp_path, {"host": [{"name": "here"}]}, factor=factor) as running:
        people, pagerduty = People(running, tmp_path), running.channels.pagerduty
        ignored = people.post("Ignored trouble")
        first = wait_for_page(running, "oncall-engineer", "Ignored trouble", 10)
        second = wait_for_page(running, "lead-engineer", "Ignored trouble", 300 / factor + LATE)
        running.alertmanager.stop()
        running.alertmanager.start()
        running.repeat("EscalatedToSecondary")
        people.post("Another trouble")  # with which the exporter tells of all that it has open
        wait_for_page(running, "oncall-engineer", "Another trouble", 10)
        third = wait_for_page(running, "cto", "Ignored trouble", 900 / factor + LATE)
        assert 900 / factor <= third.at - first.at + 1 <= 900 / factor + LATE
        assert pagerduty.resolves == []
        people.resolve(ignored)
        keys = {page.dedup_key for page in (first, second, third)}
        pagerduty.wait_for(lambda: keys <= {event.dedup_key for event in pagerduty.resolves}, 40)
        roles = ("oncall-engineer", "lead-engineer", "cto")
        assert [len(pages(running, role, "Ignored trouble")) for role in roles] == [1, 1, 1]
        history = people.timeline(ignored)
        assert history[:3] == ["fired", "escalated secondary", "escalated manager"]
        assert sum(event.startswith("escalated") for event in history) == 2


def test_an_exporter_that_stays_away_fails_towards_paging(tmp_path: Path) -> None:
    """An acknowledgement holds for ten minutes after its last word, then the alert climbs until there is a new one."""
    factor = 30
    remembered, late = 600 / factor, 15.0
    with stack(tmp_path, {"host": [{"name": "here"}]}, factor=factor) as running:
        people = People(running, tmp_path)
        # Prometheus itself sees that this API does not answer, so its alert goes on without an exporter.
        api = [{"targets": [f"127.0.0.1:{free_port()}"], "labels": {"service": "auraconnect-api"}}]
        (tmp_path / "targets/auraconnect-api.yml").write_text(json.dumps(api))
        wait_for_page(running, "oncall-engineer", "SystemDown", 20)
        people.acknowledge(people.id_of("SystemDown"))
        running.wait_for_query('alert:acknowledged:max10m{alertname="SystemDown"} == 1')
        running.exporter.kill()
        killed = time.monotonic()
        wait_for_page(running, "oncall-engineer", "ExporterDown", late)
        climbed = wait_for_page(running, "lead-engineer", "SystemDown", remembered + late)
        assert remembered - 2 <= climbed.at - killed <= remembered + late
        running.exporter.start()
        pagerduty = running.channels.pagerduty
        pagerduty.wait_for(lambda: climbed.dedup_key in {event.dedup_key for event in pagerduty.resolves}, 30)
        assert len(pages(running, "oncall-engineer", "SystemDown")) == 1
