"""Planned maintenance: when is the next window, and are we in one. Pure.

A window is a start by the wall clock of its time zone, a duration, and perhaps a rule by which it comes again (RFC
5545's RRULE). It keeps its wall-clock time over a change to or from summer time, and its duration in real time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rruleset, rrulestr

from auraconnect_exporter.model import Component

KEPT_SECONDS = 86400.0
"""How long a window that is over, and does not come again, is still shown: long enough to see that it overran."""


@dataclass(frozen=True, slots=True)
class Window:
    """Planned work on a target, on a component (no target) or on everything (neither).

    ``start`` is naive: wall-clock time in ``zone``. ``duration`` is in seconds. ``repeat`` is an RRULE without its
    start, ``FREQ=WEEKLY;BYDAY=SU`` say.
    """

    name: str
    start: datetime
    duration: float
    zone: ZoneInfo
    component: Component | None = None
    target: str | None = None
    repeat: str | None = None
    mute_critical: bool = False
    announcement: str = ""
    """What the public is told of it; nothing unless there are words for it."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A window's current time, else its next one, else its last one; Unix seconds."""

    window: Window
    start: float
    end: float
    active: bool


class Calendar:
    """Some windows, their rules compiled once."""

    def __init__(self, windows: Iterable[Window]) -> None:
        self._rules = tuple((window, _rule(window)) for window in windows)

    def at(self, now: float) -> tuple[Occurrence, ...]:
        """Return what each window has to show at a moment (Unix seconds); nothing once it is long over."""
        found = (_occurrence(window, rule, now) for window, rule in self._rules)
        return tuple(occurrence for occurrence in found if occurrence is not None)


def check_repeat(rule: str, start: datetime) -> None:
    """Raise ValueError unless a rule is an RRULE that comes daily or more rarely."""
    parts = dict(part.partition("=")[::2] for part in rule.upper().split(";"))
    if parts.get("FREQ") not in {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}:
        raise ValueError("expected a rule such as FREQ=WEEKLY;BYDAY=SU, daily or more rarely")
    if {"BYHOUR", "BYMINUTE", "BYSECOND", "DTSTART"} & set(parts):
        raise ValueError("takes its time of day from start")
    try:
        rrulestr(rule, dtstart=start)
    except (ValueError, TypeError):
        raise ValueError("is not a rule as RFC 5545 has them") from None


def _rule(window: Window) -> rrule | rruleset | None:
    return rrulestr(window.repeat, dtstart=window.start, cache=True) if window.repeat else None


def _occurrence(window: Window, rule: rrule | rruleset | None, now: float) -> Occurrence | None:
    starts = [window.start]
    if rule is not None:
        # A day of margin: wall clocks differ from UTC by less, so no occurrence is missed at the edges.
        local = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
        earliest = local - timedelta(days=1, seconds=window.duration)
        current = rule.between(earliest, local + timedelta(days=1))
        following = rule.after(local + timedelta(days=1))
        previous = rule.before(earliest)
        starts = [start for start in (previous, *current, following) if start is not None]
    moments = [_at(window, start, now) for start in starts]
    active = [moment for moment in moments if moment.active]
    coming = [moment for moment in moments if moment.start > now]
    over = [moment for moment in moments if now - KEPT_SECONDS < moment.end <= now]
    return next(iter([*active, *coming, *reversed(over)]), None)


def _at(window: Window, start: datetime, now: float) -> Occurrence:
    begin = start.replace(tzinfo=window.zone).timestamp()
    end = begin + window.duration
    return Occurrence(window, begin, end, active=begin <= now < end)
