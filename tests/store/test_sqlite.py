"""The file of SQLite: for us alone, held once, and refused in words where it can't be used."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from auraconnect_exporter.store import StoreError, StoreUnavailable, open_store
from tests.store.support import Place, note, rows, subjects


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_the_file_is_for_us_alone(sqlite: Place) -> None:
    """Folder and files are made so that no other user reads them, those that SQLite adds included."""
    store = sqlite.open()
    await store.write(note("written"))
    files = {path.name: mode(path) for path in sqlite.folder.iterdir()}
    await store.close()
    name = "incidents.sqlite3"
    assert mode(sqlite.folder) == 0o700
    assert files == dict.fromkeys((name, f"{name}-wal", f"{name}-shm", f"{name}.lock"), 0o600)


async def test_commits_are_durable_and_reads_go_on_beside_them(sqlite: Place) -> None:
    """The writer's connection waits for the disk at each commit, in the mode in which readers go on, and minds keys."""
    store = sqlite.open()
    settings = [await store.write(rows(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]
    await store.close()
    assert settings == [[("wal",)], [(2,)], [(1,)]]  # 2: FULL


async def test_a_second_exporter_is_refused_until_the_first_has_closed(sqlite: Place) -> None:
    """Two exporters can't share the file; when the first is gone, the second can have it."""
    first, second = sqlite.open(), sqlite.open()
    await first.write(note("first"))
    with pytest.raises(StoreError, match="Another process holds the store") as raised:
        await second.ready()
    assert not isinstance(raised.value, StoreUnavailable)
    await first.close()
    await second.write(note("second"))
    assert await second.read(subjects) == ["first", "second"]
    await second.close()


async def test_what_is_no_database_is_refused(sqlite: Place) -> None:
    """A file with something else in it is named, and left as it is."""
    sqlite.folder.mkdir()
    path = sqlite.folder / "incidents.sqlite3"
    path.write_bytes(b"a diary, not a database. " * 100)
    store = sqlite.open()
    with pytest.raises(StoreError, match=f"{path} is not an SQLite database"):
        await store.ready()
    await store.close()
    assert path.read_bytes() == b"a diary, not a database. " * 100


async def test_another_programs_database_is_refused(sqlite: Place) -> None:
    """A database with tables of somebody else stays as it is."""
    sqlite.folder.mkdir()
    with sqlite3.connect(sqlite.folder / "incidents.sqlite3") as theirs:
        theirs.execute("CREATE TABLE bookmarks (url TEXT)")
    theirs.close()
    store = sqlite.open()
    with pytest.raises(StoreError, match="belongs to another program"):
        await store.ready()
    await store.close()


@pytest.mark.parametrize("folder", ["occupied", "occupied/deeper"])
async def test_a_folder_that_can_not_be_is_refused(tmp_path: Path, folder: str) -> None:
    """Where a file is in the way, the sentence says which folder is wanted."""
    (tmp_path / "occupied").touch()
    store = open_store("", tmp_path / folder)
    with pytest.raises(StoreError, match=f"can't be opened .* must own the folder {tmp_path / folder}"):
        await store.ready()
    await store.close()


async def test_a_write_waits_for_another_process(sqlite: Place) -> None:
    """Somebody's shell that holds the file for a moment delays a write and does not fail it."""
    store = sqlite.open()
    await store.ready()
    theirs = sqlite3.connect(sqlite.folder / "incidents.sqlite3", isolation_level=None)
    theirs.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(store.write(note("written")))
    done, _ = await asyncio.wait({writing}, timeout=0.2)
    theirs.execute("ROLLBACK")
    theirs.close()
    await writing
    await store.close()
    assert not done


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://", "must hold the path"),
        ("sqlite:///", "must hold the path"),
        ("sqlite://relative.sqlite3", "must hold the path"),
        ("mysql://ada:Hunter2@db/incidents", "is not a URL such as postgresql"),
        ("postgresql://ada:Hunter2@db:0/incidents", "port"),
    ],
)
def test_a_url_that_names_no_store_is_refused(tmp_path: Path, url: str, complaint: str) -> None:
    """The sentence says what is wrong, without the URL and its password."""
    with pytest.raises(StoreError, match=complaint) as raised:
        open_store(url, tmp_path)
    assert "Hunter2" not in str(raised.value)


async def test_a_url_can_name_the_file(tmp_path: Path) -> None:
    """``sqlite:///path`` is that path."""
    store = open_store(f"sqlite://{tmp_path}/here/named.db", tmp_path / "elsewhere")
    await store.ready()
    await store.close()
    assert (tmp_path / "here" / "named.db").exists()
    assert not (tmp_path / "elsewhere").exists()
