"""Maintenance windows: one-off and recurring, by the clocks of their time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from auraconnect_exporter import config, metrics
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.maintenance import Calendar, Occurrence, Window
from auraconnect_exporter.model import Component, Health, Reload, Snapshot

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(window: Window, now: str) -> tuple[str, str, bool] | None:
    """Return start, end (UTC) and whether a window is open, as it shows itself at a moment."""
    occurrences = Calendar([window]).at(utc(now))
    if not occurrences:
        return None
    start, end = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M")
        for moment in (occurrences[0].start, occurrences[0].end)
    )
    return start, end, occurrences[0].active


ONCE = Window("upgrade", datetime(2026, 12, 1, 22, 0), 1.5 * HOUR, BERLIN)
SUNDAYS = Window("vacuum", datetime(2026, 1, 4, 2, 30), HOUR, BERLIN, repeat="FREQ=WEEKLY;BYDAY=SU")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-01T00:00", ("2026-12-01T21:00", "2026-12-01T22:30", False)),
        ("2026-12-01T20:59:59", ("2026-12-01T21:00", "2026-12-01T22:30", False)),
        ("2026-12-01T21:00", ("2026-12-01T21:00", "2026-12-01T22:30", True)),
        ("2026-12-01T22:29:59", ("2026-12-01T21:00", "2026-12-01T22:30", True)),
        ("2026-12-01T22:30", ("2026-12-01T21:00", "2026-12-01T22:30", False)),
        ("2026-12-02T22:29", ("2026-12-01T21:00", "2026-12-01T22:30", False)),
        ("2026-12-02T22:30", None),
    ],
)
def test_a_single_window_opens_closes_and_is_forgotten_a_day_later(
    now: str, expected: tuple[str, str, bool] | None
) -> None:
    """Its start counts, its end does not; what is over is shown for a day."""
    assert shown(ONCE, now) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2025-12-20T00:00", ("2026-01-04T01:30", "2026-01-04T02:30", False)),
        ("2026-01-04T01:45", ("2026-01-04T01:30", "2026-01-04T02:30", True)),
        ("2026-01-04T02:30", ("2026-01-11T01:30", "2026-01-11T02:30", False)),
        ("2026-06-30T12:00", ("2026-07-05T00:30", "2026-07-05T01:30", False)),
        ("2026-03-28T12:00", ("2026-03-29T01:30", "2026-03-29T02:30", False)),
        ("2026-10-24T12:00", ("2026-10-25T00:30", "2026-10-25T01:30", False)),
    ],
)
def test_a_recurring_window_keeps_its_wall_clock_time(now: str, expected: tuple[str, str, bool]) -> None:
    """Half past two in Berlin is another hour of UTC in summer; nights of the change have their window too."""
    assert shown(SUNDAYS, now) == expected


def test_a_rule_that_has_come_to_its_end_is_forgotten() -> None:
    """COUNT and UNTIL end a series."""
    twice = Window("w", datetime(2026, 1, 1, 0, 0), HOUR, ZoneInfo("UTC"), repeat="FREQ=DAILY;COUNT=2")
    assert shown(twice, "2026-01-02T00:30") == ("2026-01-02T00:00", "2026-01-02T01:00", True)
    assert shown(twice, "2026-01-03T00:59") == ("2026-01-02T00:00", "2026-01-02T01:00", False)
    assert shown(twice, "2026-01-04T00:00") is None


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_far_ends_of_the_world_miss_no_window(zone: str) -> None:
    """Fourteen hours ahead of UTC or eleven behind, a daily window is open once a day."""
    window = Window("w", datetime(2026, 1, 1, 12, 0), HOUR, ZoneInfo(zone), repeat="FREQ=DAILY")
    hours = range(int(utc("2026-02-01T00:30")), int(utc("2026-02-03T00:30")), 3600)
    assert sum(occurrence.active for now in hours for occurrence in Calendar([window]).at(now)) == 2


def test_windows_are_published_with_what_they_cover() -> None:
    """A window of a component has no target, one of everything has neither."""
    windows = (
        Occurrence(ONCE, 100.0, 200.0, active=True),
        Occurrence(
            Window("db", ONCE.start, HOUR, BERLIN, Component.DATABASE, "primary", mute_critical=True),
            300.0,
            400.0,
            active=False,
        ),
    )
    snapshot = Snapshot(0.0, Health.HEALTHY, {}, ())
    body, _ = metrics.Exposition().render(snapshot, windows, AlertState(), Reload(successful=True, timestamp=0.0), "")
    lines = [line for line in body.decode().splitlines() if line.startswith("auraconnect_maintenance_")]
    everything = '{component="",maintenance="upgrade",target=""}'
    database = '{component="database",maintenance="db",target="primary"}'
    assert lines == [
        f"auraconnect_maintenance_start_timestamp_seconds{everything} 100.0",
        f"auraconnect_maintenance_start_timestamp_seconds{database} 300.0",
        f"auraconnect_maintenance_end_timestamp_seconds{everything} 200.0",
        f"auraconnect_maintenance_end_timestamp_seconds{database} 400.0",
        f"auraconnect_maintenance_active{everything} 1.0",
        f"auraconnect_maintenance_active{database} 0.0",
        f"auraconnect_maintenance_mutes_critical{everything} 0.0",
        f"auraconnect_maintenance_mutes_critical{database} 1.0",
    ]


def load(tmp_path: Path, entry: str) -> config.Config:
    path = tmp_path / "exporter.yml"
    path.write_text(f"redis: [{{name: cache, url: 'redis://r'}}]\nmaintenance:\n  - {{{entry}}}\n", encoding="utf-8")
    return config.load(path, {}, "vm-1")


def test_the_file_describes_a_window(tmp_path: Path) -> None:
    """Every setting of an entry reaches the window."""
    entry = (
        "name: w, start: 2026-12-01T22:00, duration: 90m, time_zone: Europe/Berlin, component: redis, target: cache, "
        "repeat: FREQ=MONTHLY;BYDAY=1SU, mute_critical: true"
    )
    assert load(tmp_path, entry).windows == (
        Window(
            "w",
            datetime(2026, 12, 1, 22, 0),
            5400.0,
            BERLIN,
            Component.REDIS,
            "cache",
            "FREQ=MONTHLY;BYDAY=1SU",
            mute_critical=True,
        ),
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("name: w, start: soon, duration: 1h", "start: expected a local date and time such as 2026-12-01T22:00"),
        ("name: w, start: 2026-12-01, duration: 1h", "start: expected a local date and time such as 2026-12-01T22:00"),
        (
            "name: w, start: '2026-12-01T22:00Z', duration: 1h",
            "start: expected a local date and time such as 2026-12-01T22:00",
        ),
        ("name: w, start: 2026-12-01T22:00, duration: 0", "duration: expected more than 0s and at most 30d"),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, time_zone: Mars/Base",
            "time_zone: is not a time zone such as UTC or Europe/Berlin",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, time_zone: ../../etc/passwd",
            "time_zone: is not a time zone such as UTC or Europe/Berlin",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, target: cache",
            "target: needs the component that it belongs to",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, component: api",
            "component: no target of api is watched",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, component: redis, target: other",
            "target: 'other' is not a target of redis",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, repeat: FREQ=SECONDLY",
            "repeat: expected a rule such as FREQ=WEEKLY;BYDAY=SU, daily or more rarely",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, repeat: FREQ=DAILY;BYDAY=XX",
            "repeat: is not a rule as RFC 5545 has them",
        ),
        (
            "name: w, start: 2026-12-01T22:00, duration: 1h, repeat: FREQ=DAILY;BYHOUR=3",
            "repeat: takes its time of day from start",
        ),
        (
            "name: 'a b', start: 2026-12-01T22:00, duration: 1h",
            "name: expected 1 to 64 letters, digits, dots, dashes or underscores",
        ),
    ],
)
def test_a_window_that_cannot_be_is_refused(tmp_path: Path, entry: str, sentence: str) -> None:
    """What is wrong with a window is said in a sentence with its place."""
    with pytest.raises(config.ConfigError) as raised:
        load(tmp_path, entry)
    assert str(raised.value) == f"{tmp_path}/exporter.yml:3: maintenance[0].{sentence}"
