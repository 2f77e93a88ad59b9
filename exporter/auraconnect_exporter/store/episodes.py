"""The SQL of episodes: facts, what they show, what happened to it. Each function runs in its caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from auraconnect_exporter.records import (
    AlertType,
    Episode,
    Event,
    EventKind,
    Firing,
    Identity,
    Moment,
    Origin,
    Report,
)
from auraconnect_exporter.store.transaction import Row, Transaction

FACTS_READ: Final = 500
"""How many of a fingerprint's newest facts are read, and what else belongs to the oldest one's episode: an alert that
flaps for weeks must not make each message slower."""

_COLUMNS: Final = (
    "id, fingerprint, alertname, severity, component, target, symptom, origin, alert_type, title, description, labels, "
    "annotations, started_at, recorded_at, ended_at, ended_by, forced, acknowledged_at, acknowledged_by, "
    "threshold_value, actual_value, metadata"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM episodes"  # noqa: S608  # names of ours, no values
_IDENTITY: Final = "alertname = ? AND severity = ? AND component = ? AND target = ?"


def firings(transaction: Transaction, fingerprint: str) -> list[Firing]:
    """Return the newest facts of a fingerprint, the latest beginning first."""
    rows = transaction.execute(
        "SELECT starts, ends, sequence, episode FROM firings WHERE fingerprint = ? AND starts >= COALESCE(("
        "SELECT MIN(starts) FROM firings WHERE episode = ("
        "SELECT episode FROM firings WHERE fingerprint = ? ORDER BY starts DESC LIMIT 1 OFFSET ?)), 0) "
        "ORDER BY starts DESC",
        (fingerprint, fingerprint, FACTS_READ - 1),
    )
    return [Firing(*row) for row in rows]


def put_firing(transaction: Transaction, fingerprint: str, firing: Firing) -> None:
    """Add a fact, or replace the one of the same beginning."""
    transaction.execute(
        "INSERT INTO firings (fingerprint, starts, ends, sequence, episode) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (fingerprint, starts) DO UPDATE SET ends = excluded.ends, episode = excluded.episode",
        (fingerprint, firing.starts, firing.ends, firing.sequence, firing.episode),
    )


def get(transaction: Transaction, id_: str) -> Episode | None:
    """Return an episode."""
    return _one(transaction.execute(f"{_SELECT} WHERE id = ?", (id_,)))


def all_open(transaction: Transaction) -> list[Episode]:
    """Return what is not over, oldest first."""
    return _all(transaction.execute(f"{_SELECT} WHERE ended_at IS NULL ORDER BY started_at, id"))


def untold(transaction: Transaction) -> list[Episode]:
    """Return posted alerts that are over without every Alertmanager having heard of it."""
    return _all(transaction.execute(f"{_SELECT} WHERE told = 0 AND ended_at IS NOT NULL"))


def set_told(transaction: Transaction, ids: Iterable[str], *, told: bool) -> None:
    """Note whether every Alertmanager has heard of the end of these."""
    for id_ in ids:
        transaction.execute("UPDATE episodes SET told = ? WHERE id = ?", (told, id_))


def open_of(transaction: Transaction, identity: Identity) -> list[Episode]:
    """Return the open episodes of an alert, one for each fingerprint."""
    return _all(transaction.execute(f"{_SELECT} WHERE {_IDENTITY} AND ended_at IS NULL", _values(identity)))


def previous(transaction: Transaction, identity: Identity, than: str, started: Moment) -> Episode | None:
    """Return the last episode of an alert that began before a moment and is over, other than one."""
    rows = transaction.execute(
        f"{_SELECT} WHERE {_IDENTITY} AND ended_at IS NOT NULL AND id <> ? AND started_at <= ? "
        "ORDER BY ended_at DESC LIMIT 1",
        (*_values(identity), than, started),
    )
    return _one(rows)


def at(transaction: Transaction, identity: Identity, when: Moment) -> Episode | None:
    """Return the episode of an alert that had begun last at a moment, else the first one after it."""
    for which in ("started_at <= ? ORDER BY started_at DESC", "started_at > ? ORDER BY started_at"):
        rows = transaction.execute(f"{_SELECT} WHERE {_IDENTITY} AND {which} LIMIT 1", (*_values(identity), when))
        if rows:
            return _one(rows)
    return None


def listed(transaction: Transaction, *, resolved: bool | None, severity: str | None, limit: int) -> list[Episode]:
    """Return episodes, those that began last first."""
    wanted = {None: [], True: ["ended_at IS NOT NULL"], False: ["ended_at IS NULL"]}[resolved]
    if severity is not None:
        wanted.append("severity = ?")
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    parameters = (severity, limit) if severity is not None else (limit,)
    return _all(transaction.execute(f"{_SELECT}{where} ORDER BY started_at DESC, id LIMIT ?", parameters))


def count_open_posted(transaction: Transaction) -> int:
    """Return how many posted alerts are open."""
    rows = transaction.execute("SELECT count(*) FROM episodes WHERE ended_at IS NULL AND origin = ?", (Origin.API,))
    return int(rows[0][0])


def put(transaction: Transaction, episode: Episode) -> None:
    """Add an episode, or replace the one with its id."""
    values = (
        *(episode.id, episode.fingerprint, *_values(episode.identity), episode.symptom, episode.origin.value),
        *(episode.alert_type.value, episode.title, episode.description, _json(episode.labels)),
        *(_json(episode.annotations), episode.started_at, episode.recorded_at, episode.ended_at, episode.ended_by),
        *(int(episode.forced), episode.acknowledged_at, episode.acknowledged_by, episode.threshold_value),
        *(episode.actual_value, _json(episode.metadata)),
    )
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[1:])
    transaction.execute(
        f"INSERT INTO episodes ({_COLUMNS}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608  # names of ours
        f"ON CONFLICT (id) DO UPDATE SET {changes}",
        values,
    )


def add_event(transaction: Transaction, event: Event) -> None:
    """Add to the timeline of an episode."""
    transaction.execute(
        "INSERT INTO events (episode, at, kind, actor, detail) VALUES (?, ?, ?, ?, ?)",
        (event.episode, event.at, event.kind.value, event.actor, event.detail),
    )


def timeline(transaction: Transaction, id_: str) -> list[Event]:
    """Return what happened to an episode, in the order of time; of one moment, in the order in which it was heard."""
    rows = transaction.execute(
        "SELECT episode, at, kind, actor, detail FROM events WHERE episode = ? ORDER BY at, id", (id_,)
    )
    return [Event(episode, at, EventKind(kind), actor, detail) for episode, at, kind, actor, detail in rows]


def add_page(transaction: Transaction, dedup_key: str, id_: str) -> None:
    """Note that a page in PagerDuty is about an episode."""
    transaction.execute("INSERT INTO pages (dedup_key, episode) VALUES (?, ?) ON CONFLICT DO NOTHING", (dedup_key, id_))


def paged(transaction: Transaction, dedup_key: str) -> list[Episode]:
    """Return the open episodes that a page in PagerDuty is about."""
    sql = f"{_SELECT} JOIN pages ON pages.episode = episodes.id WHERE dedup_key = ? AND ended_at IS NULL"
    return _all(transaction.execute(f"{sql} ORDER BY started_at, id", (dedup_key,)))


def put_open_page(transaction: Transaction, dedup_key: str, report: Report, now: Moment) -> None:
    """Note that a page in PagerDuty tells of an alert that fires."""
    transaction.execute(
        "INSERT INTO open_pages (dedup_key, fingerprint, labels, annotations, starts, heard) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (dedup_key, fingerprint) DO UPDATE SET labels = excluded.labels, "
        "annotations = excluded.annotations, starts = excluded.starts, heard = excluded.heard",
        (dedup_key, report.fingerprint, _json(report.labels), _json(report.annotations), report.starts, now),
    )


def close_page(transaction: Transaction, dedup_key: str, fingerprint: str | None = None) -> None:
    """Note that a page in PagerDuty is over, or that it has told the end of one of its alerts."""
    whole = "DELETE FROM open_pages WHERE dedup_key = ?"
    if fingerprint is None:
        transaction.execute(whole, (dedup_key,))
    else:
        transaction.execute(f"{whole} AND fingerprint = ?", (dedup_key, fingerprint))


def forget_open_pages(transaction: Transaction, before: Moment) -> None:
    """Forget the pages that have said nothing since a moment."""
    transaction.execute("DELETE FROM open_pages WHERE heard < ?", (before,))


def open_pages(transaction: Transaction, since: Moment) -> list[Report]:
    """Return the alerts of which PagerDuty has heard since a moment, and no end, each once."""
    rows = transaction.execute(
        "SELECT fingerprint, labels, annotations, starts FROM open_pages WHERE heard >= ? ORDER BY heard", (since,)
    )
    found = {row[0]: Report(row[0], json.loads(row[1]), json.loads(row[2]), row[3]) for row in rows}
    return list(found.values())


def suppressed(transaction: Transaction) -> set[str]:
    """Return the open episodes of which the last that was said is that Alertmanager tells nobody."""
    rows = transaction.execute(
        "SELECT episode FROM events WHERE kind = ? AND id IN ("
        "SELECT max(events.id) FROM events JOIN episodes ON episodes.id = events.episode "
        "WHERE episodes.ended_at IS NULL AND kind IN (?, ?) GROUP BY events.episode)",
        (EventKind.SUPPRESSED.value, EventKind.SUPPRESSED.value, EventKind.UNSUPPRESSED.value),
    )
    return {row[0] for row in rows}


def _values(identity: Identity) -> tuple[str, ...]:
    return (identity.alertname, identity.severity, identity.component, identity.target)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(dict(data), ensure_ascii=False, separators=(",", ":"))


def _all(rows: Iterable[Row]) -> list[Episode]:
    return [_episode(row) for row in rows]


def _one(rows: Sequence[Row]) -> Episode | None:
    return _episode(rows[0]) if rows else None


def _episode(row: Row) -> Episode:
    (id_, fingerprint, *identity) = row[:6]
    symptom, origin, type_, title, description, labels, annotations = row[6:13]
    started_at, recorded_at, ended_at, ended_by, forced, acknowledged_at, acknowledged_by = row[13:20]
    threshold_value, actual_value, metadata = row[20:]
    return Episode(
        id=id_,
        fingerprint=fingerprint,
        identity=Identity(*identity),
        symptom=symptom,
        origin=Origin(origin),
        alert_type=AlertType(type_),
        title=title,
        description=description,
        labels=json.loads(labels),
        annotations=json.loads(annotations),
        started_at=started_at,
        recorded_at=recorded_at,
        ended_at=ended_at,
        ended_by=ended_by,
        forced=bool(forced),
        acknowledged_at=acknowledged_at,
        acknowledged_by=acknowledged_by,
        threshold_value=threshold_value,
        actual_value=actual_value,
        metadata=json.loads(metadata),
    )
