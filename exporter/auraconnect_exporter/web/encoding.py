"""Which encodings of a body a caller takes."""

from __future__ import annotations


def accepts_gzip(header: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip (RFC 9110, 12.5.3)."""
    return _weight(header, "gzip") > 0


def prefers_html(header: str) -> bool:
    """Return whether an Accept header wants a page rather than JSON: a browser names HTML, a program doesn't."""
    named = {item.partition(";")[0].strip() for item in header.lower().split(",")}
    return "text/html" in named and _weight(header, "text/html") >= _weight(header, "application/json", 0.0)


def _weight(header: str, wanted: str, otherwise: float | None = None) -> float:
    """Return the weight that a header gives to one of its values, else to ``*`` unless there is an ``otherwise``."""
    weights = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    if wanted not in weights and otherwise is not None:
        return otherwise
    try:
        return float(weights.get(wanted, weights.get("*", "0")))
    except ValueError:
        return 0.0
