"""What strangers and broken programs send: no fault of ours comes of it, and no answer that the document hides."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from auraconnect_exporter import tokens
from auraconnect_exporter.web import operations
from tests.store.support import Place
from tests.web.world import PREFIX, World, world
from tools.servers import HTTPServer, Prometheus, free_port

SEED: Final = 4
EXAMPLES: Final = 10
"""For each operation and phase."""

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "negative_data_rejection",
)
"""Not that all is accepted which the schema allows: it can't say that a text has no NUL, and that 200.0 is no 200."""


def test_no_request_that_the_document_suggests_is_a_surprise(place: Place, tmp_path: Path) -> None:
    """Schemathesis finds no 5xx, no undocumented answer, and nothing accepted that the document forbids."""
    token = tokens.create(tmp_path / "data", "tester", ["system_admin"], None, time.time()).reveal()
    config = tmp_path / "prometheus.yml"
    config.write_text("{}")
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address={address}"]
    command += [f"--data.path={tmp_path / 'data'}"]
    with Prometheus(tmp_path, config) as prometheus:
        environment = {**os.environ, "STORE_URL": place.url, "PROMETHEUS_URL": prometheus.url}
        url = f"http://{address}"
        with HTTPServer("exporter", command, tmp_path / "exporter.log", url=url, env=environment):
            # As a program of its own: its threads and its event loop are none of ours.
            found = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
                    *("--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS)),
                    *("--phases", "coverage,fuzzing", "--mode", "all", "--seed", str(SEED)),
                    *("--max-examples", str(EXAMPLES), "--generation-database", "none", "--continue-on-failure"),
                    "--no-color",
                    "--request-timeout=30",
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
    assert found.returncode == 0, found.stdout[-10_000:] + found.stderr
    assert "a request failed" not in (tmp_path / "exporter.log").read_text()


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def api(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    """Return the API on each engine; at the end, no request may have failed in a way that was not foreseen."""
    async with world(place, tmp_path) as made:
        yield made
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
        assert (await made.call("GET", "/detailed")).status == 200


@pytest.fixture
async def light(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    """Return the API on SQLite alone, for what never gets to the store."""
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
        assert (await made.call("GET", "/detailed")).status == 200


def nested(depth: int) -> bytes:
    return b'{"error_type": "E", "error_message": "m", "tags": ' + b"[" * depth + b"]" * depth + b"}"


def tagged(tags: bytes) -> bytes:
    return b'{"error_type": "E", "error_message": "m", "tags": ' + tags + b"}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", 422, id="nothing"),
        pytest.param(b"null", 422, id="null"),
        pytest.param(b"\xef\xbb\xbf" + tagged(b"1"), 422, id="byte order mark"),
        pytest.param(tagged(b"1").decode().encode("utf-16"), 422, id="UTF-16"),
        pytest.param(tagged(b"1").decode().encode("utf-32"), 422, id="UTF-32"),
        pytest.param(tagged(b'"\xff\xfe"'), 422, id="not UTF-8"),
        pytest.param(tagged(b'"\xc0\x80"'), 422, id="overlong NUL"),
        pytest.param(tagged(b'"\xed\xa0\x80"'), 422, id="surrogate in bytes"),
        pytest.param(tagged(b'"\\ud800"'), 422, id="surrogate as escape"),
        pytest.param(tagged(b'"\\udc00\\ud800"'), 422, id="surrogates the wrong way round"),
        pytest.param(tagged(b'"\\ud83d\\udd25"'), 201, id="a pair of surrogates"),
        pytest.param(tagged(b'"a\\u0000b"'), 422, id="NUL in a value"),
        pytest.param(tagged(b'{"a\\u0000b": 1}'), 422, id="NUL in a key"),
        pytest.param(b'{"error_type": "E\\u0000", "error_message": "m"}', 422, id="NUL in a field"),
        pytest.param(tagged(b"\0"), 422, id="NUL in the JSON"),
        pytest.param(nested(18), 201, id="as deep as it may be"),
        pytest.param(nested(21), 422, id="a little too deep"),
        pytest.param(nested(900), 422, id="deep"),
        pytest.param(nested(50_000), 422, id="very deep"),
        pytest.param(b"[" * 200_000, 422, id="deep without end"),
        pytest.param(tagged(b"1" * 5000), 422, id="huge whole number"),
        pytest.param(tagged(str(2**63).encode()), 422, id="65 bits"),
        pytest.param(tagged(str(2**63 - 1).encode()), 201, id="64 bits"),
        pytest.param(tagged(str(-(2**63)).encode()), 201, id="64 bits below zero"),
        pytest.param(tagged(b"1e400"), 422, id="huge number"),
        pytest.param(tagged(b"-1e-400"), 201, id="tiny number"),
        pytest.param(tagged(b"1." + b"0" * 10_000), 201, id="long number"),
        pytest.param(tagged(b"NaN"), 422, id="not a number"),
        pytest.param(tagged(b"Infinity"), 422, id="infinity"),
        pytest.param(b'{"error_type": "A", "error_type": "E", "error_message": "m"}', 201, id="a key twice"),
        pytest.param(b'{"error_type": "E", "error_message": "m"} x', 422, id="more than one document"),
        pytest.param(b"error_type=E&error_message=m", 422, id="a form"),
        pytest.param(b"<error><type>E</type></error>", 422, id="XML"),
        pytest.param(tagged(b'"' + b"x" * 250_000 + b'"'), 201, id="large"),
        pytest.param(tagged(b'"' + b"x" * 262_144 + b'"'), 413, id="too large"),
        pytest.param(tagged(b'"' + b"x" * 10_000_000 + b'"'), 413, id="10 MB"),
    ],
)
async def test_bodies(api: World, body: bytes, expected: int) -> None:
    """What is no error is refused as what it is; what is taken comes back from the store as it was."""
    answer = await api.call(
        "POST", "/errors/log", as_="ingest", data=BytesIO(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status == expected, answer.said
    kept = (await api.call("GET", "/errors")).said
    assert kept == ([answer.said] if expected == 201 else [])
    if expected == 201:
        assert kept[0]["tags"] == json.loads(body).get("tags")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=x"])
async def test_json_is_taken_under_any_name(light: World, kind: str) -> None:
    """``curl -d`` calls it a form; what counts is what is there, since no browser of another site has a token."""
    body = {"alert_type": "security", "severity": "info", "component": "api", "title": "t"}
    answer = await light.call("POST", "/alerts", data=json.dumps(body).encode(), headers={"Content-Type": kind})
    assert answer.status == 200, answer


@pytest.mark.parametrize("place_of_nul", ["alerts/a%00b", "errors?endpoint=a%00b", "errors?error_type=%00"])
async def test_nul_in_addresses(api: World, place_of_nul: str) -> None:
    """PostgreSQL has no NUL; SQLite does not show that by another status."""
    assert (await api.call("GET", f"/{place_of_nul}")).status == (404 if "alerts" in place_of_nul else 422)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("endpoint=%ff%fe", 200),
        ("endpoint=%ed%a0%80", 200),
        ("endpoint=%F0%9F%94%A5", 200),
        ("endpoint=null", 200),
        ("endpoint=" + "x" * 201, 422),
        ("endpoint=' OR 1=1 --", 200),
        ("resolved=null", 422),
        ("hours=null", 422),
        ("hours=%2B1", 422),
        ("hours=0x10", 422),
        ("hours=1&hours=999", 422),
        ("&&&=&;%", 200),
        ("__class__=x&self=y", 200),
    ],
)
async def test_queries(api: World, query: str, expected: int) -> None:
    """Text that is no text filters for nothing that is there, and what is no number is refused."""
    await api.call("POST", "/errors/log", as_="ingest", json={"error_type": "E", "error_message": "m"})
    answer = await api.call("GET", f"/errors?{query}")
    assert (answer.status, answer.said if "endpoint" in query and expected == 200 else []) == (expected, [])


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x"])
async def test_a_compressed_body_is_not_unpacked(light: World, coding: str) -> None:
    """So nothing that fits into a hundred kilobytes can become a hundred megabytes."""
    packed = zlib.compress(tagged(b"1")) if coding == "deflate" else gzip.compress(tagged(b"1"))
    answer = await light.call("POST", "/errors/log", data=packed, headers={"Content-Encoding": coding})
    assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")
    same = await light.call("POST", "/errors/log", data=tagged(b"1"), headers={"Content-Encoding": "identity"})
    assert same.status == 201


# ── Below HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def connected(api: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, for at most twenty seconds."""
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()


async def talk(api: World, *parts: bytes, until: bytes = b"") -> bytes:
    """Send bytes as they are, and return what is answered until that is in it, or until the connection is closed."""
    async with connected(api) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        answered = b""
        while not until or until not in answered:
            chunk = await reader.read(65536)
            if not chunk:
                break
            answered += chunk
        return answered


def status(answered: bytes) -> int:
    """Return the status of an answer."""
    return int(answered.split(b" ", 2)[1])


def request(api: World, method: str, path: str, *headers: str) -> bytes:
    """Return the head of a request with an administrator's token."""
    lines = [f"{method} {PREFIX}{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.tokens['ada']}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"zz\r\n{}\r\n0\r\n\r\n", id="no length"),
        pytest.param(b"-1\r\n{}\r\n0\r\n\r\n", id="a length below zero"),
        pytest.param(b"2\r\n{}xx0\r\n\r\n", id="a chunk longer than it says"),
        pytest.param(b"f" * 5000 + b"\r\n", id="a length without end"),
    ],
)
async def test_broken_chunks_are_the_sender_s_fault(light: World, chunks: bytes) -> None:
    """A body whose chunks make no sense is 400, as a problem or by the protocol itself, and no fault of ours."""
    head = request(light, "POST", "/errors/log", "Transfer-Encoding: chunked", "Connection: close")
    answered = await talk(light, head, chunks)
    assert status(answered) == 400, answered


async def test_a_sender_that_hangs_up(light: World) -> None:
    """Half a body and then nothing more changes nothing, and is no fault of ours."""
    head = request(light, "POST", "/errors/log", "Content-Length: 100", "Expect: 100-continue")
    async with connected(light) as (reader, writer):
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"{")
        writer.transport.abort()
    assert (await light.call("GET", "/errors")).said == []


async def test_a_body_that_never_comes_is_not_waited_for(light: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever announces a body and sends none, or one without end, is told so after a while, and hung up on."""
    monkeypatch.setattr(operations, "BODY_SECONDS", 0.2)
    for headers, begun in (
        (("Content-Length: 100",), b"{"),
        (("Transfer-Encoding: chunked",), b"1\r\n{\r\n"),
        (("Transfer-Encoding: chunked", "Expect: 100-continue"), b""),
    ):
        answered = await talk(light, request(light, "POST", "/errors/log", *headers), begun, until=b"}")
        assert b"HTTP/1.1 408 " in answered, answered
        assert b"Connection: close" in answered


async def test_a_chunked_body_without_end_is_cut(light: World) -> None:
    """It is refused once it is too large, however it is packed."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = request(light, "POST", "/errors/log", "Transfer-Encoding: chunked")
    answered = await talk(light, head, *[chunk] * 5, until=b"}")
    assert answered.startswith(b"HTTP/1.1 413 "), answered


async def test_nobody_s_body_is_read(light: World) -> None:
    """Without a credential the answer comes before the body does."""
    head = f"POST {PREFIX}/errors/log HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n".encode()
    answered = await talk(light, head, until=b"}")
    assert answered.startswith(b"HTTP/1.1 401 "), answered


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(["X: " + "x" * 20_000], 400, id="a long header"),
        pytest.param([f"X{number}: x" for number in range(3000)], 400, id="many headers"),
        pytest.param(["X" * 20_000 + ": x"], 400, id="a long name"),
        pytest.param(["no header at all"], 400, id="no header"),
        pytest.param(["X: a\x00b"], 400, id="NUL"),
        pytest.param(["Content-Length: 5", "Content-Length: 6"], 400, id="two lengths"),
        pytest.param(["Content-Length: -5"], 400, id="a length below zero"),
        pytest.param(["Content-Length: " + "9" * 5000], 400, id="a length without end"),
        pytest.param(["Content-Length: 5", "Transfer-Encoding: chunked"], 400, id="a length and chunks"),
        pytest.param(["Expect: the-unexpected"], 417, id="an expectation"),
    ],
)
async def test_heads(light: World, caplog: pytest.LogCaptureFixture, head: list[str], expected: int) -> None:
    """What is no HTTP is refused; neither log nor answer repeats the credential that came along."""
    answered = await talk(light, request(light, "POST", "/errors/log", *head, "Connection: close"), until=b"\r\n\r\n")
    assert status(answered) == expected, answered
    assert light.tokens["ada"].encode() not in answered
    assert light.tokens["ada"] not in caplog.text


async def test_a_credential_in_a_broken_header_is_not_logged(light: World, caplog: pytest.LogCaptureFixture) -> None:
    """The header that can't be read is the one with the token in it."""
    token = light.tokens["ada"]
    for header in (f"Authorization: Bearer {token}\x00", f"Authorization : Bearer {token}", f"Bearer {token}"):
        answered = await talk(
            light, f"GET {PREFIX} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode(), until=b"\r\n\r\n"
        )
        assert status(answered) == 400, answered
    assert token not in caplog.text


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50]
)
async def test_what_is_no_http_gets_no_further(light: World, sent: bytes) -> None:
    """TLS on a plain port, zeros, another version: an answer or none, and the next caller is served."""
    answered = await talk(light, sent, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", until=b"\r\n\r\n")
    assert answered[:13] in {b"HTTP/1.0 400 ", b"HTTP/1.1 400 ", b"HTTP/1.1 200 ", b"HTTP/1.0 505 ", b""}, answered


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Bearer ", "Bearer  auc_x", "Basic eA==", "Bearer " + "A" * 7000, "Bearer ünïcode", "Digest x", "auc_1"],
)
async def test_credentials_that_are_none(light: World, authorization: str) -> None:
    """Whatever stands in the header, it is 401."""
    answer = await light.call("GET", "/detailed", as_="none", headers={"Authorization": authorization})
    assert (answer.status, answer.media_type) == (401, "application/problem+json")


async def test_two_credentials_are_none(light: World) -> None:
    """Which one a proxy before us has looked at can't be known."""
    head = request(light, "GET", "/detailed", f"Authorization: Bearer {light.tokens['bob']}", "Connection: close")
    assert (await talk(light, head)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/alerts/../detailed", "/%2e%2e/metrics", "//alerts", "/alerts//x", "/alerts/x/y/z"])
async def test_addresses_that_lead_nowhere(light: World, path: str) -> None:
    """A path is what it says; nothing is looked for beside it."""
    answered = await talk(light, request(light, "GET", path, "Connection: close"))
    assert answered.startswith(b"HTTP/1.1 404 "), answered
