"""What the five-second page shows: everything of the health API's dashboard, and where each alert stands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

import msgspec

from auraconnect_exporter import history
from auraconnect_exporter.dashboard import NOT_CONFIGURED, Background
from auraconnect_exporter.escalation import ladder
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Component, Health, Link
from auraconnect_exporter.records import SECOND, Episode, Moment, instant_of, moment
from auraconnect_exporter.web.answers import DashboardAnswer

MAX_ALERTS: Final = 500
MAX_TEXT: Final = 400
"""Characters of an alert's description; the runbook has the rest."""


class BoardAlert(msgspec.Struct, frozen=True):
    """An open alert. ``told`` are the roles that know of it, ``next_role`` the one that is told at ``next_at``."""

    id: str
    title: str
    description: str
    severity: str
    component: str
    target: str
    alertname: str
    posted: bool
    triggered_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    suppressed: bool
    respond_by: datetime | None
    told: tuple[str, ...]
    next_role: str
    next_at: datetime | None
    runbook: str | None


class BoardWindow(msgspec.Struct, frozen=True):
    """Planned maintenance; ``scope`` is what it is about, empty for everything."""

    name: str
    scope: str
    start: datetime
    end: datetime
    active: bool


class BoardStrip(msgspec.Struct, frozen=True):
    """A component's health over the last day, oldest first; each cell lasts ``cell_seconds``."""

    component: Component
    cells: tuple[Health, ...]


class BoardHistory(msgspec.Struct, frozen=True):
    """The strips, and when their last cell ends; without Prometheus there are none."""

    strips: tuple[BoardStrip, ...]
    ends_at: datetime
    cell_seconds: int


class BoardAnswer(msgspec.Struct, frozen=True):
    """All that the page shows. ``dashboard`` is the health API's own answer; no news, the same bytes.

    ``troubles`` says in a sentence each what can't be reached; what nobody has configured is no trouble.
    """

    dashboard: DashboardAnswer
    troubles: tuple[str, ...]
    alerts: tuple[BoardAlert, ...]
    history: BoardHistory
    maintenance: tuple[BoardWindow, ...]
    links: tuple[Link, ...]


def alerts(
    episodes: Iterable[Episode], suppressed: frozenset[str], background: Background, now: float
) -> tuple[BoardAlert, ...]:
    """Return open alerts in the order that they come in, with where they stand; ``now`` in Unix seconds."""
    return tuple(
        _alert(episode, background, moment(now), suppressed=episode.id in suppressed)
        for episode in islice(episodes, MAX_ALERTS)
    )


def troubles(unavailable: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is wrong around us, given why what could not be read, by source."""
    return tuple(
        why if why.lower().startswith(name.lower()) else f"{name}: {why}"
        for name, why in sorted(unavailable.items())
        if why != NOT_CONFIGURED
    )


def strips(background: Background) -> BoardHistory:
    """Return the history as far as it has been read."""
    return BoardHistory(
        tuple(BoardStrip(component, cells) for component, cells in background.strips.items()),
        instant_of(background.strips_end),
        history.CELL_SECONDS,
    )


def windows(occurrences: Iterable[Occurrence]) -> tuple[BoardWindow, ...]:
    """Return the windows of maintenance that are open or come next."""
    return tuple(_window(occurrence) for occurrence in occurrences)


def _alert(episode: Episode, background: Background, now: Moment, *, suppressed: bool) -> BoardAlert:
    stands = ladder(
        episode,
        now,
        suppressed=suppressed,
        since=background.clocks.get(episode.identity),
        delays=background.delays,
    )
    return BoardAlert(
        id=episode.id,
        title=_cut(episode.title),
        description=_cut(episode.description),
        severity=episode.identity.severity,
        component=episode.identity.component,
        target=episode.identity.target,
        alertname=episode.identity.alertname,
        posted=episode.origin.value == "api",
        triggered_at=instant_of(episode.started_at),
        acknowledged_at=_instant(episode.acknowledged_at),
        acknowledged_by=episode.acknowledged_by or None,
        suppressed=suppressed,
        respond_by=_instant(stands.respond_by),
        told=stands.told,
        next_role=stands.next_role,
        next_at=_instant(stands.next_at),
        runbook=_runbook(episode.annotations.get("runbook_url", "")),
    )


def _window(occurrence: Occurrence) -> BoardWindow:
    window = occurrence.window
    return BoardWindow(
        name=window.name,
        scope=" ".join(filter(None, (window.component, window.target))),
        start=instant_of(round(occurrence.start * SECOND)),
        end=instant_of(round(occurrence.end * SECOND)),
        active=occurrence.active,
    )


def _runbook(url: str) -> str | None:
    """Return an alert's runbook as a link that does nothing but lead somewhere; None where there is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.netloc else None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _instant(at: Moment | None) -> datetime | None:
    return None if at is None else instant_of(at)
