"""Who asks, and may they: every call passes here before anything else happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from auraconnect_exporter.auth import INSUFFICIENT_SCOPE, Authenticator, Principal, Refused, Role, authorize
from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.limits import FailedSignIns, Network, RateLimit, client_address
from auraconnect_exporter.records import Actor
from auraconnect_exporter.web.problems import Problem
from auraconnect_exporter.web_config import certificate_name

log = logging.getLogger(__name__)

SESSION_COOKIE = "auraconnect-session"
"""A browser's token, see ``session``."""

ANYBODY = "anybody"
"""The actor's name where nobody signs in."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. ``monotonic`` is a clock in seconds; ``proxies`` are believed what they say of addresses."""

    authenticator: Authenticator
    proxies: tuple[Network, ...]
    failures: FailedSignIns
    calls: RateLimit
    monotonic: Callable[[], float]

    def admit_anybody(self, request: web.Request) -> Actor:
        """Return who asks for what is public. Raises Problem: 429 for too many calls."""
        address = self.address(request)
        self._limit(self.calls.count(address, self.monotonic()), "too many calls")
        return Actor(ANYBODY, address)

    async def admit(self, request: web.Request, role: Role, authorization: str | None = None) -> Actor:
        """Return who asks. Raises Problem: 401, 403, or 429 after too many failures.

        ``authorization`` stands in for the header of that name where the credential came in another way. A credential
        is looked at before any limit, so that nobody can lock another out.
        """
        address = self.address(request)
        found = await self._authenticated(request, authorization)
        if isinstance(found, Refused):
            log.info("a caller was refused", extra={"reason": found.reason, "address": address, "path": request.path})
            if found.failed:
                self._limit(self.failures.count(address, self.monotonic()), "too many failed sign-ins")
            challenges = ", ".join(self.authenticator.challenges(found, role))
            raise Problem(401, "sign in with a valid token", {"WWW-Authenticate": challenges})
        if not authorize(found, role):
            log.info("a caller may not", extra={"actor": found.name, "role": role, "path": request.path})
            raise Problem(403, f"this needs the role {role}", {"WWW-Authenticate": INSUFFICIENT_SCOPE})
        return Actor(found.name, address)

    def address(self, request: web.Request) -> str:
        """Return the caller's address, as our proxies report it."""
        if not self.proxies:
            return request.remote or ""
        forwarded = request.headers.getall("X-Forwarded-For", [])
        return client_address(request.remote or "", ",".join(forwarded) or None, self.proxies)

    async def _authenticated(self, request: web.Request, authorization: str | None) -> Principal | Refused:
        headers = request.headers.getall("Authorization", [])
        if authorization is None:
            authorization = ", ".join(headers) if headers else _from_cookie(request)
        transport = request.transport
        certificate = certificate_name(transport.get_extra_info("peercert")) if transport else None
        if self.authenticator.is_slow(authorization):
            return await in_daemon_thread(lambda: self.authenticator.authenticate(authorization, certificate))
        return self.authenticator.authenticate(authorization, certificate)

    @staticmethod
    def _limit(retry_after: int | None, what: str) -> None:
        if retry_after is not None:
            raise Problem(429, f"{what} from this address; wait {retry_after} s", {"Retry-After": str(retry_after)})


def _from_cookie(request: web.Request) -> str | None:
    """Return the credential of a browser that has signed in. Raises Problem (403) where it may not be its own act.

    A browser sends the cookie whoever makes it send a request. A page of another site can't add a header to one
    without asking us first, which we never grant.
    """
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    if request.method not in {"GET", "HEAD"} and "X-Requested-By" not in request.headers:
        raise Problem(403, "who is signed in by cookie acts from our own pages only")
    return f"Bearer {token}"
