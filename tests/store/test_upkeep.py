"""A backup holds all there is at one moment, goes back into either database, and is refused where it is not whole."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auraconnect_exporter.records import SECOND, NoticeState
from auraconnect_exporter.store import StoreError, StoreTooNew, audit, errors, notices, set_aside
from auraconnect_exporter.store.migrations import VERSION
from auraconnect_exporter.store.transaction import Row, Transaction
from auraconnect_exporter.store.upkeep import backup, restore, verify
from tests.store.support import (
    NOON,
    PASSWORD,
    Place,
    add_event,
    entry,
    error,
    note,
    notice,
    put_episode,
    rows,
    subjects,
)

COUNTED = {
    "episodes": 2,
    "firings": 2,
    "events": 3,
    "pages": 1,
    "open_pages": 1,
    "cursors": 1,
    "set_aside": 1,
    "audit": 2500,
    "errors": 300,
    "error_counts": 2,
    "notices": 1,
    "notice_updates": 2,
}
EVERYTHING = {
    "episodes": "SELECT * FROM episodes ORDER BY id",
    "firings": "SELECT * FROM firings ORDER BY fingerprint",
    "events": "SELECT episode, at, kind, actor, detail FROM events ORDER BY id",
    "pages": "SELECT * FROM pages",
    "open_pages": "SELECT * FROM open_pages",
    "cursors": "SELECT * FROM cursors",
    "set_aside": "SELECT at, reason, body FROM set_aside ORDER BY id",
    "audit": "SELECT at, actor, action, subject, address, outcome, detail FROM audit ORDER BY id",
    "errors": "SELECT * FROM errors ORDER BY id",
    "error_counts": "SELECT * FROM error_counts ORDER BY width, start",
    "notices": "SELECT * FROM notices",
    "notice_updates": "SELECT notice, at, state, text, actor FROM notice_updates ORDER BY id",
}


def fill(transaction: Transaction) -> None:
    """Put something into every table."""
    put_episode(transaction, "a0", NOON, None)
    put_episode(transaction, "a1", NOON, NOON + SECOND, told=False)
    add_event(transaction, "a0", NOON, "note")
    transaction.execute("INSERT INTO pages (dedup_key, episode) VALUES ('k1', 'a0')")
    transaction.execute("INSERT INTO open_pages VALUES ('k1', 'f0', '{}', '{}', 1, 2)")
    transaction.execute("INSERT INTO cursors (name, position) VALUES ('error_logs', '7')")
    notices.insert(transaction, notice("n0", (NOON, NoticeState.IDENTIFIED), (NOON + SECOND, NoticeState.RESOLVED)))
    set_aside.insert(transaction, NOON, "not JSON", bytes(range(256)))
    for number in range(2500):
        audit.insert(transaction, entry(str(number)))
    errors.insert_copied(
        transaction, (error(number, source=str(number), endpoint="/a", tags={"n": number}) for number in range(300))
    )


async def filled(place: Place) -> None:
    store = place.open()
    await store.write(fill)
    await store.close()


async def content(place: Place) -> dict[str, list[Row]]:
    store = place.open()
    found = {name: await store.read(rows(sql)) for name, sql in EVERYTHING.items()}
    await store.close()
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a second place, on each engine."""
    found: Place = request.getfixturevalue(request.param)
    return Place(found.url, tmp_path / "other")


async def test_nothing_is_left_out(sqlite: Place) -> None:
    """The tables that these tests fill and compare are all that there are."""
    store = sqlite.open()
    found = await store.read(rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'meta'"))
    await store.close()
    assert {name for (name,) in found} == set(EVERYTHING) == set(COUNTED)


async def test_a_backup_goes_back_into_either_database(sqlite: Place, other: Place, tmp_path: Path) -> None:
    """What SQLite held is, row by row, what the other holds after the restore, and both are sound."""
    file = tmp_path / "backup.gz"
    await filled(sqlite)
    assert backup(sqlite.url, sqlite.folder, file) == f"Backed up {sum(COUNTED.values())} rows to {file}."
    assert restore(other.url, other.folder, file) == f"Restored {sum(COUNTED.values())} rows from {file}."
    assert await content(other) == await content(sqlite)
    report = verify(other.url, other.folder)
    assert report == verify(sqlite.url, sqlite.folder)
    assert report.startswith("The store is sound.")
    assert all(f"- {name}: {count}" in report for name, count in COUNTED.items())
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name(f".backup.gz.{os.getpid()}").exists()


async def test_a_backup_comes_back_from_postgresql(postgresql: Place, tmp_path: Path) -> None:
    """What PostgreSQL held is what SQLite holds after the restore; the one backed up again is the same file."""
    file, again, sqlite = tmp_path / "backup.gz", tmp_path / "again.gz", Place("", tmp_path / "sqlite")
    await filled(postgresql)
    backup(postgresql.url, postgresql.folder, file)
    restore(sqlite.url, sqlite.folder, file)
    backup(sqlite.url, sqlite.folder, again)
    assert await content(sqlite) == await content(postgresql)
    assert gzip.decompress(again.read_bytes()) == gzip.decompress(file.read_bytes())


async def test_a_backup_is_made_while_the_exporter_runs(place: Place, tmp_path: Path) -> None:
    """An open store is backed up and verified without stopping it, and goes on."""
    store = place.open()
    await store.write(note("before"))
    backup(place.url, place.folder, tmp_path / "backup.gz")
    assert verify(place.url, place.folder).startswith("The store is sound.")
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]
    await store.close()


async def test_a_store_that_holds_something_is_replaced_by_force_only(place: Place, tmp_path: Path) -> None:
    """Without force it stays; with force it holds the backup and nothing else, and its revision has grown."""
    store = place.open()
    await store.write(note("backed up"))
    await store.close()
    backup(place.url, place.folder, tmp_path / "backup.gz")
    store = place.open()
    await store.write(note("later"))
    revision = await store.revision()
    await store.close()
    with pytest.raises(StoreError, match="holds 2 rows"):
        restore(place.url, place.folder, tmp_path / "backup.gz")
    restore(place.url, place.folder, tmp_path / "backup.gz", force=True)
    store = place.open()
    assert await store.read(subjects) == ["backed up"]
    assert await store.revision() > revision
    await store.write(note("and on"))  # numbers that the database gives go on as well
    assert await store.read(subjects) == ["backed up", "and on"]
    await store.close()


async def test_exporters_on_the_same_postgresql_go_on_after_a_restore(postgresql: Place, tmp_path: Path) -> None:
    """An exporter that runs while PostgreSQL's store is replaced notices by the revision, and reads what is there."""
    store = postgresql.open()
    await store.write(note("backed up"))
    backup(postgresql.url, postgresql.folder, tmp_path / "backup.gz")
    await store.write(note("later"))
    before = await store.revision()
    restore(postgresql.url, postgresql.folder, tmp_path / "backup.gz", force=True)
    assert await store.revision() > before
    assert await store.read(subjects) == ["backed up"]
    await store.close()


async def test_an_sqlite_in_use_is_not_restored(sqlite: Place, tmp_path: Path) -> None:
    """The exporter must be stopped first, and the sentence says so."""
    store = sqlite.open()
    await store.write(note("before"))
    backup(sqlite.url, sqlite.folder, tmp_path / "backup.gz")
    with pytest.raises(StoreError, match="Another process holds the store"):
        restore(sqlite.url, sqlite.folder, tmp_path / "backup.gz", force=True)
    await store.close()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def rewritten(change: Callable[[list[Any]], None], *, sealed: bool) -> Callable[[Path], None]:
    """Return what changes the lines of a backup; a sealed one gets the checksum that fits."""

    def damage(file: Path) -> None:
        lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        change(lines)
        texts = [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines]
        if sealed:
            texts[-1] = json.dumps({"sha256": hashlib.sha256(b"".join(texts[:-1])).hexdigest()}).encode()
        file.write_bytes(gzip.compress(b"".join(texts)))

    return damage


def swap_a_value(lines: list[Any]) -> None:
    next(line for line in lines[1:-1] if line[0] == "error_counts")[3] += 1


def lose_a_row(lines: list[Any]) -> None:
    del lines[-2]


def lose_the_end(lines: list[Any]) -> None:
    del lines[-1]


def lose_a_column(lines: list[Any]) -> None:
    lines[0]["columns"]["audit"].pop()


def shorten_a_row(lines: list[Any]) -> None:
    lines[-2].pop()


def name_a_table(lines: list[Any]) -> None:
    lines[-2][0] = "audit (at) SELECT 1; DROP TABLE episodes; --"


def nest_a_value(lines: list[Any]) -> None:
    lines[-2][1] = {"base64": ["no"]}


def write_text_for_a_row(lines: list[Any]) -> None:
    lines[-2] = 7


DAMAGE = {
    "truncated": truncated,
    "flipped": flipped,
    "value": rewritten(swap_a_value, sealed=False),
    "end": rewritten(lose_the_end, sealed=False),
    "row": rewritten(lose_a_row, sealed=True),
    "column": rewritten(lose_a_column, sealed=True),
    "short": rewritten(shorten_a_row, sealed=True),
    "table": rewritten(name_a_table, sealed=True),
    "nested": rewritten(nest_a_value, sealed=True),
    "text": rewritten(write_text_for_a_row, sealed=True),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_backup_changes_nothing(place: Place, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """However it was damaged or forged, it is refused, and the store holds what it held."""
    file = tmp_path / "backup.gz"
    await filled(place)
    backup(place.url, place.folder, file)
    before = await content(place)
    damage(file)
    with pytest.raises(StoreError, match="is damaged; nothing was restored"):
        restore(place.url, place.folder, file, force=True)
    assert await content(place) == before


@pytest.mark.parametrize(
    "found",
    [b"", b"a diary", gzip.compress(b'{"format": "another"}\n{}\n{}', mtime=0)],
    ids=["empty", "text", "gzip"],
)
def test_what_is_no_backup_is_refused(sqlite: Place, tmp_path: Path, found: bytes) -> None:
    """A file of something else makes no store."""
    (tmp_path / "file").write_bytes(found)
    with pytest.raises(StoreError, match=r"is no backup|is damaged"):
        restore(sqlite.url, sqlite.folder, tmp_path / "file")
    assert not sqlite.folder.exists()


def test_a_backup_that_is_not_there_is_said(sqlite: Place, tmp_path: Path) -> None:
    """The sentence names the file and why."""
    with pytest.raises(StoreError, match=f"{tmp_path / 'none'} can't be read: No such file"):
        restore(sqlite.url, sqlite.folder, tmp_path / "none")


async def test_a_newer_backup_is_refused(sqlite: Place, tmp_path: Path) -> None:
    """A backup of a newer program's tables says both versions."""
    file = tmp_path / "backup.gz"
    await filled(sqlite)
    backup(sqlite.url, sqlite.folder, file)
    rewritten(lambda lines: lines[0].update(version=VERSION + 1), sealed=True)(file)
    with pytest.raises(StoreTooNew, match=f"The backup's tables have version {VERSION + 1}.* up to version {VERSION}"):
        restore(sqlite.url, sqlite.folder, file, force=True)


async def test_a_store_that_is_not_there_is_not_made(place: Place, tmp_path: Path) -> None:
    """Who looks at a store that is not there, or was never used, is told so, and nothing is made."""
    with pytest.raises(StoreError, match=r"can't be opened|are not there"):
        backup(place.url, place.folder, tmp_path / "backup.gz")
    with pytest.raises(StoreError, match=r"can't be opened|are not there"):
        verify(place.url, place.folder)
    assert not place.folder.exists()
    assert not (tmp_path / "backup.gz").exists()


async def test_a_folder_that_can_not_be_written_is_said(sqlite: Place, tmp_path: Path) -> None:
    """A backup that finds no room says where."""
    await filled(sqlite)
    with pytest.raises(StoreError, match="can't be written: No such file"):
        backup(sqlite.url, sqlite.folder, tmp_path / "none" / "backup.gz")


FAULTS = {
    "2 firings belong to no episode": ("DELETE FROM episodes",),
    "1 episodes end before they start": ("UPDATE episodes SET ended_at = 7 WHERE id = 'a1'",),
    "1 fingerprints have several open episodes": (
        "DROP INDEX episodes_open",
        "UPDATE episodes SET fingerprint = 'same', ended_at = NULL",
    ),
    "2 errors are counted wrongly": ("DELETE FROM errors WHERE id = 'e000007'",),
    "refers to episodes, where that is not": ("DELETE FROM episodes",),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_named(sqlite: Place, fault: str) -> None:
    """What must not be in the tables, whoever put it there, is counted and said."""
    await filled(sqlite)
    store = sqlite.open()
    await store.ready()
    await store.close()
    with sqlite3.connect(sqlite.folder / "incidents.sqlite3") as theirs:
        for statement in FAULTS[fault]:
            theirs.execute(statement)
    theirs.close()
    with pytest.raises(StoreError, match=fault):
        verify(sqlite.url, sqlite.folder)


async def test_damaged_pages_are_found(sqlite: Place) -> None:
    """A file whose pages were overwritten is not called sound."""
    await filled(sqlite)
    path = sqlite.folder / "incidents.sqlite3"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = bytes(8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged"):
        verify(sqlite.url, sqlite.folder)


async def test_no_password_is_said(tmp_path: Path) -> None:
    """A server that can't be reached is named without the password."""
    url = f"postgresql://ada:{PASSWORD}@127.0.0.1:1/incidents"
    with pytest.raises(StoreError, match="can't be reached") as raised:
        backup(url, tmp_path, tmp_path / "backup.gz")
    assert PASSWORD not in str(raised.value)
