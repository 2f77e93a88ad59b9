"""Who is told of an alert, who is told next, and by when somebody should act: the procedure's matrix. Pure.

Prometheus counts the time and does the escalating (``rules/escalation.yml``); this says for people's eyes where it
stands. Moments are whole microseconds, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auraconnect_exporter.records import SECOND, Episode, Moment

SECONDARY: Final = "secondary"
MANAGER: Final = "manager"

ROLES: Final[Mapping[str, tuple[str, str, str]]] = {
    "critical": ("on-call engineer", "lead engineer", "CTO"),
    "warning": ("on-call engineer", "senior engineer", "engineering manager"),
    "info": ("support team", "on-call engineer", "team lead"),
}
"""Who is told of each severity: the primary contact, the secondary and the manager."""

DELAYS: Final[Mapping[tuple[str, str], float]] = {
    ("critical", SECONDARY): 300.0,
    ("critical", MANAGER): 900.0,
    ("warning", SECONDARY): 900.0,
    ("warning", MANAGER): 1800.0,
    ("info", SECONDARY): 3600.0,
    ("info", MANAGER): 7200.0,
}
"""Seconds without acknowledgement until a level is told, where Prometheus does not say what its rules wait for."""

RESPONSE_TARGETS: Final[Mapping[str, float]] = {"critical": 0.0, "warning": 900.0, "info": 3600.0}
"""Seconds within which somebody should act, as the procedure promises; 0 is at once."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where an alert stands at one moment.

    ``told`` are the roles that know, the last one last. ``next_role`` is told at ``next_at``; empty and None when
    nobody is left to tell, or when the clock stands still: somebody has acknowledged, or nobody was shown the alert.
    """

    respond_by: Moment | None
    told: tuple[str, ...]
    next_role: str = ""
    next_at: Moment | None = None


def ladder(
    episode: Episode,
    now: Moment,
    *,
    suppressed: bool,
    since: Moment | None,
    delays: Mapping[tuple[str, str], float],
) -> Ladder:
    """Return where an open alert stands.

    ``since`` is when its clock started by Prometheus's count, which leaves out what nobody was shown; without it the
    alert's own beginning counts. ``delays`` are Prometheus's, by severity and level; those missing are the usual ones.
    """
    severity = episode.identity.severity
    roles = ROLES.get(severity)
    if roles is None or episode.symptom == "maintenance" or suppressed:
        return Ladder(None, ())
    started = episode.started_at if since is None else since
    until = now if episode.acknowledged_at is None else episode.acknowledged_at
    times = [started + round({**DELAYS, **delays}[severity, level] * SECOND) for level in (SECONDARY, MANAGER)]
    reached = 1 + sum(time <= until for time in times)
    told = roles[:reached]
    respond_by = started + round(RESPONSE_TARGETS[severity] * SECOND)
    if episode.acknowledged_at is not None or reached == len(roles):
        return Ladder(respond_by, told)
    return Ladder(respond_by, told, roles[reached], times[reached - 1])
