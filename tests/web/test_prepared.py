"""The public answer, sent from bytes that are made already, is what aiohttp would have sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from auraconnect_exporter.model import Health
from tests.store.support import Place
from tests.web.world import PREFIX, World, world


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


async def exchange(api: World, *requests: str) -> bytes:
    """Send requests at once, the last of which closes the connection; return all that is answered."""
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write("".join(f"{request}\r\nHost: x\r\n\r\n" for request in requests).encode())
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def parts(answer: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Return first line, headers and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, dict(line.decode().split(": ", 1) for line in lines), body


async def test_it_is_the_same_answer(api: World) -> None:
    """With every header that an ordinary answer has, in the same words; only the second closes the connection."""
    get, closing = f"GET {PREFIX} HTTP/1.1", f"GET {PREFIX} HTTP/1.1\r\nConnection: close"
    both = await exchange(api, get, closing)
    second = both.index(b"HTTP/1.1", 10)
    (line, headers, body), (other_line, other, other_body) = parts(both[:second]), parts(both[second:])
    assert (line, body) == (other_line, other_body)
    assert line == b"HTTP/1.1 200 OK"
    assert other.pop("Connection") == "close"
    dates = [parsedate_to_datetime(each.pop("Date")) for each in (headers, other)]
    assert abs((dates[0] - dates[1]).total_seconds()) <= 2
    assert headers == other
    assert (headers["Content-Length"], headers["Server"]) == (str(len(body)), "auraconnect-exporter")


async def test_who_does_not_keep_the_connection_gets_an_ordinary_answer(api: World) -> None:
    """HTTP/1.0 is answered with HTTP/1.0 and an end; HEAD has no body."""
    old = await exchange(api, f"GET {PREFIX} HTTP/1.0")
    assert parts(old)[0] == b"HTTP/1.0 200 OK"
    assert b'"status":"healthy"' in parts(old)[2]
    head = await exchange(api, f"HEAD {PREFIX} HTTP/1.1\r\nConnection: close")
    assert (parts(head)[0], parts(head)[2]) == (b"HTTP/1.1 200 OK", b"")


async def test_many_at_once_come_in_order_with_others_between(api: World) -> None:
    """A connection that is used for several requests at a time gets whole answers, each in its turn."""
    get, other = f"GET {PREFIX} HTTP/1.1", f"GET {PREFIX}/nothing HTTP/1.1"
    answered = await exchange(api, get, other, get, get, other, f"{get}\r\nConnection: close")
    found = [answered[at + 9 : at + 12] for at in range(len(answered)) if answered.startswith(b"HTTP/1.1 ", at)]
    assert found == [b"200", b"404", b"200", b"200", b"404", b"200"]


async def test_it_is_made_anew_after_a_moment(api: World) -> None:
    """What it says is at most a quarter of a second old, its status too."""
    assert (await api.call("GET", "")).status == 200
    api.set_health(Health.UNHEALTHY)
    api.clock.advance(0.2)
    assert (await api.call("GET", "")).status == 200
    api.clock.advance(0.1)
    answer = await api.call("GET", "")
    assert (answer.status, answer.said["status"]) == (503, "unhealthy")


async def test_who_does_not_read_gets_no_more_of_it(api: World) -> None:
    """Ten thousand requests by someone who reads nothing do not fill our memory; reading then shows whole answers."""
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=2**12)
    count = 10_000
    try:
        writer.write(f"GET {PREFIX} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * count)
        assert (await api.call("GET", "")).status == 200
        found = 0
        while found < count:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            _, headers, _ = parts(head)
            await reader.readexactly(int(headers["Content-Length"]))
            found += 1
    finally:
        writer.close()
    assert found == count


async def test_headers_of_the_web_configuration_are_in_it(tmp_path: Path) -> None:
    """What goes with every answer goes with this one, and counts before what is usual."""
    headers = (("Strict-Transport-Security", "max-age=1"), ("Referrer-Policy", "origin"))
    async with world(Place("", tmp_path / "data"), tmp_path, headers=headers) as api:
        for path in ("", "/detailed"):
            answered = (await api.call("GET", path)).headers
            assert [answered.getall(name) for name, _ in headers] == [[value] for _, value in headers]
