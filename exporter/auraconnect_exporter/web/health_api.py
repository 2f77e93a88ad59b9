"""AuraConnect's health API, as its clients already call it, and what comes on top: its operations, one below the other.

What everybody polls is answered from memory; the rest is one indexed query, or one question to Prometheus.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from auraconnect_exporter import __version__
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.auth import Role
from auraconnect_exporter.clients import pagerduty
from auraconnect_exporter.dashboard import SUMMARY_HOURS, TOP, Background
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import EndpointPerformance, Figures, FiguresUnavailable
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Health, Link, Secret, Snapshot
from auraconnect_exporter.negotiation import accepts_gzip, compress
from auraconnect_exporter.records import Actor, AlertType, Draft, Episode, ErrorRecord, Severity
from auraconnect_exporter.store.errors import ErrorSummary as CountedErrors
from auraconnect_exporter.store.problems import StoreError
from auraconnect_exporter.web import answers, board
from auraconnect_exporter.web.answers import (
    AffectedEndpoint,
    AlertDetail,
    AlertEvent,
    AlertTimeline,
    AuditEvent,
    BasicHealth,
    DashboardAnswer,
    DetailedHealth,
    ErrorDetail,
    ErrorSummary,
    SystemMetrics,
    TopError,
)
from auraconnect_exporter.web.board import BoardAnswer
from auraconnect_exporter.web.operations import Call, Operation, json_answer
from auraconnect_exporter.web.problems import Problem

log = logging.getLogger(__name__)

PREFIX: Final = "/api/v1/health"
"""All that the reverse proxy forwards to us."""

DASHBOARD_ALERTS: Final = 10
SHOWN_FOR: Final = 1.0
"""Seconds for which the dashboard's answer is kept, however many ask."""
PUBLIC_FOR: Final = 0.25
"""The same for the public answer: this is what load balancers and strangers ask."""

WEBHOOK_BYTES: Final = 16 * 1024 * 1024
ERROR_BYTES: Final = 256 * 1024

Text = Annotated[str, msgspec.Meta(max_length=10_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Hours = Annotated[int, msgspec.Meta(ge=1, le=168)]
Reference = Annotated[str, msgspec.Meta(max_length=100)] | Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""An id of AuraConnect's: a number here, a UUID there."""


class PerformanceQuery(msgspec.Struct, frozen=True):
    """Which requests: those of the last minutes, of one endpoint or all."""

    time_window_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 5
    endpoint: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class ErrorsQuery(msgspec.Struct, frozen=True):
    """Which errors."""

    hours: Hours = 24
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    error_type: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    resolved: bool | None = None


class SummaryQuery(msgspec.Struct, frozen=True):
    """Of how many hours."""

    hours: Hours = 24


class AlertsQuery(msgspec.Struct, frozen=True):
    """Which alerts."""

    resolved: bool | None = None
    severity: Severity | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50


class AuditQuery(msgspec.Struct, frozen=True):
    """Which acts."""

    hours: Annotated[int, msgspec.Meta(ge=1, le=720)] = 24
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class ResolveQuery(msgspec.Struct, frozen=True):
    """Whether to end it though it fires."""

    force: bool = False


class ErrorBody(msgspec.Struct, frozen=True):
    """An error to keep."""

    error_type: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    error_message: Text
    stack_trace: Annotated[str, msgspec.Meta(max_length=100_000)] | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    method: Annotated[str, msgspec.Meta(max_length=10)] | None = None
    status_code: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    user_id: Reference | None = None
    restaurant_id: Reference | None = None
    request_id: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    tags: Any = None


class AlertBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert to open."""

    alert_type: AlertType
    severity: Severity
    component: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    title: Name
    description: Text = ""
    target: Annotated[str, msgspec.Meta(max_length=200)] = ""
    threshold_value: float | None = None
    actual_value: float | None = None
    metadata: dict[str, Any] | None = None


class NoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody has to say."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]


class Received(msgspec.Struct, frozen=True):
    """That a delivery is stored."""

    status: Literal["stored"] = "stored"


@dataclass(frozen=True, slots=True)
class Served:
    """What the API serves from. ``monotonic`` and ``uptime`` are in seconds."""

    snapshot: Callable[[], Snapshot]
    uptime: Callable[[], float]
    monotonic: Callable[[], float]
    background: Callable[[], Background]
    alerts: Alerts
    errors: Errors
    figures: Figures | None
    windows: Callable[[], Iterable[Occurrence]]
    links: Callable[[], tuple[Link, ...]]
    pagerduty_secrets: tuple[Secret, ...] = ()


class _Kept:
    """An answer that is made anew at most once a second, however many ask, and not sent to who has it."""

    def __init__(self, make: Callable[[], object], monotonic: Callable[[], float]) -> None:
        self._make = make
        self._monotonic = monotonic
        self._until = -math.inf
        self._body = self._packed = b""
        self._etag = ""

    def fitting(self, request: web.Request) -> web.Response:
        """Return the answer, packed where the caller takes that, or 304 where it is what the caller has."""
        now = self._monotonic()
        if now >= self._until:
            body = msgspec.json.encode(self._make())
            if body != self._body:
                self._body, self._packed = body, compress(body)
                self._etag = hashlib.sha256(body).hexdigest()[:32]
            self._until = now + SHOWN_FOR
        packed = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        etag = f"{self._etag}-gzip" if packed else self._etag  # other bytes, another tag (RFC 9110, 8.8.3.3)
        headers = {
            "ETag": f'"{etag}"',
            "Cache-Control": "private, no-cache",
            "Vary": "Accept, Accept-Encoding, Authorization, Cookie",
        }
        known = {tag.value for tag in request.if_none_match or ()}
        if known & {etag, "*"}:
            return web.Response(status=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        body = self._packed if packed else self._body
        return web.Response(body=body, content_type="application/json", headers=headers)


class HealthApi:
    """The operations."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._dashboard_kept = _Kept(self._dashboard_answer, served.monotonic)
        self._board_kept = _Kept(self._board_answer, served.monotonic)

    def operations(self) -> tuple[Operation, ...]:
        """Return all of them, in the order of the document."""
        admin, unhealthy = Role.SYSTEM_ADMIN, {503: DetailedHealth}
        return (
            Operation(
                "health", "GET", "", "The state of the whole, for everybody", self._health, None,
                answer=BasicHealth, also={503: BasicHealth}, kept_for=PUBLIC_FOR,
            ),
            Operation(
                "detailed", "GET", "/detailed", "The state of each component and target", self._detailed, admin,
                answer=DetailedHealth, also=unhealthy,
            ),
            Operation(
                "metrics", "GET", "/metrics", "Figures of the host, the database and the requests", self._metrics,
                admin, answer=SystemMetrics,
            ),
            Operation(
                "performance", "GET", "/performance", "Response times by endpoint", self._performance, admin,
                query=PerformanceQuery, answer=list[EndpointPerformance], problems=(503,),
            ),
            Operation(
                "errors", "GET", "/errors", "The application's errors, newest first", self._errors, admin,
                query=ErrorsQuery, answer=list[ErrorDetail], problems=(503,),
            ),
            Operation(
                "errorSummary", "GET", "/errors/summary", "The application's errors, counted", self._summary, admin,
                query=SummaryQuery, answer=ErrorSummary, problems=(503,),
            ),
            Operation(
                "logError", "POST", "/errors/log", "Keep an error", self._log_error, Role.INGEST,
                body=ErrorBody, answer=ErrorDetail, status=201, problems=(503,), body_bytes=ERROR_BYTES,
            ),
            Operation(
                "alerts", "GET", "/alerts", "Alerts, those that began last first", self._alerts, admin,
                query=AlertsQuery, answer=list[AlertDetail], problems=(503,),
            ),
            Operation(
                "postAlert", "POST", "/alerts", "Open an alert; it is told to people until it is resolved", self._post,
                admin, body=AlertBody, answer=AlertDetail, problems=(429, 503),
            ),
            Operation(
                "alert", "GET", "/alerts/{id}", "An alert and its timeline", self._alert, admin,
                answer=AlertTimeline, problems=(404, 503),
            ),
            Operation(
                "acknowledge", "PUT", "/alerts/{id}/acknowledge", "Take care of an alert: it climbs no further",
                self._acknowledge, admin, answer=AlertDetail, problems=(404, 503),
            ),
            Operation(
                "resolve", "PUT", "/alerts/{id}/resolve", "End an alert; what Prometheus fires only by force",
                self._resolve, admin, query=ResolveQuery, answer=AlertDetail, problems=(404, 409, 503),
            ),
            Operation(
                "note", "POST", "/alerts/{id}/notes", "Add a note to an alert's timeline", self._note, admin,
                body=NoteBody, answer=AlertEvent, status=201, problems=(404, 503),
            ),
            Operation(
                "webhook", "POST", "/alerts/webhook", "Alertmanager's deliveries", self._webhook, Role.ALERTMANAGER,
                body=bytes, answer=Received, problems=(503,), body_bytes=WEBHOOK_BYTES,
            ),
            Operation(
                "pagerduty", "POST", "/alerts/pagerduty", "PagerDuty's signed webhook (V3): an acknowledgement there "
                "counts here", self._pagerduty, None, body=bytes, answer=Received, problems=(401, 503),
            ),
            Operation(
                "dashboard", "GET", "/dashboard", "All that the dashboard shows", self._dashboard, admin,
                answer=DashboardAnswer, also={304: None},
            ),
            Operation(
                "board", "GET", "/board", "All that the five-second page shows", self._board, admin,
                answer=BoardAnswer, also={304: None},
            ),
            Operation(
                "audit", "GET", "/audit", "Who did what, newest first", self._audit, admin,
                query=AuditQuery, answer=list[AuditEvent], problems=(503,),
            ),
        )  # fmt: skip

    async def note(self, actor: Actor, action: str, outcome: str) -> None:
        """Add an act to the audit log; what has happened is not undone where that can't be written."""
        try:
            await self._served.errors.note(actor, action, outcome)
        except StoreError as error:
            log.warning("an act is missing in the audit log", extra={"action": action, "detail": str(error)})

    # ── State ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _health(self, call: Call) -> web.Response:
        del call
        snapshot = self._served.snapshot()
        return json_answer(answers.basic_health(snapshot, __version__, self._served.uptime()), _status(snapshot))

    async def _detailed(self, call: Call) -> web.Response:
        del call
        snapshot = self._served.snapshot()
        answer = answers.detailed_health(snapshot, __version__, self._served.uptime())
        return json_answer(answer, _status(snapshot))

    async def _metrics(self, call: Call) -> web.Response:
        del call
        latest = self._served.background()
        reasons = {name: why for name, why in latest.unavailable.items() if name == "prometheus"}
        return json_answer(answers.system_metrics(self._served.snapshot(), latest.totals, reasons))

    async def _performance(self, call: Call) -> web.Response:
        query: PerformanceQuery = call.query
        if self._served.figures is None:
            raise Problem(503, "no Prometheus is configured, which would know the response times")
        try:
            found = await self._served.figures.performance(query.time_window_minutes, query.endpoint)
        except FiguresUnavailable as error:
            raise Problem(503, str(error), {"Retry-After": "5"}) from None
        return json_answer(found)

    async def _dashboard(self, call: Call) -> web.Response:
        return self._dashboard_kept.fitting(call.request)

    async def _board(self, call: Call) -> web.Response:
        return self._board_kept.fitting(call.request)

    def _board_answer(self) -> BoardAnswer:
        served = self._served
        alerts, background = served.alerts, served.background()
        dashboard = self._dashboard_answer()
        return BoardAnswer(
            dashboard=dashboard,
            troubles=board.troubles(dashboard.unavailable),
            alerts=board.alerts(_most_urgent(alerts.open), alerts.suppressed, background, served.snapshot().time),
            history=board.strips(background),
            maintenance=board.windows(served.windows()),
            links=served.links(),
        )

    def _dashboard_answer(self) -> DashboardAnswer:
        """Return the whole; nothing in it changes while nothing is news, so that its tag does not either."""
        snapshot, latest, alerts = self._served.snapshot(), self._served.background(), self._served.alerts
        newest = max((view.state.last.started for view in snapshot.targets if view.state.last), default=snapshot.time)
        uptime = self._served.uptime() - (snapshot.time - newest)
        frozen = Snapshot(newest, snapshot.system, snapshot.components, snapshot.targets)
        unavailable = dict(latest.unavailable)
        unavailable |= {name: "can't be reached" for name in alerts.unreachable if name != "store"}
        if not alerts.is_loaded or "store" in alerts.unreachable:
            unavailable["store"] = "the incident store can't be used at the moment"
        health = answers.detailed_health(frozen, __version__, max(0.0, uptime))
        return DashboardAnswer(
            timestamp=health.timestamp,
            health=health,
            system_metrics=answers.system_metrics(frozen, latest.totals, unavailable),
            performance=latest.performance[:TOP],
            recent_errors=tuple(answers.error_detail(error) for error in latest.errors),
            active_alerts=tuple(self._detail(episode) for episode in _most_urgent(alerts.open)[:DASHBOARD_ALERTS]),
            active_alerts_total=len(alerts.open),
            error_summary=None if latest.summary is None else _summary(latest.summary, SUMMARY_HOURS),
            unavailable=unavailable,
        )

    # ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _errors(self, call: Call) -> web.Response:
        query: ErrorsQuery = call.query
        found = await self._served.errors.newest(
            query.hours, query.limit, query.error_type, query.endpoint, resolved=query.resolved
        )
        return json_answer([answers.error_detail(error) for error in found])

    async def _summary(self, call: Call) -> web.Response:
        query: SummaryQuery = call.query
        return json_answer(_summary(await self._served.errors.summary(query.hours), query.hours))

    async def _log_error(self, call: Call) -> web.Response:
        body: ErrorBody = call.body
        error = ErrorRecord(
            id="",
            error_type=body.error_type,
            error_message=body.error_message,
            created_at=0,
            stack_trace=body.stack_trace,
            endpoint=body.endpoint,
            method=body.method,
            status_code=body.status_code,
            user_id=None if body.user_id is None else str(body.user_id),
            restaurant_id=None if body.restaurant_id is None else str(body.restaurant_id),
            request_id=body.request_id,
            tags=body.tags,
        )
        return json_answer(answers.error_detail(await self._served.errors.log(error, call.actor)), 201)

    # ── Alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _alerts(self, call: Call) -> web.Response:
        query: AlertsQuery = call.query
        severity = None if query.severity is None else query.severity.value
        found = await self._served.alerts.listed(resolved=query.resolved, severity=severity, limit=query.limit)
        return json_answer([self._detail(episode) for episode in found])

    async def _post(self, call: Call) -> web.Response:
        body: AlertBody = call.body
        draft = Draft(
            alert_type=body.alert_type,
            severity=body.severity,
            component=body.component,
            title=body.title,
            target=body.target,
            description=body.description,
            threshold_value=body.threshold_value,
            actual_value=body.actual_value,
            metadata=body.metadata or {},
        )
        return json_answer(self._detail(await self._served.alerts.post(draft, call.actor)))

    async def _alert(self, call: Call) -> web.Response:
        episode, events = await self._served.alerts.timeline(_id(call))
        return json_answer(answers.timeline(self._detail(episode), events))

    async def _acknowledge(self, call: Call) -> web.Response:
        return json_answer(self._detail(await self._served.alerts.acknowledge(_id(call), call.actor)))

    async def _resolve(self, call: Call) -> web.Response:
        query: ResolveQuery = call.query
        return json_answer(self._detail(await self._served.alerts.resolve(_id(call), call.actor, force=query.force)))

    async def _note(self, call: Call) -> web.Response:
        body: NoteBody = call.body
        event = await self._served.alerts.note(_id(call), call.actor, body.text)
        return json_answer(answers.event_detail(event), 201)

    async def _webhook(self, call: Call) -> web.Response:
        await self._served.alerts.receive(call.body)
        return json_answer(Received())

    async def _pagerduty(self, call: Call) -> web.Response:
        """Take an event: its signature is the credential."""
        signature = call.request.headers.get("X-PagerDuty-Signature", "")
        if not pagerduty.is_signed(call.body, signature, self._served.pagerduty_secrets):
            raise Problem(401, "the signature is not one of ours", {"WWW-Authenticate": "PagerDuty-Signature"})
        try:
            acknowledged = pagerduty.parse(call.body)
        except pagerduty.UnusableEvent as error:
            raise Problem(422, str(error)) from None
        if acknowledged is not None:
            actor = Actor(f"{acknowledged.by} (PagerDuty)", call.actor.address)
            await self._served.alerts.acknowledge_page(acknowledged.dedup_key, actor)
        return json_answer(Received())

    async def _audit(self, call: Call) -> web.Response:
        query: AuditQuery = call.query
        found = await self._served.errors.audit(query.hours, query.limit)
        return json_answer([answers.audit_event(entry) for entry in found])

    def _detail(self, episode: Episode) -> AlertDetail:
        return answers.alert_detail(episode, suppressed=episode.id in self._served.alerts.suppressed)


def _id(call: Call) -> str:
    return call.request.match_info["id"]


def _status(snapshot: Snapshot) -> int:
    return 503 if snapshot.system is Health.UNHEALTHY else 200


def _most_urgent(episodes: tuple[Episode, ...]) -> list[Episode]:
    """Return open alerts: those that nobody has acknowledged first, the worst of them first, then the oldest."""
    order = {severity.value: number for number, severity in enumerate(Severity)}
    return sorted(
        episodes,
        key=lambda episode: (
            episode.acknowledged_at is not None,
            order.get(episode.identity.severity, 0),
            episode.started_at,
        ),
    )


def _summary(counted: CountedErrors, hours: int) -> ErrorSummary:
    return ErrorSummary(
        total_errors=counted.total_errors,
        unique_errors=counted.unique_errors,
        error_rate_per_hour=counted.error_rate_per_hour,
        top_errors=tuple(TopError(*each) for each in counted.top_errors),
        affected_endpoints=tuple(AffectedEndpoint(*each) for each in counted.affected_endpoints),
        time_window_hours=hours,
    )
