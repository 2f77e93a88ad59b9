"""Errors as problem details (RFC 9457), and the headers that every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, title: str, detail: str) -> web.Response:
    """Return a problem-details answer."""
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return web.Response(status=status, body=body, content_type="application/problem+json")


@web.middleware
async def problem_details(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a problem; what was not foreseen is logged, and not explained to the caller."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004  # a redirect is no error
            raise
        answer = problem(error.status, error.reason, f"{request.method} {request.path}: {error.reason.lower()}")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:
        log.exception("a request failed", extra={"method": request.method, "path": request.path})
        return problem(500, "Internal Server Error", "the exporter's log says more")


async def security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what browsers need to be told."""
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-store")
