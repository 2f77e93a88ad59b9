"""Who lives, who went, and who fell silent: from the heartbeats alone, with a clock of the test's."""

from __future__ import annotations

from auraconnect_exporter.probes.celery_workers import (
    HEARTBEAT_SECONDS,
    HEARTBEAT_WINDOW_SECONDS,
    Heartbeat,
    Roll,
)
from auraconnect_exporter.probes.worker_metrics import MAX_WORKERS
from tests.builders import FakeClock

ONE = Heartbeat("one@here", active=1, processed=5, pid=10)


def heard(clock: FakeClock) -> Roll:
    """Return a roll with one worker."""
    roll = Roll(clock.monotonic)
    roll.hear(ONE, leaves=False)
    return roll


def test_a_worker_that_falls_silent_is_lost_after_the_window() -> None:
    """It lives for ten seconds more; it may have taken jobs until its next heartbeat was due."""
    clock = FakeClock()
    died = clock.monotonic() + HEARTBEAT_SECONDS
    roll = heard(clock)
    clock.advance(HEARTBEAT_WINDOW_SECONDS)
    assert (roll.alive(), roll.lost_since(0.0)) == ([ONE], None)
    clock.advance(1)
    assert (roll.alive(), roll.lost_since(0.0)) == ([], ("one@here", died))


def test_a_worker_that_says_that_it_stops_is_not_lost() -> None:
    """It counts as there for the window, so that a restart is no outage; no job is missed of it."""
    clock = FakeClock()
    roll = heard(clock)
    roll.hear(ONE, leaves=True)
    assert roll.alive() == [ONE]
    clock.advance(HEARTBEAT_WINDOW_SECONDS + 1)
    assert (roll.alive(), roll.lost_since(0.0)) == ([], None)


def test_a_worker_that_was_killed_and_started_again_is_two() -> None:
    """The new process lives under the name of the one that died; one that had said that it stops has not died."""
    clock = FakeClock()
    roll = heard(clock)
    died = clock.monotonic() + HEARTBEAT_SECONDS
    clock.advance(3)
    again = Heartbeat("one@here", active=0, processed=0, pid=11)
    roll.hear(again, leaves=False)
    assert (roll.alive(), roll.lost_since(0.0)) == ([again], ("one@here", died))
    orderly = heard(clock)
    orderly.hear(ONE, leaves=True)
    orderly.hear(again, leaves=False)
    assert (orderly.alive(), orderly.lost_since(0.0)) == ([again], None)


def test_a_worker_that_is_heard_again_was_not_lost() -> None:
    """A network that was cut, or the exporter itself that stood still."""
    clock = FakeClock()
    roll = heard(clock)
    clock.advance(HEARTBEAT_WINDOW_SECONDS + 1)
    roll.alive()
    roll.hear(ONE, leaves=False)
    assert (roll.alive(), roll.lost_since(0.0)) == ([ONE], None)


def test_only_the_last_deaths_that_still_matter_are_remembered() -> None:
    """Once no job is left from before a worker's death, it is forgotten; and inventors of names are limited."""
    clock = FakeClock()
    roll = Roll(clock.monotonic)
    for number in range(MAX_WORKERS + 50):
        roll.hear(Heartbeat("one@here", 0, 0, pid=number), leaves=False)
        clock.advance(1)
    last = clock.monotonic() - 2 + HEARTBEAT_SECONDS
    assert roll.lost_since(0.0) == ("one@here", last)
    assert roll.lost_since(last + 0.001) is None
    assert roll.lost_since(0.0) is None


def test_someone_unheard_who_leaves_is_nobody() -> None:
    """A word of farewell alone makes no worker."""
    roll = Roll(FakeClock().monotonic)
    roll.hear(ONE, leaves=True)
    assert roll.alive() == []
