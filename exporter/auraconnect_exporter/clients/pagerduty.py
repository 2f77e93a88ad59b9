"""PagerDuty's webhook (V3): who acknowledged which page there.

Source: PagerDuty's developer documentation, "Webhooks overview" and "Verifying webhook signatures". The body is signed
with HMAC-SHA256; while a subscription's secret is being replaced there are several signatures. A page's key in
PagerDuty is the SHA-256 of Alertmanager's group key, in hexadecimal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from auraconnect_exporter.clients.json_client import decode
from auraconnect_exporter.model import Secret

MAX_SIGNATURES = 20
MAX_NAME = 100


class UnusableEvent(Exception):
    """A signed body that is no event of PagerDuty; the message says why, without its content."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Somebody has acknowledged a page in PagerDuty."""

    dedup_key: str
    by: str


def dedup_key(group_key: str) -> str:
    """Return what Alertmanager calls a group in PagerDuty."""
    return hashlib.sha256(group_key.encode()).hexdigest()


def is_signed(body: bytes, header: str, secrets: Sequence[Secret]) -> bool:
    """Return whether one of the header's signatures (``v1=…,v1=…``) is made with one of our secrets."""
    shown = [part.strip().removeprefix("v1=") for part in header.split(",")[:MAX_SIGNATURES]]
    own = [hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest() for secret in secrets]
    # Every pair is compared, each in constant time.
    matches = [hmac.compare_digest(signature.encode(), ours.encode()) for signature in shown for ours in own]
    return any(matches)


def parse(body: bytes) -> Acknowledged | None:
    """Return the acknowledgement that an event tells of, None for what is none. Raises UnusableEvent."""
    try:
        event = decode(body, _Body).event
        if event.event_type != "incident.acknowledged":
            return None
        incident = msgspec.convert(event.data, _Incident)
    except (ValueError, msgspec.ValidationError) as error:
        raise UnusableEvent(f"it is no event of PagerDuty: {error}") from None
    name = "".join(character for character in event.agent.summary if character.isprintable()) if event.agent else ""
    return Acknowledged(incident.incident_key, name[:MAX_NAME] or "somebody")


class _Agent(msgspec.Struct):
    summary: str = ""


class _Incident(msgspec.Struct):
    incident_key: str


class _Event(msgspec.Struct):
    event_type: str
    data: dict[str, object]
    agent: _Agent | None = None


class _Body(msgspec.Struct):
    event: _Event
