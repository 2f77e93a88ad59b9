"""From what Alertmanager says to episodes: one firing of one alert, each exactly once. Pure.

Deliveries repeat, come late, come out of order or never come. So nothing here depends on their order: each message is
a fact, "this fingerprint began to fire at S" or "what began at S ended at E", the facts are a set, and the episodes
are a function of that set. A message that is already known changes nothing, and two messages in either order lead to
the same episodes.

Where S is no identity: Alertmanager may move it back (it merges what overlaps), and a Prometheus that lost its state
moves it forward. So a beginning whose end nobody has told reaches until the next end, whichever beginning that names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from auraconnect_exporter.records import SECOND, SYMPTOMS, AlertType, Episode, Firing, Identity, Moment

INHERITANCE: Final = 300 * SECOND
"""What fires again within five minutes of its end is the same trouble to whoever has acknowledged it."""

IDENTITY_BYTES: Final = 600
"""Bytes of each part of an identity: PostgreSQL's indexes take 2,700 for all four."""

_TYPES: Final[Mapping[str, AlertType]] = {symptom: type_ for type_, symptom in SYMPTOMS.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """What belongs to one episode: from the first beginning to the end, if there was one."""

    firings: tuple[Firing, ...]
    started: Moment
    ended: Moment | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """A span and the id of the episode that shows it; ``is_new`` when there was none before."""

    span: Span
    episode: str
    is_new: bool


def learn(known: Sequence[Firing], starts: Moment, ends: Moment | None) -> tuple[Firing, ...] | None:
    """Return the facts with one more, or None when they hold it already."""
    for index, firing in enumerate(known):
        if firing.starts == starts:
            if ends is None or firing.ends is not None:
                return None
            return (*known[:index], replace(firing, ends=ends), *known[index + 1 :])
    sequence = max((firing.sequence for firing in known), default=0) + 1
    return (*known, Firing(starts, ends, sequence, ""))


def spans(firings: Iterable[Firing]) -> tuple[Span, ...]:
    """Return the spans of one fingerprint's facts, in the order of time.

    A beginning opens a new span when the one before it is over by then. A span is over at the latest end that
    any of its beginnings has; a beginning before that end is part of it.
    """
    found: list[Span] = []
    for firing in sorted(firings, key=lambda firing: firing.starts):
        last = found[-1] if found else None
        if last is None or (last.ended is not None and firing.starts >= last.ended):
            found.append(Span((firing,), firing.starts, firing.ends))
        else:
            ended = max((end for end in (last.ended, firing.ends) if end is not None), default=None)
            found[-1] = Span((*last.firings, firing), last.started, ended)
    return tuple(found)


def assign(firings: Sequence[Firing], new_id: Callable[[], str]) -> tuple[Assigned, ...]:
    """Return every span with its episode's id.

    An episode stays with the fact that it was opened for, its oldest, when new facts part a span: who has
    acknowledged it keeps having acknowledged what they saw. Where a late fact joins spans, the episode that began
    last shows them all, since it alone may be open. A span without an episode gets a new id.
    """
    first: dict[str, Firing] = {}
    for firing in sorted(firings, key=lambda firing: firing.sequence):
        if firing.episode:
            first.setdefault(firing.episode, firing)
    assigned = []
    for span in spans(firings):
        last_first = reversed(span.firings)
        own = next((firing.episode for firing in last_first if first.get(firing.episode) is firing), None)
        assigned.append(Assigned(span, own or new_id(), is_new=own is None))
    return tuple(assigned)


def reopen(firings: Sequence[Firing], episode: str) -> tuple[Firing, ...] | None:
    """Return the facts with an episode's ends taken back, since it still fires; None unless it is the last one."""
    last = spans(firings)[-1]
    if all(firing.episode != episode for firing in last.firings):
        return None
    again = {firing.starts for firing in last.firings}
    return tuple(replace(firing, ends=None) if firing.starts in again else firing for firing in firings)


def inherits(previous: Episode | None, started: Moment) -> bool:
    """Whether what begins at a moment takes over the acknowledgement of the same alert's episode before."""
    if previous is None or previous.acknowledged_at is None or previous.ended_at is None:
        return False
    return started - previous.ended_at <= INHERITANCE or previous.acknowledged_at >= started


def identity(labels: Mapping[str, str]) -> Identity:
    """Return what makes an alert with these labels the same alert; what is too long for an index is cut."""
    return Identity(*(_cut(labels.get(name, "")) for name in ("alertname", "severity", "component", "target")))


def source_of_escalation(labels: Mapping[str, str]) -> Identity | None:
    """Return the alert that an escalation is about; None for what is no escalation."""
    if not labels.get("escalation"):
        return None
    return replace(identity(labels), alertname=labels.get("source_alert", ""))


def is_for_people(labels: Mapping[str, str]) -> bool:
    """Whether an alert is one at all: the watchdog and what mutes during maintenance are not."""
    return labels.get("severity") != "none"


def _cut(text: str) -> str:
    """Return text with at most IDENTITY_BYTES, different texts still being different."""
    data = text.encode(errors="replace")
    if len(data) <= IDENTITY_BYTES:
        return text
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: IDENTITY_BYTES - 32].decode(errors='ignore')}…{digest}"


def alert_type(symptom: str) -> AlertType:
    """Return the health API's word for a symptom; what it has no word for is a matter of availability."""
    return _TYPES.get(symptom, AlertType.AVAILABILITY)
