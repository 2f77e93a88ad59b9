"""The stand-in for PagerDuty refuses what the service refuses, and keeps incidents as it does."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.standins.pagerduty import PagerDuty

KEY = "0123456789abcdef0123456789abcdef"
OTHER_KEY = "00000000000000000000000000000000"


@pytest.fixture
def pagerduty() -> Iterator[PagerDuty]:
    with PagerDuty(KEY, OTHER_KEY) as service:
        yield service


def event(action: str = "trigger", **changes: Any) -> dict[str, Any]:
    payload = {"summary": "The database is gone", "source": "prometheus", "severity": "critical"}
    links = [{"href": "https://example.com/runbook", "text": "Runbook"}]
    sent = {"routing_key": KEY, "event_action": action, "dedup_key": "k", "payload": payload, "links": links}
    return {**sent, **changes}


def send(service: PagerDuty, body: object, content_type: str = "application/json") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=5)
    content = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", "/v2/enqueue", content, {"Content-Type": content_type})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text) if text else None


def test_a_good_event_is_accepted(pagerduty: PagerDuty) -> None:
    """A trigger gets 202 and its key back, and opens an incident."""
    answer = send(pagerduty, event())
    assert answer == (202, {"status": "success", "message": "Event processed", "dedup_key": "k"})
    assert pagerduty.triggers[0].payload["severity"] == "critical"
    assert pagerduty.triggers[0].links == ("https://example.com/runbook",)
    assert pagerduty.incidents == [{"routing_key": KEY, "dedup_key": "k", "status": "triggered"}]


def test_one_key_is_one_incident(pagerduty: PagerDuty) -> None:
    """A second trigger joins the open incident; only after a resolve the key opens another."""
    for action in ("trigger", "trigger", "acknowledge", "resolve", "resolve"):
        send(pagerduty, event(action))
    assert pagerduty.incidents == [{"routing_key": KEY, "dedup_key": "k", "status": "resolved"}]
    send(pagerduty, event())
    assert [incident["status"] for incident in pagerduty.incidents] == ["resolved", "triggered"]


def test_each_service_has_incidents_of_its_own(pagerduty: PagerDuty) -> None:
    """The same key at two services is two incidents, and resolving one leaves the other."""
    for sent in (event(), event(routing_key=OTHER_KEY), event("resolve")):
        assert send(pagerduty, sent)[0] == 202
    assert [(one["routing_key"], one["status"]) for one in pagerduty.incidents] == [
        (KEY, "resolved"),
        (OTHER_KEY, "triggered"),
    ]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"routing_key": "short"}, "Length of 'routing_key' is incorrect (should be 32 characters)"),
        ({"routing_key": KEY[::-1]}, "Invalid routing key"),
        ({"dedup_key": "k" * 256}, "Length of 'dedup_key' is incorrect (should be at most 255 characters)"),
        ({"event_action": "resolve", "dedup_key": ""}, "'dedup_key' is missing or blank"),
        ({"links": [{"text": "Runbook"}]}, "'links[0].href' is missing or no URL"),
        ({"payload": None}, "'payload' is missing or blank"),
        ({"payload": {**event()["payload"], "source": " "}}, "'payload.source' is missing or blank"),
        (
            {"payload": {**event()["payload"], "severity": "fatal"}},
            "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')",
        ),
        (
            {"payload": {**event()["payload"], "summary": "s" * 1025}},
            "Length of 'payload.summary' is incorrect (should be at most 1024 characters)",
        ),
        (
            {"payload": {**event()["payload"], "custom_details": "text"}},
            "'payload.custom_details' is invalid (must be an object)",
        ),
    ],
)
def test_a_faulty_event_is_refused(pagerduty: PagerDuty, fault: dict[str, Any], error: str) -> None:
    """A single fault gets 400 with its error, and no incident opens."""
    status, answer = send(pagerduty, event(**fault))
    assert (status, answer["status"], answer["errors"]) == (400, "invalid event", [error])
    assert (pagerduty.events, pagerduty.incidents) == ([], [])


@pytest.mark.parametrize(("body", "content_type"), [("{", "application/json"), (event(), "text/plain")])
def test_what_is_no_json_is_refused(pagerduty: PagerDuty, body: object, content_type: str) -> None:
    """Broken JSON, and JSON that is declared as something else, get 400."""
    status, answer = send(pagerduty, body, content_type)
    assert (status, answer["status"]) == (400, "Unrecognized object")


def test_a_service_in_trouble_takes_nothing(pagerduty: PagerDuty) -> None:
    """While it answers 429 it remembers the request, but not the event."""
    with pagerduty.failing(429):
        assert send(pagerduty, event()) == (429, None)
    assert (len(pagerduty.requests), pagerduty.events) == (1, [])
    assert send(pagerduty, event())[0] == 202


def test_waiting_for_what_does_not_come_says_what_came(pagerduty: PagerDuty) -> None:
    """The error of a wait in vain shows the requests so far."""
    send(pagerduty, event())
    with pytest.raises(TimeoutError, match=r"(?s)1 requests.*The database is gone.*202"):
        pagerduty.wait_for(lambda: len(pagerduty.triggers) == 2, 0.01)
