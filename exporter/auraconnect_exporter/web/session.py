"""A browser's sign-in: a token becomes a cookie that no script can read and no other site can use.

The token itself is the session: nothing is kept here, and a token that is revoked or expires ends it. The cookie has no
``Path``, so a browser sends it to the health API alone, under whatever prefix a proxy serves that. Who acts by cookie
must send ``X-Requested-By``, which another site's page can't (see ``access``).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from aiohttp import web

from auraconnect_exporter.auth import Role
from auraconnect_exporter.web.access import SESSION_COOKIE, Gate
from auraconnect_exporter.web.operations import Call, Operation, json_answer
from auraconnect_exporter.web.problems import Problem

SESSION_SECONDS: Final = 12 * 3600
"""How long a browser keeps the token: a shift."""


class SessionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What signs in."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]

    def __repr__(self) -> str:
        return "SessionBody('…')"


class Session(msgspec.Struct, frozen=True):
    """Who is signed in."""

    name: str


class Sessions:
    """The operations; ``secure`` keeps the cookie to HTTPS, whatever the connection to us is."""

    def __init__(self, gate: Gate, *, secure: bool) -> None:
        self._gate = gate
        self._secure = secure

    def operations(self) -> tuple[Operation, ...]:
        """Return all of them, in the order of the document."""
        return (
            Operation(
                "signIn", "POST", "/session", "Sign a browser in: the token becomes a cookie that no script reads",
                self._sign_in, None, body=SessionBody, answer=Session, problems=(401, 403),
            ),
            Operation(
                "session", "GET", "/session", "Who is signed in", self._session, Role.SYSTEM_ADMIN, answer=Session,
            ),
            Operation(
                "signOut", "DELETE", "/session", "Let the browser forget the token", self._sign_out, None, status=204,
            ),
        )  # fmt: skip

    async def _sign_in(self, call: Call) -> web.Response:
        body: SessionBody = call.body
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", body.token):  # RFC 6750, 2.1; nothing else is fit for a cookie
            raise Problem(422, "token: is not one")
        actor = await self._gate.admit(call.request, Role.SYSTEM_ADMIN, f"Bearer {body.token}")
        answer = json_answer(Session(actor.name))
        answer.set_cookie(
            SESSION_COOKIE,
            body.token,
            path="",
            max_age=SESSION_SECONDS,
            secure=self._secure or call.request.secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def _session(self, call: Call) -> web.Response:
        return json_answer(Session(call.actor.name))

    async def _sign_out(self, _call: Call) -> web.Response:
        answer = web.Response(status=204)
        answer.set_cookie(SESSION_COOKIE, "", path="", max_age=0, httponly=True, samesite="Strict")
        return answer
