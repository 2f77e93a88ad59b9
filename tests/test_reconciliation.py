"""What was missed is found by comparing, and nothing is over merely because nobody can be asked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from auraconnect_exporter import reconciliation
from auraconnect_exporter.reconciliation import ABSENT, View
from auraconnect_exporter.records import AlertType, Episode, Identity, Origin, Report
from tests.incidents import LABELS, at, report

LOST = Identity("DatabaseConnectionLost", "critical", "database", "primary")


def episode(fingerprint: str = "f1", origin: Origin = Origin.RULE) -> Episode:
    """Return an open episode of the lost database."""
    return Episode(
        id=f"e-{fingerprint}",
        fingerprint=fingerprint,
        identity=LOST,
        symptom="availability",
        origin=origin,
        alert_type=AlertType.AVAILABILITY,
        title="",
        description="",
        labels=LABELS,
        annotations={},
        started_at=at(10),
        recorded_at=at(10),
    )


def view(*reports: Report, complete: bool = True, firing: Collection[Identity] | None = frozenset()) -> View:
    return View({report.fingerprint: report for report in reports}, complete=complete, firing=firing)


@pytest.mark.parametrize(
    ("seen", "gone"),
    [
        (view(), True),
        (view(report(10)), False),
        (view(report(10, fingerprint="f2")), True),
        (view(firing={LOST}), False),
        (view(firing={replace(LOST, target="replica")}), True),
        (view(firing=None), False),
        (view(complete=False), False),
        (view(complete=False, firing=None), False),
    ],
    ids=str,
)
def test_only_what_nobody_knows_of_is_absent(seen: View, gone: bool) -> None:
    """All Alertmanagers must have answered without it, and Prometheus too; whoever can't be asked knows of all."""
    assert reconciliation.absent([episode()], seen) == ({"e-f1"} if gone else frozenset())


@pytest.mark.parametrize(
    ("seen", "over"),
    [
        (view(), True),
        (view(report(10)), False),
        (view(firing={LOST}), False),
        (view(firing=None), False),
        (view(complete=False), False),
    ],
    ids=str,
)
def test_only_what_nobody_knows_of_is_over_though_untold(seen: View, over: bool) -> None:
    """What has paged is judged as an open episode is: whoever can't be asked knows of all."""
    assert reconciliation.untold([report(10)], set(), seen) == ({"f1": report(10)} if over else {})


def test_a_posted_alert_that_is_open_is_not_untold() -> None:
    """Alertmanager may have lost it; we say when it is over."""
    posted = report(10, alert_id="e1")
    assert reconciliation.untold([posted], {"e1"}, view()) == {}
    assert reconciliation.untold([posted], {"e2"}, view()) == {"f1": posted}


def test_a_posted_alert_is_never_absent() -> None:
    """It is ours, whoever has forgotten it."""
    assert reconciliation.absent([episode(origin=Origin.API)], view()) == frozenset()


def test_a_minute_of_absence_is_an_end() -> None:
    """Not a moment less: a message may be under way."""
    absences = {"short": at(0) + 1, "long": at(0)}
    assert reconciliation.over(absences, at(0) + ABSENT) == ["long"]


@pytest.mark.parametrize(
    ("first", "second", "suppressed"), [(False, False, False), (True, False, False), (True, True, True)]
)
def test_suppressed_is_what_no_alertmanager_tells_people_of(first: bool, second: bool, suppressed: bool) -> None:
    """Of several that hold an alert all must suppress it, in whichever order they answer."""
    lists = [[report(10, suppressed=first)], [report(10, suppressed=second)], []]
    for order in (lists, lists[::-1]):
        seen = view(*reconciliation.merged(order).values())
        assert reconciliation.suppressed([episode()], seen) == {"e-f1": suppressed}


def test_of_several_alertmanagers_the_latest_word_counts() -> None:
    """One that was cut off from Prometheus holds an old one."""
    old, new = report(10, updated=20, suppressed=True), report(15, updated=80, suppressed=True)
    assert reconciliation.merged([[old], [new]]) == {"f1": new}
    assert reconciliation.merged([[new], [old]]) == {"f1": new}


def test_nothing_is_said_of_what_no_alertmanager_holds() -> None:
    """Its state stays as it was."""
    assert reconciliation.suppressed([episode("f1"), episode("f2")], view(report(10))) == {"e-f1": False}


def test_a_posted_alert_is_found_by_its_id() -> None:
    """Alertmanager's fingerprint of it is not ours; a rule's alert with such a label is still found by its own."""
    posted = episode("our-id", Origin.API)
    theirs = report(10, fingerprint="f9", suppressed=True, alert_id="our-id")
    assert reconciliation.suppressed([posted], view(theirs)) == {"e-our-id": True}
    assert reconciliation.suppressed([episode("f9")], view(theirs)) == {"e-f9": True}
