"""The tables come step by step, once, and a newer program's are left alone."""

from __future__ import annotations

import asyncio

import pytest

from auraconnect_exporter.store import Store, StoreError, StoreTooNew, migrations
from auraconnect_exporter.store.migrations import MIGRATIONS, VERSION
from tests.store.support import Place, note, rows, subjects

TABLES = (
    "episodes",
    "firings",
    "events",
    "pages",
    "open_pages",
    "cursors",
    "set_aside",
    "audit",
    "errors",
    "error_counts",
    "notices",
    "notice_updates",
)


async def test_an_empty_database_gets_all_tables(store: Store) -> None:
    """From nothing to the present version, with all tables empty and the revision at 0."""
    await store.ready()
    found = await store.read(rows("SELECT key, value FROM meta ORDER BY key"))
    counts = [await store.read(rows(f"SELECT COUNT(*) FROM {table}")) for table in TABLES]  # noqa: S608  # ours
    assert found == [("revision", 0), ("version", VERSION)]
    assert counts == [[(0,)]] * len(TABLES)


async def test_opening_again_changes_nothing(place: Place) -> None:
    """What is there stays, whoever opens it."""
    for name in ("first", "second"):
        store = place.open()
        await store.write(note(name))
        await store.close()
    store = place.open()
    assert (await store.read(subjects), await store.revision()) == (["first", "second"], 2)
    await store.close()


async def test_a_later_step_runs_on_what_is_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program with one step more takes that step alone, and keeps the rows."""
    store = place.open()
    await store.write(note("before"))
    await store.close()
    step = ("ALTER TABLE audit ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, step))
    monkeypatch.setattr(migrations, "VERSION", VERSION + 1)
    newer = place.open()
    found = await newer.read(rows("SELECT subject, mood, (SELECT value FROM meta WHERE key = 'version') FROM audit"))
    await newer.close()
    assert found == [("before", "calm", VERSION + 1)]


async def test_a_step_that_fails_leaves_the_tables_as_they_were(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is one transaction: of one that fails halfway nothing is left, and the old program goes on."""
    store = place.open()
    await store.write(note("before"))
    await store.close()
    with monkeypatch.context() as patch:
        step = ("ALTER TABLE audit ADD COLUMN mood TEXT", "CREATE TABLE audit (nonsense TEXT)")
        patch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, step))
        patch.setattr(migrations, "VERSION", VERSION + 1)
        failing = place.open()
        with pytest.raises(StoreError, match="already exists"):
            await failing.write(note("failing"))
        await failing.close()
    store = place.open()
    columns = await store.read(rows("SELECT * FROM audit"))
    assert [len(row) for row in columns] == [8]
    await store.close()


async def test_a_newer_database_is_refused(place: Place) -> None:
    """Tables of a newer program are not touched; the sentence has both numbers and says what to do."""
    store = place.open()
    await store.write(rows("UPDATE meta SET value = ? WHERE key = 'version'", VERSION + 7))
    await store.close()
    old = place.open()
    for act in (old.ready(), old.read(subjects), old.write(note("lost"))):
        with pytest.raises(StoreTooNew, match=f"version {VERSION + 7}.*version {VERSION}: install the newer"):
            await act
    await old.close()


async def test_a_database_that_becomes_newer_is_not_written_to(postgresql: Place) -> None:
    """An exporter that still runs after another has brought the tables forward writes no more."""
    old, new = postgresql.open(), postgresql.open()
    await old.write(note("before"))
    await old.ready()
    await new.write(rows("UPDATE meta SET value = ? WHERE key = 'version'", VERSION + 1))
    with pytest.raises(StoreTooNew):
        await old.write(note("lost"))
    assert await old.read(subjects) == ["before"]
    await asyncio.gather(old.close(), new.close())


def test_no_statement_holds_what_would_be_a_parameter() -> None:
    """A question mark in a statement of a step would be taken for a parameter."""
    assert [text for step in MIGRATIONS for text in step if "?" in text] == []
