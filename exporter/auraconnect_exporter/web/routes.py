"""Routes: what is served where, and to whom."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import msgspec
from aiohttp import web

from auraconnect_exporter import __version__
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.auth import Role
from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.metrics import Exposition
from auraconnect_exporter.model import Reload, Snapshot
from auraconnect_exporter.negotiation import accepts_gzip, compress, prefers_html
from auraconnect_exporter.records import Actor
from auraconnect_exporter.request_log import RequestLogView
from auraconnect_exporter.web import openapi, pages, status
from auraconnect_exporter.web.access import ANYBODY, Gate
from auraconnect_exporter.web.assets import Assets
from auraconnect_exporter.web.health_api import PREFIX, HealthApi
from auraconnect_exporter.web.notices_api import CACHED, NoticesApi
from auraconnect_exporter.web.operations import Call, Operation, read_body, read_query
from auraconnect_exporter.web.prepared import Prepared
from auraconnect_exporter.web.problems import SECURITY_HEADERS, Handler, problem, problem_details, security_headers
from auraconnect_exporter.web.session import Sessions


@dataclass(frozen=True, slots=True)
class Sources:
    """What the routes serve from.

    ``reload`` returns the sentence that says what is wrong, or nothing; ``base_path`` precedes links to pages;
    ``closed_metrics`` asks for a role on ``/metrics``; ``https`` says that people reach us by HTTPS;
    ``headers`` go with every answer.
    """

    snapshot: Callable[[], Snapshot]
    windows: Callable[[], Iterable[Occurrence]]
    alerts: Callable[[], AlertState]
    last_reload: Callable[[], Reload]
    reload: Callable[[], Awaitable[str | None]]
    base_path: str
    runbooks: Path
    api: HealthApi
    notices: NoticesApi
    gate: Gate
    request_log: Callable[[], RequestLogView | None] = lambda: None
    closed_metrics: bool = False
    https: bool = False
    headers: tuple[tuple[str, str], ...] = ()


def make_application(sources: Sources) -> web.Application:
    """Return the application, without any state but its sources."""
    routes = _Routes(sources)
    sessions = Sessions(sources.gate, secure=sources.https)
    operations = (*sources.api.operations(), *sessions.operations(), *sources.notices.operations())
    document = _document(operations)
    app = web.Application(middlewares=[problem_details])
    app.on_response_prepare.append(security_headers)
    if sources.headers:
        app.on_response_prepare.append(_additional(sources.headers))
    app.add_routes(
        [
            web.get("/metrics", routes.metrics),
            web.get("/-/healthy", routes.healthy),
            web.get("/-/ready", routes.ready),
            web.post("/-/reload", routes.reload),
            web.get("/", routes.overview),
            web.get("/dashboard", routes.dashboard),
            web.get("/status", routes.status),
            web.get(f"{PREFIX}/assets/{{name}}", routes.asset),
            web.get("/openapi.json", document),
            web.get(f"{PREFIX}/openapi.json", document),
        ],
    )
    # The reverse proxy forwards only the health API's prefix, so every page also lives below it.
    for base in ("", PREFIX):
        app.add_routes(
            [
                web.get(f"{base}/runbooks/", routes.runbooks),
                web.get(f"{base}/runbooks/{{name}}", routes.runbook),
            ],
        )
    # What a browser gets where a program gets data.
    pages_of = {"dashboard": routes.dashboard, "status": routes.status}
    for operation in operations:
        kept = operation.kept_for > 0
        handler = _kept_handler(operation, sources) if kept else _handler(operation, sources.gate)
        if operation.name in pages_of:
            handler = _page_or(pages_of[operation.name], handler)
        for end in ("", "/"):
            for method in ("GET", "HEAD") if operation.method == "GET" else (operation.method,):
                app.router.add_route(method, f"{PREFIX}{operation.path}{end}", handler)
    return app


def _handler(operation: Operation, gate: Gate) -> Handler:
    """Return what answers a route: who asks is looked at first, then what they ask."""

    async def handle(request: web.Request) -> web.StreamResponse:
        role = operation.role
        actor = gate.admit_anybody(request) if role is None else await gate.admit(request, role)
        query = None if operation.query is None else read_query(operation.query, request)
        body = None if operation.body is None else await read_body(operation.body, operation.body_bytes, request)
        return await operation.handler(Call(request, actor, query, body))

    return handle


def _kept_handler(operation: Operation, sources: Sources) -> Handler:
    """Return what answers a route that tells everybody the same, from what was made a moment ago."""
    gate, headers = sources.gate, {**SECURITY_HEADERS, **dict(sources.headers)}
    kept: tuple[Prepared, float] | None = None

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal kept
        actor, now = gate.admit_anybody(request), gate.monotonic()
        if kept is None or now >= kept[1]:
            answer = await operation.handler(Call(request, actor, None, None))
            kept = Prepared(answer, headers), now + operation.kept_for
        return kept[0].fitting(request)

    return handle


def _page_or(page: Handler, handler: Handler) -> Handler:
    """Return what answers a browser with a page, and a program with data; a browser that has the page asks for data."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await (page if prefers_html(request.headers.get("Accept", "")) else handler)(request)

    return handle


def _document(operations: Sequence[Operation]) -> Handler:
    @cache
    def body() -> bytes:  # few ever ask
        return msgspec.json.encode(openapi.document(operations, PREFIX, __version__))

    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body(), content_type="application/json")

    return handle


def _additional(headers: tuple[tuple[str, str], ...]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(dict(headers))

    return add


class _Routes:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._exposition = Exposition(sources.request_log)
        self._assets = Assets()

    async def metrics(self, request: web.Request) -> web.Response:
        if self._sources.closed_metrics:
            await self._sources.gate.admit(request, Role.METRICS)
        render = partial(
            self._exposition.render,
            self._sources.snapshot(),
            self._sources.windows(),
            self._sources.alerts(),
            self._sources.last_reload(),
            request.headers.get("Accept", ""),
        )
        compressed = accepts_gzip(request.headers.get("Accept-Encoding", ""))

        def answer() -> tuple[bytes, str]:
            body, content_type = render()
            return compress(body) if compressed else body, content_type

        body, content_type = await in_daemon_thread(answer)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="The exporter is healthy.\n")

    async def ready(self, _request: web.Request) -> web.Response:
        waiting = [str(view.id) for view in self._sources.snapshot().targets if view.state.last is None]
        if waiting:
            return problem(503, f"not checked yet: {', '.join(waiting)}")
        return web.Response(text="The exporter is ready.\n")

    async def reload(self, request: web.Request) -> web.Response:
        gate = self._sources.gate
        if _is_local(request):
            actor = Actor(ANYBODY, gate.address(request))
        else:
            actor = await gate.admit(request, Role.SYSTEM_ADMIN)
        wrong = await self._sources.reload()
        await self._sources.api.note(actor, "reload", "the configuration in use is kept" if wrong else "done")
        if wrong:
            return problem(500, f"the configuration in use is kept: {wrong}")
        return web.Response(text="The configuration has been reloaded.\n")

    async def dashboard(self, _request: web.Request) -> web.Response:
        return self._assets.page(self._sources.base_path)

    async def status(self, request: web.Request) -> web.Response:
        self._sources.gate.admit_anybody(request)
        answer = self._sources.notices.answer()
        page = _html(pages.status(f"{answer.title} status", status.page(answer)))
        page.headers.update({"Cache-Control": CACHED, "Vary": "Accept"})
        return page

    async def asset(self, request: web.Request) -> web.Response:
        return self._assets.fitting(request)

    async def overview(self, _request: web.Request) -> web.Response:
        return _html(pages.overview(self._sources.snapshot(), __version__, self._sources.base_path))

    async def runbooks(self, _request: web.Request) -> web.Response:
        names = sorted(path.stem for path in self._sources.runbooks.glob("*.md"))
        return _html(pages.runbooks(names, self._sources.base_path))

    async def runbook(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        path = self._sources.runbooks / f"{name}.md"
        if not re.fullmatch(r"[A-Za-z0-9]{1,100}", name) or not path.is_file():
            raise web.HTTPNotFound
        return _html(pages.runbook(name, path.read_text(encoding="utf-8")))


def _is_local(request: web.Request) -> bool:
    """Whether the caller is on this machine, and not a browser that some other site's page sent here."""
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback and "Origin" not in request.headers
    except ValueError:
        return False


def _html(text: str) -> web.Response:
    headers = {"Content-Security-Policy": pages.CONTENT_SECURITY_POLICY}
    return web.Response(text=text, content_type="text/html", headers=headers)
