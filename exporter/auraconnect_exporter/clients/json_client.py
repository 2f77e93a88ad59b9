"""Calls to an HTTP API that answers JSON: bounded in time and size, with one kind of failure.

On aiohttp's client, which costs no memory: the web server loads it anyway. Names are looked up by the event loop, so in
daemon threads. Proxies of the environment are ignored, redirects not followed, and nothing is unpacked.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from aiohttp.resolver import ThreadedResolver

from auraconnect_exporter import __version__
from auraconnect_exporter.clients.server import Server

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Ten thousand alerts of Alertmanager take some 15 MB."""

MAX_CONNECTIONS: Final = 4
"""Connections to one server at a time; more calls wait, within their deadline."""

SUCCESS: Final = 2
"""The first digit of the statuses of success."""

MAX_SAID: Final = 200
"""Characters that we repeat of what a server says."""


class ClientError(Exception):
    """A call failed; the message is a sentence that names the server and what failed, without credentials."""


class Refused(ClientError):
    """The server answered, with ``status`` and ``body``, but not what was asked for."""

    def __init__(self, message: str, status: int, body: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class JsonClient:
    """Makes calls to one server, each on a connection of its own: we call seldom, and a kept one may be stale.

    Made and closed within one event loop.
    """

    def __init__(self, server: Server, name: str) -> None:
        """``name`` is what messages call the server, such as "Prometheus"."""
        self._server = server
        self._called = f"{name} at {server.url}"
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, answer: type[T]) -> T:
        """GET a path below the server's base, and return what it answers as this type. Raises ClientError."""
        return self.decode(await self._call("GET", path), answer)

    async def post_form(self, path: str, form: Mapping[str, str], answer: type[T]) -> T:
        """POST a form, and return what is answered as this type. Raises ClientError."""
        return self.decode(await self._call("POST", path, data=dict(form)), answer)

    async def post_json(self, path: str, body: Any) -> None:
        """POST something as JSON; what is answered does not matter. Raises ClientError."""
        await self._call("POST", path, data=msgspec.json.encode(body), headers={"Content-Type": "application/json"})

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def failed(self, what: str) -> ClientError:
        """Return the error for something that this server did, such as "answers with …"."""
        return ClientError(f"{self._called} {what}")

    def decode(self, body: bytes, answer: type[T]) -> T:
        """Return JSON of this server as a type. Raises ClientError."""
        try:
            return decode(body, answer)
        except ValueError as error:
            raise self.failed(f"answers what can't be read: {error}") from None

    async def _call(self, method: str, path: str, **content: Any) -> bytes:
        try:
            async with asyncio.timeout(self._server.timeout):
                status, body = await self._exchange(method, path, **content)
        except TimeoutError:
            raise self.failed(f"does not answer within {self._server.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise self.failed(f"can't be asked: {_explain(error)}") from None
        if status // 100 != SUCCESS:
            raise Refused(f"{self._called} answers with status {status}{_said(body)}", status, body)
        return body

    async def _exchange(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        if self._session is None:
            self._session = self._open()
        url = self._server.url + path
        async with self._session.request(method, url, allow_redirects=False, **content) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise _TooLarge
            return response.status, bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        server = self._server
        tls = ssl.create_default_context(cafile=server.base.ca_file) if server.base.tls else True
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **dict(server.headers)}
        headers["User-Agent"] = f"auraconnect-exporter/{__version__}"
        if server.token is not None:
            headers["Authorization"] = f"Bearer {server.token.reveal()}"
        elif server.user:
            credentials = f"{server.user}:{server.password.reveal() if server.password else ''}"
            headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=ThreadedResolver(), ssl=tls, limit=MAX_CONNECTIONS, force_close=True
            ),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # a call has one deadline
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )


class _TooLarge(aiohttp.ClientError):
    """An answer has more bytes than we read."""


def decode(body: bytes, kind: type[T]) -> T:
    """Return JSON, which may be hostile, as a type. Raises ValueError with what is wrong, without the data itself."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


# The first that fits names the failure: the libraries' own words name addresses twice, or nothing at all.
_FAILURES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (_TooLarge, f"the answer has more than {MAX_ANSWER_BYTES} bytes"),
    (socket.gaierror, "the name can't be resolved"),
    (ssl.CertificateError, "its certificate is not to be trusted"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionRefusedError, "connection refused"),
    (aiohttp.ServerDisconnectedError, "the connection was closed by the other side"),
    (ConnectionError, "the connection was closed by the other side"),
    (aiohttp.ClientResponseError, "what answers does not speak HTTP"),
    (aiohttp.ClientPayloadError, "the answer ends too early"),
    (OSError, "the operating system failed"),
)


def _explain(error: Exception) -> str:
    """Return why a call failed, in words of our own."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause: BaseException = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    else:
        cause = error.__cause__ if isinstance(error, aiohttp.ClientOSError) and error.__cause__ else error
    sentence = next(
        (words for kind, words in _FAILURES if isinstance(cause, kind)), f"unexpected {type(error).__name__}"
    )
    detail = getattr(cause, "verify_message", None) or (
        getattr(cause, "strerror", None) if "system" in sentence else None
    )
    return f"{sentence}: {detail}" if detail else sentence


def one_line(text: str) -> str:
    """Return what a server said as it is fit for one line of a log: printable and short."""
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


def _said(body: bytes) -> str:
    """Return the beginning of what a server said with an error; nothing of a page for browsers."""
    text = one_line(body[: 8 * MAX_SAID].decode(errors="replace")).strip('"')
    return f" and says: {text}" if text and not text.startswith("<") else ""
