"""The frame of the API: an operation says what it takes and answers, and everything else follows from that.

From one ``Operation`` come its route, the check of who asks, the check of its parameters and body, and its place in
the OpenAPI document. So what the document says is what is done.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from auraconnect_exporter.auth import Role
from auraconnect_exporter.records import Actor
from auraconnect_exporter.web.problems import Problem

T = TypeVar("T")

BODY_BYTES: Final = 64 * 1024
"""The largest body, where an operation does not say otherwise."""

BODY_SECONDS: Final = 10.0
"""For how long a caller may take to send a body."""

MAX_DEPTH: Final = 20
"""How deep what a caller may shape freely may be nested."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation: who asks, and what for. ``query`` and ``body`` are what the operation declares."""

    request: web.Request
    actor: Actor
    query: Any
    body: Any


Handler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the API does. ``path`` is below the prefix; ``role`` None is public.

    ``query`` and ``body`` are msgspec structs, or nothing where it takes none; a ``body`` of ``bytes`` is handed over
    unread. ``answer`` is the type of a good answer, None for one without content. ``problems`` are the statuses of its
    own errors; those of every operation come by themselves.
    """

    name: str
    method: str
    path: str
    summary: str
    handler: Handler
    role: Role | None = Role.SYSTEM_ADMIN
    query: type[msgspec.Struct] | None = None
    body: type[Any] | None = None
    answer: Any = None
    status: int = 200
    also: Mapping[int, Any] | None = None
    """Other answers that are no problems, by status."""
    problems: tuple[int, ...] = ()
    body_bytes: int = BODY_BYTES
    kept_for: float = 0.0
    """For how many seconds its answer, which everybody gets, is the same; for one without parameters and body."""


@functools.cache
def parameter_names(query: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the parameters that a query's type has."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(query))


def read_query(kind: type[msgspec.Struct], request: web.Request) -> Any:
    """Return a call's parameters, checked. Raises Problem (422) that names the one that is wrong."""
    known = parameter_names(kind)
    # An empty parameter is none: forms and old clients send those that were left out.
    given = {name: value for name, value in request.query.items() if name in known and value != ""}
    for name, value in given.items():
        if "\0" in value:
            raise Problem(422, f"{name}: has a NUL in it")
    try:
        query = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, _place(str(error))) from None
    for name in given:
        if getattr(query, name) is None:  # of the word null; whoever says it may believe that it filters
            raise Problem(422, f"{name}: can't be null; leave it out")
    return query


async def read_body(kind: type[Any], most: int, request: web.Request) -> Any:
    """Return a call's body, checked. Raises Problem.

    400 and 408 for one that does not come as a whole, 413 for a large one, 415 for a compressed one, 422 for one that
    can't be used.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(415, "the body is compressed", {"Accept-Encoding": "identity"})
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _read(request, most)
    except TimeoutError:
        raise Problem(408, f"the body was not sent within {BODY_SECONDS:g} s", {"Connection": "close"}) from None
    except (web.RequestPayloadError, HttpProcessingError, OSError):
        raise Problem(400, "the body broke off, or its chunks make no sense") from None
    if kind is bytes:
        return raw
    try:
        body = msgspec.json.decode(raw, type=kind)
        wrong = _unusable(msgspec.to_builtins(body), 0)
    except msgspec.ValidationError as error:
        raise Problem(422, _place(str(error))) from None
    except RecursionError:
        raise Problem(422, "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(422, "the body is not JSON in UTF-8") from None
    if wrong:
        raise Problem(422, f"the body {wrong}")
    return body


async def _read(request: web.Request, most: int) -> bytes:
    if (request.content_length or 0) > most:
        raise Problem(413, f"the body is larger than {most} bytes")
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > most:
            raise Problem(413, f"the body is larger than {most} bytes")
    return bytes(raw)


def _unusable(value: object, depth: int) -> str:
    """Say what the store could not keep, or hand out again: PostgreSQL has no NUL, JSON no infinity."""
    if depth > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, str):
        return "has a NUL in it" if "\0" in value else ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else "has a number that is not finite"
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**63 else "has a whole number of more than 64 bits"
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        return ""
    return next((wrong for part in parts if (wrong := _unusable(part, depth + 1))), "")


def _place(message: str) -> str:
    """Return msgspec's words with the place first: "limit: expected …" for "Expected … - at `$.limit`"."""
    problem, separator, path = message.partition(" - at `$")
    problem = problem[:1].lower() + problem[1:]
    return f"{path.rstrip('`').lstrip('.') or 'body'}: {problem}" if separator else f"body: {problem}"


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(content),
        content_type="application/json",
        headers=dict(headers or {}),
    )
