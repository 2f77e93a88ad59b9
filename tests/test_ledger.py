"""Each firing is one episode whatever messages come, and people's acts stay, on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from auraconnect_exporter import ledger
from auraconnect_exporter.clients.alertmanager import MAX_VALUE
from auraconnect_exporter.records import AlertType, Episode, Event, EventKind, Origin, Report, Severity
from auraconnect_exporter.store import Store, StoreError
from auraconnect_exporter.store import episodes as table
from auraconnect_exporter.store.transaction import Row, Transaction
from tests.incidents import ADA, BOB, LABELS, Book, at, draft, report, report_of


@pytest.fixture
def book(store: Store) -> Book:
    return Book(store)


def escalation(starts: float, ends: float | None = None, level: str = "secondary", **labels: str) -> Report:
    """Return a report that the lost database was not acknowledged in time."""
    name = f"EscalatedTo{level.title()}"
    source = {"alertname": name, "source_alert": LABELS["alertname"], "escalation": level}
    return report_of(LABELS | source | labels, starts, ends, fingerprint=f"escalation-{level}")


# ── Firings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_firing_becomes_an_episode_with_all_that_was_told(book: Book) -> None:
    """Labels, words, beginning and the moment of hearing are kept, and what was returned is what was stored."""
    (told,) = await book.hear(report(10), now=12)
    episode = await book.only()
    assert episode == told
    assert (episode.identity.alertname, episode.identity.target) == ("DatabaseConnectionLost", "primary")
    assert (episode.alert_type, episode.symptom, episode.origin) == (AlertType.AVAILABILITY, "availability", "rule")
    assert (episode.title, episode.description) == ("Primary is gone", "It doesn't answer.")
    assert episode.labels == LABELS
    assert (episode.started_at, episode.recorded_at, episode.ended_at) == (at(10), at(12), None)
    assert await book.timeline(episode) == [Event(episode.id, at(10), EventKind.FIRED, "webhook")]


async def test_a_resolve_ends_it(book: Book) -> None:
    """The end is the one that Alertmanager told, without a person's name."""
    await book.hear(report(10))
    (ended,) = await book.hear(report(10, 70))
    assert (ended.ended_at, ended.ended_by, ended.forced) == (at(70), "", False)
    assert await book.events(ended) == [("fired", 10), ("resolved", 70)]


async def test_the_same_delivery_again_changes_nothing(book: Book) -> None:
    """Neither episodes nor events grow, however often firing and resolved are repeated."""
    for message in (report(10), report(10), report(10, 70), report(10, 70), report(10)):
        await book.hear(message)
    assert await book.hear(report(10), report(10, 70)) == []
    assert await book.times() == [(10, 70)]
    assert await book.events(await book.only()) == [("fired", 10), ("resolved", 70)]


async def test_a_late_firing_does_not_reopen(book: Book) -> None:
    """A firing message that is older than the end, of the same beginning or of one in between, opens nothing."""
    await book.hear(report(10, 70))
    await book.hear(report(10))
    await book.hear(report(40))
    assert await book.times() == [(10, 70)]


async def test_every_order_shows_the_same_history(book: Book) -> None:
    """Three firings, told in any order and several times, are three episodes with their own ends."""
    messages = [report(10), report(10, 20), report(30), report(30, 40), report(50)] * 2
    shuffler = random.Random(4)  # noqa: S311  # any order will do
    for round_ in range(8):
        shuffler.shuffle(messages)
        for message in messages:
            await book.hear(replace(message, fingerprint=f"f{round_}"))
    assert await book.times() == [(10, 20)] * 8 + [(30, 40)] * 8 + [(50, None)] * 8


async def test_an_earlier_beginning_moves_the_episode_back(book: Book) -> None:
    """Where Alertmanager moves `startsAt` back, the episode stays the same and the timeline says so."""
    (first,) = await book.hear(report(30))
    (moved,) = await book.hear(report(10))
    assert (moved.id, moved.started_at) == (first.id, at(10))
    assert await book.events(moved) == [("fired", 10), ("fired", 30)]
    await book.hear(report(10, 70))
    assert await book.times() == [(10, 70)]


async def test_what_joins_episodes_leaves_none_open(book: Book) -> None:
    """A late report that spans a closed episode and the open one, heard of before it, ends the open one."""
    await book.hear(report(20))
    await book.hear(report(10, 15))
    await book.hear(report(8, 25))
    assert await book.times() == [(8, 25), (10, 15)]
    await book.hear(report(30))
    assert await book.times() == [(8, 25), (10, 15), (30, None)]


async def test_one_identity_can_have_several_fingerprints(book: Book) -> None:
    """Two fingerprints of one alert are two episodes, each with its own end."""
    await book.hear(report(10, fingerprint="f1"), report(20, fingerprint="f2", replica="b"))
    await book.hear(report(20, 30, fingerprint="f2", replica="b"))
    first, second = await book.episodes()
    assert first.identity == second.identity
    assert await book.times() == [(10, None), (20, 30)]


async def test_at_most_one_episode_of_a_fingerprint_is_open(book: Book) -> None:
    """The store itself refuses a second open one."""
    (episode,) = await book.hear(report(10))

    def second(transaction: Transaction) -> None:
        transaction.execute(
            "INSERT INTO episodes (id, fingerprint, alertname, severity, component, target, symptom, origin, "
            "alert_type, title, description, labels, annotations, started_at, recorded_at) "
            "SELECT 'another', fingerprint, alertname, severity, component, target, symptom, origin, "
            "alert_type, title, description, labels, annotations, started_at, recorded_at FROM episodes WHERE id = ?",
            (episode.id,),
        )

    with pytest.raises(StoreError):
        await book.act(second)
    assert await book.times() == [(10, None)]


async def test_what_is_for_nobody_is_no_episode(book: Book) -> None:
    """The watchdog and what mutes during maintenance have severity none."""
    assert await book.hear(report(10, severity="none", alertname="Watchdog")) == []
    assert await book.episodes() == []


async def test_a_misspelt_severity_is_kept(book: Book) -> None:
    """An alert whose severity we don't know is one all the same."""
    await book.hear(report(10, severity="crtical"))
    assert (await book.only()).identity.severity == "crtical"


async def test_labels_of_any_length_are_kept(book: Book) -> None:
    """The longest labels that a delivery may have fit into no index, yet stay whole, and different ones different."""
    letters = random.Random(4)  # noqa: S311  # nothing that could be compressed
    long = {name: "".join(letters.choices(string.ascii_letters + "äß€😀", k=MAX_VALUE)) for name in LABELS}
    await book.hear(report_of(long, 10, fingerprint="f1"))
    await book.hear(report_of({**long, "target": long["target"][:-1]}, 10, fingerprint="f2"))
    one, other = await book.episodes()
    assert {one.labels["target"], other.labels["target"]} == {long["target"], long["target"][:-1]}
    assert one.identity.target != other.identity.target
    assert one.identity.alertname == other.identity.alertname
    assert one.identity.alertname[:100] == long["alertname"][:100]


async def test_an_alert_that_flaps_for_weeks_stays_true(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more facts than are read at once, each firing is its own episode; what is older still changes nothing."""
    monkeypatch.setattr(table, "FACTS_READ", 10)
    for number in range(40):
        await book.hear(report(100 * number))
        await book.hear(report(100 * number, 100 * number + 50), report(100 * number))
    whole = [(100 * number, 100 * number + 50) for number in range(40)]
    assert await book.times() == whole
    for message in (report(0), report(0, 50), report(20), report(75), report(75, 90)):
        assert await book.hear(message) == []
    assert await book.times() == whole
    (changed,) = await book.hear(report(3950))
    assert changed.is_open


async def test_a_message_about_what_flaps_costs_no_more_than_any(book: Book) -> None:
    """After three hundred firings a new one still needs a handful of statements."""

    class Counting:
        def __init__(self, transaction: Transaction) -> None:
            self._transaction = transaction
            self.statements = 0

        def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
            self.statements += 1
            return self._transaction.execute(sql, parameters)

    def statements(transaction: Transaction, told: Report) -> int:
        counting = Counting(transaction)
        ledger.record(counting, [told], at(100_000), "webhook")
        return counting.statements

    first = await book.act(statements, report(0))
    await book.hear(*(report(100 * number, 100 * number + 50) for number in range(300)))
    assert await book.act(statements, report(30_000)) == first
    assert first < 10


async def test_a_beginning_that_moves_for_weeks_stays_one_episode(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every restart of Prometheus tells another beginning, it keeps its first one, and ends."""
    monkeypatch.setattr(table, "FACTS_READ", 10)
    for number in range(30):
        await book.hear(report(100 * number))
    assert await book.times() == [(0, None)]
    await book.hear(report(2950, 3000))
    assert await book.times() == [(0, 3000)]


# ── Ends that are doubted ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_forced_end_is_reopened_by_the_next_firing(book: Book) -> None:
    """Who ends what still fires hears of it: the same episode opens again, as an event."""
    (episode,) = await book.hear(report(10))
    forced = await book.act(ledger.resolve, episode.id, ADA, at(60), force=True)
    assert (forced.ended_at, forced.ended_by, forced.forced) == (at(60), "ada", True)
    (again,) = await book.hear(report(10), now=90)
    assert (again.id, again.ended_at, again.ended_by, again.forced) == (episode.id, None, "", False)
    assert await book.events(again) == [("fired", 10), ("resolved", 60), ("reopened", 90)]
    await book.hear(report(10, 120))
    assert await book.times() == [(10, 120)]


async def test_a_forced_end_is_reopened_by_a_firing_that_began_before(book: Book) -> None:
    """The beginning may have moved, in whichever direction."""
    for number, starts in enumerate((5, 40)):
        (episode,) = await book.hear(report(10, fingerprint=f"f{number}"))
        await book.act(ledger.resolve, episode.id, ADA, at(60), force=True)
        await book.hear(report(starts, fingerprint=f"f{number}"))
    assert await book.times() == [(5, None), (10, None)]


async def test_a_forced_end_that_was_right_stays(book: Book) -> None:
    """Once Alertmanager has told that it is over, a late firing reopens nothing, and the end is the person's."""
    (episode,) = await book.hear(report(10))
    await book.act(ledger.resolve, episode.id, ADA, at(60), force=True)
    (confirmed,) = await book.hear(report(10, 58))
    assert (confirmed.ended_at, confirmed.ended_by, confirmed.forced) == (at(60), "ada", False)
    assert await book.hear(report(10)) == []
    assert await book.times() == [(10, 60)]


async def test_a_persons_end_stays_the_end(book: Book) -> None:
    """That Alertmanager tells a later one, of a beginning that has moved, changes nothing but the doubt."""
    (episode,) = await book.hear(report(10))
    await book.act(ledger.resolve, episode.id, ADA, at(60), force=True)
    await book.hear(report(40, 90))
    after = await book.only()
    assert (after.ended_at, after.ended_by, after.forced) == (at(60), "ada", False)


async def test_what_alertmanager_hears_after_an_end_reopens_it(book: Book) -> None:
    """Alertmanager ends what nobody repeats; its list, updated later than that end, knows better."""
    await book.hear(report(10, 300))
    assert await book.hear(report(10, updated=299), source="reconciler") == []
    (again,) = await book.hear(report(10, updated=360), now=370, source="reconciler")
    assert again.ended_at is None
    assert await book.events(again) == [("fired", 10), ("resolved", 300), ("reopened", 370)]


async def test_an_end_that_no_message_told_is_noted(book: Book) -> None:
    """The reconciler's end is an event of its own; closing again, or what is unknown, changes nothing."""
    (episode,) = await book.hear(report(10))
    (closed,) = await book.act(ledger.close, [episode.id, "unknown"], at(500), "reconciler")
    assert closed.ended_at == at(500)
    assert await book.act(ledger.close, [episode.id], at(600), "reconciler") == []
    assert (await book.timeline(episode))[-1] == Event(episode.id, at(500), EventKind.RESOLVED, "reconciler")
    await book.hear(report(10))
    assert await book.times() == [(10, 500)]


# ── Inheritance ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fingerprint", ["f1", "f2"])
async def test_what_fires_again_soon_is_acknowledged_already(book: Book, fingerprint: str) -> None:
    """Within five minutes the acknowledgement passes on, to another fingerprint of the alert as well."""
    (first,) = await book.hear(report(10))
    await book.act(ledger.acknowledge, first.id, ADA, at(20))
    await book.hear(report(10, 100))
    (again,) = await book.hear(report(400, fingerprint=fingerprint), now=401)
    assert (again.id != first.id, again.acknowledged_by, again.acknowledged_at) == (True, "ada", at(401))
    event = (await book.timeline(again))[-1]
    assert (event.kind, event.actor, event.detail.split(":")[0]) == (EventKind.ACKNOWLEDGED, "ada", "inherited")


async def test_what_fires_again_later_is_not_acknowledged(book: Book) -> None:
    """After five minutes it is new, and so is another target's alert at once."""
    (first,) = await book.hear(report(10))
    await book.act(ledger.acknowledge, first.id, ADA, at(20))
    await book.hear(report(10, 100))
    (late,) = await book.hear(report(401))
    (other,) = await book.hear(report(110, fingerprint="f2", target="replica"))
    assert (late.acknowledged_at, other.acknowledged_at) == (None, None)


async def test_an_acknowledgement_reaches_what_turns_out_to_be_a_second_firing(book: Book) -> None:
    """Where the first end comes late, both firings keep the acknowledgement that was given for what was seen as one."""
    (first,) = await book.hear(report(10))
    await book.hear(report(1000))
    await book.act(ledger.acknowledge, first.id, ADA, at(1010))
    await book.hear(report(10, 15))
    assert await book.times() == [(10, 15), (1000, None)]
    assert [episode.acknowledged_by for episode in await book.episodes()] == ["ada", "ada"]


# ── Escalations ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_escalations_are_events_of_their_source(book: Book) -> None:
    """Each level is noted once with its beginning and end, whatever is repeated, and is no episode."""
    deliveries = [
        [escalation(310), report(10)],
        [escalation(910, level="manager"), escalation(310)],
        [escalation(310, 950), escalation(910, 950, level="manager")],
    ]
    for delivery in [*deliveries, *deliveries[::-1]]:
        await book.hear(*delivery)
    assert [(event.kind, event.at, event.detail) for event in await book.timeline(await book.only())] == [
        (EventKind.FIRED, at(10), ""),
        (EventKind.ESCALATED, at(310), "secondary"),
        (EventKind.ESCALATED, at(910), "manager"),
        (EventKind.ESCALATION_OVER, at(950), "secondary"),
        (EventKind.ESCALATION_OVER, at(950), "manager"),
    ]


@pytest.mark.parametrize("again", [312, 305])
async def test_an_escalation_that_begins_anew_while_it_goes_on_is_the_same(book: Book, again: float) -> None:
    """Prometheus and Alertmanager were restarted in between: the level is noted once, and so is its end."""
    await book.hear(report(10), escalation(310))
    await book.hear(escalation(again))
    await book.hear(escalation(again, 950))
    await book.hear(escalation(310, 950))
    events = await book.events(await book.only())
    assert events == [("fired", 10), ("escalated", 310), ("escalation_over", 950)]


async def test_an_escalation_whose_end_was_never_told_hides_no_later_one(book: Book) -> None:
    """Of the next episode, and after an end of the same one, a level is noted anew."""
    await book.hear(report(10, 400), report(2000))
    await book.hear(escalation(310))
    await book.hear(escalation(2310))
    await book.hear(escalation(2310, 2400))
    await book.hear(escalation(2500))
    first, second = await book.episodes()
    assert await book.events(first) == [("fired", 10), ("escalated", 310), ("resolved", 400)]
    assert await book.events(second) == [
        ("fired", 2000),
        ("escalated", 2310),
        ("escalation_over", 2400),
        ("escalated", 2500),
    ]


async def test_an_escalation_belongs_to_the_episode_of_its_time(book: Book) -> None:
    """One that comes late is noted on the episode that it was about, not on the one that is open now."""
    await book.hear(report(10, 400), report(2000))
    await book.hear(escalation(310))
    first, second = await book.episodes()
    assert await book.events(first) == [("fired", 10), ("escalated", 310), ("resolved", 400)]
    assert await book.events(second) == [("fired", 2000)]


async def test_an_escalation_waits_for_its_source(book: Book) -> None:
    """While its source is unknown it is left; told again afterwards, it is noted."""
    await book.hear(escalation(310))
    assert await book.episodes() == []
    await book.hear(report(10))
    await book.hear(escalation(310))
    assert await book.events(await book.only()) == [("fired", 10), ("escalated", 310)]


async def test_an_escalation_of_something_else_is_not_noted(book: Book) -> None:
    """Severity, component and target must be the source's."""
    await book.hear(report(10))
    await book.hear(escalation(310, target="replica"))
    assert await book.events(await book.only()) == [("fired", 10)]


# ── Suppression ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_suppression_is_noted_where_it_changes(book: Book) -> None:
    """Repeating a state adds nothing; what is over or unknown has none."""
    (episode,) = await book.hear(report(10))
    (over,) = await book.hear(report(10, 20, fingerprint="f2", target="replica"))
    for now, state in enumerate((False, True, True, False, True), start=30):
        await book.act(ledger.mark_suppressed, {episode.id: state, over.id: True, "unknown": True}, at(now))
    assert await book.events(episode) == [("fired", 10), ("suppressed", 31), ("unsuppressed", 33), ("suppressed", 34)]
    assert await book.events(over) == [("fired", 10), ("resolved", 20)]
    assert await book.act(table.suppressed) == {episode.id}


# ── Posted alerts ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_posted_alert_is_an_episode_of_ours(book: Book) -> None:
    """Its title is its name, its id goes along as a label, and the audit log says who posted it from where."""
    posted = await book.act(ledger.post, draft(target="queue1", metadata={"order": 7}), ADA, at(10))
    assert posted == await book.only()
    assert posted.labels == {
        "alertname": "Orders wait",
        "severity": "warning",
        "component": "workers",
        "target": "queue1",
        "symptom": "latency",
        "alert_id": posted.id,
    }
    assert (posted.origin, posted.fingerprint, posted.metadata) == (Origin.API, posted.id, {"order": 7})
    assert await book.timeline(posted) == [Event(posted.id, at(10), EventKind.FIRED, "ada")]
    assert await book.audit() == [ADA.did(at(10), "alert.post", posted.id)]


async def test_a_posted_alert_gets_a_place_in_the_rules_names(book: Book) -> None:
    """An unknown component becomes `other`, a long title is cut, no target is no label, the whole is kept beside."""
    posted = await book.act(ledger.post, draft(component="billing", title="x" * 200), ADA, at(10))
    assert (posted.labels["component"], posted.labels["alertname"]) == ("other", "x" * 128)
    assert (posted.annotations["component"], posted.title) == ("billing", "x" * 200)
    assert "target" not in posted.labels
    assert (posted.identity.component, posted.identity.target) == ("other", "")


@pytest.mark.parametrize(
    ("alert_type", "severity", "name"),
    [
        (AlertType.SECURITY, Severity.CRITICAL, "SecurityBreachDetected"),
        (AlertType.SECURITY, Severity.WARNING, "Orders wait"),
        (AlertType.RESOURCE, Severity.CRITICAL, "Orders wait"),
    ],
)
async def test_a_critical_security_alert_becomes_a_breach(
    book: Book, alert_type: AlertType, severity: Severity, name: str
) -> None:
    """So that the rules' routes and runbook hold for it."""
    posted = await book.act(ledger.post, draft(alert_type=alert_type, severity=severity), ADA, at(10))
    assert (posted.identity.alertname, posted.title) == (name, "Orders wait")


async def test_two_hundred_posted_alerts_are_enough(book: Book) -> None:
    """The next is refused, alerts of rules don't count, and one that is resolved makes room."""
    await book.hear(report(10))

    def fill(transaction: Transaction) -> list[Episode]:
        return [ledger.post(transaction, draft(title=f"{number}"), ADA, at(10)) for number in range(200)]

    first, *_ = await book.act(fill)
    with pytest.raises(ledger.TooManyOpen):
        await book.act(ledger.post, draft(), ADA, at(10))
    await book.act(ledger.resolve, first.id, ADA, at(20), force=False)
    await book.act(ledger.post, draft(), ADA, at(30))
    assert await book.act(table.count_open_posted) == 200


async def test_what_alertmanager_says_of_a_posted_alert_is_ignored(book: Book) -> None:
    """It has it from us: neither a firing nor an end of it makes or changes an episode."""
    posted = await book.act(ledger.post, draft(), ADA, at(10))
    for message in (report_of(posted.labels, 10), report_of(posted.labels, 10, 60)):
        assert await book.hear(message) == []
    assert await book.only() == posted
    await book.act(ledger.resolve, posted.id, ADA, at(70), force=False)
    await book.hear(replace(report_of(posted.labels, 10), updated=at(100)))
    assert await book.times() == [(10, 70)]


async def test_the_end_of_a_posted_alert_waits_to_be_told(book: Book) -> None:
    """Whatever people do to it after, until it is told; of a rule's alert there is nothing to tell."""
    posted = await book.act(ledger.post, draft(), ADA, at(10))
    (fired,) = await book.hear(report(10))
    assert await book.act(table.untold) == []
    await book.act(ledger.resolve, posted.id, ADA, at(20), force=False)
    await book.act(ledger.resolve, fired.id, ADA, at(20), force=True)
    acknowledged = await book.act(ledger.acknowledge, posted.id, BOB, at(30))
    assert await book.act(table.untold) == [acknowledged]
    await book.act(table.set_told, [posted.id], told=True)
    assert await book.act(table.untold) == []


async def test_a_posted_alert_inherits_as_well(book: Book) -> None:
    """Posted again within five minutes of its end, it is acknowledged already."""
    first = await book.act(ledger.post, draft(), ADA, at(10))
    await book.act(ledger.acknowledge, first.id, BOB, at(20))
    await book.act(ledger.resolve, first.id, BOB, at(30), force=False)
    again = await book.act(ledger.post, draft(), ADA, at(330))
    late = await book.act(ledger.post, draft(target="elsewhere"), ADA, at(330))
    assert (again.acknowledged_by, late.acknowledged_by) == ("bob", "")


# ── Pages in PagerDuty ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_acknowledging_a_page_acknowledges_what_it_is_about(book: Book) -> None:
    """Its alerts, a posted one, and the source of its escalation, once each; not what it never named or is over."""
    posted = await book.act(ledger.post, draft(), ADA, at(10))
    reports = [
        report(10, fingerprint="f1"),
        report(10, fingerprint="f2", target="replica"),
        report(10, fingerprint="f3", target="backup"),
        report(10, fingerprint="f4", target="other"),
    ]
    await book.hear(*reports)
    paged = [reports[0], report_of(posted.labels, 10, fingerprint="f9"), escalation(310, target="replica"), reports[2]]
    for _ in range(2):
        await book.act(ledger.note_page, "key", paged, at(20))
    await book.hear(report(10, 60, fingerprint="f3", target="backup"))
    acknowledged = await book.act(ledger.acknowledge_page, "key", BOB, at(400))
    assert sorted(each.identity.target for each in acknowledged) == ["", "primary", "replica"]
    by = {each.identity.target: each.acknowledged_by for each in await book.episodes()}
    assert by == {"": "bob", "primary": "bob", "replica": "bob", "backup": "", "other": ""}
    assert await book.act(ledger.acknowledge_page, "unknown", BOB, at(400)) == []


# ── What people do ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_to_acknowledge_stays(book: Book) -> None:
    """A second one, or the same again, changes nothing but the audit log, which names both and from where."""
    (episode,) = await book.hear(report(10))
    first = await book.act(ledger.acknowledge, episode.id, ADA, at(20))
    second = await book.act(ledger.acknowledge, episode.id, BOB, at(30))
    assert first == second
    assert (second.acknowledged_by, second.acknowledged_at) == ("ada", at(20))
    assert await book.events(episode) == [("fired", 10), ("acknowledged", 20)]
    assert [(entry.actor, entry.address, entry.at, entry.outcome) for entry in await book.audit()] == [
        ("ada", "192.0.2.1", at(20), "done"),
        ("bob", "192.0.2.2", at(30), "already by ada"),
    ]


async def test_what_still_fires_is_not_resolved_without_force(book: Book) -> None:
    """It is refused, and nothing changes; with force it is done, and the audit log says so."""
    (episode,) = await book.hear(report(10))
    with pytest.raises(ledger.StillFiring, match="force"):
        await book.act(ledger.resolve, episode.id, ADA, at(20), force=False)
    assert await book.only() == episode
    assert await book.audit() == []
    await book.act(ledger.resolve, episode.id, ADA, at(30), force=True)
    assert await book.audit() == [ADA.did(at(30), "alert.resolve", episode.id, "forced")]


async def test_the_first_to_resolve_stays(book: Book) -> None:
    """Resolving again is no failure, and changes nothing but the audit log."""
    posted = await book.act(ledger.post, draft(), ADA, at(10))
    first = await book.act(ledger.resolve, posted.id, ADA, at(20), force=False)
    second = await book.act(ledger.resolve, posted.id, BOB, at(30), force=True)
    assert first == second
    assert (second.ended_by, second.ended_at, second.forced) == ("ada", at(20), False)
    assert await book.events(posted) == [("fired", 10), ("resolved", 20)]
    assert [(entry.actor, entry.outcome) for entry in await book.audit()][1:] == [
        ("ada", "done"),
        ("bob", "already over"),
    ]


async def test_notes_are_kept_in_order(book: Book) -> None:
    """What people write is in the timeline, during and after, with their names, and in the audit log."""
    (episode,) = await book.hear(report(10))
    await book.act(ledger.note, episode.id, ADA, at(20), "Restarting it")
    await book.hear(report(10, 30))
    await book.act(ledger.note, episode.id, BOB, at(40), "It was the disk")
    notes = [event for event in await book.timeline(episode) if event.kind is EventKind.NOTE]
    assert [(note.actor, note.detail) for note in notes] == [("ada", "Restarting it"), ("bob", "It was the disk")]
    assert [entry.action for entry in await book.audit()] == ["alert.note", "alert.note"]


async def test_nobody_can_act_on_an_unknown_alert(book: Book) -> None:
    """Each act says so, and leaves no trace."""
    with pytest.raises(ledger.UnknownAlert):
        await book.act(ledger.acknowledge, "unknown", ADA, at(10))
    with pytest.raises(ledger.UnknownAlert):
        await book.act(ledger.resolve, "unknown", ADA, at(10), force=True)
    with pytest.raises(ledger.UnknownAlert):
        await book.act(ledger.note, "unknown", ADA, at(10), "?")
    assert (await book.episodes(), await book.audit()) == ([], [])


async def test_alerts_are_listed_newest_first(book: Book) -> None:
    """Filtered by state and by severity, and not more than asked for."""
    await book.hear(report(10, 15, fingerprint="a"), report(20, fingerprint="b"), report(30, 35, fingerprint="c"))
    await book.hear(report(40, fingerprint="d", severity="warning"))

    async def names(limit: int = 10, severity: str | None = None, *, resolved: bool | None = None) -> str:
        found = await book.act(table.listed, resolved=resolved, severity=severity, limit=limit)
        return "".join(episode.fingerprint for episode in found)

    assert [await names(), await names(2), await names(resolved=True), await names(resolved=False)] == [
        "dcba",
        "dc",
        "ca",
        "db",
    ]
    assert [await names(severity="warning"), await names(severity="critical", resolved=False)] == ["d", "b"]
