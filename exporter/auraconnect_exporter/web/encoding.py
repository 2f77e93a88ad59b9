"""Which form of an answer a caller wants."""

from __future__ import annotations


def prefers_html(header: str) -> bool:
    """Return whether an Accept header wants a page rather than JSON: a browser names HTML, a program doesn't."""
    weights = {}
    for item in header.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weights[kind] = _weight(parameters)
    return weights.get("text/html", 0.0) > 0 and weights["text/html"] >= weights.get("application/json", 0.0)


def _weight(parameters: list[str]) -> float:
    try:
        return float(next((part[2:] for part in parameters if part.startswith("q=")), "1"))
    except ValueError:
        return 0.0
