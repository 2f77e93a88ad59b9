"""Every query of every board, asked of a real Prometheus that scrapes a real exporter which watches everything."""

import asyncio
import http.server
import json
import math
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import psycopg
import pytest
import yaml
from redis import Redis

from auraconnect_exporter.tokens import ADMIN_FILE
from tests.e2e.stack import exporter, get
from tests.grafana.boards import Question, questions
from tests.live.test_pack import api, requests
from tests.pack.files import RULES
from tests.scrape import watched
from tools.servers import Alertmanager, HTTPServer, Prometheus, free_port
from tools.shorten import shorten

FACTOR: Final = 30
"""By how much faster the rules' time runs: five minutes are ten seconds."""

OWN, FROM_TABLE = "own", "auraconnect-api"
"""The service that Prometheus scrapes, and the one whose requests the exporter counts."""

LIMITS: Final = {
    'auraconnect:escalation_delay:seconds{severity="critical", escalation="secondary"}': 2,
    # A notice is acknowledged in time: a bucket of the histogram, which knows nothing of faster time.
    'auraconnect:escalation_delay:seconds{severity="info", escalation="secondary"}': 3600,
}

SENT: Final = {"__rate_interval": "20s", "__range": "1m"}

EXCUSED: Final[Mapping[str, str]] = {
    "auraconnect-api: Slower than usual? (B)": "nothing is usual before a week is over",
    "auraconnect-api: Slower than usual? (C)": "nothing is usual before a week is over",
    "auraconnect-pipeline: Figures left out (A)": "nothing has too many series",
    "auraconnect-pipeline: Figures left out (B)": "nothing of the page is broken",
}
"""Queries that have no data while all is as it is here, and why. Those get made-up series, see FED."""

FED: Final = """
service:http_request_duration_seconds:usual1h{service="made-up"} 0.1
auraconnect_series_dropped_total{component="redis",target="made-up",collector="info"} 3
auraconnect_exporter_render_failures_total{part="made-up"} 3
"""

PATIENCE: Final = 60.0


class Page(http.server.BaseHTTPRequestHandler):
    """Serves what is made up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(FED.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@contextmanager
def made_up() -> Iterator[str]:
    """Serve the made-up series at an address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prometheus(folder: Path, ports: Mapping[str, int], release: str) -> Prometheus:
    """Return Prometheus, not started, with the jobs of the repository's configuration, on faster rules."""
    folder.mkdir()
    shorten(RULES, folder / "rules", FACTOR, LIMITS)
    jobs: list[dict[str, Any]] = [
        {
            "job_name": job,
            "static_configs": [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"service": OWN} if job == "auraconnect-api" else {}}
            ],
        }
        for job, port in ports.items()
    ]
    jobs.append({"job_name": "made-up", "file_sd_configs": [{"files": [str(folder.parent / "made-up.json")]}]})
    alertmanagers = [{"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules/*.yml"), str(folder / "rules/alerts/*.yml")],
        "alerting": {"alertmanagers": alertmanagers},
        "scrape_configs": jobs,
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return Prometheus(folder, path, port=ports["prometheus"], release=release)


def routing(folder: Path, exporter_port: int) -> Path:
    """Write Alertmanager's configuration: everything to the incident log."""
    webhook = {
        "url": f"http://127.0.0.1:{exporter_port}/api/v1/health/alerts/webhook",
        "http_config": {"authorization": {"credentials_file": str(folder / "data" / ADMIN_FILE)}},
    }
    path = folder / "alertmanager.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "route": {"receiver": "incident-log", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
                "receivers": [{"name": "incident-log", "webhook_configs": [webhook]}],
            }
        )
    )
    return path


def call(server: HTTPServer, method: str, path: str, token: str, body: Mapping[str, Any]) -> Any:
    """Call the exporter's health API; returns what it answers."""
    request = urllib.request.Request(
        f"{server.url}/api/v1/health{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def raise_alerts(server: HTTPServer, token: str) -> None:
    """Post a critical alert that nobody takes, and a notice that somebody takes and ends."""
    alert = {"alert_type": "resource", "component": "host", "description": "Made by a test."}
    call(server, "POST", "/alerts", token, {**alert, "severity": "critical", "title": "Nobody takes it"})
    taken = call(server, "POST", "/alerts", token, {**alert, "severity": "info", "title": "Somebody takes it"})
    call(server, "PUT", f"/alerts/{taken['id']}/acknowledge", token, {})
    call(server, "PUT", f"/alerts/{taken['id']}/resolve", token, {})


def has_data(server: Prometheus, question: Question) -> bool:
    """Return whether a question has an answer now, with a number; one about requests, of either source."""
    # Subqueries look at full minutes only.
    when = math.ceil(time.time() / 60) * 60 if ":1m]" in question.expression else time.time()
    sent = urlencode({"query": question.sent(SENT), "time": when})
    found = json.loads(get(f"{server.url}/api/v1/query?{sent}"))["data"]["result"]
    numbers = [series["metric"] for series in found if not math.isnan(float(series["value"][1]))]
    if "auraconnect_http_" in question.expression:
        return {OWN, FROM_TABLE} <= {labels["service"] for labels in numbers}
    return bool(numbers)


async def unanswered(servers: Mapping[str, Prometheus], wanted: Iterable[Question]) -> list[str]:
    """Wait until each server has had an answer to all that is wanted; returns which had none to what."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    open_questions = [(release, question) for release in servers for question in wanted]
    while open_questions and loop.time() < deadline:
        open_questions = [
            (release, question)
            for release, question in open_questions
            if not await asyncio.to_thread(has_data, servers[release], question)
        ]
        await asyncio.sleep(0.5)
    return sorted(f"{release}: {question.where}" for release, question in open_questions)


def adapted(config: Mapping[str, Any], ports: Mapping[str, int], nobody: int) -> dict[str, Any]:
    """Return what is watched with peers, a window that is open, a limit of memory, and a Redis that is not there."""
    with Redis.from_url(config["redis"][0]["url"]) as cache:
        cache.config_set("maxmemory", "100mb")
    begun = datetime.now(UTC) - timedelta(minutes=5)
    window = {"name": "now", "start": f"{begun:%Y-%m-%dT%H:%M}", "duration": "1h", "component": "workers"}
    gone = {"name": "gone", "url": f"redis://127.0.0.1:{nobody}", "critical": False}
    return {
        **config,
        "redis": [*config["redis"], gone],
        "maintenance": [window],
        "prometheus": {"url": f"http://127.0.0.1:{ports['prometheus']}"},
        "alertmanager": [{"url": f"http://127.0.0.1:{ports['alertmanager']}"}],
    }


async def write_rows(dsn: str) -> None:
    """Write requests and errors into AuraConnect's tables, a few every half second, until cancelled."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        while True:
            await connection.execute(
                "INSERT INTO performance_metrics (id, endpoint, method, response_time_ms, status_code, created_at)"
                " SELECT gen_random_uuid(), '/tables', 'GET', 20, status, now() AT TIME ZONE 'UTC'"
                " FROM unnest(ARRAY[200, 200, 500, 401]) AS status"
            )
            await connection.execute(
                "INSERT INTO error_logs (id, error_type, created_at)"
                " SELECT gen_random_uuid(), 'ValueError', now() AT TIME ZONE 'UTC'"
            )
            await asyncio.sleep(0.5)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that other users may enter, as PgBouncer does."""
    with tempfile.TemporaryDirectory(prefix="boards-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_every_query_has_data(folder: Path) -> None:
    """With everything watched, under load, an alert that nobody takes, on the oldest Prometheus and the newest.

    The few queries that rightly have no data there have it of made-up series.
    """
    ports = {
        job: free_port() for job in ("prometheus", "alertmanager", "auraconnect-exporter", "auraconnect-api", "nobody")
    }
    nobody = ports.pop("nobody")
    with ExitStack() as running:
        # They look for their targets every five seconds, so they may begin with that.
        servers = {
            release: running.enter_context(prometheus(folder / release, {**ports, "prometheus": port}, release))
            for release, port in (("oldest", free_port()), ("newest", ports["prometheus"]))
        }
        running.enter_context(
            Alertmanager(folder, routing(folder, ports["auraconnect-exporter"]), port=ports["alertmanager"])
        )
        own = running.enter_context(api(folder, ports["auraconnect-api"]))
        config: dict[str, Any] = watched(folder, running)
        watching = running.enter_context(
            exporter(folder, adapted(config, ports, nobody), ports["auraconnect-exporter"])
        )
        token = (folder / "data" / ADMIN_FILE).read_text().strip()
        async with asyncio.TaskGroup() as tasks, requests(own.url), requests(own.url, fail="true"):
            writing = tasks.create_task(write_rows(config["database"][0]["url"]))
            # What happened before its first scrape has not risen for Prometheus.
            seen = Question("scraped", 'auraconnect_alerts{severity="info"}')
            assert await unanswered(servers, [seen]) == []
            await asyncio.to_thread(raise_alerts, watching, token)
            assert await unanswered(servers, [one for one in questions() if one.where not in EXCUSED]) == []
            excused = [one for one in questions() if one.where in EXCUSED]
            assert {one.where for one in excused} == EXCUSED.keys()
            needless = [one.where for one in excused if await asyncio.to_thread(has_data, servers["newest"], one)]
            assert needless == []
            with made_up() as address:
                (folder / "made-up.json").write_text(json.dumps([{"targets": [address]}]))
                assert await unanswered(servers, excused) == []
            writing.cancel()
