"""Calls to servers of every temper: what is sent, what comes back, and that no call outlasts its deadline."""

from __future__ import annotations

import asyncio
import gc
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from auraconnect_exporter import __version__
from auraconnect_exporter.clients.json_client import MAX_ANSWER_BYTES, ClientError, JsonClient, Refused
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.endpoints import EndpointProblem
from auraconnect_exporter.model import Secret
from tests.probes.support import (
    PASSWORD,
    Handler,
    Leaks,
    close_at_once,
    say_garbage,
    say_nothing,
    self_signed,
    serving,
)
from tools.servers import free_port

SLACK = 2.0
"""Seconds that a busy machine may add to a deadline."""

END = "<end>"
"""Where a sentence is over."""


def answering(answer: bytes, requests: list[bytes] | None = None) -> Handler:
    """Answer a connection's one request, which is noted, with these bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
        if requests is not None:
            requests.append(head + await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        await reader.read()

    return handle


def says(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer with a content."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[JsonClient]:
    """Return a client that is closed at the end of the block, and leaves nothing behind."""
    made = JsonClient(server, "Teapot")
    try:
        yield made
    finally:
        await made.close()
        gc.collect()  # what nobody closed warns here


async def failure(server: Server) -> ClientError:
    """Return how a call fails, which must be in time and without credentials or a cause that might hold them."""
    begun = time.monotonic()
    async with client(server) as made:
        with pytest.raises(ClientError) as failed:
            await made.get("/x", list[int])
    assert time.monotonic() - begun < server.timeout + SLACK
    assert str(failed.value).startswith(f"Teapot at {server.url} ")
    assert PASSWORD not in repr([failed.value, server])
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    return failed.value


async def test_a_request_goes_below_the_base_with_credentials_and_headers() -> None:
    """The prefix stays, our name and the tenant go along; JSON and forms arrive as such."""
    requests: list[bytes] = []
    tenant = (("X-Scope-OrgID", "auraconnect"),)
    async with serving(answering(says(b"[1, 2]"), requests)) as port:
        server = Server(base(f"http://localhost:{port}/prometheus/"), token=Secret(PASSWORD), headers=tenant)
        assert server.url == f"http://localhost:{port}/prometheus"
        async with client(server) as made:
            assert await made.get("/api?x=%20y", list[int]) == [1, 2]
            assert await made.post_form("/form", {"q": 'a{b="ü&"}+1'}, list[int]) == [1, 2]
            await made.post_json("/json", {"ü": 1})
    first, form, body = (request.decode() for request in requests)
    lines = set(first.split("\r\n"))
    assert first.startswith("GET /prometheus/api?x=%20y HTTP/1.1\r\n")
    assert {
        f"Host: localhost:{port}",
        f"Authorization: Bearer {PASSWORD}",
        "X-Scope-OrgID: auraconnect",
        f"User-Agent: auraconnect-exporter/{__version__}",
        "Accept: application/json",
        "Accept-Encoding: identity",
    } <= lines
    assert form.startswith("POST /prometheus/form ")
    assert "Content-Type: application/x-www-form-urlencoded\r\n" in form
    assert form.endswith("\r\n\r\nq=a%7Bb%3D%22%C3%BC%26%22%7D%2B1")
    assert "Content-Type: application/json\r\n" in body
    assert body.endswith('\r\n\r\n{"ü":1}')


@pytest.mark.parametrize(
    ("password", "credentials"), [(Secret("pässword:"), "c29tZWJvZHk6cMOkc3N3b3JkOg=="), (None, "c29tZWJvZHk6")]
)
async def test_a_user_signs_in_with_a_password(password: Secret | None, credentials: str) -> None:
    """As basic authentication in UTF-8; both texts were encoded by base64(1)."""
    requests: list[bytes] = []
    async with serving(answering(says(b"[]"), requests)) as port:
        made = JsonClient(Server(base(f"http://127.0.0.1:{port}"), user="somebody", password=password), "Teapot")
        await made.get("/", list[int])
        await made.close()
    assert f"\r\nAuthorization: Basic {credentials}\r\n".encode() in requests[0]


async def test_an_environment_with_a_proxy_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is inside does not go through a proxy, which would learn the token."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with serving(answering(says(b"[3]"))) as port, client(Server(base(f"http://127.0.0.1:{port}"))) as made:
        assert await made.get("/", list[int]) == [3]


async def test_tls_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    """A certificate of that file is trusted for its name; without the file, and for another name, it is not."""
    certificate, key = self_signed(tmp_path, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with serving(answering(says(b"[4]")), tls=tls) as port:
        async with client(Server(base(f"https://localhost:{port}", str(certificate)))) as made:
            assert await made.get("/", list[int]) == [4]
        unknown = await failure(Server(base(f"https://localhost:{port}")))
        other = await failure(Server(base(f"https://127.0.0.1:{port}", str(certificate))))
    assert "can't be asked: its certificate is not to be trusted: self-signed certificate" in str(unknown)
    assert "not valid for '127.0.0.1'" in str(other)
    async with serving(say_garbage) as port:
        assert "TLS failed" in str(await failure(Server(base(f"https://localhost:{port}"))))


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (say_nothing, "does not answer within 0.3 s"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1"), "does not answer within 0.3 s"),
        (close_at_once, "can't be asked: the connection was closed by the other side"),
        (say_garbage, "can't be asked: what answers does not speak HTTP"),
        (answering(says(b"")), "answers what can't be read: Input data was truncated"),
        (answering(says(b'["a"]')), "answers what can't be read: Expected `int`, got `str`"),
        (answering(says(b"[" * 100_000)), "answers what can't be read"),
        (answering(says(gzip.compress(b"[1]"), "200 OK", "Content-Encoding: gzip")), "answers what can't be read"),
        (answering(says(b"go", "302 Found", "Location: http://127.0.0.1:1/")), "status 302 and says: go"),
        (answering(says(b'"no\nwait\x1b[31m"', "503 Unavailable")), "status 503 and says: no wait?[31m"),
        (answering(says(b"<html>" + b"x" * 9999, "502 Bad")), f"answers with status 502{END}"),
        (answering(says(b"x" * 9999, "400 Bad")), f"status 400 and says: {'x' * 199}…{END}"),
        (answering(says(b"\xff\xfe", "401 No")), f"answers with status 401 and says: ��{END}"),
        (answering(says(b"", "204 Nothing")), "answers what can't be read"),
    ],
)
async def test_each_failure_is_one_sentence_in_time(handler: Handler, words: str) -> None:
    """Silence, half an answer, garbage, other types, redirects and errors; nothing is left open."""
    leaks = Leaks()
    async with serving(handler) as port:
        failed = await failure(Server(base(f"http://127.0.0.1:{port}"), token=Secret(PASSWORD), timeout=0.3))
    assert words in f"{failed}{END}"
    assert isinstance(failed, Refused) == ("status" in words)
    assert await leaks.found() == {}


async def test_nobody_there_is_told_as_such() -> None:
    """A port where nothing listens, and a name that nobody has."""
    refused = await failure(Server(base(f"http://127.0.0.1:{free_port()}")))
    unknown = await failure(Server(base("http://nobody.invalid:9090")))
    assert str(refused).endswith("can't be asked: connection refused")
    assert str(unknown).endswith("can't be asked: the name can't be resolved")


async def test_a_certificate_file_that_is_gone_is_told() -> None:
    """It was there when the configuration was read."""
    gone = await failure(Server(base("https://127.0.0.1:1", "/nowhere/ca.pem")))
    assert str(gone).endswith("can't be asked: the operating system failed: No such file or directory")


async def test_an_answer_without_end_is_cut_off() -> None:
    """No more is kept than the limit, and the connection is closed."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65_536)
            sent += 65_536
            await writer.drain()

    leaks = Leaks()
    async with serving(endless) as port:
        failed = await failure(Server(base(f"http://127.0.0.1:{port}"), timeout=30.0))
    assert str(failed).endswith(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
    assert sent < MAX_ANSWER_BYTES * 2
    assert await leaks.found() == {}


async def test_a_cancelled_call_lets_go_of_its_connection() -> None:
    """Whoever waits may go away; the client can be used on."""
    asked = asyncio.Event()

    async def first_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if asked.is_set():
            writer.write(says(b"[5]"))
        asked.set()
        await reader.read()

    leaks = Leaks()
    async with serving(first_silent) as port, client(Server(base(f"http://127.0.0.1:{port}"))) as made:
        call = asyncio.create_task(made.get("/", list[int]))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await made.get("/", list[int]) == [5]
    assert await leaks.found() == {}


async def test_calls_beyond_the_connections_wait_within_their_deadline() -> None:
    """A server that hangs costs a few connections, and no call waits for ever."""
    connections = 0

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        while await reader.read(4096):
            pass

    async with serving(silent) as port, client(Server(base(f"http://127.0.0.1:{port}"), timeout=0.5)) as made:
        begun = time.monotonic()
        failures = await asyncio.gather(*(made.get("/", list[int]) for _ in range(60)), return_exceptions=True)
    assert all(isinstance(one, ClientError) for one in failures)
    assert time.monotonic() - begun < 0.5 + SLACK  # one after the other they would take 7.5 s
    # Those whose turn comes as the first ones give up may still connect; without a limit all 60 would.
    assert 4 <= connections < 30


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://prometheus:9090", "http://prometheus:9090"),
        ("https://metrics.example.com/", "https://metrics.example.com"),
        ("https://metrics.example.com:443/select/0/prometheus/", "https://metrics.example.com/select/0/prometheus"),
        ("http://[::1]:9090", "http://[::1]:9090"),
    ],
)
def test_a_server_is_called_by_its_address(url: str, shown: str) -> None:
    """Without default ports and the slash at the end."""
    assert Server(base(url)).url == shown


@pytest.mark.parametrize("url", ["http://prometheus:9090/?x=1", "http://a:b@prometheus", "ftp://prometheus"])
def test_a_base_has_neither_query_nor_credentials(url: str) -> None:
    """Paths are put behind it, and it is shown."""
    with pytest.raises(EndpointProblem):
        base(url)
