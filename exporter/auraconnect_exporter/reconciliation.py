"""Compare what we believe to be open with what Alertmanager and Prometheus say: what was missed? Pure.

A message that never came leaves an episode open for ever, or an alert unknown. But that something can't be reached,
or has just been started, is no sign that anything is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from auraconnect_exporter.episodes import identity
from auraconnect_exporter.records import SECOND, Episode, Identity, Moment, Origin, Report

SETTLED: Final = 300 * SECOND
"""An Alertmanager that runs for less may not have heard of all that fires: Prometheus repeats each alert once a
minute, and needs a moment to find it."""

ABSENT: Final = 60 * SECOND
"""A message that is under way arrives sooner."""


@dataclass(frozen=True, slots=True)
class View:
    """What the outside says at one moment.

    ``reports`` are what any Alertmanager holds, by fingerprint. ``complete`` says that every Alertmanager was asked,
    answered, and has been running for long enough to know. ``firing`` is what Prometheus fires: None when it can't be
    asked, in which case nothing is over.
    """

    reports: Mapping[str, Report]
    complete: bool
    firing: Collection[Identity] | None


def merged(lists: Iterable[Iterable[Report]]) -> dict[str, Report]:
    """Return what several Alertmanagers hold: the latest word, and suppressed is only what none tells people of."""
    found: dict[str, Report] = {}
    for report in (report for reports in lists for report in reports):
        known = found.get(report.fingerprint, report)
        latest = max(known, report, key=lambda each: each.updated or 0)
        found[report.fingerprint] = replace(latest, suppressed=known.suppressed and report.suppressed)
    return found


def absent(open_: Iterable[Episode], view: View) -> frozenset[str]:
    """Return the open episodes that nobody knows of any more: what Prometheus fires, not what was posted to us."""
    return frozenset(
        episode.id
        for episode in open_
        if episode.origin is Origin.RULE and _is_absent(episode.fingerprint, episode.identity, view)
    )


def over(absences: Mapping[str, Moment], now: Moment) -> list[str]:
    """Return those that have been absent for long enough, given since when each has been."""
    return [id_ for id_, since in absences.items() if now - since >= ABSENT]


def untold(paged: Iterable[Report], open_: Collection[str], view: View) -> dict[str, Report]:
    """Return by fingerprint what nobody knows of any more, of what has paged and of whose end PagerDuty has not heard.

    Alertmanager keeps the end of an alert to itself while it is silenced, inhibited or muted. ``open_`` are the ids of
    open episodes: a posted alert that is among them goes on, even where Alertmanager has lost it.
    """
    return {
        report.fingerprint: report
        for report in paged
        if report.labels.get("alert_id") not in open_ and _is_absent(report.fingerprint, identity(report.labels), view)
    }


def _is_absent(fingerprint: str, who: Identity, view: View) -> bool:
    if not view.complete or view.firing is None:
        return False
    return fingerprint not in view.reports and who not in view.firing


def suppressed(open_: Iterable[Episode], view: View) -> dict[str, bool]:
    """Return for each open episode that an Alertmanager holds whether all that hold it keep it from people."""
    posted = {report.labels.get("alert_id", ""): report for report in view.reports.values()}
    by_fingerprint = {**posted, **view.reports}
    return {
        episode.id: by_fingerprint[episode.fingerprint].suppressed
        for episode in open_
        if episode.fingerprint in by_fingerprint
    }
