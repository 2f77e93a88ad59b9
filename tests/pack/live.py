"""A real Alertmanager on the pack's configuration, with a stand-in behind every channel."""

import json
import os
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e import derivation
from tests.e2e.channels import Channels, channels
from tests.standins.incident_log import IncidentLog
from tools.servers import Alertmanager, HTTPServer

Labels = Mapping[str, str]
Config = dict[str, Any]

TOKEN = "token-of-the-incident-log"
BASE = "http://localhost:9850"
PAGE = ("PagerDuty", "SMS", "Slack", "email")
NOTICE = ("Slack", "email")
ALWAYS = [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}]
NEVER = [{"years": ["2000"]}]

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Message:
    """What came through a channel: whom it was for (the name of the key's file, topic, channel or addresses)."""

    to: str
    text: str


@dataclass(frozen=True)
class Live:
    """What runs, and where its messages arrive."""

    alertmanager: HTTPServer
    channels: Channels
    log: IncidentLog

    def fire(self, *alerts: Labels) -> None:
        """Post alerts that fire, in one request as Prometheus does."""
        post(self.alertmanager, *(firing(labels) for labels in alerts))

    def end(self, *alerts: Labels) -> None:
        """Tell that alerts are over."""
        post(self.alertmanager, *(over(labels) for labels in alerts))

    def reload(self) -> None:
        """Let Alertmanager read its configuration again."""
        _send(self.alertmanager, "POST", "/-/reload")

    def messages(self, about: str) -> dict[str, list[Message]]:
        """Return the messages in which a text occurs, by channel and in their order."""
        to = self.channels
        names = {key: name for name, key in to.secrets.items()}
        incidents = {event.dedup_key for event in to.pagerduty.triggers if about in json.dumps(event.payload)}
        return {
            "PagerDuty": [
                Message(names[event.routing_key], " ".join([event.action, event.payload.get("summary", "")]).strip())
                for event in to.pagerduty.events
                if event.dedup_key in incidents
            ],
            "SMS": [Message(sms.topic, sms.message) for sms in to.sns.published if about in sms.message],
            "Slack": [Message(post.channel, post.text) for post in to.slack.messages if about in post.text],
            "email": [
                Message(", ".join(mail.recipients), f"{mail.subject}\n{mail.texts['text/plain']}")
                for mail in to.mail.mails
                if about in mail.texts["text/plain"]
            ],
        }

    def wait(self, about: str, through: Iterable[str], count: int = 1, timeout: float = 20) -> dict[str, list[Message]]:
        """Wait until so many messages about something came through each channel; return all that came about it."""
        to = self.channels
        memories = {"PagerDuty": to.pagerduty, "SMS": to.sns, "Slack": to.slack, "email": to.mail}
        for channel in through:
            memories[channel].wait_for(partial(self._has, channel, about, count), timeout)
        return self.messages(about)

    def _has(self, channel: str, about: str, count: int) -> bool:
        return len(self.messages(about)[channel]) >= count

    def wait_for_log(self, target: str, status: str = "firing", timeout: float = 20) -> None:
        """Wait until the incident log has been told of an alert with this target."""

        def told() -> bool:
            return any(
                alert.labels.get("target") == target and alert.firing == (status == "firing")
                for delivery in self.log.deliveries
                for alert in delivery.alerts
            )

        self.log.wait_for(told, timeout)


def alert(name: str, severity: str, component: str, target: str, symptom: str = "availability", **more: str) -> Labels:
    """Return the labels of an alert as the rules make it."""
    return {
        "alertname": name,
        "severity": severity,
        "component": component,
        "target": target,
        "symptom": symptom,
        **more,
    }


def firing(labels: Labels) -> dict[str, Any]:
    """Return an alert that fires, as Prometheus posts it."""
    name = labels.get("alertname", "X")
    annotations = {
        "summary": f"{name} fires",
        "description": f"Of {labels.get('target', 'something')} the value is 3, the limit 2.",
        "runbook_url": f"{BASE}/runbooks/{name}",
        "dashboard_url": f"{BASE}/dashboard",
    }
    return {"labels": labels, "annotations": annotations}


def over(labels: Labels) -> dict[str, Any]:
    """Return an alert that has just ended, as Prometheus posts it."""
    now = datetime.now(UTC)
    return {**firing(labels), "startsAt": (now - timedelta(minutes=1)).isoformat(), "endsAt": now.isoformat()}


def post(alertmanager: HTTPServer, *alerts: dict[str, Any]) -> None:
    """Post alerts to an Alertmanager."""
    _send(alertmanager, "POST", "/api/v2/alerts", alerts)


@contextmanager
def silenced(alertmanager: HTTPServer, target: str) -> Iterator[None]:
    """Silence a target until the end of the block."""
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "target", "value": target, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "ada",
        "comment": "while it is repaired",
    }
    id_ = json.loads(_send(alertmanager, "POST", "/api/v2/silences", silence))["silenceID"]
    yield
    _send(alertmanager, "DELETE", f"/api/v2/silence/{id_}")


def _send(alertmanager: HTTPServer, method: str, path: str, body: object = None) -> str:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{alertmanager.url}{path}", content, headers, method=method)
    with _opener.open(request, timeout=10) as response:
        text: str = response.read().decode()
        return text


def ask(alertmanager: HTTPServer, path: str) -> str:
    """Return what an Alertmanager answers."""
    with _opener.open(f"{alertmanager.url}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def routes(node: Config) -> Iterator[Config]:
    """Yield a route and all those below it."""
    yield node
    for child in node.get("routes", []):
        yield from routes(child)


def as_it_is(_config: Config) -> None:
    """Leave a configuration as it is."""


def quick(config: Config) -> None:
    """Let groups wait for a second at most, and let it be office hours: who is told, and of what, stays."""
    for route in routes(config["route"]):
        route["group_wait"] = "0s" if route["group_wait"] == "0s" else "1s"
        route["group_interval"] = "1s"
    config["time_intervals"] = [{"name": "office-hours", "time_intervals": ALWAYS}]


@contextmanager
def live(
    folder: Path,
    release: str,
    change: Callable[[Config], None] = as_it_is,
) -> Iterator[Live]:
    """Start everything, the configuration changed as told; it stops at the end of the block."""
    with channels(folder) as receiving, IncidentLog(TOKEN) as log:
        config = derivation.alertmanager(folder, receiving, {BASE: log.base_url}, TOKEN)
        change(config)
        path = derivation.write(folder / "alertmanager.yml", config)
        environment = {**os.environ, **derivation.environment(folder)}
        with Alertmanager(folder, path, release=release, env=environment) as started:
            yield Live(started, receiving, log)
