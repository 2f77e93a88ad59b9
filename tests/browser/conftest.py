"""The five-second page in a real Chromium, over real HTTP, from the application wired as in the program."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from auraconnect_exporter.model import Health
from tests.store.support import Place
from tests.web.world import World, firing, world
from tools.programs import program


@dataclass(frozen=True)
class Device:
    """What somebody looks at the page with."""

    width: int = 1280
    height: int = 900
    scheme: str = "light"

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


PHONE = Device(390, 844)


class Site:
    """The application, and what a test lets happen in it."""

    def __init__(self, api: World) -> None:
        self.api = api
        self._fired = 0

    @property
    def url(self) -> str:
        return str(self.api.client.make_url("/dashboard"))

    def check(self, database: Health = Health.HEALTHY, *, seconds_ago: float = 0.0) -> None:
        """Let every target have been checked just now, or so long ago, and the answers that are kept be old."""
        self.api.clock.wall = time.time()
        self.api.clock.seconds += 2.0
        self.api.set_health(database)
        self.api.targets = tuple(
            replace(
                view,
                state=replace(view.state, last=replace(view.state.last, started=self.api.clock.wall - seconds_ago)),
            )
            for view in self.api.targets
            if view.state.last is not None
        )

    async def fire(
        self,
        alertname: str,
        severity: str,
        *,
        seconds_ago: float = 60.0,
        annotations: Mapping[str, str] | None = None,
        **labels: str,
    ) -> None:
        """Let Alertmanager deliver an alert that began so long ago."""
        self._fired += 1
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))
        usual = {"alertname": alertname, "severity": severity, "component": "database", "target": alertname}
        alert = firing(started, fingerprint=f"{self._fired:016x}", **{**usual, **labels})
        alert["annotations"] |= {"summary": f"{alertname} fires", **(annotations or {})}
        assert (await self.api.deliver(alert)).status == 200
        self.check()

    async def resolve(self, alertname: str) -> None:
        """Let Alertmanager say that it is over."""
        (episode,) = [each for each in self.api.incidents.alerts.open if each.identity.alertname == alertname]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        alert = {
            "status": "resolved",
            "labels": dict(episode.labels),
            "annotations": {},
            "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(episode.started_at / 1e6)),
            "endsAt": now,
            "generatorURL": "",
            "fingerprint": episode.fingerprint,
        }
        assert (await self.api.deliver(alert)).status == 200
        self.check()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with world(Place("", tmp_path / "data"), tmp_path) as api:
        made = Site(api)
        made.check()
        await api.incidents.background.read()
        yield made


Opens = Callable[..., Awaitable[Page]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=program("chromium"))
        yield launched
        await launched.close()


@pytest.fixture
async def opens(browser: Browser, site: Site) -> AsyncIterator[Opens]:
    """Return a way to open the page; at the end, no script has failed and the policy has refused nothing."""
    faults: list[str] = []
    async with AsyncExitStack() as open_contexts:

        async def opened(device: Device = Device(), *, signed_in: bool = True, path: str = "") -> Page:
            size: ViewportSize = {"width": device.width, "height": device.height}
            scheme: Any = device.scheme
            context = await browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
            open_contexts.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(15_000)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda said: faults.append(said.text) if "Refused to" in said.text else None)
            await page.clock.install()
            await page.goto(site.url + path)
            if signed_in:
                await sign_in(page, site)
            return page

        yield opened
    assert faults == []


async def sign_in(page: Page, site: Site, who: str = "ada") -> None:
    await page.get_by_label("Token").fill(site.api.tokens[who])
    await page.keyboard.press("Enter")
    await page.locator("#board").wait_for()


async def poll(page: Page) -> None:
    """Let the page look for news, and wait until it has."""
    async with page.expect_response("**/board"):
        await page.clock.run_for(6_000)
