"""What happens to episodes: Alertmanager's reports, and what people and programs do, each act in one transaction.

Every function takes the transaction that it is part of and returns the episodes as they are after it. Nothing is kept
here: ``alerts`` holds what is open in memory, and decides when.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from auraconnect_exporter import episodes
from auraconnect_exporter.episodes import Assigned
from auraconnect_exporter.model import Component
from auraconnect_exporter.records import (
    SECOND,
    SYMPTOMS,
    Actor,
    AlertType,
    Draft,
    Episode,
    Event,
    EventKind,
    Firing,
    Identity,
    Moment,
    Origin,
    Report,
    Severity,
)
from auraconnect_exporter.store import audit
from auraconnect_exporter.store import episodes as table
from auraconnect_exporter.store.transaction import Transaction

MAX_OPEN_POSTED: Final = 200
MAX_ALERTNAME: Final = 128
BATCH: Final = 200
"""Reports that are recorded in one transaction, which takes a fraction of the time that an act may take."""
BREACH: Final = "SecurityBreachDetected"
PAGES_REMEMBERED: Final = 120 * 3600 * SECOND
"""For how long Alertmanager remembers what it has told, at most (``--data.retention``)."""


class UnknownAlert(Exception):
    """There is no alert with that id."""


class StillFiring(Exception):
    """The alert can't be resolved: Prometheus says that it fires."""


class TooManyOpen(Exception):
    """No more alerts can be posted until some are resolved."""


# ── What Alertmanager reports ────────────────────────────────────────────────────────────────────────────────────────


def batches(reports: Iterable[Report]) -> Iterator[list[Report]]:
    """Divide what an Alertmanager reports into what fits into a transaction.

    Sources come before their escalations, so that each finds its episode.
    """
    wanted = [report for report in reports if episodes.is_for_people(report.labels)]
    ordered = iter(sorted(wanted, key=lambda report: bool(report.labels.get("escalation"))))
    while batch := list(itertools.islice(ordered, BATCH)):
        yield batch


def record(transaction: Transaction, batch: Iterable[Report], now: Moment, heard_from: str) -> list[Episode]:
    """Take a batch in; returns the episodes that changed. A report that is known already changes nothing."""
    changed: dict[str, Episode] = {}
    for report in batch:
        source = episodes.source_of_escalation(report.labels)
        if source is not None:
            _record_escalation(transaction, report, source)
        elif not _is_posted(transaction, report):
            changed |= {episode.id: episode for episode in _record_firing(transaction, report, now, heard_from)}
    return list(changed.values())


def note_page(transaction: Transaction, dedup_key: str, reports: Iterable[Report], now: Moment) -> None:
    """Note which episodes a page in PagerDuty is about, and the ends that it tells.

    An escalation is about its source.
    """
    table.forget_open_pages(transaction, now - PAGES_REMEMBERED)
    for report in reports:
        if report.ends is None:
            table.put_open_page(transaction, dedup_key, report, now)
        else:
            table.close_page(transaction, dedup_key, report.fingerprint)
        source = episodes.source_of_escalation(report.labels)
        posted = table.get(transaction, report.labels.get("alert_id", ""))
        if source is not None:
            about = table.open_of(transaction, source)
        elif posted is not None:
            about = [posted]
        else:
            identity = episodes.identity(report.labels)
            about = [each for each in table.open_of(transaction, identity) if each.fingerprint == report.fingerprint]
        for episode in about:
            table.add_page(transaction, dedup_key, episode.id)


def acknowledge_page(transaction: Transaction, dedup_key: str, actor: Actor, now: Moment) -> list[Episode]:
    """Acknowledge what a page in PagerDuty is about."""
    return [acknowledge(transaction, episode.id, actor, now) for episode in table.paged(transaction, dedup_key)]


def close_page(transaction: Transaction, dedup_key: str) -> None:
    """Note that a page in PagerDuty is over, whatever else was part of it."""
    table.close_page(transaction, dedup_key)


def close(transaction: Transaction, ids: Iterable[str], now: Moment, heard_from: str) -> list[Episode]:
    """End episodes whose end no message told."""
    open_ = [episode for id_ in ids if (episode := table.get(transaction, id_)) is not None and episode.is_open]
    return [
        _end(transaction, episode, now, Event(episode.id, now, EventKind.RESOLVED, heard_from)) for episode in open_
    ]


def mark_suppressed(transaction: Transaction, states: Mapping[str, bool], now: Moment) -> None:
    """Note of each open episode whether Alertmanager keeps it from people, where that is news."""
    before = table.suppressed(transaction)
    for id_, suppressed in states.items():
        episode = table.get(transaction, id_)
        if episode is not None and episode.is_open and suppressed != (id_ in before):
            kind = EventKind.SUPPRESSED if suppressed else EventKind.UNSUPPRESSED
            table.add_event(transaction, Event(id_, now, kind))


def _is_posted(transaction: Transaction, report: Report) -> bool:
    """Whether the alert is one of ours: what Alertmanager knows of it, it has from us."""
    id_ = report.labels.get("alert_id")
    episode = table.get(transaction, id_) if id_ else None
    return episode is not None and episode.origin is Origin.API


def _record_firing(transaction: Transaction, report: Report, now: Moment, heard_from: str) -> list[Episode]:
    known = table.firings(transaction, report.fingerprint)
    if _is_long_ago(report, known):
        return []
    facts = episodes.learn(known, report.starts, report.ends)
    changed: list[Episode] = []
    if facts is not None:
        assigned = episodes.assign(facts, new_id)
        shown = frozenset(episodes.spans(known))
        for one in assigned:
            if one.span not in shown:
                changed += _show(transaction, report, one, now, heard_from)
                _link(transaction, report.fingerprint, one, known)
        known = [replace(firing, episode=one.episode) for one in assigned for firing in one.span.firings]
    told = next(firing for firing in known if firing.starts == report.starts)
    about = next((episode for episode in changed if episode.id == told.episode), None)
    about = about or table.get(transaction, told.episode)
    last_word = about and _doubted(transaction, report, about, known, now, heard_from)
    return [*changed, last_word] if last_word else changed


def _is_long_ago(report: Report, known: Sequence[Firing]) -> bool:
    """Whether a report is older than what is read of an alert that flaps: whatever it tells, that is history."""
    return len(known) >= table.FACTS_READ and report.starts < known[-1].starts


def _show(transaction: Transaction, report: Report, assigned: Assigned, now: Moment, heard_from: str) -> list[Episode]:
    """Make an episode show its span; returns it if that changed it."""
    span = assigned.span
    before = None if assigned.is_new else table.get(transaction, assigned.episode)
    if before is None:
        episode = _fresh(transaction, report, assigned, now)
        told = [Event(episode.id, span.started, EventKind.FIRED, heard_from)]
        if episode.acknowledged_at is not None:
            detail = "inherited: it fires again soon after its end"
            told.append(Event(episode.id, now, EventKind.ACKNOWLEDGED, episode.acknowledged_by, detail))
    else:
        # Who ended it by hand ended it then; that it really is over changes no date.
        ended_at = before.ended_at if before.ended_by else span.ended
        episode = replace(before, started_at=span.started, ended_at=ended_at)
        if episode == before:
            return []
        told = []
        if episode.started_at != before.started_at:
            told.append(
                Event(episode.id, span.started, EventKind.FIRED, heard_from, "at another time than first heard")
            )
    if episode.ended_at is not None and (before is None or episode.ended_at != before.ended_at):
        told.append(Event(episode.id, episode.ended_at, EventKind.RESOLVED, heard_from))
    table.put(transaction, episode)
    for event in told:
        table.add_event(transaction, event)
    return [episode]


def _link(transaction: Transaction, fingerprint: str, assigned: Assigned, known: Sequence[Firing]) -> None:
    """Store the facts of a span that are new, or belong to another episode than before."""
    for firing in assigned.span.firings:
        linked = replace(firing, episode=assigned.episode)
        if linked not in known:
            table.put_firing(transaction, fingerprint, linked)


def _fresh(transaction: Transaction, report: Report, assigned: Assigned, now: Moment) -> Episode:
    """Return a new episode; an open one takes over the acknowledgement of one that ended just before."""
    span, labels = assigned.span, report.labels
    identity = episodes.identity(labels)
    symptom = labels.get("symptom", "")
    episode = Episode(
        id=assigned.episode,
        fingerprint=report.fingerprint,
        identity=identity,
        symptom=symptom,
        origin=Origin.RULE,
        alert_type=episodes.alert_type(symptom),
        title=report.annotations.get("summary", "") or identity.alertname,
        description=report.annotations.get("description", ""),
        labels=dict(labels),
        annotations=dict(report.annotations),
        started_at=span.started,
        recorded_at=now,
        ended_at=span.ended,
    )
    before = table.previous(transaction, identity, episode.id, span.started)
    if before is None or not episode.is_open or not episodes.inherits(before, span.started):
        return episode
    return replace(episode, acknowledged_at=now, acknowledged_by=before.acknowledged_by)


def _doubted(  # noqa: PLR0913, PLR0917  # two of them say who reports, and when
    transaction: Transaction,
    report: Report,
    episode: Episode,
    facts: Sequence[Firing],
    now: Moment,
    heard_from: str,
) -> Episode | None:
    """Settle an end that the report confirms or contradicts; returns the episode if that changed it.

    A person may end what still fires: the next message about it says whether they were right. And Alertmanager ends
    what nobody repeats to it, though it fires on: its list, read later than that end, knows better.
    """
    if episode.ended_at is None:
        return None
    if report.ends is not None:
        return _put(transaction, replace(episode, forced=False)) if episode.forced else None
    is_news = report.updated is not None and report.updated > episode.ended_at
    again = episodes.reopen(facts, episode.id) if episode.forced or is_news else None
    if again is None:
        return None
    for firing in again:
        if firing not in facts:
            table.put_firing(transaction, report.fingerprint, firing)
    table.add_event(transaction, Event(episode.id, now, EventKind.REOPENED, heard_from, "it still fires"))
    return _put(transaction, replace(episode, ended_at=None, ended_by="", forced=False))


def _record_escalation(transaction: Transaction, report: Report, source: Identity) -> None:
    """Note an escalation, or its end, on its source; one whose source is not known yet is left for the reconciler."""
    known = table.firings(transaction, report.fingerprint)
    facts = None if _is_long_ago(report, known) else episodes.learn(known, report.starts, report.ends)
    if facts is None:
        return
    same = next((firing for firing in known if firing.starts == report.starts), None)
    episode = None if same else table.at(transaction, source, report.starts)
    id_ = same.episode if same else episode.id if episode else None
    if id_ is None:
        return
    fact = replace(next(firing for firing in facts if firing.starts == report.starts), episode=id_)
    table.put_firing(transaction, report.fingerprint, fact)
    # A Prometheus that was restarted tells another beginning of what goes on; an Alertmanager may move it back.
    others = [firing for firing in known if firing.episode == id_ and firing is not same]
    span = next(span for span in episodes.spans([*others, fact]) if fact in span.firings)
    before = [*([same] if same else []), *(firing for firing in others if firing in span.firings)]
    level = report.labels["escalation"]
    if not before:
        table.add_event(transaction, Event(id_, report.starts, EventKind.ESCALATED, detail=level))
    if span.ended is not None and all(firing.ends is None for firing in before):
        table.add_event(transaction, Event(id_, span.ended, EventKind.ESCALATION_OVER, detail=level))


# ── What people and programs do ──────────────────────────────────────────────────────────────────────────────────────


def post(transaction: Transaction, draft: Draft, actor: Actor, now: Moment) -> Episode:
    """Open an alert that somebody posts. Raises TooManyOpen."""
    if table.count_open_posted(transaction) >= MAX_OPEN_POSTED:
        raise TooManyOpen(f"{MAX_OPEN_POSTED} posted alerts are open; resolve some first")
    id_ = new_id()
    is_breach = draft.alert_type is AlertType.SECURITY and draft.severity is Severity.CRITICAL
    symptom = SYMPTOMS[draft.alert_type]
    labels = {
        "alertname": BREACH if is_breach else draft.title[:MAX_ALERTNAME],
        "severity": draft.severity.value,
        "component": draft.component if draft.component in set(Component) else "other",
        "target": draft.target,
        "symptom": symptom,
        "alert_id": id_,
    }
    identity = episodes.identity(labels)
    episode = Episode(
        id=id_,
        fingerprint=id_,
        identity=identity,
        symptom=symptom,
        origin=Origin.API,
        alert_type=draft.alert_type,
        title=draft.title,
        description=draft.description,
        labels={name: value for name, value in labels.items() if value},
        annotations={"component": draft.component},
        started_at=now,
        recorded_at=now,
        threshold_value=draft.threshold_value,
        actual_value=draft.actual_value,
        metadata=draft.metadata,
    )
    before = table.previous(transaction, identity, id_, now)
    if before is not None and episodes.inherits(before, now):
        episode = replace(episode, acknowledged_at=now, acknowledged_by=before.acknowledged_by)
    _put(transaction, episode)
    table.add_event(transaction, Event(id_, now, EventKind.FIRED, actor.name))
    audit.insert(transaction, actor.did(now, "alert.post", id_))
    return episode


def acknowledge(transaction: Transaction, id_: str, actor: Actor, now: Moment) -> Episode:
    """Note that somebody takes care; the first to say so stays. Raises UnknownAlert."""
    episode = _existing(transaction, id_)
    if episode.acknowledged_at is not None:
        outcome = f"already by {episode.acknowledged_by}"
        audit.insert(transaction, actor.did(now, "alert.acknowledge", id_, outcome))
        return episode
    table.add_event(transaction, Event(id_, now, EventKind.ACKNOWLEDGED, actor.name))
    audit.insert(transaction, actor.did(now, "alert.acknowledge", id_))
    return _put(transaction, replace(episode, acknowledged_at=now, acknowledged_by=actor.name))


def resolve(transaction: Transaction, id_: str, actor: Actor, now: Moment, *, force: bool) -> Episode:
    """End an alert. Raises UnknownAlert, and StillFiring for what Prometheus fires unless forced."""
    episode = _existing(transaction, id_)
    if not episode.is_open:
        audit.insert(transaction, actor.did(now, "alert.resolve", id_, "already over"))
        return episode
    if episode.origin is Origin.RULE and not force:
        raise StillFiring(
            f"{episode.identity.alertname} still fires: it ends by itself when its cause does; "
            "with ?force=true it ends here until Alertmanager next says that it fires",
        )
    outcome = "forced" if episode.origin is Origin.RULE else "done"
    audit.insert(transaction, actor.did(now, "alert.resolve", id_, outcome))
    ended = replace(episode, ended_by=actor.name, forced=episode.origin is Origin.RULE)
    return _end(transaction, ended, now, Event(id_, now, EventKind.RESOLVED, actor.name))


def note(transaction: Transaction, id_: str, actor: Actor, now: Moment, text: str) -> Event:
    """Add what somebody has to say. Raises UnknownAlert."""
    _existing(transaction, id_)
    event = Event(id_, now, EventKind.NOTE, actor.name, text)
    table.add_event(transaction, event)
    audit.insert(transaction, actor.did(now, "alert.note", id_))
    return event


def new_id() -> str:
    """Return an id that nobody can guess or meet again."""
    return str(uuid.uuid4())


def _existing(transaction: Transaction, id_: str) -> Episode:
    episode = table.get(transaction, id_)
    if episode is None:
        raise UnknownAlert(f"there is no alert {id_}")
    return episode


def _end(transaction: Transaction, episode: Episode, now: Moment, event: Event) -> Episode:
    """End an episode now, and each of its facts whose end nobody has told."""
    for firing in table.firings(transaction, episode.fingerprint):
        if firing.episode == episode.id and firing.ends is None:
            table.put_firing(transaction, episode.fingerprint, replace(firing, ends=max(now, firing.starts)))
    table.add_event(transaction, event)
    if episode.origin is Origin.API:
        table.set_told(transaction, [episode.id], told=False)
    return _put(transaction, replace(episode, ended_at=max(now, episode.started_at)))


def _put(transaction: Transaction, episode: Episode) -> Episode:
    table.put(transaction, episode)
    return episode
