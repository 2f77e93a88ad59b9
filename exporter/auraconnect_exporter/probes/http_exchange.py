"""One HTTP/1.1 request on a connection of its own, each of its phases timed.

The phases are those of Prometheus's blackbox exporter: resolve, connect, tls, processing (until the first byte of the
answer) and transfer. On asyncio's streams and h11, which costs half the CPU of httpcore.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import h11

from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError
from auraconnect_exporter.targets import HttpUrl

MAX_BODY_BYTES: Final = 1024 * 1024
"""More of a body than this is not read; the answer counts all the same."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""A larger status line and headers are taken as no HTTP."""

CHUNK_BYTES: Final = 64 * 1024


class Stopwatch:
    """Laps in seconds by phase, one after the other."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = self._monotonic()
        self.laps[phase] = now - self._last
        self._last = now


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of headers are in lower case, ``body`` may be cut."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Exchange:
    """One connection to an HTTP server, and one request on it."""

    def __init__(self, url: HttpUrl, tls: ssl.SSLContext | None, stopwatch: Stopwatch) -> None:
        self._url = url
        self._tls = tls
        self._stopwatch = stopwatch
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> asyncio.StreamReader:
        """Resolve, connect to the first address that takes it, and shake hands. Raises OSError, SSLError among them."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._url.host, self._url.port, type=socket.SOCK_STREAM)
        self._stopwatch.lap("resolve")
        for index, (family, kind, protocol, _, address) in enumerate(found):
            try:
                self._socket = socket.socket(family, kind, protocol)
                self._socket.settimeout(0)
                await loop.sock_connect(self._socket, address)
                break
            except OSError:  # also for a family of addresses that this machine has not
                self.close()
                if index == len(found) - 1:
                    raise
        self._stopwatch.lap("connect")
        connected, self._socket = self._socket, None  # from here on it belongs to a transport
        reader, self._writer = await asyncio.open_connection(
            sock=connected, ssl=self._tls, server_hostname=self._url.host if self._tls else None
        )
        if self._tls:
            self._stopwatch.lap("tls")
        return reader

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The connection's TLS, once it is connected."""
        return self._writer.get_extra_info("ssl_object") if self._writer else None

    async def get(self, reader: asyncio.StreamReader, headers: list[tuple[str, str]]) -> Answer:
        """Send a GET and read what comes. Raises ProbeError or OSError."""
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        request = h11.Request(method="GET", target=self._url.path, headers=headers)
        if self._writer is None:
            raise ProbeError(Reason.ERROR, "not connected")
        self._writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        try:
            return await self._receive(reader, connection)
        except h11.RemoteProtocolError as error:
            raise ProbeError(Reason.PROTOCOL, "what answers does not speak HTTP") from error

    async def _receive(self, reader: asyncio.StreamReader, connection: h11.Connection) -> Answer:
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(CHUNK_BYTES))
                if "processing" not in self._stopwatch.laps:
                    self._stopwatch.lap("processing")
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            if response is not None and (isinstance(event, h11.EndOfMessage) or len(body) > MAX_BODY_BYTES):
                self._stopwatch.lap("transfer")
                return Answer(response.status_code, tuple(response.headers), bytes(body))

    def close(self) -> None:
        """Close the connection at once: a frozen server would not answer TLS's good-bye."""
        if self._writer is not None:
            self._writer.transport.abort()
        elif self._socket is not None:
            self._socket.close()
