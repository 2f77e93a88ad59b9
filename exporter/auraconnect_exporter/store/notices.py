"""The SQL of what the public is told: notices and their updates, which are only ever added."""

from __future__ import annotations

import json

from auraconnect_exporter.records import Moment, Notice, NoticeState, NoticeUpdate
from auraconnect_exporter.store.transaction import Transaction


def insert(transaction: Transaction, notice: Notice) -> None:
    """Add a notice with its updates."""
    transaction.execute(
        "INSERT INTO notices (id, title, components, started_at) VALUES (?, ?, ?, ?)",
        (notice.id, notice.title, json.dumps(notice.components), notice.started_at),
    )
    for update in notice.updates:
        add(transaction, notice.id, update)


def add(transaction: Transaction, id_: str, update: NoticeUpdate) -> None:
    """Add an update to a notice."""
    over = update.at if update.state is NoticeState.RESOLVED else None
    transaction.execute("UPDATE notices SET over = ? WHERE id = ?", (over, id_))
    transaction.execute(
        "INSERT INTO notice_updates (notice, at, state, text, actor) VALUES (?, ?, ?, ?, ?)",
        (id_, update.at, update.state.value, update.text, update.actor),
    )


def newest(transaction: Transaction, since: Moment, limit: int) -> list[Notice]:
    """Return the notices that are not over, and those that were since a moment, newest first."""
    rows = transaction.execute(
        "SELECT id, title, components FROM notices WHERE over IS NULL OR over >= ? "
        "ORDER BY started_at DESC, id LIMIT ?",
        (since, limit),
    )
    return [
        Notice(id_, title, tuple(json.loads(components)), _updates(transaction, id_)) for id_, title, components in rows
    ]


def get(transaction: Transaction, id_: str) -> Notice | None:
    """Return one notice."""
    rows = transaction.execute("SELECT title, components FROM notices WHERE id = ?", (id_,))
    return Notice(id_, rows[0][0], tuple(json.loads(rows[0][1])), _updates(transaction, id_)) if rows else None


def _updates(transaction: Transaction, id_: str) -> tuple[NoticeUpdate, ...]:
    rows = transaction.execute("SELECT at, state, text, actor FROM notice_updates WHERE notice = ? ORDER BY id", (id_,))
    return tuple(NoticeUpdate(at, NoticeState(state), text, actor) for at, state, text, actor in rows)
