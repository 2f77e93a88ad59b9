"""The short form of ``make exactly-once``: a process that is killed again and again loses and doubles nothing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.exactly_once import Held, Plan, Senders, Wrong, check, compare, run, said
from tests.store.support import Place


def test_every_firing_once_and_every_acknowledgement_kept(place: Place, tmp_path: Path) -> None:
    """Deliveries that repeat and come out of order, and acknowledgements, while the process gets SIGKILL six times."""
    seed = random.SystemRandom().randrange(1_000_000)
    outcome = run(place, tmp_path, deliveries=600, kills=5, seed=seed)
    assert outcome.deliveries >= 600
    assert outcome.attempts > outcome.deliveries
    assert outcome.acknowledged > 0


GOOD = Held(
    facts={("f1", 10): 20, ("f1", 30): None},
    episodes=[("f1", 10, 20), ("f1", 30, None)],
    acknowledged={"e1": "ada"},
    events=Counter({"e1": 1}),
    audited={"e1"},
)


@pytest.mark.parametrize(
    "held",
    [
        replace(GOOD, facts={("f1", 10): 20}),
        replace(GOOD, facts={("f1", 10): None, ("f1", 30): None}),
        replace(GOOD, acknowledged={}),
        replace(GOOD, acknowledged={"e1": "bob"}),
        replace(GOOD, events=Counter({"e1": 2})),
        replace(GOOD, audited=set()),
    ],
    ids=["a firing", "an end", "an acknowledgement", "its person", "its event", "its entry"],
)
def test_what_is_lost_is_noticed(held: Held) -> None:
    """The check passes what is whole, and nothing from which a part is missing or doubled."""
    taken = [(said(("f1", 10, None)), said(("f1", 10, 20))), (said(("f1", 30, None)),)]
    check(GOOD, taken, {"e1": "ada"})
    with pytest.raises(Wrong):
        check(held, taken, {"e1": "ada"})


@pytest.mark.parametrize(
    "episodes",
    [GOOD.episodes[:1], [*GOOD.episodes, GOOD.episodes[0]], [("f1", 10, 20), ("f1", 30, 40)], [("f1", 10, None)]],
    ids=["one less", "one twice", "another end", "two as one"],
)
def test_another_history_is_noticed(episodes: list[tuple[str, float, float | None]]) -> None:
    """The comparison passes what happened, and nothing else."""
    senders = Senders("", Plan(GOOD.episodes, []), random.Random(0), open=["f1"])  # noqa: S311  # decides nothing
    compare(GOOD, senders)
    with pytest.raises(Wrong):
        compare(replace(GOOD, episodes=episodes), senders)
    with pytest.raises(Wrong):
        compare(GOOD, replace(senders, open=[]))


def test_a_plan_tells_all_that_happens_several_times_and_out_of_order() -> None:
    """Each firing and each end is told, of one alert the later one sometimes first; the same seed is the same plan."""
    plan, again = (Plan.make(random.Random(7), 600) for _ in range(2))  # noqa: S311  # reproducible, not secret
    assert plan == again
    assert len(plan.deliveries) >= 600
    told = [each for reports in plan.deliveries for each in reports]
    assert {(each.fingerprint, each.starts, each.ends) for each in map(said, plan.firings)} <= {
        (each.fingerprint, each.starts, each.ends) for each in told
    }
    starts: dict[str, int] = {}
    backwards = 0
    for each in told:
        backwards += each.starts < starts.get(each.fingerprint, 0)
        starts[each.fingerprint] = each.starts
    assert backwards > 20
    assert len(told) > len({(each.fingerprint, each.starts, each.ends) for each in told}) + 100
