"""PostgreSQL behind PgBouncer in transaction mode, where our session is anybody's a moment later."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.pgbouncer import pools_part
from auraconnect_exporter.targets import PgBouncer as BouncerSystem
from auraconnect_exporter.targets import Postgres
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, Leaks, value, values
from tools.programs import program
from tools.servers import PostgreSQL, Server, free_port


class PgBouncer(Server):
    """PgBouncer in front of a PostgreSQL, with one server connection for everybody."""

    def __init__(self, folder: Path, postgres: PostgreSQL) -> None:
        self.port = free_port()
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"postgres" "{PASSWORD}"\n"monitoring" "{PASSWORD}"\n')
        config.write_text(f"""
[databases]
postgres = host=127.0.0.1 port={postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
stats_users = monitoring
pool_mode = transaction
default_pool_size = 1
server_login_retry = 1
""")
        # Like PostgreSQL, it refuses to run as root.
        super().__init__(
            "pgbouncer",
            [program("pgbouncer"), config],
            folder / "pgbouncer.log",
            user="nobody" if os.geteuid() == 0 else None,
        )

    @property
    def dsn(self) -> str:
        """The database's address through it."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def console(self, role: str = "monitoring", password: str = PASSWORD) -> BouncerSystem:
        """Return its administration console as the configuration would name it; nothing it does is slow."""
        url = f"postgresql://{role}:{password}@127.0.0.1:{self.port}/pgbouncer"
        return BouncerSystem(endpoints.postgres(url), slow=60.0, longest_wait=0.05)

    def is_ready(self) -> bool:
        """Return whether it accepts connections."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


@pytest.fixture
def bouncer(postgres: PostgreSQL) -> Iterator[PgBouncer]:
    """Return a PgBouncer in front of PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with PgBouncer(folder, postgres) as server:
            yield server


async def test_nothing_of_ours_stays_behind_in_the_server_connection(bouncer: PgBouncer, watch: Watch) -> None:
    """After each check the application finds its session as it was: no time limit, not read-only, same connection."""
    watched = watch(Postgres(endpoints.postgres(bouncer.dsn), slow=60.0))
    sql = """
        SELECT pg_backend_pid(), current_setting('statement_timeout'), current_setting('lock_timeout'),
               current_setting('transaction_read_only'), current_setting('default_transaction_read_only')
    """
    with psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as application:
        before = application.execute(sql).fetchone()
        for _ in range(3):
            attempt = await watched.attempt()
            assert (attempt.ok, attempt.message) == (True, "")
            assert values(attempt, "postgres_connections")["active",] == 1
            assert application.execute(sql).fetchone() == before
        assert before is not None
        assert before[1:] == ("0", "0", "off", "off")


async def test_a_database_that_is_gone_behind_it_is_refused(
    bouncer: PgBouncer, postgres: PostgreSQL, watch: Watch
) -> None:
    """PgBouncer still answers, but what it says is that there is no database; and it is well again with it."""
    watched = watch(Postgres(endpoints.postgres(bouncer.dsn), slow=60.0), timeout=1.5)
    await watched.attempt()
    postgres.kill()
    attempts = [await watched.attempt() for _ in range(4)]
    assert not any(attempt.ok for attempt in attempts)
    assert attempts[-1].reason is Reason.REFUSED, attempts  # at first it waits for the database, which is a timeout
    postgres.start()
    await watched.until(None)


async def test_a_database_that_is_frozen_behind_it_is_a_timeout(
    bouncer: PgBouncer, postgres: PostgreSQL, watch: Watch
) -> None:
    """The attempt ends in time, and the check after the thaw is good."""
    watched = watch(Postgres(endpoints.postgres(bouncer.dsn), slow=60.0), timeout=0.5)
    await watched.attempt()
    postgres.freeze()
    assert [(await watched.attempt()).reason for _ in range(2)] == [Reason.TIMEOUT] * 2
    postgres.thaw()
    await watched.until(None)


async def test_a_wrong_password_is_an_auth_failure(bouncer: PgBouncer, watch: Watch) -> None:
    """PgBouncer words it in its own way."""
    for name, password in (("postgres", "wrong"), ("stranger", PASSWORD)):
        url = f"postgresql://{name}:{password}@127.0.0.1:{bouncer.port}/postgres"
        attempt = await watch(Postgres(endpoints.postgres(url), slow=60.0)).attempt()
        assert attempt.reason is Reason.AUTH, attempt


async def test_who_has_a_connection_and_who_waits_for_one(bouncer: PgBouncer, watch: Watch) -> None:
    """With one server connection, the second client waits: it is counted, and so is how long; then all is well."""
    watched = watch(bouncer.console())
    assert values(await watched.attempt(), "postgres_pgbouncer_clients") == {("active",): 0, ("waiting",): 0}
    async with (
        await psycopg.AsyncConnection.connect(bouncer.dsn, prepare_threshold=None) as first,
        await psycopg.AsyncConnection.connect(bouncer.dsn, prepare_threshold=None) as second,
    ):
        await first.execute("SELECT 1")
        waiting = asyncio.create_task(second.execute("SELECT 1"))
        attempt = await watched.attempt()
        while value(attempt, "postgres_pgbouncer_max_wait_seconds") <= 0.05:
            attempt = await watched.attempt()
        await first.rollback()
        await waiting
        await second.rollback()
    assert collectors(attempt) == {"latency": True, "pools": True}
    assert values(attempt, "postgres_pgbouncer_clients") == {("active",): 1, ("waiting",): 1}
    assert attempt.reading.degraded == ("a client has waited 0.1 s for a connection to postgres",)
    after = await watched.attempt()
    assert after.reading.degraded == ()
    assert value(after, "postgres_pgbouncer_max_wait_seconds") == 0


async def test_faults_of_the_console_have_their_reasons_and_leave_nothing_behind(
    bouncer: PgBouncer, watch: Watch
) -> None:
    """Not let in, frozen, killed: each is named in time, and a check after it is good without a restart of ours."""
    for role, password in (("monitoring", "wrong"), ("postgres", PASSWORD), ("nobody", PASSWORD)):
        attempt = await watch(bouncer.console(role, password)).attempt()
        assert attempt.reason is Reason.AUTH, attempt
    watched = watch(bouncer.console(), timeout=0.4)
    assert (await watched.attempt()).ok
    leaks = Leaks()
    bouncer.freeze()
    assert [(await watched.attempt()).reason for _ in range(2)] == [Reason.TIMEOUT] * 2
    bouncer.thaw()
    await watched.until(None)
    bouncer.kill()
    assert [(await watched.attempt()).reason for _ in range(2)] == [Reason.REFUSED] * 2
    bouncer.start()
    await watched.until(None)
    assert await leaks.found() == {}


def test_pools_are_read_by_the_names_of_their_columns() -> None:
    """Versions have more or fewer, in other places; the console itself is no pool."""
    rows = [
        {"database": "pgbouncer", "user": "m", "cl_active": 1, "cl_waiting": 0, "maxwait": 0, "pool_mode": "statement"},
        {"database": "a", "user": "x", "cl_active": 3, "cl_waiting": 2, "maxwait": 9, "maxwait_us": 500_000},
        {"database": "a", "user": "y", "cl_active": 0, "cl_waiting": 0, "maxwait": 0, "maxwait_us": 0},
        {"database": "b", "user": "x", "cl_active": 4, "cl_waiting": 1, "maxwait": 7},
    ]  # fmt: skip
    part = pools_part(rows, 5.0)
    assert {(sample.metric.name, *sample.label_values): sample.value for sample in part.samples} == {
        ("postgres_pgbouncer_clients", "active"): 7,
        ("postgres_pgbouncer_clients", "waiting"): 3,
        ("postgres_pgbouncer_max_wait_seconds",): 9.5,
    }
    assert part.degraded == ("a client has waited 9.5 s for a connection to a",)
    assert pools_part(rows, 10.0).degraded == ()
    assert pools_part(rows[:1], 0.0).samples[-1].value == 0
