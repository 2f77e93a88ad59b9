"""Take the pictures of the pages that the README shows: `make screenshots`. The data is made up."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from playwright.async_api import Page, ViewportSize, async_playwright

from auraconnect_exporter.figures import EndpointPerformance, Totals
from auraconnect_exporter.history import CELLS
from auraconnect_exporter.model import Component, Health, Link
from auraconnect_exporter.records import NoticeState, moment
from auraconnect_exporter.store.errors import ErrorSummary
from tests.browser.conftest import Site, sign_in
from tests.store.support import Place
from tests.web.world import world
from tools.programs import program

FOLDER: Final = Path(__file__).parents[2] / "docs/images"


async def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with world(Place("", folder / "data"), folder) as api, async_playwright() as playwright:
            site = Site(api)
            await _busy_night(site)
            browser = await playwright.chromium.launch(executable_path=program("chromium"))
            sizes: dict[str, tuple[str, ViewportSize]] = {
                "dashboard": ("light", {"width": 1280, "height": 940}),
                "dashboard-dark": ("dark", {"width": 1280, "height": 940}),
                "dashboard-phone": ("light", {"width": 390, "height": 844}),
            }
            for picture, (scheme, size) in sizes.items():
                page = await browser.new_page(viewport=size, color_scheme="dark" if scheme == "dark" else "light")
                await page.goto(site.url)
                await sign_in(page, site)
                await page.get_by_role("article").first.wait_for()
                await _without_focus(page)
                await page.screenshot(path=FOLDER / f"{picture}.png")
                await page.close()
            page = await browser.new_page(viewport={"width": 1000, "height": 760})
            await page.goto(site.url.replace("/dashboard", "/status"))
            await page.screenshot(path=FOLDER / "status.png")
            await browser.close()


async def _without_focus(page: Page) -> None:
    await page.evaluate("document.activeElement.blur()")


async def _busy_night(site: Site) -> None:
    """Let the database be slow, and what hangs on it."""
    api = site.api
    api.links = (Link("Logs", "https://logs.example"), Link("Traces", "https://traces.example"))
    site.check(Health.UNHEALTHY)
    await api.incidents.background.read()
    night = {
        ("DatabaseConnectionLost", "critical", 190.0, "database", "primary"): (
            "A critical database does not answer",
            "Database primary failed at least 3 checks in a row. Why, in the last minute: refused (12).",
        ),
        ("QueueJobTooOld", "warning", 420.0, "workers", "celery"): (
            "A job has been waiting for too long",
            "The oldest job in the queue exports of celery has been waiting for 11m 40s (limit 10m).",
        ),
        ("DiskUsageHigh", "warning", 4000.0, "host", "vm-1:/var"): (
            "A file system is nearly full",
            "/var of vm-1 is 91.4% full (limit 90%).",
        ),
    }
    for (name, severity, seconds, component, target), (summary, description) in night.items():
        words = {"summary": summary, "description": description}
        await site.fire(name, severity, seconds_ago=seconds, annotations=words, component=component, target=target)
    (disk,) = [each for each in api.incidents.alerts.open if each.identity.alertname == "DiskUsageHigh"]
    await api.call("PUT", f"/alerts/{disk.id}/acknowledge", as_="bob")
    body = {"title": "Orders are slow", "text": "We have found the cause.", "components": ["Application"]}
    await api.call("POST", "/notices", json={**body, "state": NoticeState.IDENTIFIED.value})
    well = [Health.HEALTHY] * CELLS
    strips = {
        Component.DATABASE: (*well[:-9], Health.DEGRADED, Health.DEGRADED, *well[:6], Health.UNHEALTHY),
        Component.HOST: (*well[:20], Health.DEGRADED, *well[:27]),
    }
    lines = [("GET", "/restaurants/{id}/menu", 1412, 0.4, 84.0), ("POST", "/orders", 396, 12.1, 2140.0)]
    api.incidents.background.latest = replace(
        api.incidents.background.latest,
        totals=Totals(6.1, 0.4, 212.0),
        performance=tuple(
            EndpointPerformance(
                endpoint, method, p95 / 2, p95 / 3, p95, p95 * 2, count, round(count * rate / 100), rate, 5
            )
            for method, endpoint, count, rate, p95 in lines
        ),
        summary=ErrorSummary(127, 3, 5.3, (("OperationalError", 96), ("TimeoutError", 31)), (("/orders", 118),)),
        strips=strips,
        strips_end=moment(api.clock.time()),
        unavailable={},
    )
    site.check(Health.UNHEALTHY)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
