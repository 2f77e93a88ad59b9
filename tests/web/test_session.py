"""A browser's sign-in: what the cookie is, who may use it, and for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import Morsel
from pathlib import Path

import pytest

from auraconnect_exporter.web.access import SESSION_COOKIE
from auraconnect_exporter.web.session import SESSION_SECONDS, SessionBody
from tests.store.support import Place
from tests.web.world import PREFIX, World, world

PAGE = {"X-Requested-By": "dashboard"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


async def sign_in(api: World, token: str) -> Morsel[str]:
    """Sign in and return the cookie."""
    async with await api.send("POST", f"{PREFIX}/session", as_="none", json={"token": token}) as response:
        assert response.status == 200, await response.text()
        return response.cookies[SESSION_COOKIE]


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"{SESSION_COOKIE}={token}"}


async def test_a_cookie_no_script_reads_and_no_other_site_uses(api: World) -> None:
    """It is for HTTP alone, for our own pages alone, for the health API alone, and ends with a shift."""
    made = await sign_in(api, api.tokens["ada"])
    assert (made["httponly"], made["samesite"], made["path"]) == (True, "Strict", "")
    assert made["max-age"] == str(SESSION_SECONDS)
    assert not made["secure"]


async def test_who_is_signed_in(api: World) -> None:
    """The cookie is as good as the token, AuraConnect's own tokens too."""
    for token, name in ((api.tokens["ada"], "ada"), (api.access_token(), "grace")):
        made = await sign_in(api, token)
        answer = await api.call("GET", "/session", as_="none", headers=cookie(made.value))
        assert (answer.status, answer.said) == (200, {"name": name})


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("auc_" + "0" * 64, 401),
        ("not a token", 422),
        ("x;Domain=evil.example", 422),
        ("é", 422),
        ("", 422),
        ("a" * 4001, 422),
    ],
)
async def test_what_is_no_token_signs_nobody_in(api: World, token: str, status: int) -> None:
    """A wrong one is refused, and what could break out of a cookie is no token at all."""
    async with await api.send("POST", f"{PREFIX}/session", as_="none", json={"token": token}) as response:
        assert (response.status, dict(response.cookies)) == (status, {})


async def test_a_token_without_the_role_signs_nobody_in(api: World) -> None:
    """A page that could show nothing says so when one signs in."""
    answer = await api.call("POST", "/session", as_="none", json={"token": api.tokens["ingest"]})
    assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)


async def test_who_acts_by_cookie_acts_from_our_pages(api: World) -> None:
    """What another site makes a browser send has the cookie, perhaps, but not the header."""
    alert = await api.post_alert()
    signed = cookie(api.tokens["bob"])
    path = f"/alerts/{alert['id']}/acknowledge"
    forged = await api.call("PUT", path, as_="none", headers=signed)
    assert forged.status == 403
    assert (await api.call("GET", f"/alerts/{alert['id']}")).said["alert"]["acknowledged"] is False
    own = await api.call("PUT", path, as_="none", headers={**signed, **PAGE})
    assert (own.status, own.said["acknowledged_by"]) == (200, "bob")


async def test_no_other_site_is_told_that_it_may_send_the_header(api: World) -> None:
    """A browser asks first (CORS), and nobody says yes."""
    headers = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "x-requested-by",
    }
    async with await api.send("OPTIONS", f"{PREFIX}/alerts/x/acknowledge", as_="none", headers=headers) as response:
        assert (response.status, [name for name in response.headers if "Allow-Origin" in name]) == (405, [])


async def test_a_header_counts_before_a_cookie(api: World) -> None:
    """Who shows a wrong token is refused, whatever cookie comes along."""
    answer = await api.call("GET", "/session", as_="auc_" + "0" * 64, headers=cookie(api.tokens["ada"]))
    assert answer.status == 401


async def test_signing_out_forgets_the_cookie(api: World) -> None:
    """The browser is told to drop it."""
    async with await api.send("DELETE", f"{PREFIX}/session", as_="none") as response:
        morsel = response.cookies[SESSION_COOKIE]
        assert (response.status, morsel.value, morsel["max-age"]) == (204, "", "0")


async def test_guessing_by_cookie_is_limited_like_any_other(api: World) -> None:
    """Thirty wrong ones a minute, then nothing is looked at but the right one."""
    wrong = {**cookie("auc_" + "0" * 64), "X-Forwarded-For": "203.0.113.9"}
    statuses = [(await api.call("GET", "/session", as_="none", headers=wrong)).status for _ in range(31)]
    assert (statuses[0], statuses[-1]) == (401, 429)


def test_a_body_does_not_show_its_token() -> None:
    """Whatever logs a body logs no secret."""
    assert "auc_" not in repr(SessionBody("auc_1"))
