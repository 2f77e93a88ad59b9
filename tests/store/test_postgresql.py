"""PostgreSQL may freeze, restart or cut connections: the store says so in time, loses nothing, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter.store import Store, StoreError, StoreUnavailable, audit, open_store
from auraconnect_exporter.store.engine import GRACE
from auraconnect_exporter.store.postgresql import CONNECT_SECONDS, WRITER_LOCK
from auraconnect_exporter.store.transaction import Transaction
from tests.store.support import PASSWORD, Place, entry, hurried, new_database, note, rows, subjects
from tools.servers import PostgreSQL, free_port

SLOWER = 3.0
"""What a busy machine may take beyond a deadline, in seconds."""


@contextmanager
def administrator(place: Place) -> Iterator[psycopg.Connection]:
    """Connect to the database of a place as its superuser."""
    with psycopg.connect(place.url, autocommit=True) as connection:
        yield connection


def cut(place: Place) -> None:
    """End the connections of the store."""
    with administrator(place) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def wait_until_it_answers(store: Store) -> None:
    while True:
        try:
            return await store.ready()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def test_a_frozen_server_holds_nobody_up(postgresql: Place, server: PostgreSQL) -> None:
    """Reads and writes fail at their deadline, a second round of them too; after the thaw everything works."""
    store = postgresql.open()
    await store.write(note("before"))
    await store.ready()
    server.freeze()
    try:
        with hurried(store, 0.5):
            for _ in range(2):
                begun = time.monotonic()
                outcomes = await asyncio.gather(
                    *(store.write(note("frozen")) for _ in range(5)), store.revision(), return_exceptions=True
                )
                assert time.monotonic() - begun < 0.5 + GRACE + SLOWER
                assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    finally:
        server.thaw()
    await wait_until_it_answers(store)
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]
    await store.close()


async def test_a_connection_that_never_answers_is_given_up(postgresql: Place) -> None:
    """Where a single connection hangs for good, one act fails at its deadline and the next has a new connection."""
    store = postgresql.open()
    ((process,),) = await store.write(rows("SELECT pg_backend_pid()"))
    os.kill(process, signal.SIGSTOP)
    try:
        with hurried(store, 0.5), pytest.raises(StoreUnavailable):
            await store.write(note("hung"))
        await store.write(note("after"))
        assert await store.read(subjects) == ["after"]
    finally:
        os.kill(process, signal.SIGCONT)
    await store.close()


async def test_a_server_that_is_frozen_while_one_connects_holds_nobody_up(
    postgresql: Place, server: PostgreSQL
) -> None:
    """A first connection that gets no answer is given up; the caller hears at the deadline."""
    store = postgresql.open()
    server.freeze()
    try:
        begun = time.monotonic()
        with hurried(store, 0.5), pytest.raises(StoreUnavailable):
            await store.write(note("frozen"))
        assert time.monotonic() - begun < 0.5 + GRACE + SLOWER
    finally:
        server.thaw()
    await wait_until_it_answers(store)
    assert await store.read(subjects) == []
    await store.close()


async def test_a_killed_server_comes_back(tmp_path: Path) -> None:
    """While the server is gone every act says so at once; when it is back the next one works, with all there was."""
    with PostgreSQL(tmp_path, password=PASSWORD, settings={"fsync": "on"}) as own:
        store = open_store(own.dsn, tmp_path)
        await store.write(note("before"))
        own.kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"can't be reached|is lost") as raised:
                await store.write(note("gone"))
            assert PASSWORD not in str(raised.value)
        own.start()
        await store.write(note("after"))
        assert await store.read(subjects) == ["before", "after"]
        await store.close()


async def test_an_exporter_starts_while_the_server_is_away(tmp_path: Path) -> None:
    """Opening a store on a server that is down is no fault of the configuration: it is tried again."""
    store = open_store(f"postgresql://ada:{PASSWORD}@127.0.0.1:{free_port()}/incidents", tmp_path)
    with pytest.raises(StoreUnavailable, match=r"can't be reached: .*127\.0\.0\.1") as raised:
        await store.ready()
    await store.close()
    assert PASSWORD not in str(raised.value)


async def test_a_wrong_password_is_said_and_not_shown(postgresql: Place) -> None:
    """Who may not sign in learns so, without the password that was tried."""
    store = open_store(postgresql.url.replace(PASSWORD, "Wrong-never-shown"), postgresql.folder)
    with pytest.raises(StoreUnavailable, match="password authentication failed") as raised:
        await store.ready()
    await store.close()
    assert "never-shown" not in str(raised.value)


async def test_a_connection_that_was_cut_costs_nothing(postgresql: Place) -> None:
    """A connection that a restart or a firewall has ended since the last act is replaced without an error."""
    store = postgresql.open()
    await store.write(note("before"))
    await store.read(subjects)
    cut(postgresql)
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]
    await store.close()


async def test_an_act_whose_connection_is_cut_is_not_repeated(postgresql: Place) -> None:
    """A connection that ends in the middle of an act fails it, once; nothing of it is kept."""
    store = postgresql.open()
    runs = []

    def act(transaction: Transaction) -> None:
        runs.append(1)
        note("undone")(transaction)
        cut(postgresql)
        note("never")(transaction)

    with pytest.raises(StoreUnavailable):
        await store.write(act)
    assert (len(runs), await store.read(subjects)) == (1, [])
    await store.close()


async def test_several_exporters_lose_nothing(postgresql: Place) -> None:
    """Two stores that begin on an empty database and write what they have read lose no update, and see each other's."""

    def count_up(transaction: Transaction) -> None:
        ((count,),) = transaction.execute("SELECT COUNT(*) FROM audit")
        audit.insert(transaction, entry(str(count)))

    stores = [postgresql.open(), postgresql.open()]
    await asyncio.gather(*(store.ready() for store in stores))
    await asyncio.gather(*(store.write(count_up) for _ in range(100) for store in stores))
    assert await stores[0].read(subjects) == [str(number) for number in range(200)]
    assert [await store.revision() for store in stores] == [200, 200]
    for store in stores:
        await store.close()


async def test_who_waits_for_another_exporter_too_long_hears_so(postgresql: Place) -> None:
    """While another holds the writers' lock for too long, writes fail and reads go on; then writes do, too."""
    store = postgresql.open()
    await store.write(note("before"))
    with administrator(postgresql) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (WRITER_LOCK,))
        with hurried(store, 0.5), pytest.raises(StoreUnavailable):
            await store.write(note("held"))
        assert await store.read(subjects) == ["before"]
    await store.write(note("after"))
    assert await store.read(subjects) == ["before", "after"]
    await store.close()


async def test_a_failure_that_an_act_passes_over_is_no_commit(postgresql: Place) -> None:
    """PostgreSQL rolls back after a failed statement, so an act that swallows the failure is told."""

    def act(transaction: Transaction) -> None:
        with pytest.raises(StoreError):
            transaction.execute("SELECT nonsense")

    store = postgresql.open()
    with pytest.raises(StoreError, match="did not commit"):
        await store.write(act)
    await store.close()


async def test_the_transaction_carries_its_own_limits(postgresql: Place) -> None:
    """The server itself ends what runs, waits or idles too long, and afterwards the session has none of it."""
    names = ("search_path", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    select = f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}"
    store = postgresql.open(deadline=3.0)
    found = await store.write(rows(select))
    await store.close()
    assert found == [("auraconnect_monitoring", "3s", "2400ms", "6s")]


async def test_a_role_without_rights_can_use_the_schema_that_was_made_for_it(
    postgresql: Place, server: PostgreSQL
) -> None:
    """Where an administrator has made the schema, the role needs no right to make one."""
    with administrator(postgresql) as connection:
        connection.execute(
            f"DROP ROLE IF EXISTS exporter; CREATE ROLE exporter LOGIN PASSWORD '{PASSWORD}'; "
            "CREATE SCHEMA auraconnect_monitoring AUTHORIZATION exporter".encode()
        )
    store = open_store(postgresql.url.replace("postgres:", "exporter:", 1), postgresql.folder)
    await store.write(note("written"))
    await store.close()
    elsewhere = new_database(server).replace("postgres:", "exporter:", 1)
    refused = open_store(elsewhere, postgresql.folder)
    with pytest.raises(StoreError, match="permission denied for database") as raised:
        await refused.ready()
    await refused.close()
    assert PASSWORD not in str(raised.value)


def test_the_time_to_connect_is_what_libpq_takes() -> None:
    """Libpq rounds a shorter time up to two seconds, so no other is promised."""
    assert CONNECT_SECONDS >= 2
