"""Small ways to say what a test is about."""

from __future__ import annotations

from auraconnect_exporter.model import (
    Attempt,
    Component,
    Health,
    Part,
    Reading,
    Reason,
    TargetId,
    TargetState,
    TargetView,
)


class FakeClock:
    """A clock that stands until a test moves it; the wall clock begins at a round moment of 2026."""

    def __init__(self) -> None:
        self.wall = 1_780_000_000.0
        self.seconds = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.seconds += seconds


def attempt(
    reason: Reason | None = None,
    *,
    degraded: tuple[str, ...] = (),
    reading: Reading | None = None,
    ended: float = 1000.0,
) -> Attempt:
    """Return an attempt that succeeded, or failed for a reason."""
    return Attempt(
        started=1_780_000_000.0,
        ended=ended,
        duration=0.25,
        reading=reading or Reading((Part("part", degraded=degraded),)),
        reason=reason,
    )


def collectors(made: Attempt) -> dict[str, bool]:
    """Return which parts of an attempt's reading could be read."""
    return {part.collector: not part.problem for part in made.reading.parts}


def problems(made: Attempt) -> dict[str, str]:
    """Return why parts of an attempt's reading could not be read."""
    return {part.collector: part.problem for part in made.reading.parts if part.problem}


def absences(made: Attempt) -> dict[str, str]:
    """Return why parts of an attempt's reading are not there to be read."""
    return {part.collector: part.absent for part in made.reading.parts if part.absent}


def view(
    health: Health,
    *,
    component: Component = Component.DATABASE,
    name: str = "primary",
    critical: bool = True,
    state: TargetState | None = None,
) -> TargetView:
    """Return a target as a snapshot holds it."""
    return TargetView(TargetId(component, name), critical, health, state or TargetState(verdict=health))
