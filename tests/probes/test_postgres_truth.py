"""What is read from PostgreSQL is what PostgreSQL says, in the oldest version and in the newest, and its exporter."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.targets import Postgres
from tests.builders import problems
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, database, value, values
from tests.probes.test_truth import Exporter
from tools.servers import PostgreSQL


@pytest.fixture(params=["oldest", "newest"])
def versions(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL that counts statements and archives its log, with a role `monitoring` like README's."""
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "archive_mode": "on",
        "archive_command": "true",
        "max_connections": "10",
        "superuser_reserved_connections": "2",
    }
    with PostgreSQL(tmp_path, password=PASSWORD, release=request.param, settings=settings) as server:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            for sql in (
                "CREATE SCHEMA elsewhere",
                "CREATE EXTENSION pg_stat_statements SCHEMA elsewhere",
                "GRANT USAGE ON SCHEMA elsewhere TO PUBLIC",
                f"CREATE ROLE monitoring LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor",
                "CREATE TABLE backups AS SELECT timestamp '2026-01-02 03:04:05' AS finished",
                "GRANT SELECT ON backups TO monitoring",
                "CREATE DATABASE other",
                "SELECT pg_switch_wal()",
            ):
                admin.execute(sql)
        yield server


def row(admin: psycopg.Connection, sql: str) -> tuple[Any, ...]:
    """Return the one row of a query."""
    found = admin.execute(sql).fetchone()
    assert found is not None
    return found


async def test_every_version_says_everything_to_a_member_of_pg_monitor(versions: PostgreSQL, watch: Watch) -> None:
    """All parts can be read, and the numbers are the catalog's."""
    url = f"postgresql://monitoring:{PASSWORD}@127.0.0.1:{versions.port}/postgres"
    system = Postgres(
        endpoints.postgres(url), slow=60.0, longest_wait=0.001, backup_query="SELECT max(finished) FROM backups"
    )
    watched = watch(system)
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(versions.dsn, autocommit=True))
        while row(admin, "SELECT archived_count FROM pg_stat_archiver") == (0,):
            await asyncio.sleep(0.02)
        holder = stack.enter_context(psycopg.connect(versions.dsn, application_name="holder"))
        pid = holder.info.backend_pid
        holder.execute("LOCK TABLE backups IN ROW EXCLUSIVE MODE")
        waiter = await psycopg.AsyncConnection.connect(versions.dsn)
        waiting = asyncio.create_task(waiter.execute("LOCK TABLE backups IN SHARE MODE"))
        while not admin.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchall():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.002)
        counted = "SELECT sum(total_exec_time) / 1000 FROM elsewhere.pg_stat_statements"
        before = row(admin, counted)[0]
        attempt = await watched.attempt()
        after = row(admin, counted)[0]
        sizes: dict[str, int] = dict(
            admin.execute("SELECT datname, pg_database_size(oid) FROM pg_database WHERE NOT datistemplate")
        )
        (oldest,) = row(admin, "SELECT max(age(datfrozenxid)) FROM pg_database")
        (archived,) = row(admin, "SELECT extract(epoch FROM last_archived_time) FROM pg_stat_archiver")
        holder.rollback()
        await waiting
        await waiter.close()
    assert problems(attempt) == {}
    assert attempt.reading.degraded == (
        f"a query has waited for a lock for 0 s, for pid {pid} (holder), idle in transaction",
    )
    assert value(attempt, "postgres_blocked_queries") == value(attempt, "postgres_blocking_sessions") == 1
    assert (value(attempt, "postgres_max_connections"), value(attempt, "postgres_reserved_connections")) == (10, 2)
    assert values(attempt, "postgres_database_size_bytes") == {(name,): size for name, size in sizes.items()}
    assert set(sizes) == {"postgres", "other"}
    assert oldest - 5 <= value(attempt, "postgres_xid_age") <= oldest
    assert value(attempt, "postgres_archive_last_success_timestamp_seconds") == pytest.approx(float(archived))
    assert value(attempt, "postgres_archive_failures_total") == 0
    assert value(attempt, "postgres_backup_last_success_timestamp_seconds") == 1767323045
    assert value(attempt, "postgres_role_changes_total") == 0
    assert before <= sum(values(attempt, "postgres_statement_seconds_total").values()) <= after
    assert ("other",) in values(attempt, "postgres_statement_seconds_total")


async def test_postgresql_is_as_its_exporter_sees_it(
    postgres: PostgreSQL, admin: psycopg.Connection, tmp_path: Path, watch: Watch
) -> None:
    """Sessions, the limit, the oldest transaction, sizes and counters, with both connected at the same moment."""
    watched = watch(database(postgres))
    env = {**os.environ, "DATA_SOURCE_NAME": f"{postgres.dsn}?sslmode=disable"}
    admin.execute("CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id")
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(tmp_path, "postgres-exporter", env=env))
        for _ in range(3):
            stack.enter_context(psycopg.connect(postgres.dsn)).execute("SELECT 1")
        first = await asyncio.to_thread(exporter.scrape)
        attempt = await watched.attempt()
        theirs = await asyncio.to_thread(exporter.scrape)

    server = f"127.0.0.1:{postgres.port}"
    idle = values(attempt, "postgres_connections")["idle in transaction",]
    assert idle == theirs[f"pg_stat_activity_count postgres {server} idle in transaction"] == 3
    assert value(attempt, "postgres_max_connections") == theirs[f"pg_settings_max_connections {server}"]
    size = values(attempt, "postgres_database_size_bytes")["postgres",]
    assert size == theirs[f"pg_database_size_bytes postgres {server}"]
    oldest = [
        scrape[f"pg_stat_activity_max_tx_duration postgres {server} idle in transaction"] for scrape in (first, theirs)
    ]
    assert oldest[0] <= value(attempt, "postgres_longest_transaction_seconds") <= oldest[1]
    for ours, name in (
        (value(attempt, "postgres_transactions_total", "commit"), "xact_commit"),
        (value(attempt, "postgres_transactions_total", "rollback"), "xact_rollback"),
        (value(attempt, "postgres_deadlocks_total"), "deadlocks"),
        (value(attempt, "postgres_blocks_hit_total"), "blks_hit"),
        (value(attempt, "postgres_blocks_read_total"), "blks_read"),
    ):
        bounds = [
            number
            for scrape in (first, theirs)
            for key, number in scrape.items()
            if key.removeprefix(f"pg_stat_database_{name}").startswith((" ", "_total "))
            and f" postgres {server}" in key
        ]
        assert len(bounds) == 2
        assert bounds[0] <= ours <= bounds[1], name
