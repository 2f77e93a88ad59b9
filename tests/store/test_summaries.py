"""A summary is kept for as long as nothing can have changed it, and not longer."""

from __future__ import annotations

from functools import partial

from auraconnect_exporter.records import SECOND
from auraconnect_exporter.store import Store, errors
from auraconnect_exporter.store.errors import HOUR
from auraconnect_exporter.store.summaries import Summaries
from tests.store.support import NOON, Place, error, rows


async def test_a_summary_follows_every_write(store: Store) -> None:
    """Whoever asks after an error was written has it counted, for each number of hours."""
    summaries = Summaries(store)
    for number in range(3):
        await store.write(partial(errors.insert, error=error(number, NOON - number * HOUR * SECOND)))
        found = [(await summaries.get(NOON, hours)).total_errors for hours in (1, 2, 24)]
        assert found == [min(number + 1, hours + 1) for hours in (1, 2, 24)]


async def test_a_summary_follows_the_clock(store: Store) -> None:
    """Without any write, an error leaves the window when its time is over."""
    summaries = Summaries(store)
    await store.write(partial(errors.insert, error=error(1, NOON)))
    found = [(await summaries.get(NOON + seconds * SECOND, 1)).total_errors for seconds in (HOUR, HOUR + 59, HOUR + 60)]
    assert found == [1, 1, 0]


async def test_another_exporters_write_counts(postgresql: Place) -> None:
    """An error that came in by another exporter is in the next summary."""
    ours, theirs = postgresql.open(), postgresql.open()
    summaries = Summaries(ours)
    before = await summaries.get(NOON, 1)
    await theirs.write(partial(errors.insert, error=error(1)))
    after = await summaries.get(NOON, 1)
    await ours.close()
    await theirs.close()
    assert (before.total_errors, after.total_errors) == (0, 1)


async def test_what_nothing_changed_is_not_read_again(sqlite: Place) -> None:
    """The same summary is given as long as neither the revision nor the minute is another."""
    store = sqlite.open()
    summaries = Summaries(store)
    first = await summaries.get(NOON, 1)
    assert await summaries.get(NOON + 59 * SECOND, 1) is first
    await store.write(rows("SELECT 1"))
    assert await summaries.get(NOON, 1) is not first
    await store.close()
