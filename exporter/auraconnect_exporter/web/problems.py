"""Errors as problem details (RFC 9457), and the headers that every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from auraconnect_exporter.ledger import StillFiring, TooManyOpen, UnknownAlert
from auraconnect_exporter.notices import UnknownNotice
from auraconnect_exporter.store.problems import StoreError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_SECONDS = 5
"""After which a caller may ask again what could not be answered."""


class ProblemDetails(msgspec.Struct, frozen=True):
    """What went wrong; ``type`` is always "about:blank", since ``status`` says all that a program needs."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


class Problem(Exception):
    """An answer that is an error: a status, one sentence, and headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a problem-details answer."""
    body = msgspec.json.encode(ProblemDetails(HTTPStatus(status).phrase, status, detail))
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=dict(headers or {}))


@web.middleware
async def problem_details(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a problem; what was not foreseen is logged, and not explained to the caller."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004  # a redirect is no error
            raise
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, f"{request.method} {request.path}: {error.reason.lower()}", allowed)
    except Exception as error:  # whatever it is, the caller gets an answer
        known = _known(error)
        if known is None:
            log.exception("a request failed", extra={"method": request.method, "path": request.path})
            return problem(500, "the exporter's log says more")
        return problem(known.status, str(known), known.headers)


def _known(error: Exception) -> Problem | None:
    """Return the answer to an error that we know: the one place where what went wrong becomes a status."""
    match error:
        case Problem():
            return error
        case UnknownAlert() | UnknownNotice():
            return Problem(404, str(error))
        case StillFiring():
            return Problem(409, str(error))
        case TooManyOpen():
            return Problem(429, str(error), {"Retry-After": "60"})
        case StoreError():
            log.warning("the store failed", extra={"detail": str(error)})
            detail = "the incident store can't be used at the moment"
            return Problem(503, detail, {"Retry-After": str(RETRY_SECONDS)})
    return None


SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    # Whoever asks need not know which versions of what we are made of.
    "Server": "auraconnect-exporter",
}
"""What browsers need to be told, unless an answer says otherwise."""


async def security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what browsers need to be told."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SECURITY_HEADERS["Server"]  # aiohttp has put its own there
