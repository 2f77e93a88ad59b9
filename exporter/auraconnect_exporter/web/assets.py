"""The files that the pages are made of, as they lie in the package: a page, its style and its script."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).parent / "static"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""What a page may do: run and show our own files, talk to us, and turn no text into markup or script."""

_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class Assets:
    """The files, read once."""

    def __init__(self) -> None:
        self._files = {
            path.name: _File(path.read_bytes(), _TYPES[path.suffix], _tag(path.read_bytes()))
            for path in FOLDER.iterdir()
            if path.suffix in _TYPES
        }
        self._page = (FOLDER / "dashboard.html").read_text(encoding="utf-8")

    def page(self, base: str) -> web.Response:
        """Return the five-second page; ``base`` precedes its links. It holds no data, so it is for everybody."""
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Vary": "Accept"}
        text = self._page.replace("{{base}}", escape(base))
        return web.Response(text=text, content_type="text/html", headers=headers)

    def fitting(self, request: web.Request) -> web.Response:
        """Return the file that a request names, or 304. Raises HTTPNotFound."""
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        headers = {"ETag": f'"{file.etag}"', "Cache-Control": "no-cache"}
        if file.etag in {tag.value for tag in request.if_none_match or ()}:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)


def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
