"""Following a table: counters go on over restarts, don't jump over gaps, and several exporters count alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.request_log import RequestLog
from auraconnect_exporter.request_log.follower import (
    ABSENT_SECONDS,
    RETRY_SECONDS,
    SAVE_SECONDS,
    SHOWN_SECONDS,
    STEP_SECONDS,
    Follower,
)
from auraconnect_exporter.request_log.tables import Requests, RequestState
from auraconnect_exporter.store import Store, cursors
from tests.probes.support import CLOCK, PASSWORD, Leaks
from tests.request_log.support import Connection, auraconnect, now, steps, total, write
from tests.store.support import Place
from tools.servers import PostgreSQL, free_port


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def dsn(postgresql_server: PostgreSQL) -> str:
    """Return AuraConnect's database, on a server shared with other tests."""
    return auraconnect(postgresql_server)


@pytest.fixture
def api(dsn: str) -> Iterator[Connection]:
    """Return the API's connection to it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Return an empty store in a file."""
    opened = Place("", tmp_path / "data").open()
    yield opened
    await opened.close()


def follow(dsn: str, store: Store, clock: Clock, timeout: float = 10.0) -> Follower[RequestState]:
    """Return what follows the requests, as after a start."""
    return Follower(Requests(), steps(dsn, timeout=timeout), store, clock)


def shown(follower: Follower[RequestState]) -> int | None:
    """Return how many requests /metrics shows; None where it shows no counters."""
    counted = follower.latest.counted
    return None if counted is None else total(counted)


async def catch_up(follower: Follower[RequestState]) -> float:
    """Step until there is no more at once; returns the pause that follows."""
    while (pause := await follower.step()) == 0.0:
        pass
    return pause


async def test_counters_go_on_over_a_restart(dsn: str, api: Connection, store: Store) -> None:
    """However old the saved state is: what was counted since is counted again, and comes to the same and more."""
    clock = Clock()
    follower = follow(dsn, store, clock)
    write(api, now(api))
    assert await catch_up(follower) == STEP_SECONDS
    write(api, now(api), "/second")
    await catch_up(follower)
    assert shown(follower) == 2
    write(api, now(api))
    follower = follow(dsn, store, clock)
    assert shown(follower) is None
    await catch_up(follower)
    assert shown(follower) == 3


async def test_counters_are_hidden_until_what_was_missed_is_counted(dsn: str, api: Connection, store: Store) -> None:
    """While the table could not be read for a minute; so they come back with all that happened, and never jump."""
    clock = Clock()
    write(api, now(api))
    follower = follow(dsn, store, clock)
    await catch_up(follower)
    assert shown(follower) == 1
    with psycopg.connect(dsn) as migration:
        migration.execute("ALTER TABLE performance_metrics RENAME created_at TO moved")
        migration.commit()
        assert await follower.step() == RETRY_SECONDS
        assert (follower.latest.ok, shown(follower)) == (False, 1)
        clock.seconds += SHOWN_SECONDS
        assert shown(follower) is None
        migration.execute("ALTER TABLE performance_metrics RENAME moved TO created_at")
    write(api, now(api))
    await catch_up(follower)
    assert (follower.latest.ok, shown(follower)) == (True, 2)


async def test_a_first_start_shows_nothing_half_counted(dsn: str, api: Connection, store: Store) -> None:
    """Five minutes are read in slices; counters appear once all are."""
    for minutes in range(5):
        write(api, now(api) - timedelta(minutes=minutes))
    follower = follow(dsn, store, Clock())
    seen = [shown(follower)]
    while await follower.step() == 0.0:
        seen.append(shown(follower))
    assert set(seen) == {None}
    assert shown(follower) == 5


async def test_the_store_is_written_once_a_minute(dsn: str, api: Connection, store: Store) -> None:
    """Each time with all that was counted by then."""
    clock = Clock()
    follower = follow(dsn, store, clock)
    await catch_up(follower)
    revision = await store.revision()
    write(api, now(api))
    await catch_up(follower)
    assert await store.revision() == revision
    clock.seconds += SAVE_SECONDS
    await catch_up(follower)
    assert await store.revision() > revision
    saved = await store.read(lambda transaction: cursors.get(transaction, "performance_metrics counts"))
    assert saved is not None
    assert total(Requests().decode(saved)) == 1


async def test_exporters_that_share_a_store_count_alike(dsn: str, api: Connection, shared_place: Place) -> None:
    """Each row once, although both save: who comes second goes on from what the first has saved."""
    first_store, second_store = shared_place.open(), shared_place.open()
    clock = Clock()
    first, second = follow(dsn, first_store, clock), follow(dsn, second_store, clock)
    for number in range(8):
        write(api, now(api), f"/{'ab'[number % 2]}")
        for follower in (first, second) if number % 3 else (second, first):
            await catch_up(follower)
            await catch_up(follower)
        assert (shown(first), shown(second)) == (number + 1, number + 1)
        clock.seconds += SAVE_SECONDS / 2
    for follower in (first, second, first):  # none of them waits for the other to save
        clock.seconds += SAVE_SECONDS
        write(api, now(api))
        await catch_up(follower)
        await catch_up(follower)
        saved = await first_store.read(lambda transaction: cursors.get(transaction, "performance_metrics counts"))
        assert saved is not None
        assert total(Requests().decode(saved)) == shown(follower)
    await asyncio.gather(first_store.close(), second_store.close())


async def test_a_table_that_is_not_there_is_looked_for_once_a_minute(
    dsn: str, api: Connection, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word, and when it comes it is counted."""
    api.execute("ALTER TABLE performance_metrics RENAME TO away")
    follower = follow(dsn, store, Clock())
    assert await follower.step() == ABSENT_SECONDS
    assert (follower.latest.ok, shown(follower)) == (None, None)
    api.execute("ALTER TABLE away RENAME TO performance_metrics")
    write(api, now(api))
    await catch_up(follower)
    assert shown(follower) == 1
    assert caplog.records == []


async def test_a_state_that_can_not_be_read_is_replaced(
    dsn: str, api: Connection, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Counting begins anew, and says so."""
    await store.write(lambda transaction: cursors.put(transaction, "performance_metrics counts", '{"no": "state"}'))
    write(api, now(api))
    follower = follow(dsn, store, Clock())
    await catch_up(follower)
    assert shown(follower) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "what was counted of performance_metrics can't be read; counting begins anew"
    ]


async def test_a_database_that_is_away_is_one_line(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, and without the password."""
    caplog.set_level(logging.DEBUG, logger="auraconnect_exporter")
    follower = follow(f"postgresql://monitoring:{PASSWORD}@127.0.0.1:{free_port()}/a", store, Clock())
    for _ in range(3):
        assert await follower.step() == RETRY_SECONDS
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO] == [
        "AuraConnect's performance_metrics can't be read"
    ]
    assert PASSWORD not in caplog.text


async def test_a_frozen_database_holds_no_step(tmp_path: Path, store: Store) -> None:
    """Each ends at its deadline and leaves nothing open; afterwards counting goes on."""
    with PostgreSQL(tmp_path, password=PASSWORD) as server:
        dsn = auraconnect(server)
        with psycopg.connect(dsn, autocommit=True) as api:
            write(api, now(api))
            follower = follow(dsn, store, Clock(), timeout=0.5)
            await catch_up(follower)
            leaks = Leaks()
            server.freeze()
            try:
                for _ in range(2):
                    begun = CLOCK.monotonic()
                    assert await follower.step() == RETRY_SECONDS
                    assert CLOCK.monotonic() - begun < 2.0
            finally:
                server.thaw()
            write(api, now(api))
            await catch_up(follow(dsn, store, Clock()))
            await catch_up(follower)
            assert shown(follower) == 2
        assert await leaks.found() == {}


@asynccontextmanager
async def counting(dsn: str, store: Store) -> AsyncIterator[RequestLog]:
    """Count in the background as the exporter does."""
    log = RequestLog(endpoints.postgres(dsn), store, CLOCK)
    task = asyncio.create_task(log.run())
    yield log
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_store_that_fails_ends_nothing(dsn: str, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It is said and tried again; nothing that was counted is shown as if it were kept."""
    await store.close()
    async with counting(dsn, store) as log:
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
        assert log.latest.requests.counted is None
    assert {record.getMessage() for record in caplog.records} == {
        "performance_metrics can't be counted; tried again soon",
        "error_logs can't be counted; tried again soon",
    }
