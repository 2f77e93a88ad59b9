"""What is old is removed, what is open or still to be told is not, and nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from auraconnect_exporter.records import SECOND, NoticeState
from auraconnect_exporter.store import Store, audit, errors, notices, set_aside
from auraconnect_exporter.store.errors import HOUR, ErrorFilter
from auraconnect_exporter.store.retention import BATCH, Removed, remove_older
from auraconnect_exporter.store.transaction import Transaction
from tests.store.support import NOON, entry, error, note, notice, put_episode, rows

DAY = 24 * HOUR * SECOND
BEFORE = NOON - 30 * DAY
OLD = BEFORE - DAY


async def test_what_is_open_or_untold_is_kept_however_old(store: Store) -> None:
    """Only an episode that was over before, and whose end everybody knows, goes, with its facts and its events."""

    def act(transaction: Transaction) -> None:
        put_episode(transaction, "over", OLD, OLD + SECOND)
        put_episode(transaction, "open", OLD, None)
        put_episode(transaction, "untold", OLD, OLD + SECOND, told=False)
        put_episode(transaction, "over-lately", OLD, BEFORE)

    await store.write(act)
    removed = await remove_older(store, BEFORE)
    kept = ["open", "over-lately", "untold"]
    assert removed == Removed(episodes=1, errors=0, audit=0, set_aside=0, notices=0)
    assert await store.read(rows("SELECT id FROM episodes ORDER BY id")) == [(name,) for name in kept]
    assert await store.read(rows("SELECT episode FROM firings ORDER BY episode")) == [(name,) for name in kept]
    assert await store.read(rows("SELECT episode FROM events ORDER BY episode")) == [(name,) for name in kept]


async def test_errors_go_by_whole_hours_with_their_counts(store: Store) -> None:
    """Errors before the hour of the moment are gone, resolved or not; those since are there, and counted."""

    def act(transaction: Transaction) -> None:
        for number, at in enumerate((OLD, OLD + 1, BEFORE - 1, BEFORE, BEFORE + HOUR * SECOND)):
            errors.insert(transaction, error(number, at, resolved=number % 2 == 0, endpoint="/a"))

    await store.write(act)
    removed = await remove_older(store, BEFORE + 59 * SECOND)
    found = await store.read(partial(errors.newest, wanted=ErrorFilter(0), limit=10))
    counted = await store.read(rows("SELECT width, total FROM error_counts ORDER BY width, start"))
    assert removed.errors == 3
    assert [one.id for one in found] == ["e000004", "e000003"]
    assert counted == [(60, 1), (60, 1), (3600, 1), (3600, 1)]


async def test_old_entries_and_bodies_go(store: Store) -> None:
    """The audit log and the bodies put aside lose what is older than the moment."""
    for at in (BEFORE - 1, BEFORE):
        await store.write(partial(audit.insert, entry=entry("", at)))
        await store.write(partial(set_aside.insert, at=at, reason="", body=b""))
    assert await remove_older(store, BEFORE) == Removed(episodes=0, errors=0, audit=1, set_aside=1, notices=0)
    assert await store.read(rows("SELECT a.at, s.at FROM audit AS a, set_aside AS s")) == [(BEFORE, BEFORE)]


async def test_what_the_public_was_told_goes_once_it_is_over(store: Store) -> None:
    """A notice goes with its updates when its incident was over before, never one that is not over."""
    opened = (OLD, NoticeState.INVESTIGATING)
    ends = {"over": (BEFORE - 1, NoticeState.RESOLVED), "over-lately": (BEFORE, NoticeState.RESOLVED)}
    for id_ in ("open", *ends):
        await store.write(partial(notices.insert, notice=notice(id_, opened, *([ends[id_]] if id_ in ends else []))))
    assert (await remove_older(store, BEFORE)).notices == 1
    found = await store.read(partial(notices.newest, since=0, limit=10))
    assert sorted((one.id, len(one.updates)) for one in found) == [("open", 1), ("over-lately", 2)]
    assert await store.read(rows("SELECT COUNT(*) FROM notice_updates")) == [(3,)]


async def test_writes_go_on_meanwhile(store: Store) -> None:
    """However much is removed, a write waits for one batch, not for all of them."""

    def act(transaction: Transaction) -> None:
        errors.insert_copied(transaction, (error(number, OLD, source=str(number)) for number in range(BATCH * 20)))

    await store.write(act)
    removing = asyncio.create_task(remove_older(store, BEFORE))
    waits = []
    while not removing.done():
        begun = time.monotonic()
        await store.write(note("meanwhile"))
        waits.append(time.monotonic() - begun)
    assert (await removing).errors == BATCH * 20
    assert len(waits) >= 10
    assert max(waits) < 1
