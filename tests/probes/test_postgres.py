"""PostgreSQL as it really is: what it measures, how each failure is named, what becomes of a kept connection."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason, Secret
from auraconnect_exporter.probes.postgres_connection import CHECKS_PER_CONNECTION
from auraconnect_exporter.targets import Postgres
from tests.builders import FakeClock, collectors, problems
from tests.probes.conftest import Watch
from tests.probes.support import (
    PASSWORD,
    Leaks,
    close_at_once,
    database,
    issued,
    say_garbage,
    say_nothing,
    self_signed,
    serving,
    value,
    values,
)
from tools.servers import PostgreSQL


def at(port: int, options: str = "") -> Postgres:
    """Return a PostgreSQL at a port of this machine."""
    return Postgres(endpoints.postgres(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/name{options}"), slow=60.0)


def as_role(postgres: PostgreSQL, role: str, database: str = "postgres") -> Postgres:
    """Return a PostgreSQL as another role, with the usual password, sees it."""
    return Postgres(
        endpoints.postgres(f"postgresql://{role}:{PASSWORD}@127.0.0.1:{postgres.port}/{database}"),
        slow=60.0,
        statements=False,
    )


PARTS = ("latency", "activity", "locks", "replication", "database", "size", "xid", "archive", "roles")


def session_states(admin: psycopg.Connection) -> list[str]:
    """Return the states of our own sessions, once none of them is busy any more."""
    sql = """
        SELECT state FROM pg_stat_activity
        WHERE application_name = 'auraconnect-exporter' AND backend_type = 'client backend'
    """
    return [state for (state,) in admin.execute(sql)]


async def settled(admin: psycopg.Connection) -> list[str]:
    """Return the states of our sessions; the server takes a moment to notice that one was closed."""
    for _ in range(200):
        if len(session_states(admin)) == 1:
            break
        await asyncio.sleep(0.01)
    return session_states(admin)


async def test_a_database_without_an_encoding_is_read_like_any_other(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """SQL_ASCII, as the C locale makes it by default, would hand out its texts as bytes."""
    admin.execute("CREATE DATABASE raw ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    server = dataclasses.replace(database(postgres).server, dbname="raw")
    attempt = await watch(Postgres(server, slow=60.0, statements=False)).attempt()
    assert (attempt.message, [part.problem for part in attempt.reading.parts if part.problem]) == ("", [])
    assert value(attempt, "postgres_connections", "active") == 1


async def test_values_are_those_of_the_server(postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch) -> None:
    """States, the limit, waiting sessions and the oldest transaction are what pg_stat_activity shows."""
    watched = watch(database(postgres))
    async with (
        await psycopg.AsyncConnection.connect(postgres.dsn) as holder,
        await psycopg.AsyncConnection.connect(postgres.dsn) as waiter,
    ):
        await holder.execute("SELECT pg_advisory_xact_lock(1)")
        waiting = asyncio.create_task(waiter.execute("SELECT pg_advisory_xact_lock(1)"))
        while admin.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() is None:
            await asyncio.sleep(0.01)
        age = "SELECT extract(epoch FROM clock_timestamp() - xact_start) FROM pg_stat_activity WHERE pid = %s"
        row = admin.execute(age, [holder.info.backend_pid]).fetchone()
        assert row is not None
        attempt = await watched.attempt()
        await holder.rollback()
        await waiting
    assert values(attempt, "postgres_connections") == {
        ("active",): 2,  # the one that waits, and ours
        ("idle",): 1,  # the admin's
        ("idle in transaction",): 1,
    }
    assert value(attempt, "postgres_blocked_queries") == 1
    assert value(attempt, "postgres_max_connections") == 10
    assert float(row[0]) < value(attempt, "postgres_longest_transaction_seconds") < float(row[0]) + 1
    assert 0 < value(attempt, "postgres_query_duration_seconds") < value(attempt, "postgres_connect_duration_seconds")
    assert collectors(attempt) == dict.fromkeys(PARTS, True)


async def test_counters_of_the_database_are_those_of_pg_stat_database(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """What is counted lies between what the view shows before and after."""
    sql = "SELECT xact_commit, xact_rollback, deadlocks, blks_hit, blks_read FROM pg_stat_database WHERE datname = %s"

    def counted() -> tuple[int, ...]:
        row = admin.execute(sql, ["postgres"]).fetchone()
        assert row is not None
        return row

    before, attempt, after = counted(), await watch(database(postgres)).attempt(), counted()
    seen = (
        value(attempt, "postgres_transactions_total", "commit"),
        value(attempt, "postgres_transactions_total", "rollback"),
        value(attempt, "postgres_deadlocks_total"),
        value(attempt, "postgres_blocks_hit_total"),
        value(attempt, "postgres_blocks_read_total"),
    )
    assert all(low <= number <= high for low, number, high in zip(before, seen, after, strict=True))
    assert seen[0] > 0
    assert seen[3] > 0


async def test_a_role_without_rights_sees_its_own_sessions_and_the_limit(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """Without pg_monitor other roles' states are hidden; the part says so, and nothing else suffers."""
    admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    attempt = await watch(as_role(postgres, "plain")).attempt()
    assert collectors(attempt) == dict.fromkeys(PARTS, True) | {"activity": False}
    assert problems(attempt) == {"activity": "1 of 2 sessions can't be seen without the role pg_monitor"}
    assert values(attempt, "postgres_connections") == {("active",): 1, ("not visible",): 1}
    assert value(attempt, "postgres_max_connections") == 10


async def test_pg_monitor_is_all_the_rights_it_takes(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """A role that is nothing but a member of it can read every part."""
    admin.execute(f"CREATE ROLE monitoring LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
    attempt = await watch(as_role(postgres, "monitoring")).attempt()
    assert collectors(attempt) == dict.fromkeys(PARTS, True)


async def test_a_view_that_is_refused_costs_only_its_part(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """The system is up, the collector says why, no transaction is left open, and a minute later it is asked again."""
    admin.execute("REVOKE SELECT ON pg_stat_database FROM PUBLIC")
    admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
    clock = FakeClock()
    watched = watch(as_role(postgres, "plain"), clock=clock)
    for _ in range(2 * CHECKS_PER_CONNECTION):
        attempt = await watched.attempt()
        assert attempt.ok
        assert problems(attempt) == {"database": "permission denied for view pg_stat_database"}
        assert value(attempt, "postgres_max_connections") == 10
        assert await settled(admin) == ["idle"]
    admin.execute("GRANT SELECT ON pg_stat_database TO PUBLIC")
    assert problems(await watched.attempt()) != {}
    clock.advance(60)
    assert problems(await watched.attempt()) == {}


async def test_one_session_is_kept_between_checks_outside_any_transaction(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """However many checks, there is one session of ours, and it holds nothing open."""
    watched = watch(database(postgres))
    for _ in range(3 * CHECKS_PER_CONNECTION):
        assert (await watched.attempt()).ok
        assert await settled(admin) == ["idle"]


async def test_every_statement_is_read_only_and_bounded(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """The server's own log shows each in a transaction that can't write and has time limits."""
    admin.execute("ALTER SYSTEM SET log_statement = 'all'")
    admin.execute("ALTER SYSTEM SET log_line_prefix = '%a '")
    admin.execute("SELECT pg_reload_conf()")
    await watch(database(postgres), timeout=2.0).attempt()
    ours = [line for line in postgres.log_tail(1000).splitlines() if "auraconnect-exporter LOG:  statement: " in line]
    bounded = "BEGIN READ ONLY; SET LOCAL statement_timeout = 2000; SET LOCAL lock_timeout = 1000; "
    assert [line.partition("statement: ")[2][: len(bounded)] for line in ours[:2]] == [bounded] * 2
    assert len(ours) > 2
    for line in ours[2:]:
        assert re.match(
            r"BEGIN READ ONLY; SET LOCAL statement_timeout = \d{3}; SET LOCAL lock_timeout = \d{3}; ",
            line.partition("statement: ")[2],
        ), line


async def test_a_connection_cut_between_checks_is_no_failure(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """A terminated session, and a restarted server, cost one more connect."""
    watched = watch(database(postgres))
    await watched.attempt()
    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'auraconnect-%'")
    assert (await watched.attempt()).ok
    postgres.stop()
    postgres.start()
    assert (await watched.attempt()).ok


async def test_a_changed_password_is_noticed_within_two_checks(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """A kept connection hides it for no longer than it lives."""
    watched = watch(database(postgres))
    await watched.attempt()
    admin.execute("ALTER ROLE postgres PASSWORD 'another'")
    assert Reason.AUTH in {(await watched.attempt()).reason for _ in range(2)}


async def test_a_server_out_of_connections_is_noticed_within_two_checks(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """A kept connection works on, but nobody else gets in: that is refused."""
    admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    watched = watch(as_role(postgres, "plain"))
    await watched.attempt()
    with exhausted(postgres):
        assert Reason.REFUSED in {(await watched.attempt()).reason for _ in range(2)}
    await watched.until(None)


@contextlib.contextmanager
def exhausted(postgres: PostgreSQL) -> Iterator[None]:
    """Take every connection there is."""
    with contextlib.ExitStack() as connections:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                connections.enter_context(psycopg.connect(postgres.dsn))
        yield


async def test_a_killed_server_refuses(postgres: PostgreSQL, watch: Watch) -> None:
    """Nobody listens, met by a kept connection and by a new one."""
    watched = watch(database(postgres))
    await watched.attempt()
    postgres.kill()
    attempts = [await watched.attempt() for _ in range(2)]
    assert [attempt.reason for attempt in attempts] == [Reason.REFUSED] * 2
    assert collectors(attempts[0]) == dict.fromkeys(PARTS, False)
    postgres.start()
    assert (await watched.attempt()).ok


async def test_a_server_that_shuts_down_refuses(postgres: PostgreSQL, watch: Watch) -> None:
    """A smart shutdown waits for its sessions and lets nobody in."""
    watched = watch(database(postgres))
    with psycopg.connect(postgres.dsn):
        os.kill(postgres.pid, signal.SIGTERM)
        await watched.until(Reason.REFUSED)


async def test_the_name_of_no_server_is_dns(watch: Watch) -> None:
    """A name that nobody knows can't be resolved."""
    system = Postgres(endpoints.postgres(f"postgresql://user:{PASSWORD}@database.invalid/name"), slow=1.0)
    assert (await watch(system).attempt()).reason is Reason.DNS


@pytest.mark.parametrize(
    ("user", "password", "dbname"),
    [
        ("postgres", "wrong", "postgres"),
        ("postgres", None, "postgres"),
        ("nobody", PASSWORD, "postgres"),
        ("postgres", PASSWORD, "nothing"),
    ],
    ids=["wrong password", "no password", "unknown role", "unknown database"],
)
async def test_who_is_not_let_in_has_an_auth_failure(
    postgres: PostgreSQL, watch: Watch, user: str, password: str | None, dbname: str
) -> None:
    """Wrong password, missing password, unknown role, unknown database."""
    server = dataclasses.replace(
        database(postgres).server, user=user, password=Secret(password) if password else None, dbname=dbname
    )
    attempt = await watch(Postgres(server, slow=1.0)).attempt()
    assert attempt.reason is Reason.AUTH, attempt
    assert "wrong" not in attempt.message


async def test_a_stranger_is_told_apart_by_what_is_said(watch: Watch) -> None:
    """Silence is a timeout; garbage, and a hang-up, break the protocol."""
    for handler, reason in (
        (say_nothing, Reason.TIMEOUT),
        (say_garbage, Reason.PROTOCOL),
        (close_at_once, Reason.PROTOCOL),
    ):
        for mode in ("prefer", "disable", "require"):
            async with serving(handler) as port:
                attempt = await watch(at(port, f"?sslmode={mode}"), timeout=0.3).attempt()
            assert attempt.reason is reason, (mode, attempt)


@contextlib.asynccontextmanager
async def slowed(port: int, pause: list[float]) -> AsyncIterator[int]:
    """Lead to a server, whose every answer waits as long as ``pause`` says at that moment; yields the port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waits: list[float]) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(waits[0])
            writer.write(data)
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, back, [0.0]), pump(there, writer, pause))
        finally:
            back.close()

    async with serving(lead) as leading:
        yield leading


async def test_a_server_that_has_become_slow_is_degraded_and_not_down(postgres: PostgreSQL, watch: Watch) -> None:
    """What it is asked fits the time that there is; who comes anew is too late; and it is well again by itself."""
    pause = [0.0]
    async with slowed(postgres.port, pause) as port:
        server = endpoints.postgres(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable")
        watched, newcomer = (watch(Postgres(server, slow=0.2, statements=False), timeout=0.8) for _ in range(2))
        assert (await watched.attempt()).reading.degraded == ()
        pause[0] = 0.4  # of 2 s it would be one
        for _ in range(2 * CHECKS_PER_CONNECTION):
            attempt = await watched.attempt()
            assert attempt.ok
            (finding,) = attempt.reading.degraded
            assert re.fullmatch(r"a trivial query took 0\.4\d s", finding)
            assert problems(attempt)["activity"] == "the server is so slow that no time was left to ask"
        assert (await newcomer.attempt()).reason is Reason.TIMEOUT
        pause[0] = 0.0
        for one in (watched, newcomer):
            for _ in range(2 * CHECKS_PER_CONNECTION):
                attempt = await one.attempt()
                assert attempt.ok
            assert (attempt.reading.degraded, problems(attempt)) == ((), {})


async def test_connecting_that_is_slow_is_a_finding(postgres: PostgreSQL, watch: Watch) -> None:
    """It stands until the next connect, so that every check says the same."""
    pause = [0.05]
    async with slowed(postgres.port, pause) as port:
        server = endpoints.postgres(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable")
        watched = watch(Postgres(server, slow=0.12, statements=False))
        for _ in range(CHECKS_PER_CONNECTION):
            (finding,) = (await watched.attempt()).reading.degraded
            assert re.fullmatch(r"connecting took 0\.\d\d s", finding)
            pause[0] = 0.0
        assert (await watched.attempt()).reading.degraded == ()


async def test_no_fault_leaves_anything_behind(postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch) -> None:
    """Frozen, killed, cut off, locked out, full, its catalog locked: afterwards no descriptor and no task is left."""
    admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    watched = watch(as_role(postgres, "plain"), timeout=0.6)
    await watched.attempt()
    leaks = Leaks()
    seen = set()

    async def fails() -> None:
        seen.update({(await watched.attempt()).reason for _ in range(CHECKS_PER_CONNECTION)} - {None})

    for _ in range(2):
        with exhausted(postgres):
            await fails()
        admin.execute("ALTER ROLE plain NOLOGIN")
        await fails()
        admin.execute("ALTER ROLE plain LOGIN")
        await watched.until(None)
        with admin.transaction():
            admin.execute("LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE")
            await fails()
        await watched.until(None)
        postgres.freeze()
        await fails()
        postgres.thaw()
        await watched.until(None)
    postgres.kill()
    await fails()
    postgres.start()
    await watched.until(None)
    assert seen == {Reason.REFUSED, Reason.AUTH, Reason.QUERY, Reason.TIMEOUT}
    assert await leaks.found() == {}


async def test_a_locked_catalog_is_a_query_failure(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """A statement that waits for a lock is given up by its own lock timeout, before the deadline."""
    watched = watch(database(postgres), timeout=1.0)
    await watched.attempt()
    with admin.transaction():
        admin.execute("LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE")
        attempt = await watched.attempt()
    assert attempt.reason is Reason.QUERY, attempt
    assert "lock timeout" in attempt.message


def serve_tls(postgres: PostgreSQL, admin: psycopg.Connection, made: Path, key: Path) -> None:
    """Make the server speak TLS with a certificate, and wait until it does."""
    data = postgres.socket_folder / "data"
    owner = data.stat()
    for source, name in ((made, "server.crt"), (key, "server.key")):
        shutil.copy(source, data / name)
        os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / name).chmod(0o600)
    admin.execute("ALTER SYSTEM SET ssl = on")
    admin.execute("SELECT pg_reload_conf()")
    while True:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(postgres.dsn, sslmode="require"):
            return


@pytest.fixture
def certificate(postgres: PostgreSQL, admin: psycopg.Connection, tmp_path: Path) -> Path:
    """Make the server speak TLS, as `localhost`; returns the certificate to trust."""
    made, key = self_signed(tmp_path, "localhost")
    serve_tls(postgres, admin, made, key)
    return made


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("localhost:{port}/postgres?sslmode=verify-full", None),
        ("127.0.0.1:{port}/postgres?sslmode=verify-ca", None),
        ("127.0.0.1:{port}/postgres?sslmode=verify-full", Reason.TLS),
    ],
)
async def test_a_certificate_counts_for_its_own_name(
    postgres: PostgreSQL, certificate: Path, watch: Watch, place: str, reason: Reason | None
) -> None:
    """A trusted certificate is good; for another name it is a TLS failure where names are verified."""
    url = f"postgresql://postgres:{PASSWORD}@{place.format(port=postgres.port)}&sslrootcert={certificate}"
    attempt = await watch(Postgres(endpoints.postgres(url), slow=60.0)).attempt()
    assert attempt.reason is reason, attempt


async def test_a_certificate_of_nobody_we_trust_is_a_tls_failure(
    postgres: PostgreSQL, certificate: Path, watch: Watch
) -> None:
    """Signed by another, and nothing to check it with because the file is gone."""
    stranger, _ = self_signed(certificate.parent, "stranger")
    for trusted in (stranger, certificate.with_name("gone.pem")):
        options = f"sslmode=verify-full&sslrootcert={trusted}"
        url = f"postgresql://postgres:{PASSWORD}@localhost:{postgres.port}/postgres?{options}"
        attempt = await watch(Postgres(endpoints.postgres(url), slow=60.0)).attempt()
        assert attempt.reason is Reason.TLS, attempt


async def test_an_expired_certificate_is_a_tls_failure_where_it_is_verified(
    postgres: PostgreSQL, admin: psycopg.Connection, tmp_path: Path, watch: Watch
) -> None:
    """Whoever verifies is told so; whoever only wants encryption is let in."""
    expired, key = issued(tmp_path, "localhost", days=-1)
    serve_tls(postgres, admin, expired, key)
    url = f"postgresql://postgres:{PASSWORD}@localhost:{postgres.port}/postgres"
    for options, reason in ((f"sslmode=verify-full&sslrootcert={expired}", Reason.TLS), ("sslmode=require", None)):
        attempt = await watch(Postgres(endpoints.postgres(f"{url}?{options}"), slow=60.0)).attempt()
        assert attempt.reason is reason, attempt
        assert ("certificate verify failed" in attempt.message) is (reason is Reason.TLS)


async def test_a_server_without_tls_is_a_tls_failure_where_tls_is_required(postgres: PostgreSQL, watch: Watch) -> None:
    """No silent fall-back to plain text."""
    system = Postgres(endpoints.postgres(f"{postgres.dsn}?sslmode=require"), slow=60.0)
    assert (await watch(system).attempt()).reason is Reason.TLS


@pytest.mark.usefixtures("certificate")
@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_a_host_that_is_rejected_has_an_auth_failure(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch, mode: str
) -> None:
    """pg_hba.conf refuses us, by a rule and for want of one, with TLS and without."""
    rules = postgres.socket_folder / "data/pg_hba.conf"
    system = Postgres(endpoints.postgres(f"{postgres.dsn}?sslmode={mode}"), slow=60.0)
    for rule in ("host all all 127.0.0.1/32 reject\n", ""):
        rules.write_text(rule)
        admin.execute("SELECT pg_reload_conf()")
        await watch(system).until(Reason.AUTH)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ALTER ROLE plain NOLOGIN", Reason.AUTH),
        ("REVOKE CONNECT ON DATABASE watched FROM PUBLIC", Reason.AUTH),
        ("ALTER ROLE plain CONNECTION LIMIT 0", Reason.REFUSED),
        ("ALTER DATABASE watched ALLOW_CONNECTIONS false", Reason.REFUSED),
    ],
)
async def test_who_may_not_connect_is_told_why(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch, statement: str, reason: Reason
) -> None:
    """A right that is missing is auth; a limit that is reached is refused."""
    admin.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    admin.execute("CREATE DATABASE watched")
    admin.execute(statement)
    watched = watch(as_role(postgres, "plain", "watched"))
    assert (await watched.attempt()).reason is reason, watched.attempts


async def test_a_server_in_recovery_refuses(
    postgres: PostgreSQL, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that takes no queries, and a server that starts up, are there but not for us."""
    postgres.stop()
    data = postgres.socket_folder / "data"
    (data / "standby.signal").touch()
    with (data / "postgresql.conf").open("a") as config:
        config.write("hot_standby = off\n")

    def listens() -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", postgres.port)):
            return True
        return False

    monkeypatch.setattr(postgres, "is_ready", listens)
    postgres.start()
    watched = watch(database(postgres))
    assert [(await watched.attempt()).reason for _ in range(5)] == [Reason.REFUSED] * 5
