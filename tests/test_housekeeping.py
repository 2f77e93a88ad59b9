"""Old history goes by the hour, and nothing that goes wrong stops that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from auraconnect_exporter import housekeeping
from auraconnect_exporter.housekeeping import keep_house
from auraconnect_exporter.records import SECOND, moment
from auraconnect_exporter.store import Store, StoreUnavailable, errors, open_store
from auraconnect_exporter.store.retention import Removed
from auraconnect_exporter.store.transaction import Transaction
from tests.builders import FakeClock
from tests.store.support import error, put_episode, rows

DAY = 86400
NOTHING = Removed(episodes=0, errors=0, audit=0, set_aside=0, notices=0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store("", tmp_path)
    yield opened
    await opened.close()


@asynccontextmanager
async def kept(store: Store, retention: float) -> AsyncIterator[None]:
    """Keep house while the block lasts."""
    task = asyncio.create_task(keep_house(store, FakeClock(), retention))
    try:
        async with asyncio.timeout(10):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_older_than_the_retention_goes_at_start(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Errors and alerts that were over then are gone, younger ones and open ones are there, and the log says so."""
    now = moment(FakeClock().time())
    old = now - 31 * DAY * SECOND

    def fill(transaction: Transaction) -> None:
        put_episode(transaction, "over", old, old + SECOND)
        put_episode(transaction, "open", old, None)
        for number, at in enumerate((old, now)):
            errors.insert(transaction, error(number, at))

    await store.write(fill)
    caplog.set_level("INFO")
    async with kept(store, 30 * DAY):
        while "old history was removed" not in caplog.text:
            await asyncio.sleep(0.01)
    assert await store.read(rows("SELECT id FROM episodes")) == [("open",)]
    assert await store.read(rows("SELECT id FROM errors")) == [("e000001",)]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (StoreUnavailable("The store did not answer."), "old history was not removed; tried again in an hour"),
        (RuntimeError("a fault"), "removing old history failed; it goes on"),
    ],
)
async def test_a_failure_is_told_and_tried_again(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    said: str,
) -> None:
    """A store that is away, or a fault of ours, costs one hour's round, not all that follow."""
    rounds: list[int] = []
    again = asyncio.Event()

    async def remove(_store: Store, before: int) -> Removed:
        rounds.append(before)
        if len(rounds) == 1:
            raise failure
        again.set()
        return NOTHING

    monkeypatch.setattr(housekeeping, "remove_older", remove)
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.0)
    async with kept(store, 30 * DAY):
        await again.wait()
    assert rounds[0] == moment(FakeClock().time() - 30 * DAY)
    assert said in caplog.text
    assert "old history was removed" not in caplog.text
