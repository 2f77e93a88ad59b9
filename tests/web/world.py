"""The health API over real HTTP: store, tokens and alerts wired as in the program, and a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy

from auraconnect_exporter import endpoints, health, tokens
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.auth import AccessTokens, AccessTokenSettings, Authenticator, Role
from auraconnect_exporter.clients.prometheus import Prometheus
from auraconnect_exporter.clients.server import Server
from auraconnect_exporter.dashboard import BackgroundReader
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import Figures
from auraconnect_exporter.limits import FailedSignIns, RateLimit, parse_trusted_proxies
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import (
    Component,
    Health,
    Link,
    Metric,
    Part,
    Reading,
    Reload,
    Secret,
    Snapshot,
    StatusPage,
    TargetState,
    TargetView,
)
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.web import server
from auraconnect_exporter.web.access import Gate
from auraconnect_exporter.web.health_api import HealthApi, Served
from auraconnect_exporter.web.notices_api import NoticesApi
from auraconnect_exporter.web.routes import Sources, make_application
from tests.builders import FakeClock, attempt, view
from tests.store.support import Place

JWT_SECRET: Final = "Hunter2-never-shown-not-even-half-of-it"
PREFIX: Final = "/api/v1/health"
PROXY: Final = "127.0.0.1"
"""The client's address is a trusted proxy's, so that a test can come from anywhere."""

_SAMPLES: Final = {
    "host_cpu_usage_ratio": 0.25,
    "host_memory_total_bytes": 8 * 1024**3,
    "host_memory_available_bytes": 6 * 1024**3,
}
_DISKS: Final = {"/": (100 * 1024**3, 40 * 1024**3), "/var": (10 * 1024**3, 1 * 1024**3)}


def host_reading() -> Reading:
    """Return what a check of the host measures: a quarter of its processors, 2 GiB, and /var nearly full."""
    samples = [Metric(name, "gauge", "x").sample(value) for name, value in _SAMPLES.items()]
    for mountpoint, (size, available) in _DISKS.items():
        for name, value in (("host_filesystem_size_bytes", size), ("host_filesystem_avail_bytes", available)):
            samples.append(Metric(name, "gauge", "x", ("mountpoint", "fstype")).sample(value, mountpoint, "ext4"))
    return Reading((Part("part", tuple(samples)),))


def database_reading() -> Reading:
    """Return what a check of a database measures: seven connections."""
    metric = Metric("postgres_connections", "gauge", "x", ("state",))
    return Reading((Part("part", (metric.sample(3, "active"), metric.sample(4, "idle"))),))


@dataclass(frozen=True)
class Answer:
    """What was answered; ``said`` is its JSON, None without content."""

    status: int
    said: Any
    headers: CIMultiDictProxy[str]

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0]


@dataclass(frozen=True)
class Incidents:
    """The incident store's side of it."""

    alerts: Alerts
    errors: Errors
    notices: Notices
    background: BackgroundReader
    figures: Figures | None

    def state(self) -> AlertState:
        alerts = self.alerts
        known = alerts.open if alerts.is_loaded else None
        return AlertState(known, alerts.suppressed, alerts.times, alerts.deliveries)


class World:
    """The application and what it serves from; a test changes it at will."""

    def __init__(self, folder: Path, incidents: Incidents, clock: FakeClock) -> None:
        self.clock = clock
        self.headers: tuple[tuple[str, str], ...] = ()
        self.incidents = incidents
        self.windows: tuple[Occurrence, ...] = ()
        self.links: tuple[Link, ...] = ()
        self.status_page = StatusPage()
        self.targets: tuple[TargetView, ...] = ()
        self.set_health(Health.HEALTHY)
        self.tokens: dict[str, str] = {"none": ""}
        self._folder = folder
        for role in Role:
            self.tokens[role] = tokens.create(folder, role.value, [role], None, clock.time()).reveal()
        for person in ("ada", "bob"):
            self.tokens[person] = tokens.create(folder, person, [Role.SYSTEM_ADMIN], None, clock.time()).reveal()
        self.client: TestClient[web.Request, web.Application]

    def set_health(self, database: Health) -> None:
        """Let the database be so, and the host be well."""
        self.targets = (
            self._view(database, Component.DATABASE, "primary", database_reading()),
            self._view(Health.HEALTHY, Component.HOST, "vm-1", host_reading(), critical=False),
        )

    def _view(
        self, state: Health, component: Component, name: str, reading: Reading, *, critical: bool = True
    ) -> TargetView:
        known = health.step(TargetState(verdict=state), attempt(reading=reading))
        return view(state, component=component, name=name, critical=critical, state=known)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.clock.time(), health.system(self.targets), health.components(self.targets), self.targets)

    async def call(
        self, method: str, path: str, *, as_: str = "ada", headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Call the health API as the holder of a token, ``none`` for none; ``path`` is below the prefix."""
        response = await self.send(method, PREFIX + path, as_=as_, headers=headers, **options)
        async with response:
            body = await response.read()
            return Answer(response.status, await response.json(content_type=None) if body else None, response.headers)

    async def send(
        self, method: str, path: str, *, as_: str = "ada", headers: Mapping[str, str] | None = None, **options: Any
    ) -> ClientResponse:
        """Send a request to any path."""
        token = self.tokens.get(as_, as_)
        signed = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.client.request(method, path, headers={**signed, **(headers or {})}, **options)

    async def metrics(self, *families: str) -> list[str]:
        """Return the lines of /metrics that begin with one of these names."""
        async with await self.send("GET", "/metrics", as_="none") as response:
            text = await response.text()
        return [line for line in text.splitlines() if line.startswith(families)]

    async def post_alert(self, as_: str = "ada", **fields: Any) -> Any:
        """Post an alert and return it."""
        usual = {"alert_type": "performance", "severity": "warning", "component": "workers", "title": "Orders wait"}
        answer = await self.call("POST", "/alerts", as_=as_, json=usual | fields)
        assert answer.status == 200, answer
        return answer.said

    async def deliver(self, *alerts: Mapping[str, Any]) -> Answer:
        """Deliver alerts as Alertmanager does."""
        body: dict[str, Any] = {"version": "4", "status": "firing", "receiver": "incident-log", "alerts": list(alerts)}
        body |= {"groupKey": "{}", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}}
        body |= {"externalURL": "http://alertmanager:9093", "truncatedAlerts": 0}
        return await self.call("POST", "/alerts/webhook", as_="alertmanager", json=body)

    def access_token(self, **claims: Any) -> str:
        """Return an access token of AuraConnect's, for an administrator unless claims say otherwise."""
        now = self.clock.time()
        usual = {
            "sub": "42",
            "user_id": 42,
            "username": "grace",
            "email": "grace@auraconnect.ai",
            "roles": ["admin"],
            "tenant_ids": [1],
            "session_id": "s",
            "exp": now + 900,
            "iat": now - 60,
            "iss": "auraconnect-api",
            "aud": "auraconnect-ws",
            "jti": "j",
            "type": "access",
        }
        return jwt.encode(usual | claims, JWT_SECRET, "HS256")

    def secrets(self) -> list[str]:
        """Return all that no log and no answer may hold."""
        return [JWT_SECRET, *filter(None, self.tokens.values())]

    def application(self) -> web.Application:
        """Return the application, wired as the program does it."""
        settings = AccessTokenSettings((Secret(JWT_SECRET),), "HS256", "auraconnect-api", "auraconnect-ws")
        known = Authenticator(tokens.TokenFile(self._folder, self.clock), AccessTokens(settings, self.clock))
        proxies = parse_trusted_proxies(PROXY)
        incidents, clock = self.incidents, self.clock
        served = Served(
            snapshot=self.snapshot,
            uptime=lambda: clock.seconds,
            monotonic=clock.monotonic,
            background=lambda: incidents.background.latest,
            alerts=incidents.alerts,
            errors=incidents.errors,
            figures=incidents.figures,
            windows=lambda: self.windows,
            links=lambda: self.links,
        )

        async def reload() -> None:
            return None

        return make_application(
            Sources(
                snapshot=self.snapshot,
                windows=lambda: self.windows,
                alerts=incidents.state,
                last_reload=lambda: Reload(True, clock.time()),
                reload=reload,
                base_path="",
                runbooks=self._folder,
                api=HealthApi(served),
                notices=NoticesApi(incidents.notices, lambda: self.status_page, self.snapshot, lambda: self.windows),
                gate=Gate(known, proxies, FailedSignIns(), RateLimit(proxies), clock.monotonic),
                headers=self.headers,
            )
        )


def firing(starts: str = "2026-05-28T20:00:00Z", *, fingerprint: str = "00000000000000aa", **labels: str) -> Any:
    """Return an alert as Alertmanager delivers it: a host's disk, unless labels say otherwise."""
    usual = {"alertname": "DiskUsageHigh", "severity": "warning", "component": "host", "symptom": "saturation"}
    return {
        "status": "firing",
        "labels": usual | labels,
        "annotations": {
            "summary": "A disk is nearly full",
            "description": "It is.",
            "runbook_url": "https://monitoring.example/runbooks/DiskUsageHigh",
        },
        "startsAt": starts,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": fingerprint,
    }


@asynccontextmanager
async def world(
    place: Place,
    folder: Path,
    *,
    prometheus: str = "",
    deadline: float = 5.0,
    headers: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[World]:
    """Serve until the block ends. ``prometheus`` is the URL of one; the store gives up after ``deadline`` seconds."""
    clock = FakeClock()
    async with AsyncExitStack() as running:
        store = place.open(deadline=deadline)
        running.push_async_callback(store.close)
        alerts = Alerts(store, clock, {}, None, "https://monitoring.example")
        running.push_async_callback(alerts.close)
        await alerts.start()
        client: Prometheus | None = None
        figures = None
        if prometheus:
            client = Prometheus(Server(endpoints.http(prometheus), timeout=2.0))
            running.push_async_callback(client.close)
            figures = Figures(client, clock)
            running.push_async_callback(figures.close)
        errors = Errors(store, clock)
        notices = Notices(store, clock)
        background = BackgroundReader(client, figures, errors, notices, clock)
        incidents = Incidents(alerts, errors, notices, background, figures)
        made = World(folder, incidents, clock)
        made.headers = headers
        served = TestServer(made.application())
        await served.start_server(**server.options())
        made.client = await running.enter_async_context(TestClient(served))
        yield made
