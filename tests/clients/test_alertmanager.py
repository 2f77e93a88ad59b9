"""The client of Alertmanager, and what Alertmanager sends, on real ones: the oldest that we support and the newest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from auraconnect_exporter.clients.alertmanager import (
    Alertmanager,
    AlertmanagerAlert,
    PostableAlert,
    UnusableWebhook,
    Webhook,
    parse_webhook,
)
from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.records import SECOND, instant_of, moment
from tests.probes.support import serving
from tools import servers

RELEASES = {"oldest": "0.25", "newest": "0.33"}

LABELS = {"alertname": "DatabaseConnectionLost", "severity": "critical", "component": "database", "target": "Übung"}

Deliveries = asyncio.Queue[bytes]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Return each release in turn."""
    return str(request.param)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, Deliveries]]:
    """Take whatever is delivered to a URL, until the block ends."""
    taken: Deliveries = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await taken.put(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/webhook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhook", taken
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(folder: Path, release: str, webhook: str = "") -> AsyncIterator[tuple[Alertmanager, str]]:
    """Run Alertmanager with a webhook for each alert alone, and an inhibition; yield a client and its URL."""
    config = {
        "route": {"receiver": "log", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "log", "webhook_configs": [{"url": webhook}] if webhook else []}],
        "inhibit_rules": [
            {
                "source_matchers": ['severity = "critical"'],
                "target_matchers": ['severity = "warning"'],
                "equal": ["target"],
            }
        ],
    }
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    with servers.Alertmanager(folder, path, release=release) as server:
        client = Alertmanager(Server(base(server.url)))
        try:
            yield client, server.url
        finally:
            await client.close()


async def until(client: Alertmanager, enough: Callable[[list[AlertmanagerAlert]], bool]) -> list[AlertmanagerAlert]:
    """Return what it holds as soon as that is what is waited for; Alertmanager tells nobody by itself."""
    for _ in range(100):
        found = await client.alerts()
        if enough(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def delivered(deliveries: Deliveries) -> Webhook:
    """Return the next delivery."""
    async with asyncio.timeout(20):
        return parse_webhook(await deliveries.get())


async def test_what_is_posted_is_held_and_delivered_with_the_same_moments(tmp_path: Path, release: str) -> None:
    """Labels, annotations, times in milliseconds and the fingerprint agree in list and webhook, firing and resolved."""
    start = moment(time.time()) - 90 * SECOND
    annotations = {"summary": "Lost — “now”", "description": "a\nb"}
    posted = PostableAlert(LABELS, annotations, start, start + 3600 * SECOND, "http://localhost:9850/dashboard")
    async with receiving() as (url, deliveries), running(tmp_path, release, url) as (client, external):
        await client.post([posted])
        (held,) = await until(client, bool)
        assert (held.labels, held.annotations) == (LABELS, annotations)
        assert (held.starts_at, held.ends_at) == (start - start % 1000, start - start % 1000 + 3600 * SECOND)
        assert abs(held.updated_at - moment(time.time())) < 30 * SECOND
        assert held.generator_url == "http://localhost:9850/dashboard"
        assert (held.state, held.suppressed) in {("active", False), ("unprocessed", False)}

        webhook = await delivered(deliveries)
        assert (webhook.status, webhook.receiver, webhook.truncated) == ("firing", "log", 0)
        assert webhook.group_key.startswith("{}:{")
        assert webhook.external_url.endswith(f":{external.rpartition(':')[2]}")
        (firing,) = webhook.alerts
        assert firing.firing
        assert (firing.fingerprint, firing.starts) == (held.fingerprint, held.starts_at)
        assert (firing.labels, firing.annotations) == (LABELS, annotations)
        assert firing.generator_url == held.generator_url

        over = moment(time.time())
        await client.post([PostableAlert(LABELS, annotations, start, over)])
        webhook = await delivered(deliveries)
        (resolved,) = webhook.alerts
        assert webhook.status == "resolved"
        assert not resolved.firing
        assert (resolved.fingerprint, resolved.starts) == (held.fingerprint, held.starts_at)
        assert resolved.ends == over - over % 1000
        assert await client.alerts() == []


async def test_a_start_in_nanoseconds_is_the_same_moment_in_list_and_webhook(tmp_path: Path, release: str) -> None:
    """Prometheus fires at any nanosecond; the webhook tells it in full, the list does not."""
    start = instant_of(moment(time.time()) // SECOND * SECOND - 60 * SECOND).strftime("%Y-%m-%dT%H:%M:%S")
    alerts = [{"labels": LABELS, "startsAt": f"{start}.123956789Z"}]
    async with receiving() as (url, deliveries), running(tmp_path, release, url) as (client, address):
        async with aiohttp.ClientSession() as session, session.post(f"{address}/api/v2/alerts", json=alerts) as answer:
            assert answer.status == 200
        (held,) = await until(client, bool)
        raw: dict[str, Any] = json.loads(await asyncio.wait_for(deliveries.get(), 20))
    assert ".123956789" in raw["alerts"][0]["startsAt"]
    assert parse_webhook(json.dumps(raw).encode()).alerts[0].starts == held.starts_at


async def test_without_times_an_alert_fires_for_the_resolve_timeout(tmp_path: Path, release: str) -> None:
    """It begins now and is over in five minutes."""
    async with running(tmp_path, release) as (client, _):
        await client.post([PostableAlert(LABELS)])
        (held,) = await until(client, bool)
    assert abs(held.starts_at - moment(time.time())) < 30 * SECOND
    assert held.ends_at - held.updated_at == pytest.approx(300 * SECOND, abs=SECOND)
    assert held.annotations == {}


async def test_silenced_and_inhibited_alerts_are_told_as_suppressed(tmp_path: Path, release: str) -> None:
    """With the ids of the silence and of the alert that inhibits; what is neither is not suppressed."""
    inhibited = {"alertname": "ConnectionsNearLimit", "severity": "warning", "target": "Übung"}
    silenced = {"alertname": "ComponentDegraded", "severity": "warning", "target": "cache"}
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "target", "value": "cache", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": instant_of(moment(now.timestamp() + 3600)).isoformat(),
        "createdBy": "somebody",
        "comment": "known",
    }
    async with running(tmp_path, release) as (client, url):
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/v2/silences", json=silence) as answer:
            silence_id = (await answer.json())["silenceID"]
        await client.post(PostableAlert(labels) for labels in (LABELS, inhibited, silenced))
        held = await until(client, lambda found: sum(alert.suppressed for alert in found) == 2)
    by_name = {alert.labels["alertname"]: alert for alert in held}
    assert {name: alert.suppressed for name, alert in by_name.items()} == {
        "DatabaseConnectionLost": False,
        "ConnectionsNearLimit": True,
        "ComponentDegraded": True,
    }
    assert by_name["ComponentDegraded"].silenced_by == (silence_id,)
    assert by_name["ConnectionsNearLimit"].inhibited_by == (by_name["DatabaseConnectionLost"].fingerprint,)


async def test_its_status_tells_version_and_start(tmp_path: Path, release: str) -> None:
    """The start is that of the process, so a restarted Alertmanager is known as one."""
    before = moment(time.time()) // 1000 * 1000
    async with running(tmp_path, release) as (client, _):
        status = await client.status()
    assert status.version.startswith(RELEASES[release])
    assert before <= status.started_at <= moment(time.time())


async def test_a_restart_between_two_calls_is_no_failure(tmp_path: Path, release: str) -> None:
    """No connection is kept that could be stale; a POST is not repeated by itself."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump({"route": {"receiver": "log"}, "receivers": [{"name": "log"}]}))
    with servers.Alertmanager(tmp_path, path, release=release) as server:
        client = Alertmanager(Server(base(server.url)))
        try:
            first = await client.status()
            server.kill()
            server.start()
            await client.post([PostableAlert(LABELS)])
            assert (await client.status()).started_at > first.started_at
        finally:
            await client.close()


async def test_a_bad_alert_is_told_with_alertmanagers_words_and_the_good_ones_are_kept(
    tmp_path: Path, release: str
) -> None:
    """An alert without labels is refused, the one beside it fires."""
    async with running(tmp_path, release) as (client, url):
        with pytest.raises(ClientError, match="status 400 and says: at least one label pair required") as refused:
            await client.post([PostableAlert({}), PostableAlert(LABELS)])
        assert str(refused.value).startswith(f"Alertmanager at {url} ")
        assert [alert.labels for alert in await until(client, bool)] == [LABELS]


def listed(**changes: Any) -> dict[str, Any]:
    """Return an alert as Alertmanager lists it."""
    return {
        "fingerprint": "3fedba85595fcdd4",
        "labels": {"alertname": "X"},
        "annotations": {},
        "startsAt": "2026-11-25T03:28:00.123Z",
        "endsAt": "2026-11-25T03:33:00.123Z",
        "updatedAt": "2026-11-25T03:28:00.123Z",
        "receivers": [{"name": "log"}],
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": None},
        **changes,
    }


@asynccontextmanager
async def answering(answer: Any) -> AsyncIterator[Alertmanager]:
    """Serve one answer to whatever is asked, as an Alertmanager of another version might; yield a client of it."""
    content = json.dumps(answer).encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()
        await reader.read()

    async with serving(handle) as port:
        client = Alertmanager(Server(base(f"http://127.0.0.1:{port}")))
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("status", "suppressed"),
    [
        ({"state": "active", "mutedBy": ["office-hours"]}, True),
        ({"state": "active", "silencedBy": None, "mutedBy": None}, False),
        ({"state": "suppressed"}, True),
        ({"state": "something-new"}, False),
    ],
)
async def test_states_of_other_versions_are_understood(status: dict[str, Any], *, suppressed: bool) -> None:
    """Muted by an interval counts as suppressed, absent lists as empty, and a new word for a state does no harm."""
    async with answering([listed(status=status)]) as client:
        (alert,) = await client.alerts()
    assert (alert.state, alert.suppressed) == (status["state"], suppressed)


async def test_an_alert_that_can_not_be_used_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out, as its webhook would be refused, and that is logged once, not at every look."""
    good, bad = listed(), listed(labels={"alertname": "a\0"})
    with pytest.raises(UnusableWebhook):
        parse_webhook(
            json.dumps(
                {
                    "version": "4",
                    "status": "firing",
                    "groupKey": "",
                    "receiver": "",
                    "alerts": [bad | {"status": "firing"}],
                }
            ).encode()
        )
    async with answering([bad, good, bad]) as client:
        for _ in range(3):
            assert [alert.labels for alert in await client.alerts()] == [{"alertname": "X"}]
    assert [record.getMessage() for record in caplog.records] == ["Alertmanager holds alerts that can't be used"]


@pytest.mark.parametrize("answer", [{}, [1], [{}], [listed(labels={"a": 1})], "x"])
async def test_what_is_no_list_of_alerts_is_an_error(answer: Any) -> None:
    """Whatever speaks HTTP but not as Alertmanager does is no empty list: that would resolve everything."""
    async with answering(answer) as client:
        with pytest.raises(ClientError, match="answers what can't be read"):
            await client.alerts()


async def test_a_status_that_makes_no_sense_is_an_error() -> None:
    """A start that is no time is not taken for one."""
    async with answering({"versionInfo": {"version": "9"}, "uptime": "long"}) as client:
        with pytest.raises(ClientError, match="uptime is not a time"):
            await client.status()
