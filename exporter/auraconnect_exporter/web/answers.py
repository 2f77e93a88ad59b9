"""What the health API answers: its shapes, as AuraConnect's clients know them, and how they are made. Pure.

Times are ISO 8601 in UTC; clients ignore fields that they don't know, so there are more than they know. What can't be
known at the moment is null, and ``unavailable`` says in a sentence why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from auraconnect_exporter.figures import EndpointPerformance, Totals
from auraconnect_exporter.health import worst
from auraconnect_exporter.model import Component, Health, Snapshot, TargetView
from auraconnect_exporter.records import (
    AlertType,
    AuditEntry,
    Episode,
    ErrorRecord,
    Event,
    EventKind,
    Moment,
    Origin,
    instant_of,
)

GIBIBYTE: Final = 1024**3
MEBIBYTE: Final = 1024**2


class ComponentStatus(msgspec.Struct, frozen=True):
    """A component's state and nothing more: this is public."""

    name: Component
    status: Health


class BasicHealth(msgspec.Struct, frozen=True):
    """The public summary; ``checks_…`` count targets."""

    status: Health
    timestamp: datetime
    version: str
    uptime_seconds: float
    components: tuple[ComponentStatus, ...]
    checks_passed: int
    checks_failed: int


class TargetDetail(msgspec.Struct, frozen=True):
    """One target of a component."""

    name: str
    status: Health
    critical: bool
    response_time_ms: float | None
    last_checked: datetime | None
    message: str


class ComponentDetail(msgspec.Struct, frozen=True):
    """A component as its worst target is; ``details`` has all of them."""

    name: Component
    status: Health
    response_time_ms: float | None
    details: dict[str, tuple[TargetDetail, ...]]
    last_checked: datetime | None
    message: str


class DetailedHealth(msgspec.Struct, frozen=True):
    """The whole state; ``checks_…`` count targets."""

    status: Health
    timestamp: datetime
    version: str
    uptime_seconds: float
    components: tuple[ComponentDetail, ...]
    checks_passed: int
    checks_failed: int


class SystemMetrics(msgspec.Struct, frozen=True):
    """Figures of the host, the database and the requests; of disks, the fullest."""

    cpu_usage_percent: float | None
    memory_usage_mb: float | None
    memory_total_mb: float | None
    disk_usage_percent: float | None
    disk_free_gb: float | None
    active_connections: int | None
    request_rate_per_second: float | None
    error_rate_per_second: float | None
    average_response_time_ms: float | None
    unavailable: dict[str, str] = {}


class ErrorDetail(msgspec.Struct, frozen=True):
    """One error of the application."""

    id: str
    error_type: str
    error_message: str
    stack_trace: str | None
    endpoint: str | None
    method: str | None
    status_code: int | None
    user_id: str | None
    restaurant_id: str | None
    request_id: str | None
    tags: Any
    created_at: datetime
    resolved: bool
    resolved_at: datetime | None


class TopError(msgspec.Struct, frozen=True):
    """A type of error and how many there were."""

    error_type: str
    count: int


class AffectedEndpoint(msgspec.Struct, frozen=True):
    """An endpoint and how many errors it had."""

    endpoint: str
    error_count: int


class ErrorSummary(msgspec.Struct, frozen=True):
    """Errors of some hours, counted to the minute."""

    total_errors: int
    unique_errors: int
    error_rate_per_hour: float
    top_errors: tuple[TopError, ...]
    affected_endpoints: tuple[AffectedEndpoint, ...]
    time_window_hours: int


class AlertDetail(msgspec.Struct, frozen=True):
    """An alert, open or over. ``severity`` is critical, warning or info, unless a rule misspells it."""

    id: str
    alert_type: AlertType
    severity: str
    component: str
    title: str
    description: str
    threshold_value: float | None
    actual_value: float | None
    metadata: dict[str, Any]
    triggered_at: datetime
    acknowledged: bool
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved: bool
    resolved_at: datetime | None
    alertname: str
    target: str
    symptom: str
    origin: Origin
    suppressed: bool
    resolved_by: str | None
    runbook_url: str | None


class AlertEvent(msgspec.Struct, frozen=True):
    """Something that happened to an alert; ``actor`` is a person or a program."""

    at: datetime
    kind: EventKind
    actor: str
    detail: str


class AlertTimeline(msgspec.Struct, frozen=True):
    """An alert and all that happened to it, in the order of time."""

    alert: AlertDetail
    events: tuple[AlertEvent, ...]


class DashboardAnswer(msgspec.Struct, frozen=True):
    """All that the dashboard shows. ``timestamp`` is that of the newest check: no news, the same answer."""

    timestamp: datetime
    health: DetailedHealth
    system_metrics: SystemMetrics
    performance: tuple[EndpointPerformance, ...]
    recent_errors: tuple[ErrorDetail, ...]
    active_alerts: tuple[AlertDetail, ...]
    active_alerts_total: int
    error_summary: ErrorSummary | None
    unavailable: dict[str, str]


class AuditEvent(msgspec.Struct, frozen=True):
    """Who did what, to what, from where, and what came of it."""

    at: datetime
    actor: str
    action: str
    subject: str
    address: str
    outcome: str
    detail: str


# ── Health ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def basic_health(snapshot: Snapshot, version: str, uptime_seconds: float) -> BasicHealth:
    """Return the public summary of a snapshot."""
    passed = sum(view.health is Health.HEALTHY for view in snapshot.targets)
    return BasicHealth(
        status=public(snapshot.system),
        timestamp=_utc(snapshot.time),
        version=version,
        uptime_seconds=round(uptime_seconds, 3),
        components=tuple(ComponentStatus(name, public(health)) for name, health in snapshot.components.items()),
        checks_passed=passed,
        checks_failed=len(snapshot.targets) - passed,
    )


def detailed_health(snapshot: Snapshot, version: str, uptime_seconds: float) -> DetailedHealth:
    """Return all of a snapshot."""
    passed = sum(view.health is Health.HEALTHY for view in snapshot.targets)
    return DetailedHealth(
        status=public(snapshot.system),
        timestamp=_utc(snapshot.time),
        version=version,
        uptime_seconds=round(uptime_seconds, 3),
        components=tuple(_component(name, snapshot.targets) for name in snapshot.components),
        checks_passed=passed,
        checks_failed=len(snapshot.targets) - passed,
    )


def public(health: Health) -> Health:
    """Return one of the three states that the clients know; what is unknown is not all right."""
    return Health.DEGRADED if health is Health.UNKNOWN else health


def _component(name: Component, targets: Iterable[TargetView]) -> ComponentDetail:
    own = [view for view in targets if view.id.component is name]
    health = worst(view.health for view in own)
    shown = _target(next(view for view in own if view.health is health))
    return ComponentDetail(
        name=name,
        status=public(health),
        response_time_ms=shown.response_time_ms,
        details={"targets": tuple(_target(view) for view in own)},
        last_checked=shown.last_checked,
        message=shown.message if len(own) == 1 or health is Health.HEALTHY else f"{shown.name}: {shown.message}",
    )


def _target(view: TargetView) -> TargetDetail:
    last = view.state.last
    return TargetDetail(
        name=view.id.name,
        status=public(view.health),
        critical=view.critical,
        response_time_ms=None if last is None else round(last.duration * 1000, 3),
        last_checked=None if last is None else _utc(last.started),
        message=_message(view),
    )


def _message(view: TargetView) -> str:
    last = view.state.last
    if last is None:
        return "not checked yet"
    if view.health is Health.UNKNOWN:
        return "the last check is too old to tell"
    because = f" ({view.cause})" if view.cause else ""
    if not last.ok:
        return (f"{last.reason}: {last.message}" if last.message else str(last.reason)) + because
    return ("; ".join(last.reading.degraded) or "all is well") + because


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def system_metrics(snapshot: Snapshot, totals: Totals | None, unavailable: Mapping[str, str]) -> SystemMetrics:
    """Return the figures of a snapshot, and of the requests where Prometheus told them."""
    cpu = _samples(snapshot, "host_cpu_usage_ratio")
    memory = _samples(snapshot, "host_memory_total_bytes")
    available = _samples(snapshot, "host_memory_available_bytes")
    sizes = _samples(snapshot, "host_filesystem_size_bytes")
    free = _samples(snapshot, "host_filesystem_avail_bytes")
    connections = _samples(snapshot, "postgres_connections")
    used = {disk: 1 - free[disk] / size for disk, size in sizes.items() if size > 0 and disk in free}
    fullest = max(used, key=lambda disk: used[disk], default=None)
    total = sum(memory.values())
    return SystemMetrics(
        cpu_usage_percent=round(max(cpu.values()) * 100, 1) if cpu else None,
        memory_usage_mb=round((total - sum(available.values())) / MEBIBYTE, 1) if memory and available else None,
        memory_total_mb=round(total / MEBIBYTE, 1) if memory else None,
        disk_usage_percent=None if fullest is None else round(used[fullest] * 100, 1),
        disk_free_gb=None if fullest is None else round(free[fullest] / GIBIBYTE, 2),
        active_connections=int(sum(connections.values())) if connections else None,
        request_rate_per_second=totals.request_rate_per_second if totals else None,
        error_rate_per_second=totals.error_rate_per_second if totals else None,
        average_response_time_ms=totals.average_response_time_ms if totals else None,
        unavailable=dict(unavailable),
    )


def _samples(snapshot: Snapshot, metric: str) -> dict[tuple[str, ...], float]:
    """Return what the last checks measured of one metric, by target and labels."""
    return {
        (view.id.name, *sample.label_values): sample.value
        for view in snapshot.targets
        if view.state.last is not None and view.health is not Health.UNKNOWN
        for sample in view.state.last.reading.samples
        if sample.metric.name == metric
    }


# ── Errors and alerts ────────────────────────────────────────────────────────────────────────────────────────────────


def error_detail(error: ErrorRecord) -> ErrorDetail:
    """Return an error as clients know it."""
    return ErrorDetail(
        id=error.id,
        error_type=error.error_type,
        error_message=error.error_message,
        stack_trace=error.stack_trace,
        endpoint=error.endpoint,
        method=error.method,
        status_code=error.status_code,
        user_id=error.user_id,
        restaurant_id=error.restaurant_id,
        request_id=error.request_id,
        tags=error.tags,
        created_at=instant_of(error.created_at),
        resolved=error.resolved,
        resolved_at=_instant(error.resolved_at),
    )


def alert_detail(episode: Episode, *, suppressed: bool) -> AlertDetail:
    """Return an alert as clients know it, and what is more."""
    by_rule = {"labels": dict(episode.labels), "annotations": dict(episode.annotations)}
    return AlertDetail(
        id=episode.id,
        alert_type=episode.alert_type,
        severity=episode.identity.severity,
        component=episode.identity.component if episode.origin is Origin.RULE else episode.annotations["component"],
        title=episode.title,
        description=episode.description,
        threshold_value=episode.threshold_value,
        actual_value=episode.actual_value,
        metadata=dict(episode.metadata) if episode.origin is Origin.API else by_rule,
        triggered_at=instant_of(episode.started_at),
        acknowledged=episode.acknowledged_at is not None,
        acknowledged_at=_instant(episode.acknowledged_at),
        acknowledged_by=episode.acknowledged_by or None,
        resolved=not episode.is_open,
        resolved_at=_instant(episode.ended_at),
        alertname=episode.identity.alertname,
        target=episode.identity.target,
        symptom=episode.symptom,
        origin=episode.origin,
        suppressed=suppressed,
        resolved_by=episode.ended_by or None,
        runbook_url=episode.annotations.get("runbook_url"),
    )


def timeline(alert: AlertDetail, events: Sequence[Event]) -> AlertTimeline:
    """Return an alert with what happened to it."""
    return AlertTimeline(alert, tuple(event_detail(event) for event in events))


def event_detail(event: Event) -> AlertEvent:
    """Return an event."""
    return AlertEvent(instant_of(event.at), event.kind, event.actor, event.detail)


def audit_event(entry: AuditEntry) -> AuditEvent:
    """Return an entry of the audit log."""
    return AuditEvent(
        instant_of(entry.at), entry.actor, entry.action, entry.subject, entry.address, entry.outcome, entry.detail
    )


def _instant(at: Moment | None) -> datetime | None:
    return None if at is None else instant_of(at)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
