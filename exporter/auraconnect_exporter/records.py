"""The frozen data of the incident store: alerts' episodes and what people did with them, errors, the audit log.

Moments are whole microseconds since 1970 (UTC), as the store keeps them: exact, comparable, the same on every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

Moment = int
"""Microseconds since 1970, UTC."""

SECOND: Final = 1_000_000
"""Microseconds of a second."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> Moment:
    """Return Unix seconds as a moment."""
    return round(seconds * SECOND)


def moment_of(instant: datetime) -> Moment:
    """Return an aware datetime as a moment, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_of(at: Moment) -> datetime:
    """Return a moment as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at)


class Severity(StrEnum):
    """How bad an alert is, worst first."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Origin(StrEnum):
    """Who owns an alert: Prometheus, whose rules fire it, or we, to whom somebody posted it."""

    RULE = "rule"
    API = "api"


class AlertType(StrEnum):
    """What an alert is about, in the words of the health API."""

    ERROR_RATE = "error_rate"
    PERFORMANCE = "performance"
    AVAILABILITY = "availability"
    RESOURCE = "resource"
    SECURITY = "security"


SYMPTOMS: Final[Mapping[AlertType, str]] = {
    AlertType.ERROR_RATE: "errors",
    AlertType.PERFORMANCE: "latency",
    AlertType.AVAILABILITY: "availability",
    AlertType.RESOURCE: "saturation",
    AlertType.SECURITY: "security",
}
"""The label `symptom` of a posted alert, by its type."""


class EventKind(StrEnum):
    """What can happen to an episode."""

    FIRED = "fired"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    ACKNOWLEDGED = "acknowledged"
    NOTE = "note"
    ESCALATED = "escalated"
    ESCALATION_OVER = "escalation_over"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What makes an alert the same alert, for people and for the rules; empty where a label is absent."""

    alertname: str
    severity: str
    component: str
    target: str


@dataclass(frozen=True, slots=True)
class Firing:
    """A fact from Alertmanager: a fingerprint began to fire, and perhaps when that ended.

    ``sequence`` orders facts by when they became known; ``episode`` is the episode that shows it.
    """

    starts: Moment
    ends: Moment | None
    sequence: int
    episode: str


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing of one alert, from its beginning to its end.

    ``fingerprint`` is Alertmanager's; a posted alert has its own id there. ``ended_by`` and ``acknowledged_by`` are
    names of people or programs, empty where Alertmanager or the reconciler said so. ``forced`` marks an end that a
    person declared while the alert still fired.
    """

    id: str
    fingerprint: str
    identity: Identity
    symptom: str
    origin: Origin
    alert_type: AlertType
    title: str
    description: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at: Moment
    recorded_at: Moment
    ended_at: Moment | None = None
    ended_by: str = ""
    forced: bool = False
    acknowledged_at: Moment | None = None
    acknowledged_by: str = ""
    threshold_value: float | None = None
    actual_value: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an episode; never changed, never removed while the episode is kept."""

    episode: str
    at: Moment
    kind: EventKind
    actor: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error of the application, as it logged it; ``source`` names a copied one, so that it is copied once."""

    id: str
    error_type: str
    error_message: str
    created_at: Moment
    stack_trace: str | None = None
    endpoint: str | None = None
    method: str | None = None
    status_code: int | None = None
    user_id: str | None = None
    restaurant_id: str | None = None
    request_id: str | None = None
    tags: Any = None
    resolved: bool = False
    resolved_at: Moment | None = None
    source: str | None = None
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, to what, from where, and what came of it."""

    at: Moment
    actor: str
    action: str
    subject: str = ""
    address: str = ""
    outcome: str = "done"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What an Alertmanager says of one alert.

    ``ends`` is None while it fires. ``updated`` is when Alertmanager last heard so from whoever fires it, which only
    its list of alerts tells; a message that was under way may be older than what is known.
    """

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: Moment
    ends: Moment | None = None
    updated: Moment | None = None
    suppressed: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """An alert that a person or a program posts, checked."""

    alert_type: AlertType
    severity: Severity
    component: str
    title: str
    target: str = ""
    description: str = ""
    threshold_value: float | None = None
    actual_value: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class NoticeState(StrEnum):
    """How far an incident that the public is told of has come."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class NoticeUpdate:
    """A word to the public, and who wrote it; never changed, never removed while its notice is kept."""

    at: Moment
    state: NoticeState
    text: str
    actor: str


@dataclass(frozen=True, slots=True)
class Notice:
    """An incident as the public is told of it; ``components`` are names that people outside know.

    ``updates`` are at least one, oldest first; the last one's state is the notice's.
    """

    id: str
    title: str
    components: tuple[str, ...]
    updates: tuple[NoticeUpdate, ...]

    @property
    def state(self) -> NoticeState:
        """How far it has come."""
        return self.updates[-1].state

    @property
    def started_at(self) -> Moment:
        """When the public was first told."""
        return self.updates[0].at


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, a person or a program, and from where."""

    name: str
    address: str = ""

    def did(self, at: Moment, action: str, subject: str = "", outcome: str = "done") -> AuditEntry:
        """Return the audit log's entry of an act."""
        return AuditEntry(at, self.name, action, subject, self.address, outcome)
