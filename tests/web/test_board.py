"""What the five-second page is told."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auraconnect_exporter.model import Health, Link
from tests.store.support import Place
from tests.web.world import PREFIX, World, firing, world


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


async def test_an_alert_says_who_knows_and_who_is_told_next(api: World) -> None:
    """With the moments of both, so that the page can count down by itself."""
    await api.deliver(firing("2026-05-28T20:20:00Z", alertname="DatabaseConnectionLost", severity="critical"))
    (alert,) = (await api.call("GET", "/board")).said["alerts"]
    assert alert["told"] == ["on-call engineer", "lead engineer"]
    assert (alert["next_role"], alert["next_at"]) == ("CTO", "2026-05-28T20:35:00Z")
    assert (alert["respond_by"], alert["posted"]) == ("2026-05-28T20:20:00Z", False)
    assert alert["runbook"] == "https://monitoring.example/runbooks/DiskUsageHigh"
    await api.call("PUT", f"/alerts/{alert['id']}/acknowledge")
    api.clock.advance(1.0)
    (alert,) = (await api.call("GET", "/board")).said["alerts"]
    assert (alert["next_role"], alert["next_at"], alert["acknowledged_by"]) == ("", None, "ada")


async def test_criticals_that_wait_come_first(api: World) -> None:
    """Unacknowledged before acknowledged, then the worst, then the oldest."""
    for number, (name, severity) in enumerate([("A", "info"), ("B", "critical"), ("C", "warning"), ("D", "critical")]):
        fields = {"alertname": name, "severity": severity, "target": name}
        await api.deliver(firing(f"2026-05-28T20:1{number}:00Z", fingerprint=f"{number:016x}", **fields))
    alerts = (await api.call("GET", "/board")).said["alerts"]
    assert [alert["alertname"] for alert in alerts] == ["B", "D", "C", "A"]
    await api.call("PUT", f"/alerts/{alerts[0]['id']}/acknowledge")
    api.clock.advance(1.0)
    assert [alert["alertname"] for alert in (await api.call("GET", "/board")).said["alerts"]] == ["D", "C", "A", "B"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://[", ""])
async def test_a_runbook_is_a_link_or_nothing(api: World, url: str) -> None:
    """An annotation can't put a script behind a click."""
    alert = firing("2026-05-28T20:20:00Z")
    alert["annotations"]["runbook_url"] = url
    await api.deliver(alert)
    (shown,) = (await api.call("GET", "/board")).said["alerts"]
    assert shown["runbook"] is None


async def test_it_holds_the_dashboard_the_links_and_no_end_of_text(api: World) -> None:
    """Everything in one answer, at a size that a phone can take every five seconds."""
    api.links = (Link("Logs", "https://logs.example"),)
    api.set_health(Health.UNHEALTHY)
    await api.post_alert(description="x" * 10_000)
    said = (await api.call("GET", "/board")).said
    assert said["dashboard"]["health"]["status"] == "unhealthy"
    assert said["links"] == [{"name": "Logs", "url": "https://logs.example"}]
    assert (len(said["alerts"][0]["description"]), said["alerts"][0]["description"][-1]) == (400, "…")
    assert said["history"]["strips"] == []


async def test_it_is_packed_for_those_who_take_it_and_not_sent_twice(api: World) -> None:
    """The same content, other bytes, another tag; 304 where nothing is news."""
    plain = await api.call("GET", "/board", headers={"Accept-Encoding": "identity"})
    headers = {"Accept-Encoding": "gzip"}
    async with await api.send("GET", f"{PREFIX}/board", headers=headers, auto_decompress=False) as response:
        packed = await response.read()
        etag = response.headers["ETag"]
        assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed)) == plain.said
    assert etag != plain.headers["ETag"]
    again = await api.call("GET", "/board", headers={**headers, "If-None-Match": etag})
    assert (again.status, again.said) == (304, None)
