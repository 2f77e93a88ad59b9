"""PostgreSQL's long run: sizes, archiving, backups and roles, as far as a role may see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import pytest

from auraconnect_exporter.model import Part
from auraconnect_exporter.probes.postgres_upkeep import Upkeep, archive, sizes
from auraconnect_exporter.targets import Postgres
from tests.builders import FakeClock, problems
from tests.probes.conftest import Watch
from tests.probes.support import database, value
from tools.servers import PostgreSQL

CLOCK = FakeClock()


def measured(part: Part) -> dict[tuple[str, ...], float]:
    """Return a part's values by name and labels."""
    return {(sample.metric.name, *sample.label_values): sample.value for sample in part.samples}


def test_a_size_that_is_hidden_is_a_problem_and_costs_no_other() -> None:
    """The databases that the role may connect to are given."""
    part = sizes([("auraconnect", 4096), ("other", None)])
    assert measured(part) == {("postgres_database_size_bytes", "auraconnect"): 4096}
    assert part.problem == "the size of 1 databases can't be seen without the role pg_monitor"


def test_a_server_that_never_archived_has_no_last_success() -> None:
    """No time is no time, not 1970."""
    assert measured(archive([(None, 3)])) == {("postgres_archive_failures_total",): 3}
    assert measured(archive([(1.5, 3)]))["postgres_archive_last_success_timestamp_seconds",] == 1.5


@pytest.mark.parametrize(
    "answer",
    [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5),  # as the tables of AuraConnect have it
        datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        1767323045,
        1767323045.0,
        Decimal(1767323045),
    ],
    ids=repr,
)
def test_a_backups_time_may_be_a_time_or_unix_seconds(answer: object) -> None:
    """Whatever type the operator's query answers in."""
    part = Upkeep("SELECT", CLOCK.time).backup([(answer,)])
    assert measured(part) == {("postgres_backup_last_success_timestamp_seconds",): 1767323045}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "backup_query knows of no backup"),
        ([(None,)], "backup_query knows of no backup"),
        ([("yesterday",)], "backup_query answers neither a time nor Unix seconds"),
        ([(True,)], "backup_query answers neither a time nor Unix seconds"),
        ([(Decimal("NaN"),)], "backup_query answers neither a time nor Unix seconds"),
        ([(CLOCK.time() + 3600,)], "backup_query answers a time in the future"),
    ],
)
def test_an_answer_that_tells_of_no_backup_is_a_problem(rows: list[tuple[object, ...]], problem: str) -> None:
    """No age of a backup is made up, and none is hidden by a clock that is wrong."""
    part = Upkeep("SELECT", CLOCK.time).backup(rows)
    assert (part.samples, part.problem) == ((), problem)


async def test_changes_of_roles_are_counted(postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch) -> None:
    """A new role, an attribute, a membership; asked once a minute, and nothing else counts."""
    clock = FakeClock()
    watched = watch(database(postgres), clock=clock)
    counted = [value(await watched.attempt(), "postgres_role_changes_total")]
    for sql in (
        "CREATE ROLE intruder LOGIN",
        "ALTER ROLE intruder SUPERUSER",
        "GRANT pg_read_all_data TO intruder",
        "CREATE TABLE orders (id int)",
        "DROP ROLE intruder",
    ):
        admin.execute(sql)
        assert value(await watched.attempt(), "postgres_role_changes_total") == counted[-1]
        clock.advance(60)
        counted.append(value(await watched.attempt(), "postgres_role_changes_total"))
    assert counted == [0, 1, 2, 3, 3, 4]


async def test_a_slow_or_broken_backup_query_costs_only_its_part(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """One that takes too long is ended, one that would write is refused, one behind a lock gives up."""
    admin.execute("CREATE TABLE backups (finished timestamptz)")
    admin.execute("CREATE TABLE orders (id int)")
    server = database(postgres).server
    for query, problem in (
        ("SELECT pg_sleep(5)", "canceling statement due to statement timeout"),
        ("WITH gone AS (DELETE FROM orders RETURNING 1) SELECT 1", "cannot execute SELECT in a read-only transaction"),
        ("SELECT max(finished) FROM backups", "canceling statement due to lock timeout"),
        ("SELECT timestamptz 'infinity'", "timestamp too large (after year 10K): 'infinity'"),
        ("SELECT max(finished) FROM nowhere", 'relation "nowhere" does not exist'),
    ):
        watched = watch(Postgres(server, slow=60.0, statements=False, backup_query=query), timeout=0.8)
        with admin.transaction():
            admin.execute("LOCK TABLE backups")
            attempt = await watched.attempt()
        assert attempt.ok
        assert problems(attempt) == {"backup": problem}
        assert (await watched.attempt()).ok


async def test_a_collector_that_can_make_nothing_of_an_answer_costs_only_its_part(
    postgres: PostgreSQL, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours, or a view that has changed, is no outage of the database."""

    def broken(rows: list[tuple[object, ...]]) -> Part:
        return Part("xid", degraded=(str(rows[1][1]),))

    monkeypatch.setattr("auraconnect_exporter.probes.postgres_upkeep.xid", broken)
    attempt = await watch(database(postgres)).attempt()
    assert attempt.ok
    assert problems(attempt) == {"xid": "the server's answer makes no sense"}


async def test_what_costs_more_is_read_once_a_minute(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """In between the last reading stands, while the sessions are counted with each check."""
    clock = FakeClock()
    watched = watch(database(postgres), clock=clock)
    size = value(await watched.attempt(), "postgres_database_size_bytes", "postgres")
    admin.execute("CREATE TABLE orders AS SELECT generate_series(1, 100000) AS id")
    clock.advance(59)
    assert value(await watched.attempt(), "postgres_database_size_bytes", "postgres") == size
    clock.advance(1)
    assert value(await watched.attempt(), "postgres_database_size_bytes", "postgres") > size + 100_000
