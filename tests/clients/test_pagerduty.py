"""PagerDuty's webhook: what is signed by it, and what its events say."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from auraconnect_exporter.clients import pagerduty
from auraconnect_exporter.clients.pagerduty import Acknowledged, UnusableEvent
from auraconnect_exporter.model import Secret

OLD, NEW = Secret("old-signing-secret"), Secret("new-signing-secret")


def event(**fields: Any) -> bytes:
    """Return an event as PagerDuty's documentation shows it, with some fields changed."""
    acknowledged = {
        "id": "01BWGUBG3L8PZ",
        "event_type": "incident.acknowledged",
        "resource_type": "incident",
        "occurred_at": "2026-11-25T03:04:05.000Z",
        "agent": {"id": "PLH1HKV", "summary": "Ada Lovelace", "type": "user_reference"},
        "client": None,
        "data": {"id": "PGR0VU2", "type": "incident", "incident_key": "ab12", "status": "acknowledged"},
    }
    return json.dumps({"event": {**acknowledged, **fields}}).encode()


def signature(body: bytes, secret: Secret) -> str:
    return "v1=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def test_any_of_the_signatures_may_be_made_with_any_of_our_secrets() -> None:
    """While a secret is being replaced, PagerDuty signs with both and we know both."""
    body = event()
    assert pagerduty.is_signed(body, signature(body, OLD), (NEW, OLD))
    assert pagerduty.is_signed(body, f"{signature(body, OLD)},{signature(body, NEW)}", (NEW,))
    assert pagerduty.is_signed(body, f"{signature(body, OLD)}, {signature(body, NEW)}", (NEW,))


@pytest.mark.parametrize("header", ["", "v1=", "v1=0", "v0=é", "nonsense", ",,,", "v1=" + "0" * 64])
def test_what_is_not_signed_is_refused(header: str) -> None:
    """No header, however odd, is a signature without the secret."""
    assert not pagerduty.is_signed(event(), header, (OLD, NEW))


def test_a_signature_is_of_its_body_and_its_secret() -> None:
    """Another body or another secret makes it worthless; so does having no secret at all."""
    body = event()
    assert not pagerduty.is_signed(body + b" ", signature(body, OLD), (OLD,))
    assert not pagerduty.is_signed(body, signature(body, OLD), (NEW,))
    assert not pagerduty.is_signed(body, signature(body, OLD), ())


def test_an_acknowledgement_names_the_page_and_the_person() -> None:
    """The key is that of the page, the name is fit for a log."""
    assert pagerduty.parse(event()) == Acknowledged("ab12", "Ada Lovelace")
    assert pagerduty.parse(event(agent={"summary": "A\nda" + "x" * 200})) == Acknowledged("ab12", "Ada" + "x" * 97)
    assert pagerduty.parse(event(agent=None)) == Acknowledged("ab12", "somebody")


@pytest.mark.parametrize("kind", ["incident.resolved", "incident.unacknowledged", "pagey.ping", "service.updated"])
def test_other_events_say_nothing(kind: str) -> None:
    """What happens to a page otherwise is Alertmanager's to tell."""
    assert pagerduty.parse(event(event_type=kind, data={})) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"event":{}}', event(data={}), event(data=1), b"[" * 100_000, b"\xff", event(agent=3)]
)
def test_a_body_that_is_no_event_is_unusable(body: bytes) -> None:
    """Whatever it is, it is refused in a sentence."""
    with pytest.raises(UnusableEvent, match=r"^it is no event of PagerDuty: "):
        pagerduty.parse(body)


def test_a_group_has_the_key_that_alertmanager_gives_it() -> None:
    """The SHA-256 of the group's key, as sha256sum and Alertmanager's notify/util.go make it."""
    expected = "ad4b39d3af6c5f089ddb8504a474cd124febe3ef322f263d58074fb0c51dc572"
    assert pagerduty.dedup_key('{}:{alertname="A"}') == expected
