"""The audit log and the bodies that could not be used."""

from __future__ import annotations

from functools import partial

from auraconnect_exporter.records import SECOND, AuditEntry
from auraconnect_exporter.store import Store, audit, set_aside
from auraconnect_exporter.store.set_aside import BODIES, BODY_BYTES, UnusableBody
from auraconnect_exporter.store.transaction import Transaction
from tests.store.support import NOON, entry


async def test_an_entry_comes_back_as_it_was(store: Store) -> None:
    """Every field is kept."""
    written = AuditEntry(NOON, "ada", "resolve", "a1", "192.0.2.7", "refused", "still firing")
    await store.write(partial(audit.insert, entry=written))
    assert await store.read(partial(audit.newest, since=0, limit=10)) == [written]


async def test_the_newest_entries_come_first(store: Store) -> None:
    """Since a moment, up to a limit, and in the order of writing where the moment is the same."""
    for number in range(6):
        await store.write(partial(audit.insert, entry=entry(str(number), NOON + number // 2 * SECOND)))
    found = await store.read(partial(audit.newest, since=NOON + SECOND, limit=3))
    assert [one.subject for one in found] == ["5", "4", "3"]


async def test_a_body_is_kept_from_its_beginning(store: Store) -> None:
    """What can't be used stays readable, up to a size."""
    await store.write(partial(set_aside.insert, at=NOON, reason="not JSON", body=b"\0{" + b"x" * BODY_BYTES))
    (found,) = await store.read(partial(set_aside.newest, limit=10))
    assert found == UnusableBody(NOON, "not JSON", b"\0{" + b"x" * (BODY_BYTES - 2))


async def test_the_newest_bodies_are_kept(store: Store) -> None:
    """The oldest makes room, so that a sender of nonsense can't fill the disk."""

    def act(transaction: Transaction) -> None:
        for number in range(BODIES + 5):
            set_aside.insert(transaction, NOON + number, "", b"")

    await store.write(act)
    found = await store.read(partial(set_aside.newest, limit=BODIES * 2))
    assert [one.at - NOON for one in found] == list(range(BODIES + 4, 4, -1))
