"""Small ways to say what Alertmanager reports and what came of it; times are seconds after a round moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from auraconnect_exporter import ledger
from auraconnect_exporter.records import (
    SECOND,
    Actor,
    AlertType,
    AuditEntry,
    Draft,
    Episode,
    Event,
    Moment,
    Report,
    Severity,
    instant_of,
)
from auraconnect_exporter.store import Store, audit
from auraconnect_exporter.store import episodes as table

T = TypeVar("T")

NOON: Final[Moment] = 1_780_000_000 * SECOND
"""Where ``FakeClock`` begins."""

ADA: Final = Actor("ada", "192.0.2.1")
BOB: Final = Actor("bob", "192.0.2.2")

LABELS: Final = {
    "alertname": "DatabaseConnectionLost",
    "severity": "critical",
    "component": "database",
    "target": "primary",
    "symptom": "availability",
}


def at(seconds: float) -> Moment:
    """Return so many seconds after the round moment."""
    return NOON + round(seconds * SECOND)


def seconds(moment: Moment) -> float:
    """Return how many seconds after the round moment that is."""
    return (moment - NOON) / SECOND


def report(
    starts: float,
    ends: float | None = None,
    *,
    fingerprint: str = "f1",
    updated: float | None = None,
    suppressed: bool = False,
    **labels: str,
) -> Report:
    """Return what Alertmanager says of one alert, a lost database unless labels say otherwise."""
    said = report_of(LABELS | labels, starts, ends, fingerprint=fingerprint)
    return replace(said, updated=None if updated is None else at(updated), suppressed=suppressed)


def report_of(
    labels: Mapping[str, str], starts: float, ends: float | None = None, *, fingerprint: str = "f1"
) -> Report:
    """Return what Alertmanager says of an alert with these labels."""
    annotations = {"summary": "Primary is gone", "description": "It doesn't answer."}
    return Report(fingerprint, labels, annotations, at(starts), None if ends is None else at(ends))


def delivery(*reports: Report, truncated: int = 0) -> bytes:
    """Return the body of Alertmanager's webhook that tells of these."""
    return json.dumps(
        {
            "version": "4",
            "status": "firing" if any(report.ends is None for report in reports) else "resolved",
            "receiver": "incident-log",
            "groupKey": "{}:{}",
            "truncatedAlerts": truncated,
            "externalURL": "http://alertmanager.example",
            "alerts": [
                {
                    "status": "firing" if report.ends is None else "resolved",
                    "labels": report.labels,
                    "annotations": report.annotations,
                    "startsAt": instant_of(report.starts).isoformat(),
                    "endsAt": "0001-01-01T00:00:00Z" if report.ends is None else instant_of(report.ends).isoformat(),
                    "generatorURL": "http://prometheus.example/graph",
                    "fingerprint": report.fingerprint,
                }
                for report in reports
            ],
        }
    ).encode()


def draft(**fields: Any) -> Draft:
    """Return an alert that a program posts, of orders that wait unless fields say otherwise."""
    usual = {
        "alert_type": AlertType.PERFORMANCE,
        "severity": Severity.WARNING,
        "component": "workers",
        "title": "Orders wait",
    }
    return Draft(**(usual | fields))


class Book:
    """The store, as the ledger writes it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def hear(self, *reports: Report, now: float = 10_000, source: str = "webhook") -> list[Episode]:
        """Record reports; returns what changed."""
        changed: list[Episode] = []
        for batch in ledger.batches(reports):
            changed += await self.act(ledger.record, batch, at(now), source)
        return changed

    async def act(self, act: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run a function of the ledger or of the store in one transaction."""
        return await self._store.write(lambda transaction: act(transaction, *arguments, **named))

    async def episodes(self) -> list[Episode]:
        """Return all episodes, in the order of time."""
        found = await self.act(table.listed, resolved=None, severity=None, limit=10_000)
        return sorted(found, key=lambda episode: episode.started_at)

    async def only(self) -> Episode:
        """Return the one episode that there is."""
        (episode,) = await self.episodes()
        return episode

    async def times(self) -> list[tuple[float, float | None]]:
        """Return when each episode began and ended, in the order of time."""
        return [
            (seconds(episode.started_at), None if episode.ended_at is None else seconds(episode.ended_at))
            for episode in await self.episodes()
        ]

    async def events(self, episode: Episode) -> list[tuple[str, float]]:
        """Return what happened to an episode, and when."""
        return [(event.kind.value, seconds(event.at)) for event in await self.timeline(episode)]

    async def timeline(self, episode: Episode) -> list[Event]:
        """Return what happened to an episode."""
        return await self.act(table.timeline, episode.id)

    async def audit(self) -> list[AuditEntry]:
        """Return the audit log, oldest first."""
        return (await self.act(audit.newest, 0, 1000))[::-1]
