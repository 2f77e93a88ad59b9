"""What the public sees: how we are in three words, what a person has published, and maintenance that is announced.

Nothing of the inside: components by public names, no targets, no figures, no reasons, no names of people. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from html import escape
from typing import Final

import msgspec

from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Health, Snapshot, StatusPage
from auraconnect_exporter.records import SECOND, Moment, Notice, NoticeState, instant_of

AHEAD_SECONDS: Final = 14 * 86400.0
"""How long before it begins maintenance is announced."""


class PublicState(StrEnum):
    """How something is, in words for everybody."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    OUTAGE = "outage"
    UNKNOWN = "unknown"


_STATES: Final = {
    Health.HEALTHY: PublicState.OPERATIONAL,
    Health.DEGRADED: PublicState.DEGRADED,
    Health.UNHEALTHY: PublicState.OUTAGE,
    Health.UNKNOWN: PublicState.UNKNOWN,
}


class PublicComponent(msgspec.Struct, frozen=True):
    """A component by the name that people outside know."""

    name: str
    state: PublicState


class PublicUpdate(msgspec.Struct, frozen=True):
    """A word to the public."""

    at: datetime
    state: NoticeState
    text: str


class PublicIncident(msgspec.Struct, frozen=True):
    """An incident that a person has published; updates newest first."""

    id: str
    title: str
    state: NoticeState
    components: tuple[str, ...]
    started_at: datetime
    updates: tuple[PublicUpdate, ...]


class PublicMaintenance(msgspec.Struct, frozen=True):
    """Planned work that is announced."""

    text: str
    start: datetime
    end: datetime
    active: bool


class StatusAnswer(msgspec.Struct, frozen=True):
    """The public page. ``incidents`` is null while nobody can tell."""

    title: str
    state: PublicState
    components: tuple[PublicComponent, ...]
    incidents: tuple[PublicIncident, ...] | None
    maintenance: tuple[PublicMaintenance, ...]


def status(
    page: StatusPage, snapshot: Snapshot, notices: tuple[Notice, ...] | None, windows: Iterable[Occurrence]
) -> StatusAnswer:
    """Return what the public sees."""
    return StatusAnswer(
        title=page.title,
        state=_STATES[snapshot.system],
        components=tuple(
            PublicComponent(name, _STATES[snapshot.components[component]])
            for component, name in page.components.items()
            if component in snapshot.components
        ),
        incidents=None if notices is None else tuple(incident(notice) for notice in notices),
        maintenance=tuple(
            PublicMaintenance(
                occurrence.window.announcement, _utc(occurrence.start), _utc(occurrence.end), occurrence.active
            )
            for occurrence in sorted(windows, key=lambda occurrence: occurrence.start)
            if occurrence.window.announcement
            and snapshot.time < occurrence.end
            and occurrence.start - snapshot.time <= AHEAD_SECONDS
        ),
    )


def incident(notice: Notice) -> PublicIncident:
    """Return a notice without those who wrote it."""
    return PublicIncident(
        id=notice.id,
        title=notice.title,
        state=notice.state,
        components=notice.components,
        started_at=instant_of(notice.started_at),
        updates=tuple(
            PublicUpdate(instant_of(update.at), update.state, update.text) for update in reversed(notice.updates)
        ),
    )


_SENTENCES: Final = {
    PublicState.OPERATIONAL: "All systems operational",
    PublicState.DEGRADED: "Some systems are degraded",
    PublicState.OUTAGE: "Major outage",
    PublicState.UNKNOWN: "The state is not known at the moment",
}


def page(answer: StatusAnswer) -> str:
    """Return the answer as the body of a page."""
    components = "".join(
        f'<li><span>{escape(each.name)}</span> <strong class="{each.state}">{each.state}</strong></li>'
        for each in answer.components
    )
    if answer.incidents is None:
        present = past = "<p>Incidents can't be shown at the moment.</p>"
    else:
        present = _incidents(each for each in answer.incidents if each.state is not NoticeState.RESOLVED)
        past = _incidents(each for each in answer.incidents if each.state is NoticeState.RESOLVED)
    planned = "".join(
        f"<li>{'Now: ' if each.active else ''}{escape(each.text)} ({_time(each.start)} to {_time(each.end)})</li>"
        for each in answer.maintenance
    )
    return (
        f"<h1>{escape(answer.title)} status</h1>"
        f'<p class="overall"><strong class="{answer.state}">{_SENTENCES[answer.state]}</strong></p>'
        f'<h2>Components</h2><ul class="components">{components}</ul>'
        f"<h2>Current incidents</h2>{present}"
        f"<h2>Planned maintenance</h2>{f'<ul>{planned}</ul>' if planned else '<p>None.</p>'}"
        f"<h2>Past incidents</h2>{past}"
    )


def _incidents(incidents: Iterable[PublicIncident]) -> str:
    return "".join(map(_incident, incidents)) or "<p>None.</p>"


def _incident(incident: PublicIncident) -> str:
    updates = "".join(
        f"<li><strong>{each.state.capitalize()}</strong> · {_time(each.at)}<br>{escape(each.text)}</li>"
        for each in incident.updates
    )
    about = f"<p>{escape(', '.join(incident.components))}</p>" if incident.components else ""
    return f"<article><h3>{escape(incident.title)}</h3>{about}<ul>{updates}</ul></article>"


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M} UTC</time>'


def _utc(seconds: float) -> datetime:
    at: Moment = round(seconds * SECOND)
    return instant_of(at).astimezone(UTC)
