"""What has been counted: pure, each addition a new value, and bounded whatever the rows say.

A counter stands for one label set and only grows, so names are given once and kept: the first ``MAX_HANDLERS`` paths
that answer have a name of their own, the rest is ``other``. A path earns its name by an answer that is not the client's
fault, or whoever asks for paths that don't exist would fill the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets in seconds; the rules ask for 2 and 5."""

OTHER: Final = "other"

MAX_HANDLERS: Final = 200
MAX_REQUEST_SERIES: Final = 2000
"""Label sets of requests. Beyond, a request counts without handler and method, its status as a class such as 5xx."""
MAX_HISTOGRAMS: Final = 300
"""Pairs of handler and method with a histogram, twelve series each; beyond, both are ``other``."""
MAX_ERROR_TYPES: Final = 100

RequestKey = tuple[str, str, str]
"""Handler, method and status."""


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Rows that are alike; ``handler`` is empty where the path is nobody's.

    ``bucket`` is the index of the bound within which they ended (``len(BOUNDS)`` beyond the last one), None where their
    time is of no use; ``seconds`` is the sum of their times.
    """

    handler: str
    method: str
    status: str
    bucket: int | None
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many requests ended within each bucket (not those before it), and the seconds that all took."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Requests by label set, and their times by handler and method; ``late`` rows came too late to be counted."""

    requests: Mapping[RequestKey, int] = field(default_factory=dict)
    durations: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)
    late: int = 0

    @property
    def handlers(self) -> frozenset[str]:
        """The paths that have a name of their own."""
        return frozenset(handler for handler, _, _ in self.requests) - {OTHER}

    def plus(self, groups: Iterable[RequestGroup], late: int = 0) -> RequestCounts:
        """Return the counts with rows added; of new paths the busiest get their names first."""
        requests, durations, handlers = dict(self.requests), dict(self.durations), set(self.handlers)
        for group in sorted(groups, key=lambda group: (-group.rows, group.handler, group.method, group.status)):
            key = _request_key(group, handlers, requests)
            handlers.add(key[0])
            requests[key] = requests.get(key, 0) + group.rows
            if group.bucket is not None:
                pair = key[:2] if key[:2] in durations or len(durations) < MAX_HISTOGRAMS else (OTHER, OTHER)
                durations[pair] = _observed(durations.get(pair, Histogram()), group.bucket, group)
        return RequestCounts(requests, durations, self.late + late)


def _request_key(group: RequestGroup, handlers: set[str], requests: Mapping[RequestKey, int]) -> RequestKey:
    handler = group.handler
    if handler not in handlers:
        has_place = len(handlers - {OTHER}) < MAX_HANDLERS and not group.status.startswith("4")
        handler = handler if handler and has_place else OTHER
    key = (handler, group.method, group.status)
    if key in requests or len(requests) < MAX_REQUEST_SERIES:
        return key
    return (OTHER, OTHER, OTHER if group.status == OTHER else f"{group.status[0]}xx")


def _observed(histogram: Histogram, bucket: int, group: RequestGroup) -> Histogram:
    counts = list(histogram.counts)
    counts[bucket] += group.rows
    return Histogram(tuple(counts), histogram.seconds + group.seconds)


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors by type."""

    errors: Mapping[str, int] = field(default_factory=dict)

    def plus(self, found: Mapping[str, int]) -> ErrorCounts:
        """Return the counts with errors added; of new types the most frequent get their names first."""
        errors = dict(self.errors)
        for error_type, rows in sorted(found.items(), key=lambda item: (-item[1], item[0])):
            named = error_type in errors or len(errors.keys() - {OTHER}) < MAX_ERROR_TYPES
            name = error_type if error_type and named else OTHER
            errors[name] = errors.get(name, 0) + rows
        return ErrorCounts(errors)
