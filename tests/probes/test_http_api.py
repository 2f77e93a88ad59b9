"""The HTTP probe against real servers of every temper: what it times, judges, reads and refuses."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from auraconnect_exporter import __version__, endpoints
from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.http_exchange import MAX_BODY_BYTES
from auraconnect_exporter.targets import Http
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import Handler, close_at_once, say_garbage, self_signed, serving, value, values
from tools.programs import program
from tools.servers import free_port

GOOD = frozenset({200})


def api(url: str, ca_file: Path | None = None, statuses: frozenset[int] = GOOD, slow: float = 60.0) -> Http:
    """Return an API as the configuration would name it."""
    return Http(endpoints.http(url, str(ca_file) if ca_file else None), statuses, slow)


def answering(answer: bytes, requests: list[bytes] | None = None, delay: float = 0.0) -> Handler:
    """Answer a request, which is noted, with these bytes, and close."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(request)
        await asyncio.sleep(delay)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serves_as(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for host names and what a server needs to show it."""
    certificate, key = self_signed(folder, *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def expiry(certificate: Path) -> float:
    """Return when a certificate expires, as openssl reads it, in Unix seconds."""
    command: list[str | Path] = [program("openssl"), "x509", "-in", certificate, "-noout", "-enddate"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return datetime.strptime(said, "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


async def test_phases_are_timed_in_their_order(watch: Watch) -> None:
    """Four phases without TLS, in order; waiting for the answer is what takes the time here."""
    requests: list[bytes] = []
    async with serving(answering(OK, requests, delay=0.1)) as port:
        attempt = await watch(api(f"http://localhost:{port}/health?deep=1")).attempt()
    phases = values(attempt, "api_probe_phase_seconds")
    assert [phase for (phase,) in phases] == ["resolve", "connect", "processing", "transfer"]
    assert all(seconds >= 0 for seconds in phases.values())
    assert 0.1 <= phases["processing",] < attempt.duration
    assert sum(phases.values()) == pytest.approx(attempt.duration, abs=0.05)
    assert value(attempt, "api_probe_status_code") == 200
    assert values(attempt, "api_certificate_expiry_timestamp_seconds") == {}
    assert collectors(attempt) == {"request": True}
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert {f"Host: localhost:{port}", f"User-Agent: auraconnect-exporter/{__version__}"} < set(lines)


async def test_with_tls_there_is_its_phase_and_the_certificates_expiry(tmp_path: Path, watch: Watch) -> None:
    """The expiry is the certificate's notAfter, as openssl reads it."""
    certificate, tls = serves_as(tmp_path, "localhost")
    async with serving(answering(OK), tls=tls) as port:
        attempt = await watch(api(f"https://localhost:{port}", certificate)).attempt()
    assert [phase for (phase,) in values(attempt, "api_probe_phase_seconds")] == [
        "resolve",
        "connect",
        "tls",
        "processing",
        "transfer",
    ]
    assert value(attempt, "api_certificate_expiry_timestamp_seconds") == expiry(certificate)


async def test_a_certificate_that_is_not_to_be_trusted_is_a_tls_failure(tmp_path: Path, watch: Watch) -> None:
    """Unknown signer, another name, and no TLS at all."""
    certificate, tls = serves_as(tmp_path, "localhost")
    async with serving(answering(OK), tls=tls) as port:
        unknown = await watch(api(f"https://localhost:{port}")).attempt()
        other = await watch(api(f"https://127.0.0.1:{port}", certificate)).attempt()
    async with serving(say_garbage) as port:
        plain = await watch(api(f"https://localhost:{port}", certificate)).attempt()
    assert [attempt.reason for attempt in (unknown, other, plain)] == [Reason.TLS] * 3, (unknown, other, plain)
    assert "self-signed certificate" in unknown.message
    assert "127.0.0.1" in other.message


async def test_a_server_that_hangs_up_in_the_handshake_breaks_the_protocol(watch: Watch) -> None:
    """A load balancer without a backend does that."""
    async with serving(close_at_once) as port:
        attempt = await watch(api(f"https://localhost:{port}")).attempt()
    assert attempt.reason in {Reason.PROTOCOL, Reason.TLS}, attempt


@pytest.mark.parametrize(
    "handler",
    [
        say_garbage,
        close_at_once,
        answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"),
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ],
    ids=["garbage", "hang-up", "another protocol", "half a body", "a broken chunk"],
)
async def test_what_is_no_http_breaks_the_protocol(watch: Watch, handler: Handler) -> None:
    """Whatever answers, it is not an HTTP server in good health."""
    async with serving(handler) as port:
        attempt = await watch(api(f"http://localhost:{port}")).attempt()
    assert attempt.reason is Reason.PROTOCOL, attempt


async def test_a_chunked_answer_is_read_to_its_end(watch: Watch) -> None:
    """Chunks are joined by the client; the answer is good."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with serving(answering(answer)) as port:
        assert (await watch(api(f"http://localhost:{port}")).attempt()).ok


async def test_an_answer_without_a_length_ends_with_the_connection(watch: Watch) -> None:
    """HTTP/1.0 servers do so."""
    async with serving(answering(b"HTTP/1.0 200 OK\r\n\r\nok")) as port:
        assert (await watch(api(f"http://localhost:{port}")).attempt()).ok


@pytest.mark.parametrize(
    ("status", "good", "expected"),
    [
        (200, {200}, None),
        (204, {200, 204}, None),
        (401, {401}, None),
        (500, {200}, Reason.ERROR),
        (404, {200}, Reason.ERROR),
    ],
)
async def test_the_configuration_says_which_status_is_good(
    watch: Watch, status: int, good: set[int], expected: Reason | None
) -> None:
    """Any of the good ones is success; any other is an error that still shows its status and phases."""
    async with serving(answering(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)) as port:
        attempt = await watch(api(f"http://localhost:{port}", statuses=frozenset(good))).attempt()
    assert attempt.reason is expected
    assert attempt.message == ("" if expected is None else f"answered with status {status}")
    assert value(attempt, "api_probe_status_code") == status
    assert len(values(attempt, "api_probe_phase_seconds")) == 4
    assert collectors(attempt) == {"request": expected is None}


async def test_a_redirect_is_an_answer_not_a_way(watch: Watch) -> None:
    """Nobody is asked but the URL itself."""
    requests: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(answer, requests)) as port:
        attempt = await watch(api(f"http://localhost:{port}/", statuses=frozenset({200, 302}))).attempt()
    assert attempt.ok
    assert value(attempt, "api_probe_status_code") == 302
    assert len(requests) == 1


async def test_a_slow_answer_is_a_finding(watch: Watch) -> None:
    """It answers, so it is not down; it took long, so it is degraded."""
    async with serving(answering(OK, delay=0.15)) as port:
        attempt = await watch(api(f"http://localhost:{port}", slow=0.1)).attempt()
    assert attempt.ok
    assert [finding.startswith("the answer took 0.") for finding in attempt.reading.degraded] == [True]


async def test_a_large_body_is_not_read_whole(watch: Watch) -> None:
    """Ten megabytes cost no more than the first one; the answer counts."""
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * 1024 * 1024))
        writer.transport.set_write_buffer_limits(high=0)
        for _ in range(1024):
            writer.write(bytes(64 * 1024))
            await writer.drain()
            sent += 64 * 1024

    async with serving(pour) as port:
        attempt = await watch(api(f"http://localhost:{port}")).attempt()
    assert attempt.ok
    assert MAX_BODY_BYTES <= sent < 32 * 1024 * 1024


async def test_nobody_listens_is_refused(watch: Watch) -> None:
    """One address, one refusal."""
    attempt = await watch(api(f"http://127.0.0.1:{free_port()}")).attempt()
    assert attempt.reason is Reason.REFUSED, attempt


async def test_the_name_of_no_server_is_dns(watch: Watch) -> None:
    """A name that nobody knows can't be resolved."""
    attempt = await watch(api("https://api.invalid")).attempt()
    assert attempt.reason is Reason.DNS, attempt


async def test_an_address_that_refuses_is_passed_over_for_the_next(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with an IPv6 address first, where only IPv4 is served, is reached; where neither is, it is refused."""

    def resolve(_: object, port: int, **__: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    async with serving(answering(OK)) as port:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        watched = watch(api(f"http://api.test:{port}"))
        assert (await watched.attempt()).ok
    assert (await watched.attempt()).reason is Reason.REFUSED


async def test_an_address_of_a_kind_that_the_machine_has_not_is_passed_over(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where IPv6 is switched off there is no socket for it; IPv4 is reached all the same."""

    def resolve(_: object, port: int, **__: object) -> list[tuple[object, ...]]:
        return [
            (9999, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    async with serving(answering(OK)) as port:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert (await watch(api(f"http://api.test:{port}")).attempt()).ok


async def test_an_ipv6_address_is_a_host_like_any_other(watch: Watch) -> None:
    """It stands in brackets in the URL and in the Host header."""
    requests: list[bytes] = []
    async with serving(answering(OK, requests), host="::1") as port:
        assert (await watch(api(f"http://[::1]:{port}/")).attempt()).ok
    assert f"Host: [::1]:{port}".encode() in requests[0]
