"""An answer that is made once and sent as it is to everybody who asks within a moment.

Of what a request for a few hundred bytes takes, putting together headers that are always the same is the larger part.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter


class Prepared(web.StreamResponse):
    """The bytes of a whole answer, for HTTP/1.1 on a connection that stays open; it has no state of its own."""

    def __init__(self, answer: web.Response, headers: Mapping[str, str]) -> None:
        """``headers`` are those that every answer carries unless it says otherwise; it is dated when it is made."""
        super().__init__(status=answer.status)
        self._body = bytes(answer.body) if isinstance(answer.body, bytes | bytearray) else b""
        self._own = dict(answer.headers)
        fields = {**headers, **self._own, "Content-Length": str(len(self._body)), "Date": formatdate(usegmt=True)}
        first = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"
        lines = [first, *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self._bytes = "\r\n".join(lines).encode() + self._body

    def fitting(self, request: web.Request) -> web.StreamResponse:
        """Return this answer where it fits a request, else an ordinary one that says the same.

        A caller who does not read what was sent before must not fill our memory.
        """
        transport = request.transport
        fits = (
            request.method == "GET"
            and request.version == HttpVersion11
            and request.keep_alive
            and transport is not None
            and not transport.get_write_buffer_size()
        )
        return self if fits else web.Response(status=self.status, body=self._body, headers=self._own)

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open, as ``fitting`` has made sure."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it. Raises ConnectionResetError where nobody is there any more."""
        if request.transport is None:
            raise ConnectionResetError
        request.transport.write(self._bytes)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: it was sent as a whole."""
