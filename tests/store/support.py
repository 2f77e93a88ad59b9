"""What the tests of the store share: a place for a store on each engine, and acts to run there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from auraconnect_exporter.records import SECOND, AuditEntry, ErrorRecord, Moment, Notice, NoticeState, NoticeUpdate
from auraconnect_exporter.store import Store, audit, open_store
from auraconnect_exporter.store.transaction import Row, Transaction
from tools.servers import PostgreSQL

PASSWORD: Final = "Hunter2-never-shown"
"""The password of the server here; no error, log record or ``repr`` may hold it."""

NOON: Final[Moment] = 1_764_072_000 * SECOND
"""A whole hour: 2025-11-25, 12:00 UTC."""

PATIENCE: Final = 30.0
"""The deadline of a store where a test is not about it, in seconds."""

ENDLESS: Final = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000000) SELECT MAX(i) FROM n"
)
"""A statement that runs for minutes on either engine."""


@dataclass(frozen=True)
class Place:
    """Where a store is: ``url`` and ``folder`` as ``open_store`` takes them."""

    url: str
    folder: Path

    def open(self, **options: Any) -> Store:
        return open_store(self.url, self.folder, **{"deadline": PATIENCE, **options})


def new_database(server: PostgreSQL) -> str:
    """Make an empty database and return its URL."""
    name = f"store_{secrets.token_hex(6)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.dsn.removesuffix("postgres") + name


def entry(subject: str, at: Moment = NOON) -> AuditEntry:
    return AuditEntry(at, actor="ada", action="acknowledge", subject=subject)


@contextmanager
def hurried(store: Store, seconds: float = 0.4) -> Iterator[None]:
    """Let the store's deadline be short for a while; all before and after has the time that a busy machine needs."""
    lanes = (store._writer, store._reader)
    for lane in lanes:
        lane._deadline = seconds
    yield
    for lane in lanes:
        lane._deadline = PATIENCE


def note(subject: str) -> Callable[[Transaction], None]:
    """Return an act that leaves one row."""
    return lambda transaction: audit.insert(transaction, entry(subject))


def subjects(transaction: Transaction) -> list[str]:
    """Return which acts have left their row, in the order in which they did."""
    return [subject for (subject,) in transaction.execute("SELECT subject FROM audit ORDER BY id")]


def rows(sql: str, *parameters: Any) -> Callable[[Transaction], list[Row]]:
    """Return an act that runs one statement."""
    return lambda transaction: transaction.execute(sql, parameters)


def error(number: int, at: Moment = NOON, **fields: Any) -> ErrorRecord:
    values = {"error_type": "ValueError", "error_message": f"error {number}", **fields}
    return ErrorRecord(id=f"e{number:06}", created_at=at, **values)


def put_episode(
    transaction: Transaction,
    id_: str,
    started: Moment,
    ended: Moment | None,
    *,
    told: bool = True,
) -> None:
    """Put an episode with its fact and an event; in SQL of its own, so that these tests need nothing of its module."""
    transaction.execute(
        "INSERT INTO episodes (id, fingerprint, alertname, severity, component, target, symptom, origin, alert_type, "
        "title, description, labels, annotations, started_at, recorded_at, ended_at, threshold_value, metadata, told) "
        "VALUES (?, ?, 'ComponentDown', 'warning', 'redis', 'cache', 'availability', 'api', 'availability', ?, '', ?, "
        "'{}', ?, ?, ?, 0.1, '{}', ?)",
        (id_, f"f-{id_}", "Ünd so weiter\n", '{"a": "b"}', started, started, ended, told),
    )
    transaction.execute(
        "INSERT INTO firings (fingerprint, starts, ends, sequence, episode) VALUES (?, ?, ?, 1, ?)",
        (f"f-{id_}", started, ended, id_),
    )
    add_event(transaction, id_, started, "fired")


def add_event(transaction: Transaction, episode: str, at: Moment, kind: str) -> None:
    transaction.execute(
        "INSERT INTO events (episode, at, kind, actor, detail) VALUES (?, ?, ?, 'ada', '')", (episode, at, kind)
    )


def notice(id_: str, *updates: tuple[Moment, NoticeState], title: str = "Orders are slow") -> Notice:
    """Return a notice with updates at some moments."""
    said = tuple(NoticeUpdate(at, state, f"We are {state}.", "ada") for at, state in updates)
    return Notice(id_, title, ("Application",), said)
