"""PostgreSQL behind PgBouncer in transaction mode, where our session is anybody's a moment later."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason
from auraconnect_exporter.targets import Postgres
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, values
from tools.programs import program
from tools.servers import PostgreSQL, Server, free_port


class PgBouncer(Server):
    """PgBouncer in front of a PostgreSQL, with one server connection for everybody."""

    def __init__(self, folder: Path, postgres: PostgreSQL) -> None:
        self.port = free_port()
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        config.write_text(f"""
[databases]
postgres = host=127.0.0.1 port={postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
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
