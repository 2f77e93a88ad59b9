"""SQLite: a file that needs no set-up, for one exporter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from auraconnect_exporter.store.driver import storable
from auraconnect_exporter.store.problems import StoreError, StoreUnavailable
from auraconnect_exporter.store.transaction import Row

BUSY_SECONDS: Final = 2.0
"""How long to wait for another process, such as somebody's sqlite3 shell."""

_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Failures of the machine rather than of the statement; all end without a change of the program."""

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SQLite:
    """The database in one file, held by this process alone.

    Another exporter on the same file would serve what it remembers while this one changes it. ``guarded=False`` is
    for a look from beside, such as a backup.
    """

    shared = False
    types: Mapping[str, str] = {"id": "INTEGER PRIMARY KEY", "blob": "BLOB"}

    def __init__(self, path: Path, *, guarded: bool = True) -> None:
        self._path = path
        self._guarded = guarded
        self._held: int | None = None
        self._holding = threading.Lock()
        # A new file becomes WAL only while nobody else has it open for the same, whom SQLite would not wait for.
        self._setting_up = threading.Lock()

    def __repr__(self) -> str:
        return f"SQLite({str(self._path)!r})"

    def connect(self, *, read_only: bool) -> SQLiteConnection:
        """Open the file, which is made where there is none. Raises StoreError, StoreUnavailable."""
        self._hold()
        try:
            raw = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _explain(error) from None
        connection = SQLiteConnection(raw, read_only=read_only)
        try:
            with self._setting_up:
                connection.set_up()
        except sqlite3.DatabaseError as error:
            connection.close()
            if error.sqlite_errorcode in _DAMAGE:
                raise StoreError(
                    f"{self._path} is not an SQLite database, or a damaged one: move it away, or restore a backup."
                ) from None
            raise _explain(error) from None
        return connection

    def close(self) -> None:
        """Let another process have the file."""
        with self._holding:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def _hold(self) -> None:
        """Make the folder and the file for us alone to read, and hold the lock beside it."""
        with self._holding:
            if self._held is not None:
                return
            try:
                if not self._guarded:
                    os.close(os.open(self._path, os.O_RDWR))
                    return
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._held = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # SQLite gives its -wal and -shm the rights that this file has.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            except BlockingIOError:
                self._let_go()
                raise StoreError(
                    f"Another process holds the store {self._path}: stop it, or give this exporter a data folder of "
                    "its own; several exporters can share a PostgreSQL."
                ) from None
            except OSError as error:
                self._let_go()
                raise StoreError(
                    f"The store {self._path} can't be opened ({error.strerror}): the exporter's user must own the "
                    f"folder {self._path.parent}, or be given another."
                ) from None

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


class SQLiteConnection:
    """One connection to the file."""

    def __init__(self, raw: sqlite3.Connection, *, read_only: bool) -> None:
        self._raw = raw
        self._read_only = read_only
        self._interrupted = False
        self._closing = threading.Lock()

    def set_up(self) -> None:
        """Choose durability over speed; a reader does not hold up a writer. Raises sqlite3.DatabaseError."""
        # WAL: readers and the writer go on beside each other. FULL: a commit is on the disk before it returns, where
        # WAL's usual NORMAL would lose the last ones with the machine's power.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._raw.execute(f"PRAGMA {pragma}")
        if self._read_only:
            self._raw.execute("PRAGMA query_only = ON")

    def begin(self, limit: float | None) -> None:
        """Begin; a writer takes the lock at once, so that no transaction fails halfway for want of it."""
        del limit  # nobody else writes, and `interrupt` ends what runs
        with self._explained():
            self._raw.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        with self._explained():
            return self._raw.execute(sql, storable(parameters)).fetchall()

    def commit(self) -> None:
        """Commit, unless interrupted before."""
        with self._explained():
            self._raw.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back; SQLite has done so already after some failures."""
        if self._raw.in_transaction:
            with self._explained():
                self._raw.execute("ROLLBACK")

    def interrupt(self) -> None:
        """End the statement that runs, and refuse the next."""
        with self._closing:
            self._interrupted = True
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed already
                self._raw.interrupt()

    def close(self) -> None:
        """Close it, which rolls back what is not committed."""
        with self._closing, contextlib.suppress(sqlite3.Error):
            self._raw.close()

    def tables(self) -> frozenset[str]:
        """Return the names of all tables of the file."""
        rows = self.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return frozenset(str(name) for (name,) in rows)

    def make_place(self) -> None:
        """Do nothing: the file is there."""

    def faults(self) -> list[str]:
        """Return what SQLite finds wrong with the pages, the indexes and the references."""
        pages = [str(said) for (said,) in self.execute("PRAGMA integrity_check(10)") if said != "ok"]
        lost = [
            f"{table} refers to {of}, where that is not" for table, _, of, _ in self.execute("PRAGMA foreign_key_check")
        ]
        return pages + lost[:10]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        if self._interrupted:
            raise StoreUnavailable("The store took too long and was interrupted.")
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error) from error
        except OverflowError as error:
            raise StoreError("The store refused a statement: a number has more than 64 bits.") from error


def _explain(error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says which kind of it
    if code in _PASSING:
        return StoreUnavailable(f"The store's file can't be used just now: {error}.")
    if code in _DAMAGE:
        return StoreError(f"The store's file is damaged ({error}): restore a backup.")
    return StoreError(f"The store refused a statement: {error}.")
