"""A drill: a test alert goes down the whole path, each channel's delivery is timed, and the alert is taken back.

What was delivered is what Alertmanager counts. Other alerts at the same time are counted as well, so a drill belongs
into a quiet minute.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter.model import Clock
from auraconnect_exporter.pack.routing import CHANNELS, Routing, channels, table

POLL_SECONDS: Final = 0.1
LIFETIME: Final = timedelta(minutes=5)
"""After so long the alert is over by itself, should the drill be cut off."""

_BY_INTEGRATION: Final = {key.removesuffix("_configs"): channel for key, channel in CHANNELS.items()}


class Alertmanager(Protocol):
    """What a drill needs of an Alertmanager."""

    def post(self, alert: Mapping[str, object]) -> None:
        """Tell it of an alert."""

    def metrics(self) -> str:
        """Return what it counts, as text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one channel's notifications: seconds until all had been delivered, or None."""

    channel: str
    fired: float | None
    resolved: float | None
    failures: int


def labels(severity: str, moment: datetime) -> dict[str, str]:
    """Return the labels of a test alert: about the monitoring itself, which no maintenance mutes."""
    return {
        "alertname": "Drill",
        "severity": severity,
        "component": "monitoring",
        "target": f"drill-{moment:%Y%m%dT%H%M%SZ}",
        "symptom": "monitoring",
    }


def run(
    routing: Routing, alertmanager: Alertmanager, severity: str, timeout: float, clock: Clock
) -> tuple[Outcome, ...]:
    """Hold a drill; waits up to ``timeout`` seconds for the alert's deliveries, and again for those of its end.

    Raises PackProblem, and what the Alertmanager raises.
    """

    def now() -> datetime:
        return datetime.fromtimestamp(clock.time(), UTC)

    begun = now()
    named = labels(severity, begun)
    known = routing.receivers()
    expected = Counter(
        channel for receiver in routing.receivers_of(named) for channel in channels(known.get(receiver, {}))
    )
    annotations = {
        "summary": "[TEST] A drill, there is nothing to do",
        "description": f"[TEST] This drill was begun at {begun:%Y-%m-%d %H:%M:%S} UTC and takes itself back.",
        "runbook_url": "https://example.com/drill",
        "dashboard_url": "https://example.com/drill",
    }
    alert = {"labels": named, "annotations": annotations, "startsAt": begun.isoformat()}

    def delivered(ends: datetime) -> tuple[dict[str, float], dict[str, int]]:
        """Tell of the alert, and wait for its deliveries; returns seconds and failures by channel."""
        sent, failed = counts(alertmanager.metrics())
        started = clock.monotonic()
        alertmanager.post({**alert, "endsAt": ends.isoformat()})
        times: dict[str, float] = {}
        while len(times) < len(expected) and clock.monotonic() - started < timeout:
            time.sleep(POLL_SECONDS)
            new_sent, new_failed = counts(alertmanager.metrics())
            for channel, wanted in expected.items():
                good = new_sent[channel] - sent[channel] - (new_failed[channel] - failed[channel])
                if good >= wanted:
                    times.setdefault(channel, clock.monotonic() - started)
        _, last = counts(alertmanager.metrics())
        return times, {channel: last[channel] - failed[channel] for channel in expected}

    try:
        fired, failures = delivered(begun + LIFETIME)
    finally:
        resolved, more = delivered(now())
    return tuple(
        Outcome(channel, fired.get(channel), resolved.get(channel), failures[channel] + more[channel])
        for channel in CHANNELS.values()
        if channel in expected
    )


def counts(text: str) -> tuple[Counter[str], Counter[str]]:
    """Return how many notifications Alertmanager has tried and failed so far, by channel, from its metrics."""
    found: dict[str, Counter[str]] = {"total": Counter(), "failed_total": Counter()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("alertmanager_notifications_")
            channel = _BY_INTEGRATION.get(sample.labels.get("integration", ""))
            if name in found and sample.name != name and channel is not None:
                found[name][channel] += int(sample.value)
    return found["total"], found["failed_total"]


def report(severity: str, outcomes: tuple[Outcome, ...]) -> str:
    """Return what came of a drill as text."""

    def said(seconds: float | None) -> str:
        return "NOT DELIVERED" if seconds is None else f"{seconds:.1f} s"

    rows = [("CHANNEL", "ALERT", "END", "FAILURES")]
    rows += [(each.channel, said(each.fired), said(each.resolved), str(each.failures)) for each in outcomes]
    return f"Drill of severity {severity}:\n{table(rows)}"


def succeeded(outcomes: tuple[Outcome, ...]) -> bool:
    """Return whether every channel has delivered both."""
    return all(each.fired is not None and each.resolved is not None for each in outcomes)
