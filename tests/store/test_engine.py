"""The engine keeps its word on both databases: an act happens as a whole, durably, in time, or it says so."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from auraconnect_exporter.store import Store, StoreBusy, StoreError, StoreUnavailable, engine, meta
from auraconnect_exporter.store.engine import GRACE
from auraconnect_exporter.store.transaction import Transaction
from tests.store.support import ENDLESS, PASSWORD, Place, hurried, note, rows, subjects

SLOWER = 3.0
"""What a busy machine may take beyond a deadline, in seconds."""

WRITE_AND_DIE = """
import asyncio, os, pathlib, signal, sys
from auraconnect_exporter.store import open_store
from tests.store.support import note

async def main():
    store = open_store(sys.argv[1], pathlib.Path(sys.argv[2]))
    await store.write(note("written"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def held(released: threading.Event, entered: threading.Event) -> Callable[[Transaction], None]:
    """Return an act that holds its thread until it is released."""

    def act(_: Transaction) -> None:
        entered.set()
        assert released.wait(30)

    return act


async def hold(store: Store, released: threading.Event) -> asyncio.Task[None]:
    """Hold the writer's thread; returns when it is held."""
    entered = threading.Event()
    task = asyncio.create_task(store.write(held(released, entered)))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    return task


async def test_what_was_written_survives_the_death_of_the_process(place: Place) -> None:
    """A process that is killed the moment its write returned has not lost it."""
    root = Path(__file__).parent.parent.parent
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WRITE_AND_DIE, place.url, str(place.folder)],
        env={"PYTHONPATH": f"{root / 'exporter'}:{root}"},
        check=False,
    )
    store = place.open()
    found = await store.read(subjects)
    await store.close()
    assert (died.returncode, found) == (-signal.SIGKILL, ["written"])


async def test_an_act_that_raises_leaves_nothing(store: Store) -> None:
    """What an act did before it raised is undone, its exception comes out, and the revision stays."""
    await store.write(note("before"))
    before = await store.revision()

    def act(transaction: Transaction) -> None:
        note("undone")(transaction)
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        await store.write(act)
    assert (await store.read(subjects), await store.revision()) == (["before"], before)


async def test_a_refused_statement_leaves_nothing_and_the_store_goes_on(store: Store) -> None:
    """A statement that the database refuses is a StoreError; the next write works."""

    def act(transaction: Transaction) -> None:
        note("undone")(transaction)
        transaction.execute("INSERT INTO meta (key, value) VALUES ('revision', 0)")

    with pytest.raises(StoreError, match="refused a statement") as raised:
        await store.write(act)
    await store.write(note("after"))
    assert not isinstance(raised.value, StoreUnavailable)
    assert await store.read(subjects) == ["after"]


async def test_writes_happen_in_the_order_of_the_calls(store: Store) -> None:
    """Acts of many tasks at once each have a transaction, first come, first served."""
    await asyncio.gather(*(store.write(note(str(number))) for number in range(50)))
    assert await store.read(subjects) == [str(number) for number in range(50)]


async def test_the_revision_grows_with_each_write(store: Store) -> None:
    """A write changes the revision by one, a read leaves it."""
    before = await store.revision()
    await store.write(note("one"))
    await store.read(subjects)
    await store.write(note("two"))
    assert await store.revision() == before + 2


async def test_a_full_queue_is_busy_at_once(place: Place) -> None:
    """When as many acts wait as may, the next is refused, and those that wait are done later."""
    store, released = place.open(waiting=2), threading.Event()
    holding = await hold(store, released)
    waiting = [asyncio.create_task(store.write(note(name))) for name in ("one", "two")]
    await asyncio.sleep(0)
    begun = time.monotonic()
    with pytest.raises(StoreBusy):
        await store.write(note("three"))
    assert time.monotonic() - begun < SLOWER
    released.set()
    await asyncio.gather(holding, *waiting)
    assert await store.read(subjects) == ["one", "two"]
    await store.close()


async def test_a_statement_that_runs_too_long_is_interrupted(store: Store) -> None:
    """At the deadline the caller hears of it, nothing of the act is kept, and the next write works at once."""
    await store.write(note("before"))

    def act(transaction: Transaction) -> None:
        note("undone")(transaction)
        transaction.execute(ENDLESS)

    begun = time.monotonic()
    with hurried(store, 0.4), pytest.raises(StoreUnavailable):
        await store.write(act)
    assert time.monotonic() - begun < 0.4 + GRACE + SLOWER
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]


async def test_an_act_whose_time_is_over_before_its_commit_is_undone(store: Store) -> None:
    """An act that dawdles between its statements past the deadline is not committed behind its caller's back."""
    released = threading.Event()
    await store.write(note("before"))

    def act(transaction: Transaction) -> None:
        note("undone")(transaction)
        assert released.wait(30)

    with hurried(store, 0.4), pytest.raises(StoreUnavailable, match=r"did not answer within 0\.4 seconds"):
        await store.write(act)
    released.set()
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]


async def test_an_act_whose_time_is_over_before_its_turn_never_runs(place: Place) -> None:
    """An act that waited past the deadline is taken out of the queue, and its place is free."""
    store, released, ran = place.open(waiting=1), threading.Event(), threading.Event()
    holding = await hold(store, released)
    with hurried(store, 0.2):
        with pytest.raises(StoreUnavailable):
            await store.write(lambda _: ran.set())
        with pytest.raises(StoreUnavailable):  # not StoreBusy: the place is free
            await store.write(lambda _: ran.set())
    released.set()
    await holding
    await store.write(note("after"))
    assert not ran.is_set()
    await store.close()


async def test_a_cancelled_act_that_waits_never_runs(store: Store) -> None:
    """Whoever stops waiting takes the act along."""
    released, ran = threading.Event(), threading.Event()
    holding = await hold(store, released)
    waiting = asyncio.create_task(store.write(lambda _: ran.set()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    released.set()
    await holding
    await store.write(note("after"))
    assert not ran.is_set()


async def test_a_slow_read_does_not_hold_up_writes(store: Store) -> None:
    """A write is done while a read goes on, and the read sees one state from its beginning to its end."""
    written = threading.Event()
    begun = threading.Event()

    def query(transaction: Transaction) -> tuple[list[str], list[str]]:
        before = subjects(transaction)
        begun.set()
        assert written.wait(30)
        return before, subjects(transaction)

    await store.write(note("before"))
    reading = asyncio.create_task(store.read(query))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    await store.write(note("meanwhile"))
    written.set()
    assert await reading == (["before"], ["before"])
    assert await store.read(subjects) == ["before", "meanwhile"]


async def test_a_read_can_not_write(store: Store) -> None:
    """Who writes within a read learns so."""
    with pytest.raises(StoreError, match=r"read.?only"):
        await store.read(note("lost"))
    assert await store.read(subjects) == []


async def test_closing_finishes_what_waits_and_refuses_what_comes(place: Place) -> None:
    """What was called before the close is done, what is called after it is refused."""
    store = place.open()
    writes = [asyncio.create_task(store.write(note(str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(note("late"))
    again = place.open()
    assert len(await again.read(subjects)) == 20
    await again.close()


async def test_closing_does_not_wait_for_ever(place: Place) -> None:
    """An act that hangs holds up the close for one deadline."""
    store, released = place.open(), threading.Event()
    holding = await hold(store, released)
    begun = time.monotonic()
    with hurried(store, 0.3):
        await store.close()
    assert time.monotonic() - begun < 0.3 + SLOWER
    released.set()
    await holding
    await store.close()


async def test_a_store_that_was_not_used_closes(place: Place) -> None:
    """Nothing is opened before the first act, nor made by the close."""
    await place.open().close()
    assert not place.folder.exists()


async def test_both_databases_give_back_alike(store: Store) -> None:
    """Truth, percent signs, bytes, floats and text that no database takes come back the same from either."""
    await store.write(
        rows("INSERT INTO set_aside (at, reason, body) VALUES (?, ?, ?)", True, "5%s\0é\ud800😀", b"\0\xff")
    )
    found = await store.read(rows("SELECT at, reason, body, 0.5e0, NULL FROM set_aside WHERE reason LIKE '5%'"))
    assert found == [(1, "5%s\ufffdé?😀", b"\0\xff", 0.5, None)]


async def test_a_number_that_is_too_large_is_refused(store: Store) -> None:
    """A number beyond 64 bits is a StoreError on either database."""
    with pytest.raises(StoreError, match="refused a statement"):
        await store.write(rows("INSERT INTO set_aside (at, reason, body) VALUES (?, '', ?)", 2**70, b""))


def test_no_password_is_shown(place: Place) -> None:
    """The store's ``repr`` says where it is, without the password."""
    shown = repr(place.open())
    assert "127.0.0.1" in shown or "incidents.sqlite3" in shown
    assert PASSWORD not in shown


async def test_where_nobody_else_writes_the_revision_is_remembered(
    sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for twice a second: the file is read after a write of ours, and every ten seconds, no more often."""
    store = sqlite.open()
    asked, revision = 0, meta.revision

    def read(transaction: Transaction) -> int:
        nonlocal asked
        asked += 1
        return revision(transaction)

    monkeypatch.setattr(meta, "revision", read)
    first = [await store.revision() for _ in range(3)]
    await store.write(note("ours"))
    second = [await store.revision() for _ in range(3)]
    assert (first, second, asked) == ([0, 0, 0], [1, 1, 1], 2)
    monkeypatch.setattr(engine, "REVISION_SECONDS", -1.0)
    await store.write(note("ours, too"))
    assert ([await store.revision() for _ in range(3)], asked) == ([2, 2, 2], 5)
    await store.close()
