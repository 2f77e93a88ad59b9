"""A stand-in for PagerDuty's Events API v2: checks events as the service does, and keeps its incidents.

Source: PagerDuty's documentation of the Events API v2 (its OpenAPI description, and "Send an Alert Event" for
the limits). The texts of errors are the service's own where they are known (the length of the routing key,
the severity, unreadable JSON); the others follow their pattern.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.standins.service import Answer, Request, StandIn

ROUTING_KEY_LENGTH = 32
MAX_DEDUP_KEY = 255
MAX_SUMMARY = 1024
MAX_EVENT_BYTES = 512_000
ACTIONS = ("trigger", "acknowledge", "resolve")
SEVERITIES = ("critical", "warning", "error", "info")


@dataclass(frozen=True)
class Event:
    """An event that was accepted. `at` is when it arrived (time.monotonic), `payload` empty unless a trigger's."""

    at: float
    routing_key: str
    action: str
    dedup_key: str
    payload: dict[str, Any]
    links: tuple[str, ...]


class PagerDuty(StandIn):
    """The integrations of some services, which have these keys."""

    def __init__(self, *routing_keys: str) -> None:
        super().__init__()
        self._routing_keys = routing_keys
        self.events: list[Event] = []
        self.incidents: list[dict[str, str]] = []
        """Each incident that was opened: `routing_key`, `dedup_key`, `status` (triggered, acknowledged, resolved)."""

    @property
    def url(self) -> str:
        """Where events go."""
        return f"{self.base_url}/v2/enqueue"

    @property
    def triggers(self) -> list[Event]:
        """The accepted events that say something is wrong."""
        return [event for event in self.events if event.action == "trigger"]

    @property
    def resolves(self) -> list[Event]:
        """The accepted events that say it is over."""
        return [event for event in self.events if event.action == "resolve"]

    def answer(self, request: Request) -> Answer:
        """Check an event and take it in."""
        if urlsplit(request.path).path != "/v2/enqueue":
            return Answer(404, "Not Found")
        event = _decoded(request)
        if event is None:
            return _refusal("Unrecognized object", "Event object format is unrecognized", ["JSON parse error"])
        errors = list(_errors(event, self._routing_keys))
        if errors:
            return _refusal("invalid event", "Event object is invalid", errors)
        key = event.get("dedup_key") or f"generated-{len(self.events)}"
        links = tuple(link["href"] for link in event.get("links", []))
        payload = event["payload"] if event["event_action"] == "trigger" else {}
        self.events.append(Event(request.at, event["routing_key"], event["event_action"], key, payload, links))
        self._update_incident(event["event_action"], {"routing_key": event["routing_key"], "dedup_key": key})
        accepted = {"status": "success", "message": "Event processed", "dedup_key": key}
        return Answer(202, json.dumps(accepted), "application/json")

    def _update_incident(self, action: str, keys: dict[str, str]) -> None:
        """Open at most one incident of a service for a key at a time; what concerns no open one changes nothing."""
        of_key = [one for one in self.incidents if keys.items() <= one.items() and one["status"] != "resolved"]
        if action == "trigger" and not of_key:
            self.incidents.append({**keys, "status": "triggered"})
        for incident in of_key:
            incident["status"] = {"acknowledge": "acknowledged", "resolve": "resolved"}.get(action, incident["status"])


def _decoded(request: Request) -> dict[str, Any] | None:
    if request.media_type != "application/json" or len(request.body) > MAX_EVENT_BYTES:
        return None
    try:
        event = json.loads(request.body)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _errors(event: dict[str, Any], routing_keys: Collection[str]) -> list[str]:
    errors = []
    key = event.get("routing_key")
    if not isinstance(key, str) or len(key) != ROUTING_KEY_LENGTH:
        errors.append(f"Length of 'routing_key' is incorrect (should be {ROUTING_KEY_LENGTH} characters)")
    elif key not in routing_keys:
        errors.append("Invalid routing key")
    action, dedup_key = event.get("event_action"), event.get("dedup_key", "")
    if action not in ACTIONS:
        errors.append("'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')")
    if not isinstance(dedup_key, str) or len(dedup_key) > MAX_DEDUP_KEY:
        errors.append(f"Length of 'dedup_key' is incorrect (should be at most {MAX_DEDUP_KEY} characters)")
    elif action != "trigger" and not dedup_key:
        errors.append("'dedup_key' is missing or blank")
    errors += _link_errors(event.get("links", []))
    return errors + (_payload_errors(event.get("payload")) if action == "trigger" else [])


def _link_errors(links: Any) -> list[str]:
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        return ["'links' is invalid (must be an array of objects)"]
    hrefs = [link.get("href") for link in links]
    return [
        f"'links[{index}].href' is missing or no URL"
        for index, href in enumerate(hrefs)
        if not isinstance(href, str) or urlsplit(href).scheme not in {"http", "https", "mailto"}
    ]


def _payload_errors(payload: Any) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing or blank"]
    errors = [
        f"'payload.{name}' is missing or blank"
        for name in ("summary", "source", "severity")
        if not isinstance(payload.get(name), str) or not payload[name].strip()
    ]
    if not errors and len(payload["summary"]) > MAX_SUMMARY:
        errors.append(f"Length of 'payload.summary' is incorrect (should be at most {MAX_SUMMARY} characters)")
    if not errors and payload["severity"] not in SEVERITIES:
        errors.append(
            "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')"
        )
    if not isinstance(payload.get("custom_details", {}), dict):
        errors.append("'payload.custom_details' is invalid (must be an object)")
    return errors


def _refusal(status: str, message: str, errors: list[str]) -> Answer:
    return Answer(400, json.dumps({"status": status, "message": message, "errors": errors}), "application/json")
