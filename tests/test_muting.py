"""Hours are those that Alertmanager's configuration says, by the clocks of their zone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from auraconnect_exporter.muting import UnusableHours, nobody_hears, parse
from auraconnect_exporter.records import Moment, moment_of
from tests.pack.files import ALERTMANAGER, load


def at(text: str) -> Moment:
    """Return a moment that is written in UTC."""
    return moment_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


def config(*intervals: dict[str, Any], **route: Any) -> str:
    """Return a configuration whose route to `team` is open in these intervals only, unless its own settings differ."""
    routes = [{"receiver": "team", **(route or {"active_time_intervals": ["hours"]})}]
    named = [{"name": "hours", "time_intervals": list(intervals)}]
    return yaml.safe_dump({"route": {"receiver": "others", "routes": routes}, "time_intervals": named})


WORK = {"weekdays": ["monday:friday"], "times": [{"start_time": "09:00", "end_time": "17:00"}]}


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        # 2026-03-02 is a Monday.
        (WORK, ["2026-03-02T09:00", "2026-03-06T16:59"], ["2026-03-02T08:59", "2026-03-02T17:00", "2026-03-07T12:00"]),
        (
            {"times": [{"start_time": "00:00", "end_time": "06:30"}, {"start_time": "22:00", "end_time": "24:00"}]},
            ["2026-03-02T00:00", "2026-03-02T06:29", "2026-03-02T23:59"],
            ["2026-03-02T06:30", "2026-03-02T21:59"],
        ),
        ({"weekdays": ["sunday", "saturday"]}, ["2026-03-01T12:00", "2026-03-07T12:00"], ["2026-03-02T12:00"]),
        # In Berlin the clocks go forward on the 29th of March 2026, and back on the 25th of October.
        (
            {**WORK, "location": "Europe/Berlin"},
            ["2026-03-27T08:00", "2026-03-27T15:59", "2026-03-30T07:00", "2026-10-23T07:00", "2026-10-26T08:00"],
            ["2026-03-27T07:59", "2026-03-27T16:00", "2026-03-30T15:00", "2026-10-23T15:00", "2026-10-26T07:59"],
        ),
        # A zone in which it is another day.
        (
            {"weekdays": ["monday"], "location": "Pacific/Auckland"},
            ["2026-03-01T11:00", "2026-03-02T10:59"],
            ["2026-03-01T10:59", "2026-03-02T11:00"],
        ),
        ({"days_of_month": ["1:5", "-3:-1"]}, ["2026-02-05T12:00", "2026-02-26T12:00"], ["2026-02-25T12:00"]),
        ({"days_of_month": ["31"]}, ["2026-01-31T12:00"], ["2026-02-28T12:00"]),
        ({"months": ["1:3", "12"]}, ["2026-03-31T23:59", "2026-12-01T00:00"], ["2026-04-01T00:00"]),
        ({"years": ["2020:2025"]}, ["2025-12-31T23:59"], ["2026-01-01T00:00"]),
        ({**WORK, "months": ["4"]}, ["2026-04-01T12:00"], ["2026-03-02T12:00", "2026-04-04T12:00"]),
        ({}, ["2026-03-02T12:00"], []),
    ],
    ids=str,
)
def test_an_interval_is_what_it_says(interval: dict[str, Any], inside: list[str], outside: list[str]) -> None:
    """First minutes are in, last ones too, the next are not; days count in the zone, and daylight saving moves them."""
    hours = parse(config(interval))
    assert [moment for moment in inside if hours.deaf(at(moment))] == []
    assert [moment for moment in outside if hours.deaf(at(moment)) != {"team"}] == []


@pytest.mark.parametrize(
    ("route", "by_day", "by_night"),
    [
        ({"active_time_intervals": ["hours"]}, False, True),
        ({"mute_time_intervals": ["hours"]}, True, False),
        ({"continue": True}, False, False),
        ({"active_time_intervals": ["hours"], "routes": [{"matchers": ['team = "a"']}]}, False, False),
    ],
)
def test_a_route_is_muted_in_or_outside_of_its_hours(route: dict[str, Any], by_day: bool, by_night: bool) -> None:
    """As it says; a route below it has the receiver, but not the hours."""
    hours = parse(config(WORK, **route))
    assert [hours.deaf(at(f"2026-03-02T{hour}:00")) == {"team"} for hour in (12, 22)] == [by_day, by_night]


def test_only_what_no_receiver_shows_is_muted() -> None:
    """The incident log is nobody, another receiver is somebody, and without one nothing is known."""
    assert nobody_hears(["incident-log", "team"], {"team"})
    assert not nobody_hears(["team", "others"], {"team"})
    assert not nobody_hears(["incident-log"], {"team"})
    assert not nobody_hears([], {"team"})


def test_infos_alone_have_hours_in_the_pack() -> None:
    """At night the support team hears nothing; whoever is told of warnings and criticals does."""
    hours = parse(json.dumps(load(ALERTMANAGER)))  # JSON is YAML
    assert hours.deaf(at("2026-03-02T22:00")) == {"support-team-notify", "team-lead-notify"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "route: {receiver: a, mute_time_intervals: [unknown]}",
        config({"location": "Mars/Base"}),
        config({"location": "../etc/passwd"}),
        config({"weekdays": ["someday"]}),
        config({"times": [{"start_time": "9", "end_time": "17:00"}]}),
        config({"months": [{}]}),
    ],
)
def test_what_cant_be_read_is_said(text: str) -> None:
    """One sentence, whatever the text is."""
    with pytest.raises(UnusableHours, match=r"\w"):
        parse(text)
