"""Which form of an answer a caller wants (RFC 9110, 12.5), and how it is packed for the way."""

from __future__ import annotations

import gzip


def weights(header: str) -> dict[str, float]:
    """Return what an Accept or Accept-Encoding header names, each with its greatest weight; what can't be read is 0."""
    found: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        try:
            weight = float(next((part[2:] for part in parameters if part.startswith("q=")), "1"))
        except ValueError:
            weight = 0.0
        found[name] = max(found.get(name, 0.0), weight)
    return found


def accepts_gzip(header: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip."""
    wanted = weights(header)
    return wanted.get("gzip", wanted.get("*", 0.0)) > 0


def prefers_html(header: str) -> bool:
    """Return whether an Accept header wants a page rather than JSON: a browser names HTML, a program doesn't."""
    wanted = weights(header)
    return wanted.get("text/html", 0.0) > 0 and wanted["text/html"] >= wanted.get("application/json", 0.0)


def compress(body: bytes) -> bytes:
    """Compress a body for transfer; level 1, since it is read once on a near network."""
    return gzip.compress(body, compresslevel=1, mtime=0)
