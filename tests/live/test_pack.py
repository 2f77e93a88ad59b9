"""The rules on real servers: Prometheus, the exporter, and an API that fails and slows down; only time runs faster."""

import asyncio
import contextlib
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import yaml

from tests.e2e.stack import exporter, get, wait_until
from tests.pack.files import RULES
from tools.servers import HTTPServer, Prometheus, free_port
from tools.shorten import shorten

RELEASES = ("oldest", "newest")

FACTOR = 30
"""By how much faster time runs: five minutes are ten seconds, and the two of a rate hold eight scrapes."""

CRITICAL_RESPONSE = 'auraconnect:response_time_seconds:threshold{severity="critical"}'
MEMORY = 'auraconnect:memory_usage_ratio:threshold{severity="warning"}'
# Two seconds instead of five, and a share of memory that any machine uses.
LIMITS = {CRITICAL_RESPONSE: 2, MEMORY: 0.001}
REQUESTS = ("ErrorRateCritical", "ResponseTimeCritical")


@contextmanager
def api(folder: Path, port: int | None = None) -> Iterator[HTTPServer]:
    """Start the API, on a free port unless one is given."""
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.live.api:app", f"--port={port}", "--no-access-log"]
    with HTTPServer("api", command, folder / "api.log", url=f"http://127.0.0.1:{port}") as server:
        yield server


def prometheus(folder: Path, rules: Path, watched: HTTPServer, watching: HTTPServer, release: str) -> Prometheus:
    """Return Prometheus, not started, with jobs as in the repository's configuration, on the shortened rules."""
    folder.mkdir()

    def job(name: str, server: HTTPServer, **labels: str) -> dict[str, object]:
        address = server.url.removeprefix("http://")
        return {"job_name": name, "static_configs": [{"targets": [address], "labels": labels}]}

    path = folder / "prometheus.yml"
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(rules / "*.yml"), str(rules / "alerts/*.yml")],
        "scrape_configs": [
            job("auraconnect-exporter", watching),
            job("auraconnect-api", watched, service="auraconnect-api"),
        ],
    }
    path.write_text(yaml.safe_dump(config))
    return Prometheus(folder, path, release=release)


@asynccontextmanager
async def requests(url: str, **parameters: str) -> AsyncIterator[None]:
    """Send ten requests a second, beside each other, until the end of the block."""

    async def one(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{url}/orders", params=parameters):
            pass

    async def send(session: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as sent:
            while True:
                sent.create_task(one(session))
                await asyncio.sleep(0.1)

    async with aiohttp.ClientSession() as session:
        sending = asyncio.create_task(send(session))
        try:
            yield
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


def states(server: Prometheus) -> set[tuple[str, str]]:
    """Return name and state, pending or firing, of every alert."""
    answer = json.loads(get(f"{server.url}/api/v1/alerts"))
    return {(alert["labels"]["alertname"], alert["state"]) for alert in answer["data"]["alerts"]}


async def wait_for(
    servers: Mapping[str, Prometheus], firing: Iterable[str], silent: Iterable[str], seconds: float
) -> None:
    """Wait until on every server some alerts fire and others do not; tell on failure what the alerts are, and where."""

    def reached() -> bool:
        firing_now = [{name for name, state in states(server) if state == "firing"} for server in servers.values()]
        return all(names >= set(firing) and not names & set(silent) for names in firing_now)

    try:
        await asyncio.to_thread(wait_until, reached, seconds, f"{firing} to fire")
    except TimeoutError as error:
        found = {release: sorted(states(server)) for release, server in servers.items()}
        raise AssertionError(f"{error} The alerts are: {found}.") from error


def reload(server: Prometheus) -> None:
    """Make Prometheus read its files again."""
    request = urllib.request.Request(f"{server.url}/-/reload", method="POST")
    urllib.request.urlopen(request, timeout=10).close()


async def test_alerts_and_an_escalation_fire_and_resolve(tmp_path: Path) -> None:
    """Failures, slowness and memory in use page, nobody acknowledges, so the next is told; the end ends all of it."""
    rules = tmp_path / "rules"
    shorten(RULES, rules, FACTOR, LIMITS)
    fast = {"check": {"interval": "1s", "timeout": "1s"}, "host": [{"name": "here", "filesystems": ["/"]}]}
    with ExitStack() as running:
        watched = running.enter_context(api(tmp_path))
        watching = running.enter_context(exporter(tmp_path, fast))
        # Both releases look at the same API, so that proving it on two takes no longer than on one.
        servers = {
            release: running.enter_context(prometheus(tmp_path / release, rules, watched, watching, release))
            for release in RELEASES
        }
        async with requests(watched.url):
            await wait_for(servers, ["Watchdog"], [*REQUESTS], 20)
            async with requests(watched.url, fail="true"), requests(watched.url, seconds="2.5"):
                await wait_for(servers, [*REQUESTS, "MemoryUsageHigh"], [], 60)
                await wait_for(servers, ["EscalatedToSecondary"], [], 40)
            shorten(RULES, rules, FACTOR, LIMITS | {MEMORY: 1})
            for server in servers.values():
                await asyncio.to_thread(reload, server)
            await wait_for(servers, ["Watchdog"], [*REQUESTS, "MemoryUsageHigh", "EscalatedToSecondary"], 60)
