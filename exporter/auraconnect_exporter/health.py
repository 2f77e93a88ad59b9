"""How attempts become verdicts: confirmation, hysteresis, staleness, and the roll-up. Pure functions.

A failed check is confirmed before anyone hears of it; one good check brings a target back, since a system that
answers is not down. Degraded is a matter of degree, so it takes as many checks to leave as to enter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from auraconnect_exporter.model import Attempt, Component, Health, TargetId, TargetState, TargetView

CONFIRMATIONS = 3
"""Checks in a row that it takes to call a target unhealthy, to call it degraded, or to call it healthy again."""

RECHECK_SECONDS = 1.0
"""From the start of a failed check to the start of the one that confirms it."""

CIRCUIT_OPENS_AFTER = 12
"""Failed checks in a row after which a target is asked less often: about a minute at the usual interval."""

MAX_BACKOFF_SECONDS = 20.0
"""The longest time between two checks of a target that is down, unless its interval is longer."""

BACKOFF_JITTER = 0.25
"""By how much of itself that time is shortened at random."""

MISSED_CHECKS = 3
"""A target of which this many intervals brought no attempt at all is unknown."""


def step(state: TargetState, attempt: Attempt) -> TargetState:
    """Return the state after one more attempt."""
    seen = Health.HEALTHY
    if not attempt.ok:
        seen = Health.UNHEALTHY
    elif attempt.reading.degraded:
        seen = Health.DEGRADED
    dropped = {part.collector: part.dropped for part in attempt.reading.parts if part.dropped}
    return replace(
        _confirm(state, seen),
        last=attempt,
        last_success=attempt if attempt.ok else state.last_success,
        results={**state.results, attempt.result: state.results.get(attempt.result, 0) + 1},
        dropped={**state.dropped, **{name: state.dropped.get(name, 0) + count for name, count in dropped.items()}},
    )


def _confirm(state: TargetState, seen: Health) -> TargetState:
    """Return the state with its verdict settled, given what one more check has seen."""
    streak = state.streak + 1 if seen is state.suspected else 1
    answers = seen is not Health.UNHEALTHY
    was_silent = state.verdict in {Health.UNHEALTHY, Health.UNKNOWN}
    if streak >= CONFIRMATIONS or (answers and was_silent):
        return replace(state, verdict=seen, suspected=seen, streak=streak)
    return replace(state, suspected=seen, streak=streak)


def delay(state: TargetState, interval: float, jitter: float) -> float:
    """Return how long after the start of the last check the next one starts, in seconds.

    A failure that is not confirmed yet is checked again soon. A target that stays down is asked less and less often,
    so that many watchers don't fall upon a system that is just getting up; ``jitter`` (0 to 1) keeps them apart.
    """
    unconfirmed = state.last is not None and not state.last.ok and state.verdict is not Health.UNHEALTHY
    if unconfirmed:
        return min(RECHECK_SECONDS, interval)
    return backoff(state, interval) * (1 - BACKOFF_JITTER * jitter) or interval


def backoff(state: TargetState, interval: float) -> float:
    """Return the seconds, jitter aside, between checks of a target whose circuit is open; 0 while it is closed."""
    beyond = state.streak - CIRCUIT_OPENS_AFTER
    if state.verdict is not Health.UNHEALTHY or state.suspected is not Health.UNHEALTHY or beyond < 0:
        return 0.0
    return max(interval, min(MAX_BACKOFF_SECONDS, interval * 2.0 ** min(beyond + 1, 10)))


def current(state: TargetState, monotonic: float, interval: float, timeout: float) -> Health:
    """Return the verdict, or unknown when the last attempt is too old to speak for this moment."""
    between = max(interval, backoff(state, interval))
    if state.last is None or monotonic - state.last.ended > MISSED_CHECKS * between + timeout:
        return Health.UNKNOWN
    return state.verdict


def causes(targets: Iterable[TargetView]) -> dict[TargetId, str]:
    """Say of each API target that is not well, in words, when a critical database that is down is to blame."""
    targets = tuple(targets)
    down = [
        view.id.name
        for view in targets
        if view.id.component is Component.DATABASE and view.critical and view.health is Health.UNHEALTHY
    ]
    if not down:
        return {}
    suffering = {Health.DEGRADED, Health.UNHEALTHY}
    return {
        view.id: f"the database {down[0]} is down"
        for view in targets
        if view.id.component is Component.API and view.health in suffering
    }


_WORST_FIRST = (Health.UNHEALTHY, Health.UNKNOWN, Health.DEGRADED, Health.HEALTHY)


def worst(healths: Iterable[Health]) -> Health:
    """Return the worst of some states; unknown when there is none."""
    present = set(healths)
    return next((health for health in _WORST_FIRST if health in present), Health.UNKNOWN)


def components(targets: Iterable[TargetView]) -> dict[Component, Health]:
    """Return each component that has a target, with the health of its worst one, in the order of ``Component``."""
    targets = tuple(targets)
    return {
        component: worst(view.health for view in targets if view.id.component is component)
        for component in Component
        if any(view.id.component is component for view in targets)
    }


def system(targets: Iterable[TargetView]) -> Health:
    """Return the health of the whole.

    Unhealthy when a critical target is down, unknown when nothing is known at all, degraded when anything else is
    not healthy.
    """
    targets = tuple(targets)
    if any(view.critical and view.health is Health.UNHEALTHY for view in targets):
        return Health.UNHEALTHY
    if all(view.health is Health.UNKNOWN for view in targets):
        return Health.UNKNOWN
    return Health.HEALTHY if all(view.health is Health.HEALTHY for view in targets) else Health.DEGRADED
