"""The HTTP API: one request on a fresh connection, each of its phases timed, the status judged.

The phases are those of Prometheus's blackbox exporter: resolve, connect, tls, processing (until the first byte of the
answer) and transfer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import httpcore

from auraconnect_exporter import __version__
from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError, explain
from auraconnect_exporter.targets import Http, HttpUrl

PHASE = Metric("api_probe_phase_seconds", "gauge", "Duration of a phase of the last request.", ("phase",))
STATUS = Metric("api_probe_status_code", "gauge", "HTTP status of the last answer.")
CERTIFICATE_EXPIRY = Metric(
    "api_certificate_expiry_timestamp_seconds", "gauge", "When the server's certificate expires."
)

MAX_BODY_BYTES: Final = 1024 * 1024
"""More of a body than this is not read; the answer counts all the same."""

# The end of a phase, as httpcore's trace extension names it.
_PHASE_ENDS: Final = {
    "connection.connect_tcp.complete": "connect",
    "connection.start_tls.complete": "tls",
    "http11.receive_response_headers.complete": "processing",
}


class HttpProbe(Probe):
    """Watches one URL."""

    collectors = ("request",)

    def __init__(self, system: Http, monotonic: Callable[[], float]) -> None:
        self._system = system
        self._monotonic = monotonic
        self._tls = ssl.create_default_context(cafile=system.url.ca_file) if system.url.tls else None

    async def check(self) -> Reading:
        """GET the URL without following redirects. Raises ProbeError."""
        try:
            return await self._request(_Stopwatch(self._monotonic))
        except httpcore.TimeoutException as error:
            raise ProbeError(Reason.TIMEOUT, "no answer in time") from error
        except (httpcore.ProtocolError, UnicodeError) as error:
            raise ProbeError(Reason.PROTOCOL, "what answers does not speak HTTP") from error
        except httpcore.NetworkError as error:
            raise explain(error) from None

    async def _request(self, stopwatch: _Stopwatch) -> Reading:
        url = self._system.url
        network = _Network(stopwatch)
        connection = httpcore.AsyncHTTPConnection(
            origin=httpcore.Origin(b"https" if url.tls else b"http", url.host.encode("idna"), url.port),
            ssl_context=self._tls,
            network_backend=network,
        )
        try:
            response = await connection.handle_async_request(self._build(url, stopwatch))
            samples = [STATUS.sample(response.status), *_certificate(response)]
            await _read_some(response)
        finally:
            await connection.aclose()
            await network.close()
        stopwatch.lap("transfer")
        samples += [PHASE.sample(seconds, phase) for phase, seconds in stopwatch.laps.items()]
        if response.status not in self._system.statuses:
            raise ProbeError(Reason.ERROR, f"answered with status {response.status}", tuple(samples))
        seconds = sum(stopwatch.laps.values())
        slow = (f"the answer took {seconds:.2f} s",) if seconds > self._system.slow else ()
        return Reading((Part("request", tuple(samples), slow),))

    def _build(self, url: HttpUrl, stopwatch: _Stopwatch) -> httpcore.Request:
        default_port = 443 if url.tls else 80
        host = f"[{url.host}]" if ":" in url.host else url.host.encode("idna").decode()
        return httpcore.Request(
            method=b"GET",
            url=httpcore.URL(
                scheme=b"https" if url.tls else b"http",
                host=url.host.encode("idna"),
                port=url.port,
                target=url.path.encode(),
            ),
            headers=[
                (b"Host", (host if url.port == default_port else f"{host}:{url.port}").encode()),
                (b"User-Agent", f"auraconnect-exporter/{__version__}".encode()),
                (b"Accept", b"*/*"),
                (b"Connection", b"close"),
            ],
            extensions={"trace": stopwatch.trace},
        )


class _Stopwatch:
    """Laps in seconds by phase, one after the other."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        now = self._monotonic()
        self.laps[phase] = now - self._last
        self._last = now

    async def trace(self, event: str, _info: dict[str, Any]) -> None:
        if event in _PHASE_ENDS:
            self.lap(_PHASE_ENDS[event])


class _Network(httpcore.AsyncNetworkBackend):
    """Resolves a name, notes how long that took, and connects to its addresses in turn."""

    def __init__(self, stopwatch: _Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._backend = httpcore.AnyIOBackend()
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Raises gaierror, or the last address's error."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._stopwatch.lap("resolve")
        *others, last = dict.fromkeys(str(address[0]) for *_, address in found)
        for address in others:
            try:
                return await self._connect(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._connect(last, port, timeout, local_address, socket_options)

    async def _connect(self, *arguments: Any) -> httpcore.AsyncNetworkStream:
        self._stream = await self._backend.connect_tcp(*arguments)
        return self._stream

    async def close(self) -> None:
        """Close the connection; httpcore forgets it when it is cancelled in the TLS handshake."""
        if self._stream is not None:
            await self._stream.aclose()


async def _read_some(response: httpcore.Response) -> None:
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return


def _certificate(response: httpcore.Response) -> tuple[Sample, ...]:
    """Return when the verified certificate of this connection expires; nothing without TLS."""
    tls = response.extensions["network_stream"].get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls else None
    if not certificate:
        return ()
    expiry = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return (CERTIFICATE_EXPIRY.sample(expiry.timestamp()),)
