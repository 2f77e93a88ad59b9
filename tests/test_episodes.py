"""Episodes are a function of a set of facts: no order and no repetition of messages changes them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import count, pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter import episodes
from auraconnect_exporter.records import SECOND, AlertType, Episode, Firing, Identity, Moment, Origin

Message = tuple[Moment, Moment | None]


class Fingerprint:
    """The facts of one fingerprint, fed message by message as the ledger does."""

    def __init__(self) -> None:
        self.facts: tuple[Firing, ...] = ()
        self._ids = count(1)
        self.shown: dict[str, tuple[Moment, Moment | None]] = {}

    def hear(self, starts: Moment, ends: Moment | None = None) -> None:
        """Take in one message."""
        learnt = episodes.learn(self.facts, starts, ends)
        if learnt is None:
            return
        assigned = episodes.assign(learnt, lambda: f"e{next(self._ids)}")
        facts = []
        for one in assigned:
            self.shown[one.episode] = (one.span.started, one.span.ended)
            facts += [Firing(each.starts, each.ends, each.sequence, one.episode) for each in one.span.firings]
        self.facts = tuple(facts)

    def times(self) -> list[tuple[Moment, Moment | None]]:
        """Return the beginning and end of each episode, in the order of time."""
        return sorted(self.shown.values(), key=lambda times: times[0])


def heard(messages: Iterable[Message]) -> Fingerprint:
    fingerprint = Fingerprint()
    for message in messages:
        fingerprint.hear(*message)
    return fingerprint


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Message], list[Message]]:
    """Return what really happened, and the messages about it: each at least once, in any order."""
    steps = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6))
    real: list[Message] = []
    now = 0
    for length, pause in steps:
        real.append((now, now + length))
        now += length + pause
    if draw(st.booleans()):
        real[-1] = (real[-1][0], None)
    messages: list[Message] = []
    for starts, ends in real:
        messages += [(starts, None)] * draw(st.integers(1, 3))
        if ends is not None:
            messages += [(starts, ends)] * draw(st.integers(1, 3))
    return real, draw(st.permutations(messages))


@given(histories())
def test_any_order_and_repetition_shows_each_firing_once(history: tuple[list[Message], list[Message]]) -> None:
    """However deliveries arrive, in the end each firing is one episode with its own beginning and end."""
    real, messages = history
    assert heard(messages).times() == real


@given(histories())
def test_at_most_the_last_is_open_after_every_message(history: tuple[list[Message], list[Message]]) -> None:
    """At no moment are two episodes of one fingerprint open, nor do two overlap."""
    _, messages = history
    fingerprint = Fingerprint()
    for message in messages:
        fingerprint.hear(*message)
        times = fingerprint.times()
        for (_, ended), (started, _) in pairwise(times):
            assert ended is not None
            assert ended <= started


@given(histories(), st.randoms(use_true_random=False))
def test_hearing_everything_again_changes_nothing(
    history: tuple[list[Message], list[Message]], shuffler: random.Random
) -> None:
    """Once all is known, repetitions leave the facts as they are."""
    real, messages = history
    fingerprint = heard(messages)
    facts = fingerprint.facts
    shuffler.shuffle(messages)
    for message in messages:
        fingerprint.hear(*message)
    assert (fingerprint.facts, fingerprint.times()) == (facts, real)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_beginning_that_moves_back_stays_one_episode(order: Sequence[int]) -> None:
    """Alertmanager tells 20, later 10, then the end of what began at 10: one episode from 10 on, in any order."""
    messages: list[Message] = [(20, None), (10, None), (10, 30)]
    assert heard(messages[index] for index in order).times() == [(10, 30)]


def test_a_beginning_that_moves_forward_stays_one_episode() -> None:
    """A Prometheus that lost its state tells a later beginning; what is open stays open as it is."""
    fingerprint = heard([(10, None), (20, None)])
    assert fingerprint.times() == [(10, None)]
    fingerprint.hear(20, 30)
    assert fingerprint.times() == [(10, 30)]


def test_a_late_end_parts_what_seemed_to_be_one() -> None:
    """The end of the first firing comes after the second began: the open episode keeps the first, a new one opens."""
    fingerprint = heard([(10, None), (20, None), (10, 15)])
    assert fingerprint.shown == {"e1": (10, 15), "e2": (20, None)}


def test_an_episode_stays_with_the_firing_it_was_opened_for() -> None:
    """A late message about an earlier firing becomes an episode of its own, not that of the later one."""
    fingerprint = heard([(20, None), (10, None), (10, 15)])
    assert fingerprint.shown == {"e1": (20, None), "e2": (10, 15)}


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([(10, 12), (20, None), (8, 25)], {"e1": (10, 12), "e2": (8, 25)}),
        ([(20, None), (10, 12), (8, 25)], {"e1": (8, 25), "e2": (10, 12)}),
    ],
)
def test_what_joins_two_episodes_belongs_to_the_one_that_began_last(
    messages: Sequence[Message], shown: dict[str, tuple[Moment, Moment | None]]
) -> None:
    """A report that spans a closed and the open episode ends the open one; the closed one stays as it was told."""
    assert heard(messages).shown == shown


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(0, 10)), max_size=12))
def test_whatever_is_told_one_episode_at_most_stays_open(told: Sequence[tuple[int, int | None]]) -> None:
    """Even of messages that contradict each other none leaves an open episode behind that nothing would end."""
    fingerprint = Fingerprint()
    for starts, length in told:
        fingerprint.hear(starts, None if length is None else starts + length)
        open_ = [started for started, ended in fingerprint.times() if ended is None]
        assert len(open_) <= 1
        assert open_ == [span.started for span in episodes.spans(fingerprint.facts) if span.ended is None]


def test_long_labels_are_cut_but_stay_different() -> None:
    """Each part of an identity fits into an index, in bytes, and ends with a digest of the whole."""
    long = ["€" * 300, "€" * 299 + "$", "€" * 10]
    parts = [episodes.identity({"alertname": text}).alertname for text in long]
    assert len(set(parts)) == 3
    assert max(len(part.encode()) for part in parts) <= episodes.IDENTITY_BYTES
    assert parts[2] == long[2]


def test_a_late_firing_does_not_open_what_is_over() -> None:
    """A firing message that is older than the end changes nothing."""
    assert heard([(10, 15), (10, None)]).times() == [(10, 15)]
    assert heard([(10, 15), (12, None)]).times() == [(10, 15)]


def test_only_the_last_episode_can_be_reopened() -> None:
    """The facts of the last one lose their ends; an earlier one stays over."""
    facts = heard([(10, 15), (20, 25)]).facts
    again = episodes.reopen(facts, "e2")
    assert again is not None
    assert [(each.starts, each.ends) for each in again] == [(10, 15), (20, None)]
    assert episodes.reopen(facts, "e1") is None


def ended(at: Moment | None, acknowledged: Moment | None) -> Episode:
    return Episode(
        id="e1",
        fingerprint="f",
        identity=Identity("A", "critical", "database", "db1"),
        symptom="availability",
        origin=Origin.RULE,
        alert_type=AlertType.AVAILABILITY,
        title="",
        description="",
        labels={},
        annotations={},
        started_at=0,
        recorded_at=0,
        ended_at=at,
        acknowledged_at=acknowledged,
    )


@pytest.mark.parametrize(
    ("previous", "started", "inherited"),
    [
        (None, 400, False),
        (ended(100 * SECOND, None), 101 * SECOND, False),
        (ended(100 * SECOND, 50 * SECOND), 400 * SECOND, True),
        (ended(100 * SECOND, 50 * SECOND), 400 * SECOND + 1, False),
        (ended(100 * SECOND, 900 * SECOND), 900 * SECOND, True),
        (ended(None, 50 * SECOND), 60 * SECOND, False),
    ],
)
def test_an_acknowledgement_is_inherited_for_five_minutes(
    previous: Episode | None, started: Moment, inherited: bool
) -> None:
    """So is one that was given after the new beginning, before anyone knew that there were two."""
    assert episodes.inherits(previous, started) is inherited


def test_an_escalation_names_its_source() -> None:
    """Severity, component and target are the source's, its name stands in `source_alert`."""
    labels = {
        "alertname": "EscalatedToManager",
        "source_alert": "SystemDown",
        "severity": "critical",
        "component": "api",
        "escalation": "manager",
    }
    assert episodes.source_of_escalation(labels) == Identity("SystemDown", "critical", "api", "")
    assert episodes.source_of_escalation({**labels, "escalation": ""}) is None


@pytest.mark.parametrize(
    ("symptom", "type_"),
    [("errors", "error_rate"), ("latency", "performance"), ("saturation", "resource"), ("monitoring", "availability")],
)
def test_symptoms_have_a_word_of_the_health_api(symptom: str, type_: str) -> None:
    """What the health API has no word for counts as availability."""
    assert episodes.alert_type(symptom) == type_
