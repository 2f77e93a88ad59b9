"""The public page: what everybody is told, what nobody outside is, and who decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from auraconnect_exporter.maintenance import Occurrence, Window
from auraconnect_exporter.model import Component, Health, StatusPage
from tests.store.support import Place
from tests.web.world import World, world

DAY = 86400.0


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        await made.incidents.background.read()
        yield made


async def status(api: World) -> Any:
    """Return what the public is told, not from a second ago."""
    api.clock.advance(1.0)
    answer = await api.call("GET", "/status", as_="none")
    assert answer.status == 200
    return answer.said


async def page(api: World, path: str = "/status") -> str:
    async with await api.send("GET", path, as_="none", headers={"Accept": "text/html"}) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        return await response.text()


@pytest.mark.parametrize(
    ("health", "state", "sentence"),
    [
        (Health.HEALTHY, "operational", "All systems operational"),
        (Health.DEGRADED, "degraded", "Some systems are degraded"),
        (Health.UNHEALTHY, "outage", "Major outage"),
    ],
)
async def test_it_says_how_we_are_in_public_names(api: World, health: Health, state: str, sentence: str) -> None:
    """A component without a public name is not there; no target, no reason, no figure is."""
    api.set_health(health)
    said = await status(api)
    assert (said["state"], said["components"]) == (state, [{"name": "Data", "state": state}])
    text = await page(api)
    assert sentence in text
    for internal in ("primary", "vm-1", "database", "host", "auraconnect-exporter/"):
        assert internal not in text.replace("AuraConnect", "")


async def test_the_names_are_the_operators(api: World) -> None:
    """The configuration says what the public knows us and our components by, in its own order."""
    api.status_page = StatusPage("Aura <3", {Component.HOST: "Servers", Component.DATABASE: "Orders & menus"})
    said = await status(api)
    assert said["components"] == [
        {"name": "Servers", "state": "operational"},
        {"name": "Orders & menus", "state": "operational"},
    ]
    assert "<h1>Aura &lt;3 status</h1>" in await page(api)


async def test_nothing_known_is_not_operational(api: World) -> None:
    """Before the first checks the page says that it does not know."""
    api.targets = ()
    assert (await status(api))["state"] == "unknown"
    assert "not known at the moment" in await page(api)


async def test_an_incident_is_told_when_a_person_publishes_it(api: World) -> None:
    """An alert alone tells the public nothing; a notice does, word by word, without who wrote it."""
    await api.post_alert(severity="critical", title="Replica lost")
    assert (await status(api))["incidents"] == []
    body = {"title": "Orders are slow", "text": "We look into it.", "components": ["Application"]}
    answer = await api.call("POST", "/notices", json=body)
    assert answer.status == 201
    id_ = answer.said["id"]
    more = {"text": "A disk is full.", "state": "identified"}
    assert (await api.call("POST", f"/notices/{id_}/updates", as_="bob", json=more)).status == 201
    said = await status(api)
    (incident,) = said["incidents"]
    assert (incident["title"], incident["state"], incident["components"]) == (
        "Orders are slow",
        "identified",
        ["Application"],
    )
    assert [update["text"] for update in incident["updates"]] == ["A disk is full.", "We look into it."]
    text = await page(api)
    assert text.index("Current incidents") < text.index("A disk is full.") < text.index("Past incidents")
    assert ("bob" in text, "ada" in text) == (False, False)
    acts = [(act["actor"], act["action"]) for act in (await api.call("GET", "/audit")).said]
    assert acts[:2] == [("bob", "notice.update"), ("ada", "notice.publish")]


async def test_what_is_over_is_history_for_three_months(api: World) -> None:
    """A resolved incident moves down, and leaves after 90 days; one that is not over never leaves."""
    for title, state in (("Old", "investigating"), ("Over", "resolved")):
        await api.call("POST", "/notices", json={"title": title, "text": "Words.", "state": state})
    text = await page(api)
    assert text.index("Old") < text.index("Past incidents") < text.index("Over")
    api.clock.advance(90 * DAY + 1)
    await api.incidents.notices.read()
    assert [each["title"] for each in (await status(api))["incidents"]] == ["Old"]


async def test_words_are_text(api: World) -> None:
    """What somebody publishes can't become markup."""
    body = {"title": "<script>1</script>", "text": "<b>x</b>", "components": ["<i>"]}
    await api.call("POST", "/notices", json=body)
    text = await page(api)
    assert ("<script>" in text, "<b>" in text, "<i>" in text) == (False, False, False)
    assert "&lt;script&gt;1&lt;/script&gt;" in text


@pytest.mark.parametrize(
    "body",
    [
        {"title": "", "text": "x"},
        {"title": "x", "text": ""},
        {"title": "x"},
        {"title": "x", "text": "x", "state": "fine"},
        {"title": "x" * 201, "text": "x"},
        {"title": "x", "text": "x" * 4001},
        {"title": "x", "text": "x", "components": ["x"] * 21},
        {"title": "x", "text": "x", "actor": "eve"},
    ],
)
async def test_what_is_not_fit_to_publish_is_refused(api: World, body: object) -> None:
    """And the public hears nothing of it."""
    assert (await api.call("POST", "/notices", json=body)).status == 422
    assert (await status(api))["incidents"] == []


async def test_an_update_needs_its_notice(api: World) -> None:
    """An unknown one is 404, and leaves no trace."""
    answer = await api.call("POST", "/notices/x/updates", json={"text": "x", "state": "resolved"})
    assert answer.status == 404
    assert (await api.call("GET", "/audit")).said == []


async def test_maintenance_is_told_where_it_is_announced(api: World) -> None:
    """Windows without words for the public stay inside, as do those that are over or far away."""
    now = api.clock.time()
    zone = ZoneInfo("UTC")

    def window(name: str, starts_in: float, announcement: str) -> Occurrence:
        made = Window(name, datetime(2026, 1, 1), 3600.0, zone, announcement=announcement)  # local
        return Occurrence(made, now + starts_in, now + starts_in + 3600, active=starts_in < 0)

    api.windows = (
        window("later", 2 * DAY, "We move house."),
        window("secret", DAY, ""),
        window("now", -60, "We clean up."),
        window("over", -7200, "We did."),
        window("far", 20 * DAY, "We will."),
    )
    said = await status(api)
    assert [(each["text"], each["active"]) for each in said["maintenance"]] == [
        ("We clean up.", True),
        ("We move house.", False),
    ]
    text = await page(api)
    assert ("Now: We clean up." in text, "secret" in text) == (True, False)


async def test_a_store_that_cannot_be_read_is_not_a_quiet_day(tmp_path: Path) -> None:
    """Nobody is told that there are no incidents by somebody who can't know."""
    async with world(Place("", tmp_path / "data"), tmp_path) as api:
        await api.incidents.notices._store.close()
        await api.incidents.notices.read()
        assert (await status(api))["incidents"] is None
        assert (await page(api)).count("Incidents can't be shown at the moment.") == 2


async def test_it_may_be_kept_for_a_moment_and_lives_below_the_prefix(api: World) -> None:
    """Whoever stands before us may keep it; a browser gets the page and a program the data at one address."""
    for path, accept, kind in (
        ("/status", "*/*", "text/html"),
        ("/api/v1/health/status", "text/html", "text/html"),
        ("/api/v1/health/status", "*/*", "application/json"),
    ):
        async with await api.send("GET", path, as_="none", headers={"Accept": accept}) as response:
            assert (response.content_type, response.headers["Cache-Control"]) == (kind, "public, max-age=15")
