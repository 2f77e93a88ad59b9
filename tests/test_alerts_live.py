"""Alerts with a real Alertmanager, the oldest that we support and the newest: what comes in, and what goes out."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.clients.alertmanager import Alertmanager, PostableAlert
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.records import EventKind, Moment, moment
from auraconnect_exporter.store import Store, open_store
from tests.incidents import ADA, LABELS, draft
from tools import servers


@asynccontextmanager
async def webhook(receive: Callable[[bytes], Awaitable[None]]) -> AsyncIterator[str]:
    """Hand deliveries over, until the block ends; yield where to."""

    async def take(request: web.Request) -> web.Response:
        await receive(await request.read())
        return web.Response()

    application = web.Application()
    application.router.add_post("/webhook", take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
    finally:
        await runner.cleanup()


def configuration(folder: Path, url: str) -> Path:
    """Write the route of the incident log, and return its file."""
    path = folder / "alertmanager.yml"  # JSON is YAML, too
    route = {"receiver": "incident-log", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    receivers = [{"name": "incident-log", "webhook_configs": [{"url": url, "send_resolved": True}]}]
    path.write_text(json.dumps({"route": route, "receivers": receivers}))
    return path


@asynccontextmanager
async def silenced(url: str, target: str) -> AsyncIterator[None]:
    """Silence a target in Alertmanager until the block ends."""
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "target", "value": target, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "ada",
        "comment": "while it is repaired",
    }
    async with aiohttp.ClientSession(url, trust_env=False, raise_for_status=True) as session:
        async with session.post("/api/v2/silences", json=silence) as answer:
            id_ = (await answer.json())["silenceID"]
        yield
        async with session.delete(f"/api/v2/silence/{id_}"):
            pass


async def until(predicate: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    """Ask again and again, since no server tells by itself."""
    async with asyncio.timeout(within):
        while not await predicate():
            await asyncio.sleep(0.05)


class Life:
    """One exporter's alerts and a real Alertmanager, which deliver to each other."""

    def __init__(self, store: Store, port: int) -> None:
        self.client = Alertmanager(Server(base(f"http://127.0.0.1:{port}")))
        self.alerts = Alerts(store, time, {"alertmanager": self.client}, None, "https://monitoring.example")

    async def fire(self, target: str, starts: Moment, ends: Moment | None = None) -> None:
        """Tell Alertmanager what Prometheus would tell it."""
        await self.client.post([PostableAlert({**LABELS, "target": target}, {"summary": "Gone"}, starts, ends)])

    async def open(self, *targets: str) -> None:
        """Wait until exactly these targets' alerts are open."""

        async def are_open() -> bool:
            return sorted(episode.identity.target for episode in self.alerts.open) == sorted(targets)

        await until(are_open)

    async def suppressed(self, *targets: str) -> None:
        """Wait until exactly these targets' alerts are found to be suppressed."""

        async def are_suppressed() -> bool:
            await self.alerts.reconcile()
            found = [each.identity.target for each in self.alerts.open if each.id in self.alerts.suppressed]
            return sorted(found) == sorted(targets)

        await until(are_suppressed)

    async def accepted(self, count: int) -> None:
        """Wait until so many deliveries have come in."""

        async def have_come() -> bool:
            return self.alerts.deliveries["accepted"] >= count

        await until(have_come)

    async def held(self, *ids: str) -> None:
        """Wait until Alertmanager holds exactly these posted alerts."""

        async def are_held() -> bool:
            return [alert.labels.get("alert_id") for alert in await self.client.alerts()] == list(ids)

        await until(are_held)


@pytest.fixture(params=["oldest", "newest"])
async def life(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Life, servers.Alertmanager]]:
    """Return the two, started."""
    store = open_store("", tmp_path / "data")
    port = servers.free_port()
    made = Life(store, port)
    async with webhook(made.alerts.receive) as url:
        file = configuration(tmp_path, url)
        with servers.Alertmanager(tmp_path, file, port=port, release=request.param) as server:
            try:
                await made.alerts.start()
                yield made, server
            finally:
                await made.alerts.close()
                await made.client.close()
    await store.close()
    assert made.alerts.deliveries["unusable"] == made.alerts.deliveries["refused"] == 0


async def test_deliveries_open_and_close_and_silences_suppress(life: tuple[Life, servers.Alertmanager]) -> None:
    """What fires is open at once, or found though it was silenced; each ends as told, and happened once."""
    world, server = life
    began = moment(time.time())
    await world.fire("primary", began)
    await world.open("primary")
    async with silenced(server.url, "primary"), silenced(server.url, "replica"):
        await world.fire("replica", began)  # of which no delivery tells while it is silenced
        await world.suppressed("primary", "replica")
    await world.suppressed()
    await world.accepted(2)
    ended = moment(time.time())
    await world.fire("primary", began, ended)
    await world.fire("replica", began, ended)
    await world.open()
    both = await world.alerts.listed(resolved=None, severity=None, limit=10)
    assert [(each.started_at // 1000, (each.ended_at or 0) // 1000) for each in both] == [
        (began // 1000, ended // 1000)
    ] * 2
    for episode in both:
        _, events = await world.alerts.timeline(episode.id)
        assert sorted(event.kind for event in events) == sorted(
            [EventKind.FIRED, EventKind.SUPPRESSED, EventKind.UNSUPPRESSED, EventKind.RESOLVED]
        )


async def test_a_posted_alert_lives_in_alertmanager_until_it_is_resolved(
    life: tuple[Life, servers.Alertmanager], tmp_path: Path
) -> None:
    """It gets there at once, comes back as no other alert, outlives Alertmanager's memory, and ends there with ours."""
    world, server = life
    posted = await world.alerts.post(draft(), ADA)
    await world.held(posted.id)
    await world.accepted(1)
    server.kill()
    shutil.rmtree(tmp_path / "alertmanager")
    server.start()
    await world.held()
    await world.alerts.tell()  # as every minute
    await world.held(posted.id)
    await world.accepted(2)
    assert [episode.id for episode in world.alerts.open] == [posted.id]
    await world.alerts.resolve(posted.id, ADA, force=False)
    await world.held()
    await world.accepted(3)
    (only,) = await world.alerts.listed(resolved=None, severity=None, limit=10)
    assert (only.id, only.ended_by) == (posted.id, "ada")
