"""Verdicts: confirmation, hysteresis, staleness and the roll-up."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter import health
from auraconnect_exporter.model import Attempt, Component, Health, Part, Reading, Reason, TargetState, TargetView
from tests.builders import attempt, view

GOOD = attempt()
BAD = attempt(Reason.REFUSED)
SLOW = attempt(degraded=("slow",))


def after(*attempts: Attempt) -> TargetState:
    return reduce(health.step, attempts, TargetState())


class TestStep:
    @pytest.mark.parametrize(
        ("attempts", "verdict"),
        [
            ((), Health.UNKNOWN),
            ((GOOD,), Health.HEALTHY),
            ((BAD,), Health.UNKNOWN),
            ((BAD, BAD), Health.UNKNOWN),
            ((BAD, BAD, BAD), Health.UNHEALTHY),
            ((GOOD, BAD, BAD), Health.HEALTHY),
            ((GOOD, BAD, BAD, BAD), Health.UNHEALTHY),
            ((GOOD, BAD, BAD, GOOD, BAD, BAD), Health.HEALTHY),
            ((BAD, BAD, BAD, GOOD), Health.HEALTHY),
            ((BAD, BAD, BAD, SLOW), Health.DEGRADED),
            ((GOOD, SLOW, SLOW), Health.HEALTHY),
            ((GOOD, SLOW, SLOW, SLOW), Health.DEGRADED),
            ((GOOD, SLOW, SLOW, SLOW, GOOD, GOOD), Health.DEGRADED),
            ((GOOD, SLOW, SLOW, SLOW, GOOD, GOOD, GOOD), Health.HEALTHY),
            ((GOOD, SLOW, BAD, SLOW, BAD, SLOW, BAD), Health.HEALTHY),
            ((GOOD, BAD, BAD, SLOW, BAD), Health.HEALTHY),
        ],
    )
    def test_verdict_takes_three_checks_that_agree_but_one_answer_ends_an_outage(
        self, attempts: tuple[Attempt, ...], verdict: Health
    ) -> None:
        """Three agreeing checks settle a verdict; a target that answers is not down."""
        assert after(*attempts).verdict is verdict

    def test_counts_attempts_by_result(self) -> None:
        """Every attempt is counted under its result."""
        state = after(GOOD, BAD, BAD, attempt(Reason.TIMEOUT))
        assert state.results == {"success": 1, "refused": 2, "timeout": 1}

    def test_remembers_last_attempt_and_last_success(self) -> None:
        """A failure does not hide when the target last answered."""
        state = after(GOOD, BAD)
        assert (state.last, state.last_success) == (BAD, GOOD)

    def test_counts_what_was_beyond_the_budget_by_collector(self) -> None:
        """What one attempt has dropped adds to what was dropped before."""
        over = attempt(reading=Reading((Part("info", dropped=3), Part("queues"))))
        assert after(over, BAD, over).dropped == {"info": 6}

    @given(st.lists(st.sampled_from([GOOD, BAD, SLOW]), max_size=30))
    def test_is_unhealthy_exactly_when_the_last_three_failed_or_nothing_answered_since(
        self, attempts: list[Attempt]
    ) -> None:
        """Down means: three failures in a row, and no answer after them."""
        trailing = 0
        for made in reversed(attempts):
            if made.ok:
                break
            trailing += 1
        assert (after(*attempts).verdict is Health.UNHEALTHY) == (trailing >= 3)


class TestDelay:
    def test_failure_is_checked_again_after_a_second(self) -> None:
        """A failure that is not confirmed yet does not wait for the interval."""
        assert health.delay(after(GOOD, BAD), interval=5, jitter=1) == 1

    @pytest.mark.parametrize("state", [after(), after(GOOD), after(BAD, BAD, BAD), after(GOOD, SLOW)])
    def test_everything_else_keeps_the_interval(self, state: TargetState) -> None:
        """Good, degraded and confirmed targets are checked at their interval."""
        assert health.delay(state, interval=5, jitter=1) == 5

    @pytest.mark.parametrize(("failures", "expected"), [(3, 5), (11, 5), (12, 10), (13, 20), (14, 20), (5000, 20)])
    def test_what_stays_down_is_asked_less_and_less_often(self, failures: int, expected: float) -> None:
        """From the twelfth failure in a row the time between checks doubles, up to its limit."""
        assert health.delay(after(GOOD, *[BAD] * failures), interval=5, jitter=0) == expected

    def test_jitter_shortens_a_backoff_and_nothing_else(self) -> None:
        """Watchers of one system that is down come back at different times; a rhythm that works stays exact."""
        open_circuit = after(*[BAD] * 20)
        assert [health.delay(open_circuit, interval=5, jitter=jitter) for jitter in (0, 0.5, 1)] == [20, 17.5, 15]

    def test_an_interval_longer_than_the_longest_backoff_stays(self) -> None:
        """A target that is asked every minute is asked no more often for being down."""
        assert health.delay(after(*[BAD] * 20), interval=60, jitter=0) == 60

    def test_one_answer_closes_the_circuit(self) -> None:
        """What answers again is asked at its interval again."""
        assert health.backoff(after(*[BAD] * 20, GOOD), interval=5) == 0

    def test_a_recheck_is_never_slower_than_the_interval(self) -> None:
        """A target checked five times a second is rechecked as often."""
        assert health.delay(after(GOOD, BAD), interval=0.2, jitter=1) == 0.2


class TestCurrent:
    @pytest.mark.parametrize(("age", "expected"), [(17.0, Health.HEALTHY), (17.1, Health.UNKNOWN)])
    def test_verdict_expires_after_three_missed_intervals(self, age: float, expected: Health) -> None:
        """What is too old turns unknown, it never stays green."""
        state = health.step(TargetState(), attempt(ended=100.0))
        assert health.current(state, 100.0 + age, interval=5, timeout=2) is expected

    def test_a_target_that_is_asked_less_often_stays_down_and_not_unknown(self) -> None:
        """An open circuit is no reason to know nothing."""
        state = after(*[attempt(Reason.REFUSED, ended=100.0)] * 20)
        assert health.current(state, 100.0 + 62, interval=5, timeout=2) is Health.UNHEALTHY
        assert health.current(state, 100.0 + 62.1, interval=5, timeout=2) is Health.UNKNOWN

    def test_target_without_an_attempt_is_unknown(self) -> None:
        """Nothing tried, nothing known."""
        assert health.current(TargetState(), 0, interval=5, timeout=2) is Health.UNKNOWN


class TestRollUp:
    @pytest.mark.parametrize(
        ("targets", "expected"),
        [
            ([view(Health.HEALTHY), view(Health.HEALTHY, critical=False)], Health.HEALTHY),
            ([view(Health.HEALTHY), view(Health.UNHEALTHY, critical=False)], Health.DEGRADED),
            ([view(Health.HEALTHY), view(Health.UNHEALTHY)], Health.UNHEALTHY),
            ([view(Health.HEALTHY), view(Health.DEGRADED)], Health.DEGRADED),
            ([view(Health.HEALTHY), view(Health.UNKNOWN)], Health.DEGRADED),
            ([view(Health.UNKNOWN), view(Health.UNKNOWN)], Health.UNKNOWN),
        ],
    )
    def test_only_a_critical_target_makes_the_system_unhealthy(
        self, targets: list[TargetView], expected: Health
    ) -> None:
        """A critical target that is down is an outage, anything else that is not well a degradation."""
        assert health.system(targets) is expected

    def test_component_is_as_well_as_its_worst_target(self) -> None:
        """One bad target shows in its component; components without targets are left out."""
        targets = [
            view(Health.HEALTHY, component=Component.REDIS, name="a"),
            view(Health.UNHEALTHY, component=Component.REDIS, name="b"),
            view(Health.HEALTHY),
        ]
        assert health.components(targets) == {Component.DATABASE: Health.HEALTHY, Component.REDIS: Health.UNHEALTHY}


class TestCauses:
    @pytest.mark.parametrize(
        ("database", "critical", "api", "expected"),
        [
            (Health.UNHEALTHY, True, Health.UNHEALTHY, "the database primary is down"),
            (Health.UNHEALTHY, True, Health.DEGRADED, "the database primary is down"),
            (Health.UNHEALTHY, True, Health.HEALTHY, None),
            (Health.UNHEALTHY, False, Health.UNHEALTHY, None),
            (Health.DEGRADED, True, Health.UNHEALTHY, None),
        ],
    )
    def test_an_api_that_is_not_well_names_its_dead_database(
        self, database: Health, critical: bool, api: Health, expected: str | None
    ) -> None:
        """Only a critical database that is down is blamed, and only where something is wrong."""
        watched = view(api, component=Component.API, name="main")
        targets = [view(database, critical=critical), watched, view(Health.UNHEALTHY, component=Component.REDIS)]
        assert health.causes(targets).get(watched.id) == expected
