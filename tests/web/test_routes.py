"""The routes, over real HTTP."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from auraconnect_exporter import health
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.app import runbook_folder
from auraconnect_exporter.auth import Authenticator
from auraconnect_exporter.dashboard import BackgroundReader
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.limits import FailedSignIns, RateLimit
from auraconnect_exporter.model import Component, Health, Reload, Snapshot, StatusPage, TargetState, TargetView
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.store import open_store
from auraconnect_exporter.tokens import TokenFile
from auraconnect_exporter.web import pages
from auraconnect_exporter.web.access import Gate
from auraconnect_exporter.web.health_api import HealthApi, Served
from auraconnect_exporter.web.notices_api import NoticesApi
from auraconnect_exporter.web.routes import Sources, make_application
from tests.builders import attempt, view

CHECKED = TargetState(last=attempt(), results={"success": 1})


class World:
    """What the application serves from; a test changes it at will."""

    def __init__(self, runbooks: Path) -> None:
        self.targets: tuple[TargetView, ...] = (view(Health.HEALTHY, state=CHECKED),)
        self.wrong: str | None = None
        self.reloads = 0
        self.runbooks = runbooks
        self.broken = False
        self.store = open_store("", runbooks / "data")

    def snapshot(self) -> Snapshot:
        if self.broken:
            raise RuntimeError("postgresql://u:hunter2@h/d")
        return Snapshot(1_780_000_000.0, health.system(self.targets), health.components(self.targets), self.targets)

    async def reload(self) -> str | None:
        self.reloads += 1
        return self.wrong

    def sources(self) -> Sources:
        self.errors = errors = Errors(self.store, time)
        notices = Notices(self.store, time)
        served = Served(
            snapshot=self.snapshot,
            uptime=lambda: 12.5,
            monotonic=time.monotonic,
            background=lambda: BackgroundReader(None, None, errors, notices, time).latest,
            alerts=Alerts(self.store, time, {}, None, ""),
            errors=errors,
            figures=None,
            windows=lambda: (),
            links=lambda: (),
        )
        tokens = TokenFile(self.runbooks, time)
        return Sources(
            snapshot=self.snapshot,
            windows=lambda: (),
            alerts=AlertState,
            last_reload=lambda: Reload(True, 1_780_000_000.0),
            reload=self.reload,
            base_path="/base",
            runbooks=self.runbooks,
            api=HealthApi(served),
            notices=NoticesApi(notices, StatusPage, self.snapshot, lambda: ()),
            gate=Gate(Authenticator(tokens), (), FailedSignIns(), RateLimit(()), time.monotonic),
        )


Client = TestClient[web.Request, web.Application]


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "SystemDown.md").write_text(
        "# SystemDown\n\n<script>x</script>\n\n```\ncurl a\n```\n", encoding="utf-8"
    )
    (tmp_path.parent / "secret.md").write_text("hunter2", encoding="utf-8")
    return World(tmp_path)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_application(world.sources()))) as client:
        yield client
    await world.store.close()


class TestHealth:
    @pytest.mark.parametrize("path", ["/api/v1/health", "/api/v1/health/"])
    async def test_public_answer_has_states_and_nothing_more(self, client: Client, path: str) -> None:
        """Anyone may see the states of the components; names of targets and messages stay inside."""
        answer = await client.get(path)
        assert (answer.status, await answer.json()) == (
            200,
            {
                "status": "healthy",
                "timestamp": "2026-05-28T20:26:40Z",
                "version": "0.1.0",
                "uptime_seconds": 12.5,
                "components": [{"name": "database", "status": "healthy"}],
                "checks_passed": 1,
                "checks_failed": 0,
            },
        )

    async def test_answers_503_while_unhealthy(self, client: Client, world: World) -> None:
        """A load balancer understands the status alone."""
        world.targets = (view(Health.UNHEALTHY), view(Health.HEALTHY, component=Component.REDIS))
        answer = await client.get("/api/v1/health")
        said = await answer.json()
        assert (answer.status, said["status"], said["checks_passed"], said["checks_failed"]) == (503, "unhealthy", 1, 1)

    async def test_unknown_is_shown_as_degraded(self, client: Client, world: World) -> None:
        """The clients know three states; what is unknown is not all right."""
        world.targets = (view(Health.UNKNOWN),)
        answer = await client.get("/api/v1/health")
        said = await answer.json()
        assert (answer.status, said["status"], said["components"]) == (
            200,
            "degraded",
            [{"name": "database", "status": "degraded"}],
        )


class TestMetrics:
    async def test_text_format_by_default(self, client: Client) -> None:
        """Without an Accept header the answer is the text format, uncompressed."""
        answer = await client.get("/metrics", headers={"Accept-Encoding": "identity"}, auto_decompress=False)
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert "Content-Encoding" not in answer.headers
        assert 'auraconnect_component_up{component="database",target="primary"} 1.0' in await answer.text()

    async def test_openmetrics_and_gzip_for_those_who_ask(self, client: Client) -> None:
        """Prometheus asks for both and gets both."""
        answer = await client.get(
            "/metrics",
            headers={"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
            auto_decompress=False,
        )
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()).endswith(b"# EOF\n")

    async def test_rendering_does_not_hold_up_the_loop(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten thousand series take a while, in which checks go on: the page is made in another thread."""
        rendered = []

        def render(*_: object) -> tuple[bytes, str]:
            rendered.append(threading.current_thread())
            return b"", "text/plain"

        monkeypatch.setattr("auraconnect_exporter.metrics.Exposition.render", render)
        assert (await client.get("/metrics")).status == 200
        assert rendered != [threading.current_thread()]


class TestLifecycle:
    async def test_ready_names_what_is_not_checked_yet(self, client: Client, world: World) -> None:
        """Ready means that every target has been tried once."""
        assert (await client.get("/-/ready")).status == 200
        world.targets = (view(Health.UNKNOWN),)
        answer = await client.get("/-/ready")
        assert (answer.status, (await answer.json())["detail"]) == (503, "not checked yet: database/primary")
        assert (await client.get("/-/healthy")).status == 200

    async def test_reload_says_what_is_wrong(self, client: Client, world: World) -> None:
        """A configuration that can't be used is refused in a sentence, and the old one stays."""
        assert (await client.post("/-/reload")).status == 200
        world.wrong = "exporter.yml:1: database: expected a list, got nothing"
        answer = await client.post("/-/reload")
        assert answer.status == 500
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["detail"].endswith(world.wrong)

    async def test_reloads_are_in_the_audit_log(self, client: Client, world: World) -> None:
        """Each of them, with where it came from and what came of it."""
        await client.post("/-/reload")
        world.wrong = "exporter.yml:1: database: expected a list, got nothing"
        await client.post("/-/reload")
        told = [(act.actor, act.action, act.address, act.outcome) for act in await world.errors.audit(1, 10)]
        assert told == [
            ("anybody", "reload", "127.0.0.1", "the configuration in use is kept"),
            ("anybody", "reload", "127.0.0.1", "done"),
        ]

    async def test_reload_is_refused_to_a_page_of_another_site(self, client: Client, world: World) -> None:
        """A browser on this machine does not reload for whoever asks it to."""
        answer = await client.post("/-/reload", headers={"Origin": "https://evil.example"})
        assert (answer.status, world.reloads) == (401, 0)


class TestPages:
    async def test_overview_shows_every_target(self, client: Client) -> None:
        """The first page says what is watched and how it is."""
        answer = await client.get("/")
        text = await answer.text()
        assert answer.status == 200
        assert "<td>database</td><td>primary</td>" in text
        assert 'href="/base/runbooks/"' in text

    @pytest.mark.parametrize(
        ("path", "accept"),
        [
            ("/dashboard", "*/*"),
            ("/api/v1/health/dashboard", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("/api/v1/health/dashboard/", "text/html"),
        ],
    )
    async def test_a_browser_gets_the_page_without_signing_in(self, client: Client, path: str, accept: str) -> None:
        """The page holds no data, runs our own script alone, and finds its files below the base of links."""
        answer = await client.get(path, headers={"Accept": accept})
        text = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert 'src="/base/api/v1/health/assets/dashboard.js"' in text
        policy = answer.headers["Content-Security-Policy"]
        assert ("script-src 'self'" in policy, "unsafe" in policy, answer.headers["Vary"]) == (True, False, "Accept")

    @pytest.mark.parametrize("accept", ["application/json", "*/*", "", "application/json, text/html;q=0.5"])
    async def test_a_program_gets_data_and_has_to_sign_in(self, client: Client, accept: str) -> None:
        """The same address answers JSON to whoever does not ask for HTML first."""
        answer = await client.get("/api/v1/health/dashboard", headers={"Accept": accept})
        assert (answer.status, answer.content_type) == (401, "application/problem+json")

    @pytest.mark.parametrize(("name", "kind"), [("dashboard.js", "text/javascript"), ("dashboard.css", "text/css")])
    async def test_a_file_of_the_page_is_sent_once(self, client: Client, name: str, kind: str) -> None:
        """A browser that has a file is told that it is still the same."""
        answer = await client.get(f"/api/v1/health/assets/{name}")
        assert (answer.status, answer.content_type, answer.charset) == (200, kind, "utf-8")
        again = await client.get(answer.url.path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")

    @pytest.mark.parametrize("name", ["dashboard.html", "nothing.js", "..%2Fassets.py"])
    async def test_nothing_else_of_the_package_is_served(self, client: Client, name: str) -> None:
        """Neither what is not there, nor what is but is no file of the page."""
        assert (await client.get(f"/api/v1/health/assets/{name}")).status == 404

    @pytest.mark.parametrize("base", ["", "/api/v1/health"])
    async def test_runbook_is_rendered_without_its_html(self, client: Client, base: str) -> None:
        """A runbook is a page; HTML in it is text."""
        text = await (await client.get(f"{base}/runbooks/SystemDown")).text()
        assert "<h1>SystemDown</h1>" in text
        assert "<script>" not in text

    def test_a_runbook_names_the_contacts_and_links_to_no_page_that_is_not_there(self) -> None:
        """No telephone number is served to whoever asks: of every runbook the contacts are a file's name."""
        texts = [pages.runbook(path.stem, path.read_text()) for path in runbook_folder().glob("*.md")]
        assert texts
        for text in texts:
            assert "contacts (<code>docs/contacts.md</code> in the repository)" in text
            assert re.findall(r'href="(?!https?://)', text) == []

    @pytest.mark.parametrize("name", ["Nothing", "..%2Fsecret", "%2e%2e%2fsecret", "SystemDown.md"])
    async def test_only_runbooks_are_served(self, client: Client, name: str) -> None:
        """No other file can be reached, and a missing one is a problem document."""
        answer = await client.get(f"/runbooks/{name}")
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        assert "hunter2" not in await answer.text()

    async def test_pages_allow_no_scripts_and_no_framing(self, client: Client) -> None:
        """The content security policy lets the page's own style in and nothing else."""
        policy = (await client.get("/")).headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; frame-ancestors 'none'")


class TestErrors:
    @pytest.mark.parametrize(
        ("call", "status"),
        [
            (lambda client: client.get("/nothing"), 404),
            (lambda client: client.post("/metrics"), 405),
            (lambda client: client.get("/-/reload"), 405),
        ],
    )
    async def test_errors_are_problem_details(
        self, client: Client, call: Callable[[Client], Awaitable[ClientResponse]], status: int
    ) -> None:
        """RFC 9457: type, title, status and detail."""
        answer = await call(client)
        assert answer.content_type == "application/problem+json"
        said = await answer.json()
        assert (said["status"], set(said)) == (status, {"type", "title", "status", "detail"})

    async def test_what_was_not_foreseen_is_not_explained_to_the_caller(self, client: Client, world: World) -> None:
        """A fault of ours answers 500 without its text."""
        world.broken = True
        answer = await client.get("/metrics")
        assert (answer.status, answer.content_type) == (500, "application/problem+json")
        assert "hunter2" not in await answer.text()
