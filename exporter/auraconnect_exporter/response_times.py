"""How long people took to acknowledge alerts, and alerts to be over: histograms by severity, since our start."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from auraconnect_exporter.records import SECOND, Moment, Severity

BOUNDS: Final = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 86400.0)
"""Seconds. Among them are the response times of the procedure and the delays of the escalation."""


@dataclass(slots=True)
class Histogram:
    """Observations in seconds: how many fell into each bucket (the last has no bound), and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


def _for_each_severity() -> dict[str, Histogram]:
    return {severity.value: Histogram() for severity in Severity}


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """The two histograms of each severity; a misspelt severity counts nowhere."""

    to_acknowledge: Mapping[str, Histogram] = field(default_factory=_for_each_severity)
    to_resolve: Mapping[str, Histogram] = field(default_factory=_for_each_severity)

    def acknowledged(self, severity: str, after: Moment) -> None:
        """Count an acknowledgement, so many microseconds after the alert began."""
        _observe(self.to_acknowledge, severity, after)

    def resolved(self, severity: str, after: Moment) -> None:
        """Count an end, so many microseconds after the alert began."""
        _observe(self.to_resolve, severity, after)


def _observe(histograms: Mapping[str, Histogram], severity: str, after: Moment) -> None:
    if severity in histograms:
        histograms[severity].observe(max(0, after) / SECOND)
