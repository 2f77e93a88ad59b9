"""PostgreSQL's sessions: what rows of every version mean, and who is to blame for a statement that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Part
from auraconnect_exporter.probes.postgres_activity import LOCKS_SQL, LOCKS_SQL_14, Activity
from auraconnect_exporter.targets import Postgres
from tests.probes.conftest import Watch
from tests.probes.support import database, value
from tools.servers import PostgreSQL


def limits(**settings: float) -> Activity:
    """Return the collectors with these limits."""
    server = endpoints.postgres("postgresql://user@database/name")
    return Activity(Postgres(server, slow=1.0, **settings))  # type: ignore[arg-type]  # only the limits are floats


def measured(part: Part) -> dict[tuple[str, ...], float]:
    """Return a part's values by name and labels."""
    return {(sample.metric.name, *sample.label_values): sample.value for sample in part.samples}


Oldest = tuple[float | None, str | None]
"""Seconds, and the session: "pid application"."""


def state(
    name: str, sessions: int, *, waiting: int = 0, transaction: Oldest = (None, None), since: Oldest = (0.0, "1 app")
) -> tuple[Any, ...]:
    """Return a row of ACTIVITY_SQL on a server with 100 connections, of which 10 are reserved."""
    hidden = sessions if name == "not visible" else 0
    return (name, sessions, hidden, waiting, *transaction, *since, 100, 10)


def test_activity_of_all_states_is_summed_up() -> None:
    """The oldest transaction and the waiting sessions are those of all states together."""
    part = limits().activity(
        [
            state("idle", 60),
            state("active", 5, waiting=2, transaction=(5.5, "12 api")),
            state("idle in transaction", 2, transaction=(7.25, "13 psql"), since=(3.5, "14 psql")),
            state("idle in transaction (aborted)", 1, transaction=(2.0, "15 "), since=(2.0, "15 ")),
        ]
    )
    assert measured(part) == {
        ("postgres_connections", "idle"): 60,
        ("postgres_connections", "active"): 5,
        ("postgres_connections", "idle in transaction"): 2,
        ("postgres_connections", "idle in transaction (aborted)"): 1,
        ("postgres_longest_transaction_seconds",): 7.25,
        ("postgres_longest_idle_transaction_seconds",): 3.5,
        ("postgres_blocked_queries",): 2,
        ("postgres_max_connections",): 100,
        ("postgres_reserved_connections",): 10,
    }
    assert (part.degraded, part.problem) == ((), "")


def test_connections_near_their_limit_are_a_finding() -> None:
    """More than four fifths of those that are not reserved, counted over all states; or what the configuration says."""
    rows = [state("idle", 60), state("active", 12)]
    assert limits().activity(rows).degraded == ()
    assert limits().activity([*rows, state("not visible", 1)]).degraded == ("73 of 90 connections are in use",)
    assert limits(connections=0.5).activity(rows).degraded == ("72 of 90 connections are in use",)


def test_what_is_hidden_is_a_problem_and_costs_nothing_else() -> None:
    """Without pg_monitor the numbers of what can be seen are given, and that it is not all is said."""
    part = limits().activity([state("idle", 3), state("not visible", 2, since=(None, None))])
    assert part.problem == "2 of 5 sessions can't be seen without the role pg_monitor"
    assert measured(part)["postgres_connections", "not visible"] == 2
    assert measured(part)["postgres_longest_transaction_seconds",] == 0


def test_long_transactions_are_findings_that_name_a_session() -> None:
    """One that is open too long, and one in which nothing happens; by pid and application, as far as there is one."""
    rows = [
        state("active", 1, transaction=(61.0, "12 pg_dump")),
        state("idle in transaction", 1, transaction=(11.0, "13 "), since=(11.0, "13 ")),
    ]
    assert limits(longest_transaction=60.0, longest_idle_transaction=10.0).activity(rows).degraded == (
        "a transaction has been open for 61 s: pid 12 (pg_dump)",
        "a transaction has stood idle for 11 s: pid 13",
    )
    assert limits().activity(rows).degraded == ()


Row = tuple[int, str, str, float | None, float | None, bool]


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ([(1, "api", "active", 40.0, 31.0, True), (2, "psql", "idle in transaction", 90.0, None, False)],
         "a query has waited for a lock for 31 s, for pid 2 (psql), idle in transaction"),
        ([(1, "api", "active", 40.0, 31.0, True), (0, "", "prepared", 90.0, None, False)],
         "a query has waited for a lock for 31 s, for a prepared transaction"),
        ([(1, "api", "active", 40.0, 31.0, True), (2, "api", "active", 50.0, 20.0, True)],
         "a query has waited for a lock for 31 s"),
        ([(1, "api", "active", 40.0, 29.0, True), (2, "psql", "idle in transaction", 90.0, None, False)], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_wait_that_is_too_long_is_a_finding_that_names_who_blocks(rows: Sequence[Row], finding: str | None) -> None:
    """The culprit is the one that waits for nobody itself, with the oldest transaction."""
    assert limits().locks(list(rows)).degraded == ((finding,) if finding else ())


def test_a_chain_of_waits_has_one_blocker() -> None:
    """Who waits and is waited for is no cause."""
    part = limits().locks(
        [
            (1, "a", "active", 30.0, 20.0, True),
            (2, "b", "active", 25.0, 10.0, True),
            (3, "c", "idle in transaction", 45.0, None, False),
        ]
    )
    assert measured(part) == {
        ("postgres_blocked_longest_seconds",): 20.0,
        ("postgres_blocking_sessions",): 1,
        ("postgres_blocking_longest_seconds",): 45.0,
    }


def test_since_when_a_session_waits_is_asked_where_it_is_known() -> None:
    """PostgreSQL 14 says it; 13 has no such column."""
    (locks,) = [one for one in limits().collectors() if one.name == "locks"]
    assert (locks.statement(130022), locks.statement(140000), locks.statement(180001)) == (
        LOCKS_SQL,
        LOCKS_SQL_14,
        LOCKS_SQL_14,
    )
    assert "waitstart" not in LOCKS_SQL
    assert "waitstart" in LOCKS_SQL_14


async def test_a_blocked_alter_table_degrades_and_recovers(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """It waits for a forgotten transaction, and a reader behind it: both wait, one is to blame, and it is named."""
    admin.execute("CREATE TABLE orders (id int)")
    system = database(postgres)
    watched = watch(Postgres(system.server, slow=60.0, statements=False, longest_wait=0.05))
    async with (
        await psycopg.AsyncConnection.connect(postgres.dsn, application_name="forgotten") as holder,
        await psycopg.AsyncConnection.connect(postgres.dsn, application_name="migration") as migration,
        await psycopg.AsyncConnection.connect(postgres.dsn, application_name="reader") as reader,
    ):
        await holder.execute("SELECT * FROM orders")
        waiting = []
        for number, (connection, sql) in enumerate(
            [(migration, "ALTER TABLE orders ADD note text"), (reader, "SELECT 'a secret' FROM orders")], start=1
        ):
            waiting.append(asyncio.create_task(connection.execute(sql)))
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while len(admin.execute(waits).fetchall()) < number:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.06)  # the limit, which has to be behind
        attempt = await watched.attempt()
        await holder.rollback()
        await waiting[0]
        await migration.rollback()
        await waiting[1]
        await reader.rollback()
        after = await watched.attempt()
    assert attempt.ok
    (finding,) = attempt.reading.degraded
    assert finding.startswith("a query has waited for a lock for 0 s, for pid ")
    assert finding.endswith("(forgotten), idle in transaction")
    assert value(attempt, "postgres_blocked_queries") == 2
    assert value(attempt, "postgres_blocking_sessions") == 1
    assert value(attempt, "postgres_blocked_longest_seconds") > 0.05
    assert value(attempt, "postgres_blocking_longest_seconds") > value(attempt, "postgres_blocked_longest_seconds")
    assert "secret" not in repr(attempt)
    assert after.reading.degraded == ()
    assert value(after, "postgres_blocked_queries") == value(after, "postgres_blocking_sessions") == 0


async def test_a_prepared_transaction_that_blocks_is_named_as_one(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """No session holds its locks, so there is no pid to name."""
    admin.execute("ALTER SYSTEM SET max_prepared_transactions = 1")
    postgres.stop()
    postgres.start()
    system = database(postgres)
    watched = watch(Postgres(system.server, slow=60.0, statements=False, longest_wait=0.001))
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as waiter:
        await waiter.execute("CREATE TABLE orders (id int)")
        for sql in ("BEGIN", "LOCK TABLE orders", "PREPARE TRANSACTION 'forgotten'"):
            await waiter.execute(sql)
        waiting = asyncio.create_task(waiter.execute("SELECT * FROM orders"))
        attempt = await watched.attempt()
        while not value(attempt, "postgres_blocking_sessions"):
            attempt = await watched.attempt()
        with psycopg.connect(postgres.dsn, autocommit=True) as other:
            other.execute("COMMIT PREPARED 'forgotten'")
        await waiting
    assert attempt.reading.degraded == ("a query has waited for a lock for 0 s, for a prepared transaction",)
