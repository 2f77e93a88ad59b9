"""The five-second page, as people use it."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from auraconnect_exporter.model import Health, Link
from tests.browser.conftest import PHONE, Device, Opens, Site, poll, sign_in

DEVICES = [Device(), Device(scheme="dark"), PHONE, Device(390, 844, "dark")]


async def test_signing_in_shows_the_board_and_signing_out_hides_it(site: Site, opens: Opens) -> None:
    """A wrong token says so and keeps the form; the right one stays over a reload and out of reach of scripts."""
    page = await opens(signed_in=False)
    await page.get_by_label("Token").fill("auc_" + "0" * 64)
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in-problem")).to_have_text("sign in with a valid token")
    await sign_in(page, site)
    await expect(page.locator("#who")).to_have_text("ada")
    await page.reload()
    await expect(page.locator("#board")).to_be_visible()
    token = site.api.tokens["ada"]
    kept = await page.evaluate("[document.cookie, JSON.stringify({...localStorage, ...sessionStorage}), location.href]")
    assert (kept[:2], token in kept[2]) == (["", "{}"], False)
    assert await page.get_by_label("Token").input_value() == ""
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#sign-in")).to_be_visible()
    await expect(page.locator("#board")).to_be_hidden()


async def test_acknowledging_with_the_keyboard_alone(site: Site, opens: Opens) -> None:
    """Tab to the button, Enter: somebody takes care, the clock stops, and the focus is where it was."""
    await site.fire("DatabaseConnectionLost", "critical", seconds_ago=60)
    page = await opens()
    alert = page.get_by_role("article", name="DatabaseConnectionLost fires")
    await expect(alert.locator(".clock")).to_contain_text("act now · told: on-call engineer · lead engineer in 3 min 5")
    await page.keyboard.press("Tab")
    await expect(alert.get_by_role("button", name="Acknowledge")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(alert.locator(".clock")).to_contain_text("acknowledged by ada")
    await expect(alert.get_by_role("button", name="Acknowledged")).to_be_focused()
    assert [each.acknowledged_by for each in site.api.incidents.alerts.open] == ["ada"]
    site.check()
    await poll(page)
    await expect(alert.get_by_role("button", name="Acknowledged")).to_be_focused()
    await expect(page.locator("#alerts-count")).to_have_text("0 waiting, 1 in all")


async def test_going_stale_and_coming_back(site: Site, opens: Opens) -> None:
    """When nobody answers the page says so in words, is nowhere green, and recovers by itself."""
    page = await opens()
    system, trouble = page.locator("#system"), page.locator("#trouble")
    await expect(system).to_have_text("System healthy")
    await expect(trouble).to_be_hidden()
    await page.route("**/board", lambda route: route.abort())
    for _ in range(3):
        async with page.expect_event("requestfailed"):
            await page.clock.run_for(11_000)
    await expect(trouble).to_have_text("This page shows the past: the exporter does not answer.")
    await expect(system).to_have_text("System not known, was healthy")
    assert await greens(page) == []
    await expect(page).to_have_title(re.compile("^UNKNOWN"))
    await page.unroute("**/board")
    site.check()
    async with page.expect_response("**/board"):
        await page.clock.run_for(60_000)
    await expect(trouble).to_be_hidden()
    await expect(system).to_have_text("System healthy")


async def test_an_exporter_that_answers_but_does_not_look_is_stale(site: Site, opens: Opens) -> None:
    """Answers that hold old checks are no news: their age counts, not the answer's."""
    page = await opens()
    site.check(seconds_ago=21)
    await poll(page)
    await expect(page.locator("#trouble")).to_have_text("This page shows the past: nothing has been checked lately.")
    await expect(page.locator("#system")).to_have_text("System not known, was healthy")
    assert await greens(page) == []


async def greens(page: Page) -> list[str]:
    """Return the texts that are drawn in the colour of health."""
    script = """() => {
        const probe = document.createElement("i");
        probe.className = "state healthy";
        document.documentElement.append(probe);
        const green = getComputedStyle(probe).color; probe.remove();
        return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() &&
            getComputedStyle(each).color === green && each.childElementCount === 0).map((each) => each.textContent);
    }"""
    return list(await page.evaluate(script))


async def test_a_healthy_board_has_green(opens: Opens) -> None:
    """What looks for green finds it where it should be."""
    page = await opens()
    assert "healthy" in await greens(page)


async def test_an_alert_that_comes_while_somebody_writes(site: Site, opens: Opens) -> None:
    """The text, the selection, the focus and the place on the screen stay; those who can't see it hear of it."""
    for number in range(12):
        await site.fire(f"Slow{number}", "warning", seconds_ago=600 - number)
    page = await opens()
    alert = page.get_by_role("article", name="Slow9 fires")
    await alert.locator("summary").click()
    text = alert.get_by_label("Note")
    await text.fill("looking at the replica")
    await text.evaluate("(area) => area.setSelectionRange(2, 9)")
    before = await text.bounding_box()
    await site.fire("DatabaseConnectionLost", "critical")
    await poll(page)
    await expect(page.locator("#announcement")).to_have_text("New critical: DatabaseConnectionLost fires")
    first = page.get_by_role("article").first
    await expect(first).to_contain_text("DatabaseConnectionLost")
    await expect(text).to_be_focused()
    assert await text.evaluate("(area) => [area.value, area.selectionStart, area.selectionEnd]") == [
        "looking at the replica",
        2,
        9,
    ]
    after = await text.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) < 2


async def test_a_note_is_kept(site: Site, opens: Opens) -> None:
    """It stands in the alert's timeline, under the writer's name."""
    await site.fire("Slow", "warning")
    page = await opens()
    alert = page.get_by_role("article", name="Slow fires")
    await alert.locator("summary").click()
    await alert.get_by_label("Note").fill("it is the replica")
    await alert.get_by_role("button", name="Add the note").click()
    await expect(alert.locator(".done")).to_have_text("The note is kept.")
    (episode,) = site.api.incidents.alerts.open
    _, events = await site.api.incidents.alerts.timeline(episode.id)
    assert [(event.actor, event.detail) for event in events if event.kind == "note"] == [("ada", "it is the replica")]


async def test_what_is_over_goes_but_not_under_ones_hands(site: Site, opens: Opens) -> None:
    """An alert that ends leaves the list; the one that somebody works on is struck out until they leave it."""
    await site.fire("Slow", "warning")
    await site.fire("Slower", "warning")
    page = await opens()
    slow, slower = (page.get_by_role("article", name=f"{name} fires") for name in ("Slow", "Slower"))
    await slow.get_by_role("button", name="Acknowledge").focus()
    await site.resolve("Slow")
    await site.resolve("Slower")
    await poll(page)
    await expect(slower).to_have_count(0)
    await expect(slow.locator(".clock")).to_contain_text("over")
    await page.locator("#alerts-title").focus()
    await expect(slow).to_have_count(0)


async def test_resolving_what_still_fires_asks_twice(site: Site, opens: Opens) -> None:
    """The first try says that it fires; only who then insists ends it."""
    await site.fire("Slow", "warning")
    page = await opens()
    await page.get_by_role("button", name="Resolve…").click()
    dialog = page.get_by_role("dialog", name="Resolve this alert?")
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(dialog.locator("#resolve-problem")).to_contain_text("still fires")
    assert len(site.api.incidents.alerts.open) == 1
    await dialog.get_by_role("button", name="Resolve though it fires").click()
    await expect(dialog).to_be_hidden()
    assert not site.api.incidents.alerts.open


@pytest.mark.parametrize("fragment", ["DatabaseConnectionLost", "Orders+wait%2C%20still"])
async def test_the_link_in_a_page_leads_to_its_alert(site: Site, opens: Opens, fragment: str) -> None:
    """Alertmanager's templates escape the name as a form does."""
    for number in range(12):
        await site.fire(f"Slow{number}", "warning")
    await site.fire("DatabaseConnectionLost", "info")
    await site.fire("Orders wait, still", "info")
    page = await opens(path=f"#{fragment}")
    name = "Orders wait, still" if "+" in fragment else fragment
    heading = page.get_by_role("heading", name=f"{name} fires")
    await expect(heading).to_be_focused()
    await expect(heading).to_be_in_viewport()


async def test_a_hidden_page_rests_and_looks_at_once_when_it_is_seen(opens: Opens) -> None:
    """Nobody looks, nobody asks; on return the news is there without waiting for the next poll."""
    page = await opens()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    await page.evaluate(hide, arg=True)
    await page.clock.run_for(60_000)
    assert asked == []
    async with page.expect_response("**/board"):
        await page.evaluate(hide, arg=False)


async def test_no_news_is_304_and_news_is_shown(site: Site, opens: Opens) -> None:
    """The tag of the last answer goes along; an answer without content changes nothing on the page."""
    page = await opens()
    async with page.expect_response("**/board") as same:
        await page.clock.run_for(6_000)
    assert (await same.value).status == 304
    await expect(page.locator("#trouble")).to_be_hidden()
    await site.fire("Slow", "warning")
    async with page.expect_response("**/board") as news:
        await page.clock.run_for(6_000)
    assert (await news.value).status == 200
    await expect(page.get_by_role("article", name="Slow fires")).to_be_visible()


async def test_a_revoked_token_asks_to_sign_in_again(site: Site, opens: Opens) -> None:
    """Who is not let in any more sees nothing old."""
    page = await opens()
    await page.context.clear_cookies()
    await poll(page)
    await expect(page.locator("#sign-in-problem")).to_have_text("You are not signed in any more.")
    await expect(page.locator("#board")).to_be_hidden()
    await expect(page.get_by_label("Token")).to_be_focused()
    assert site.api.tokens["ada"] not in await page.content()


async def test_what_others_write_is_text(site: Site, opens: Opens) -> None:
    """Titles and targets come from outside; none of them becomes markup."""
    await site.fire("<img src=x onerror=alert(1)>", "critical", target="<b>bold</b>")
    page = await opens()
    await expect(page.get_by_role("article")).to_contain_text("<b>bold</b>")
    assert await page.locator("#alerts-list img, #alerts-list b").count() == 0


@pytest.mark.parametrize("device", DEVICES, ids=str)
async def test_everybody_can_use_it(site: Site, opens: Opens, device: Device) -> None:
    """Axe finds nothing on either page, and nothing is wider than the screen, in any state that people meet."""
    site.api.links = (Link("Logs", "https://logs.example"),)
    page = await opens(device, signed_in=False)
    assert await violations(page) == []
    await site.fire("DatabaseConnectionLost", "critical", seconds_ago=1200)
    await site.fire("ErrorRateWarning", "warning")
    await site.fire("ErrorRateElevated", "info", target="x" * 200)
    await site.api.post_alert(severity="info")
    site.check(Health.UNHEALTHY)
    await sign_in(page, site)
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_role("button", name="Resolve…").first.click()
    assert await violations(page) == []
    await page.keyboard.press("Escape")
    await page.route("**/board", lambda route: route.abort())
    for _ in range(3):
        async with page.expect_event("requestfailed"):
            await page.clock.run_for(11_000)
    await expect(page.locator("#trouble")).to_be_visible()
    assert await violations(page) == []


async def violations(page: Page) -> list[tuple[str, str]]:
    found = await Axe().run(page)
    return [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]]


async def test_states_are_told_by_word_and_sign_as_well(site: Site, opens: Opens) -> None:
    """Who sees no colours sees another sign and reads another word for each state."""
    site.check(Health.UNHEALTHY)
    page = await opens()
    states = page.locator("#components-list .state")
    await expect(states).to_have_text(["unhealthy", "healthy"])
    signs = await states.evaluate_all("(all) => all.map((each) => getComputedStyle(each, '::before').content)")
    assert len(set(signs)) == 2
