"""Who hears nothing at this hour: the time intervals in the configuration that an Alertmanager runs with. Pure.

Alertmanager's list of alerts names the receivers of each, but not whether their hours mute it (0.28 and newer have a
place for that, and leave it empty there). So the hours are read from where they are written, which follows every change
of them, and their time zone. Source: Alertmanager's documentation, "Configuration" (route, time_interval).
"""

from __future__ import annotations

import calendar
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from auraconnect_exporter import strict_yaml
from auraconnect_exporter.records import Moment, instant_of

LOG: Final = "incident-log"
"""The receiver that tells the incident store, before all others: nobody reads it."""

Span = tuple[int, int]
"""First and last, both included."""


class UnusableHours(Exception):
    """A configuration's time intervals can't be read: one sentence."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Hours by the clocks of a zone. A field that has no span allows all; ``minutes`` are those of a day."""

    zone: ZoneInfo
    minutes: tuple[Span, ...] = ()
    weekdays: tuple[Span, ...] = ()
    """Sunday is 0."""
    days: tuple[Span, ...] = ()
    """Of the month; a negative one counts from its end."""
    months: tuple[Span, ...] = ()
    years: tuple[Span, ...] = ()

    def contains(self, at: Moment) -> bool:
        """Return whether a moment is within it."""
        local = instant_of(at).astimezone(self.zone)
        length = calendar.monthrange(local.year, local.month)[1]
        days = [tuple(day if day > 0 else length + day + 1 for day in span) for span in self.days]
        return (
            _within(self.minutes, local.hour * 60 + local.minute)
            and _within(self.weekdays, local.isoweekday() % 7)
            and _within(days, local.day)
            and _within(self.months, local.month)
            and _within(self.years, local.year)
        )


def _within(spans: Collection[tuple[int, ...]], value: int) -> bool:
    return not spans or any(first <= value <= last for first, last in spans)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a route leads, and when it is closed: in an interval of ``closed``, and outside of all of ``open``."""

    receiver: str
    closed: tuple[Interval, ...] = ()
    open: tuple[Interval, ...] = ()

    def is_closed(self, at: Moment) -> bool:
        """Return whether nothing gets through at a moment."""
        outside = bool(self.open) and not any(interval.contains(at) for interval in self.open)
        return outside or any(interval.contains(at) for interval in self.closed)


@dataclass(frozen=True, slots=True)
class Hours:
    """All routes of a configuration."""

    routes: tuple[Route, ...] = ()

    def deaf(self, at: Moment) -> frozenset[str]:
        """Return the receivers that hear nothing at a moment.

        Those to which all routes are closed, since the list does not tell by which route an alert gets there: what may
        have been shown climbs.
        """
        reached = {route.receiver for route in self.routes if not route.is_closed(at)}
        return frozenset(route.receiver for route in self.routes) - reached


def nobody_hears(receivers: Iterable[str], deaf: Collection[str]) -> bool:
    """Return whether an alert that has these receivers is shown to none of them."""
    people = [receiver for receiver in receivers if receiver != LOG]
    return bool(people) and all(receiver in deaf for receiver in people)


def parse(text: str) -> Hours:
    """Read a configuration as Alertmanager's API shows it. Raises UnusableHours."""
    try:
        config = msgspec.convert(strict_yaml.load(text.encode()).data, _Config)
        named = {
            one.name: tuple(_interval(listed) for listed in one.time_intervals)
            for one in (*config.time_intervals, *config.mute_time_intervals)
        }
        return Hours(tuple(_routes(config.route, "", named)))
    except strict_yaml.YAMLProblem as problem:
        raise UnusableHours(f"line {problem.line} {problem.problem}") from None
    except (ValueError, KeyError, OSError, ZoneInfoNotFoundError) as error:
        raise UnusableHours(f"{type(error).__name__}: {error}") from None


class _Times(msgspec.Struct):
    start_time: str
    end_time: str


class _Interval(msgspec.Struct):
    times: list[_Times] = []
    weekdays: list[str] = []
    days_of_month: list[str] = []
    months: list[str] = []
    years: list[str] = []
    location: str = "UTC"


class _Named(msgspec.Struct):
    name: str
    time_intervals: list[_Interval] = []


class _Route(msgspec.Struct):
    receiver: str = ""
    mute_time_intervals: list[str] = []
    active_time_intervals: list[str] = []
    routes: list[_Route] = []


class _Config(msgspec.Struct):
    route: _Route
    time_intervals: list[_Named] = []
    mute_time_intervals: list[_Named] = []  # the older name of the same


def _routes(route: _Route, parent: str, named: dict[str, tuple[Interval, ...]]) -> Iterator[Route]:
    """Yield a route and those below it, which inherit its receiver, but not its hours."""
    receiver = route.receiver or parent
    closed, opened = (
        tuple(interval for name in names for interval in named[name])
        for names in (route.mute_time_intervals, route.active_time_intervals)
    )
    yield Route(receiver, closed, opened)
    for child in route.routes:
        yield from _routes(child, receiver, named)


_WEEKDAYS: Final = {
    name: str(number)
    for number, name in enumerate(("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"))
}


def _interval(listed: _Interval) -> Interval:
    return Interval(
        ZoneInfo(listed.location),
        # Its end is the first minute after it.
        tuple((_minute(one.start_time), _minute(one.end_time) - 1) for one in listed.times),
        tuple(_span(text, _WEEKDAYS) for text in listed.weekdays),
        *(tuple(_span(text) for text in texts) for texts in (listed.days_of_month, listed.months, listed.years)),
    )


def _span(text: str, names: Mapping[str, str] = MappingProxyType({})) -> Span:
    first, _, last = text.partition(":")
    return int(names.get(first, first)), int(names.get(last or first, last or first))


def _minute(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
