"""What an administrator does with a store from the command line: back it up, restore it, see whether it is sound.

Each function takes the store's URL and the data folder as ``open_store`` does, returns what there is to say, and
raises StoreError.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auraconnect_exporter.store import driver_for, dump, errors, meta, migrations
from auraconnect_exporter.store.driver import Connection, Driver, insert_rows
from auraconnect_exporter.store.problems import StoreError
from auraconnect_exporter.store.transaction import Row, Transaction

PAGE: Final = 1000
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table, in whose ``columns`` all is said; ``key`` orders its rows and may be a number that is not kept."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def _table(name: str, key: str, columns: str) -> _Table:
    return _Table(name, tuple(columns.split(", ")), tuple(key.split(", ")))


# Those that others refer to come first.
_TABLES: Final = (
    _table(
        "episodes",
        "id",
        "id, fingerprint, alertname, severity, component, target, symptom, origin, alert_type, title, description, "
        "labels, annotations, started_at, recorded_at, ended_at, ended_by, forced, acknowledged_at, acknowledged_by, "
        "threshold_value, actual_value, metadata, told",
    ),
    _table("firings", "fingerprint, starts", "fingerprint, starts, ends, sequence, episode"),
    _table("events", "id", "episode, at, kind, actor, detail"),
    _table("pages", "dedup_key, episode", "dedup_key, episode"),
    _table("open_pages", "dedup_key, fingerprint", "dedup_key, fingerprint, labels, annotations, starts, heard"),
    _table("cursors", "name", "name, position"),
    _table("set_aside", "id", "at, reason, body"),
    _table("audit", "id", "at, actor, action, subject, address, outcome, detail"),
    _table("errors", "id", errors.COLUMNS),
    _table("error_counts", "width, start", "width, start, total, types, endpoints"),
    _table("notices", "id", "id, title, components, started_at, over"),
    _table("notice_updates", "id", "notice, at, state, text, actor"),
)


def backup(url: str, data_folder: Path, to: Path) -> str:
    """Write all that the store holds at one moment into a file; the exporter may run meanwhile."""
    with _connected(driver_for(url, data_folder, guarded=False), read_only=True) as connection, _looking(connection):
        counts = _counts(connection)
        header = dump.Header(migrations.VERSION, {table.name: table.columns for table in _TABLES}, counts)
        rows = ((table.name, row) for table in _TABLES for row in _rows(connection, table))
        dump.write(to, header, rows)
    return f"Backed up {sum(counts.values())} rows to {to}."


def restore(url: str, data_folder: Path, source: Path, *, force: bool = False) -> str:
    """Replace what the store holds by a backup, as a whole or not at all; the exporter of an SQLite must be stopped.

    A store that holds something is replaced with ``force`` only.
    """
    driver = driver_for(url, data_folder)
    with dump.reading(source) as (header, lines), _connected(driver, read_only=False) as connection:
        meta.refuse_newer(header.version, migrations.VERSION, "The backup's tables")
        connection.begin(None)
        with _undone_on_error(connection):
            revision = _make_room(connection, force=force)
            migrations.take_steps(connection, driver, 0, header.version)
            if not _insert(connection, header, lines):
                raise dump.damaged(source)
            migrations.take_steps(connection, driver, header.version, migrations.VERSION)
            # Exporters that run on the same PostgreSQL notice that everything may have changed.
            connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision + 1,))
            connection.commit()
    return f"Restored {sum(header.rows.values())} rows from {source}."


def verify(url: str, data_folder: Path) -> str:
    """Return what the store holds if it is sound; the exporter may run meanwhile. Raises StoreError with each fault."""
    with _connected(driver_for(url, data_folder, guarded=False), read_only=True) as connection:
        faults = connection.faults()
        with _looking(connection):
            counts = _counts(connection)
            faults += [f"{found} {what}" for what, count in _INVARIANTS for found in [count(connection)] if found]
    if faults:
        raise StoreError("\n".join(["The store is damaged:", *(f"- {fault}" for fault in faults)]))
    held = "\n".join(f"- {table}: {count}" for table, count in counts.items())
    return f"The store is sound. Its tables have version {migrations.VERSION} and hold:\n{held}"


@contextlib.contextmanager
def _connected(driver: Driver, *, read_only: bool) -> Iterator[Connection]:
    try:
        with contextlib.closing(driver.connect(read_only=read_only)) as connection:
            yield connection
    finally:
        driver.close()


@contextlib.contextmanager
def _looking(connection: Connection) -> Iterator[None]:
    """See one state of a store whose tables are those of this program."""
    connection.begin(None)
    with _undone_on_error(connection):
        if not migrations.is_current(connection):
            raise StoreError("The store's tables are not there, or older than this program: start the exporter once.")
        yield
    connection.rollback()


@contextlib.contextmanager
def _undone_on_error(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(StoreError):  # lost: the database rolls back by itself
            connection.rollback()
        raise


def _counts(transaction: Transaction) -> dict[str, int]:
    return {table.name: _held(transaction, table.name) for table in _TABLES}


def _held(transaction: Transaction, table: str) -> int:
    return _number(transaction, f"SELECT COUNT(*) FROM {table}")  # noqa: S608  # a name of ours


def _number(transaction: Transaction, sql: str) -> int:
    ((number,),) = transaction.execute(sql)
    return int(number)


def _rows(transaction: Transaction, table: _Table) -> Iterator[Row]:
    """Return the rows of a table, page by page, so that no more than one is in memory."""
    key, marks = ", ".join(table.key), ", ".join("?" for _ in table.key)
    select = f"SELECT {key}, {', '.join(table.columns)} FROM {table.name}"  # noqa: S608  # names of ours
    order = f"ORDER BY {key} LIMIT {PAGE}"
    page = transaction.execute(f"{select} {order}")
    while page:
        yield from (row[len(table.key) :] for row in page)
        page = transaction.execute(f"{select} WHERE ({key}) > ({marks}) {order}", page[-1][: len(table.key)])


def _make_room(connection: Connection, *, force: bool) -> int:
    """Remove the tables that are there, and return the revision that they had."""
    connection.make_place()
    tables = connection.tables()
    if not tables:
        return 0
    if "meta" not in tables:
        raise StoreError("The database has tables but not ours: it belongs to another program.")
    names = [table.name for table in _TABLES if table.name in tables]
    held = sum(_held(connection, name) for name in names)
    if held and not force:
        raise StoreError(f"The store holds {held} rows that a restore would replace: say --force if it should.")
    revision = meta.revision(connection)
    # Those that refer to others go first; then what only a newer program knows.
    for name in (*reversed(names), *sorted(tables - set(names))):
        connection.execute(f'DROP TABLE "{name}"')
    return revision


def _insert(transaction: Transaction, header: dump.Header, lines: dump.Lines) -> bool:
    """Insert the rows of a backup; returns whether they are those that its header names."""
    columns = {table.name: table.columns for table in _TABLES}
    if header.columns != columns:
        return False
    inserted: Counter[str] = Counter()
    for table, rows in itertools.groupby(lines, key=lambda line: line[0]):
        if table not in columns:
            return False
        while page := [row for _, row in itertools.islice(rows, PAGE)]:
            if any(len(row) != len(columns[table]) for row in page):
                return False
            insert_rows(transaction, f"{table} ({', '.join(columns[table])})", page)
            inserted[table] += len(page)
    return inserted == Counter(header.rows)


def _uncounted_errors(transaction: Transaction) -> int:
    """Return by how many the counts of hours or minutes differ from the errors; what is being removed has none."""
    differences = 0
    for width in (errors.HOUR, errors.MINUTE):
        ((counted, first),) = transaction.execute(
            "SELECT COALESCE(SUM(total), 0), MIN(start) FROM error_counts WHERE width = ?", (width,)
        )
        ((kept,),) = transaction.execute("SELECT COUNT(*) FROM errors WHERE created_at >= ?", (first or 0,))
        differences += abs(int(counted) - kept)
    return differences


def _counting(sql: str) -> Callable[[Transaction], int]:
    return lambda transaction: _number(transaction, sql)


_INVARIANTS: Final[tuple[tuple[str, Callable[[Transaction], int]], ...]] = (
    (
        "fingerprints have several open episodes",
        _counting(
            "SELECT COUNT(*) FROM (SELECT fingerprint FROM episodes WHERE ended_at IS NULL "
            "GROUP BY fingerprint HAVING COUNT(*) > 1) AS several"
        ),
    ),
    (
        "firings belong to no episode",
        _counting("SELECT COUNT(*) FROM firings WHERE episode NOT IN (SELECT id FROM episodes)"),
    ),
    (
        "events belong to no episode",
        _counting("SELECT COUNT(*) FROM events WHERE episode NOT IN (SELECT id FROM episodes)"),
    ),
    ("episodes end before they start", _counting("SELECT COUNT(*) FROM episodes WHERE ended_at < started_at")),
    ("errors are counted wrongly", _uncounted_errors),
)
"""What must not be found, and how many there are of it."""
