"""The rules on real servers: Prometheus, the exporter, and an API that fails and slows down; only time runs faster."""

import asyncio
import contextlib
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.e2e.stack import exporter, get, wait_until
from tests.pack.files import RULES
from tools.servers import HTTPServer, Prometheus, free_port
from tools.shorten import shorten

FACTOR = 20
"""By how much faster time runs: five minutes are fifteen seconds."""

CRITICAL_RESPONSE = 'auraconnect:response_time_seconds:threshold{severity="critical"}'
MEMORY = 'auraconnect:memory_usage_ratio:threshold{severity="warning"}'
# Two seconds instead of five, and a share of memory that any machine uses.
LIMITS = {CRITICAL_RESPONSE: 2, MEMORY: 0.001}
REQUESTS = ("ErrorRateCritical", "ResponseTimeCritical")


@contextmanager
def api(folder: Path) -> Iterator[HTTPServer]:
    """Start the API on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.live.api:app", f"--port={port}", "--no-access-log"]
    with HTTPServer("api", command, folder / "api.log", url=f"http://127.0.0.1:{port}") as server:
        yield server


def prometheus(folder: Path, watched: HTTPServer, watching: HTTPServer, release: str) -> Prometheus:
    """Return Prometheus, not started, with jobs as in the repository's configuration, on the shortened rules."""

    def job(name: str, server: HTTPServer, **labels: str) -> dict[str, object]:
        address = server.url.removeprefix("http://")
        return {"job_name": name, "static_configs": [{"targets": [address], "labels": labels}]}

    path = folder / "prometheus.yml"
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"},
        "rule_files": [str(folder / "rules/*.yml"), str(folder / "rules/alerts/*.yml")],
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


async def wait_for(server: Prometheus, firing: Iterable[str], silent: Iterable[str], seconds: float) -> None:
    """Wait until some alerts fire and others do not; tell on failure what the alerts are."""

    def reached() -> bool:
        firing_now = {name for name, state in states(server) if state == "firing"}
        return firing_now >= set(firing) and not firing_now & set(silent)

    try:
        await asyncio.to_thread(wait_until, reached, seconds, f"{firing} to fire")
    except TimeoutError as error:
        raise AssertionError(f"{error} The alerts are: {sorted(states(server))}.") from error


def reload(server: Prometheus) -> None:
    """Make Prometheus read its files again."""
    request = urllib.request.Request(f"{server.url}/-/reload", method="POST")
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.parametrize("release", ["newest"])
async def test_alerts_and_an_escalation_fire_and_resolve(release: str, tmp_path: Path) -> None:
    """Failures, slowness and memory in use page, nobody acknowledges, so the next is told; the end ends all of it."""
    shorten(RULES, tmp_path / "rules", FACTOR, LIMITS)
    fast = {"check": {"interval": "1s", "timeout": "1s"}, "host": [{"name": "here", "filesystems": ["/"]}]}
    with (
        api(tmp_path) as watched,
        exporter(tmp_path, fast) as watching,
        prometheus(tmp_path, watched, watching, release) as server,
    ):
        async with requests(watched.url):
            await wait_for(server, ["Watchdog"], [*REQUESTS], 20)
            async with requests(watched.url, fail="true"), requests(watched.url, seconds="2.5"):
                await wait_for(server, [*REQUESTS, "MemoryUsageHigh"], [], 60)
                await wait_for(server, ["EscalatedToSecondary"], [], 40)
            shorten(RULES, tmp_path / "rules", FACTOR, LIMITS | {MEMORY: 1})
            await asyncio.to_thread(reload, server)
            await wait_for(server, ["Watchdog"], [*REQUESTS, "MemoryUsageHigh", "EscalatedToSecondary"], 60)
