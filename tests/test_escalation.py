"""Where an alert stands on the ladder: who knows, who is told next, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auraconnect_exporter.escalation import DELAYS, RESPONSE_TARGETS, ROLES, Ladder, ladder
from auraconnect_exporter.pack.routing import LEVELS, MATRIX
from auraconnect_exporter.records import SECOND, AlertType, Episode, Identity, Moment, Origin
from tests.pack.files import RULES, load

START = 1_780_000_000 * SECOND


def episode(severity: str = "critical", symptom: str = "availability") -> Episode:
    """Return an alert that began at START and that nobody has acknowledged."""
    return Episode(
        id="e",
        fingerprint="f",
        identity=Identity("DatabaseConnectionLost", severity, "database", "primary"),
        symptom=symptom,
        origin=Origin.RULE,
        alert_type=AlertType.AVAILABILITY,
        title="",
        description="",
        labels={},
        annotations={},
        started_at=START,
        recorded_at=START,
    )


def after(seconds: float) -> Moment:
    return START + round(seconds * SECOND)


def stands(alert: Episode, seconds: float, *, suppressed: bool = False, since: Moment | None = None) -> Ladder:
    return ladder(alert, after(seconds), suppressed=suppressed, since=since, delays={})


@pytest.mark.parametrize(
    ("severity", "seconds", "told", "next_role", "next_at"),
    [
        ("critical", 0, ("on-call engineer",), "lead engineer", 300),
        ("critical", 299, ("on-call engineer",), "lead engineer", 300),
        ("critical", 300, ("on-call engineer", "lead engineer"), "CTO", 900),
        ("critical", 900, ("on-call engineer", "lead engineer", "CTO"), "", None),
        ("warning", 899, ("on-call engineer",), "senior engineer", 900),
        ("warning", 1800, ("on-call engineer", "senior engineer", "engineering manager"), "", None),
        ("info", 3600, ("support team", "on-call engineer"), "team lead", 7200),
    ],
)
def test_each_level_is_told_at_its_time(
    severity: str, seconds: float, told: tuple[str, ...], next_role: str, next_at: float | None
) -> None:
    """Up to its time the one before is the last who knows; at it, the next one knows."""
    found = stands(episode(severity), seconds)
    assert (found.told, found.next_role) == (told, next_role)
    assert found.next_at == (None if next_at is None else after(next_at))


def test_an_acknowledgement_stops_the_ladder_where_it_was() -> None:
    """Who was told by then knows; nobody else will be."""
    acknowledged = replace(episode(), acknowledged_at=after(400))
    found = stands(acknowledged, 5000)
    assert (found.told, found.next_role, found.next_at) == (("on-call engineer", "lead engineer"), "", None)


def test_what_is_kept_from_people_was_told_to_nobody() -> None:
    """No target runs and no clock."""
    assert stands(episode(), 5000, suppressed=True) == Ladder(None, ())


def test_prometheus_says_since_when_the_clock_runs() -> None:
    """Time in which nobody was shown the alert does not count."""
    found = stands(episode(), 400, since=after(350))
    assert (found.told, found.next_at, found.respond_by) == (("on-call engineer",), after(650), after(350))


def test_prometheus_says_how_long_a_level_waits() -> None:
    """A team that has changed its delays sees its own."""
    found = ladder(episode(), START, suppressed=False, since=None, delays={("critical", "secondary"): 60.0})
    assert found.next_at == after(60)


@pytest.mark.parametrize("alert", [episode("none"), episode("info", "maintenance")])
def test_what_does_not_climb_has_no_ladder(alert: Episode) -> None:
    """A reminder of maintenance is nothing to act on, and a misspelt severity nobody's."""
    assert stands(alert, 5000) == Ladder(None, ())


def test_the_roles_are_those_of_the_routes() -> None:
    """What the page says and whom Alertmanager tells is one matrix."""
    said = {
        (severity, level): roles[number].lower().replace("on-call", "oncall").replace(" ", "-")
        for severity, roles in ROLES.items()
        for number, level in enumerate(LEVELS)
    }
    assert said == {key: receiver.rsplit("-", 1)[0] for key, receiver in MATRIX.items()}


def test_the_delays_are_those_of_the_rules() -> None:
    """Without Prometheus the page says what the rules say as they are shipped."""
    recorded = {
        (rule["labels"]["severity"], rule["labels"]["escalation"]): float(rule["expr"].strip("vector()"))
        for group in load(RULES / "thresholds.yml")["groups"]
        for rule in group["rules"]
        if rule["record"] == "auraconnect:escalation_delay:seconds"
    }
    assert recorded == DELAYS


def test_every_severity_has_its_target() -> None:
    """At once, a quarter of an hour, an hour: the procedure's response times."""
    assert RESPONSE_TARGETS == {"critical": 0, "warning": 15 * 60, "info": 60 * 60}
