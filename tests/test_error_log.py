"""AuraConnect's error_logs on a real PostgreSQL: nothing is missed or lost, and nothing that goes wrong there hurts."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.error_log import LOOK_BACK, MAX_DEPTH, MAX_TEXT, ErrorCursor, ErrorLogReader, Step
from auraconnect_exporter.model import Secret
from auraconnect_exporter.records import SECOND, ErrorRecord, moment_of
from auraconnect_exporter.targets import PostgresServer
from tests.probes.support import CLOCK, PASSWORD, Leaks
from tests.probes.test_pgbouncer import PgBouncer
from tools.servers import PostgreSQL, free_port

# As SQLAlchemy makes it for AuraConnect.
TABLE = """
CREATE TABLE error_logs (
    id uuid PRIMARY KEY, error_type varchar(100) NOT NULL, error_message text, stack_trace text, endpoint varchar(200),
    method varchar(10), status_code integer, user_id varchar, restaurant_id integer, request_id varchar, tags json,
    created_at timestamp without time zone, resolved boolean, resolved_at timestamp without time zone
);
CREATE INDEX ON error_logs (created_at);
"""

START = datetime(2026, 11, 25, 3, 28, 0, 123456)
BEGINNING = ErrorCursor(at=0)


def pytest_asyncio_loop_factories() -> Mapping[str, type[asyncio.AbstractEventLoop]]:
    """Run on the exporter's own loop."""
    return {"loop": ExporterLoop}


both_releases = pytest.mark.parametrize("postgres", ["distribution", "newest"], indirect=True)


@pytest.fixture
def postgres(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL that lives elsewhere than UTC."""
    release: str = getattr(request, "param", "distribution")
    with PostgreSQL(tmp_path, password=PASSWORD, settings={"timezone": "Asia/Tokyo"}, release=release) as server:
        yield server


@pytest.fixture
def admin(postgres: PostgreSQL) -> Iterator[psycopg.Connection]:
    """Return a superuser's connection to it, with the table made."""
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        yield connection


@pytest.fixture
def bouncer(postgres: PostgreSQL) -> Iterator[PgBouncer]:
    """Return a PgBouncer in front of it."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with PgBouncer(folder, postgres) as server:
            yield server


def reader(postgres: PostgreSQL, batch: int = 200, timeout: float = 5.0, **changes: Any) -> ErrorLogReader:
    """Return a reader of the server, perhaps as somebody else."""
    server = replace(endpoints.postgres(postgres.dsn), **changes)
    return ErrorLogReader(server, CLOCK, timeout=timeout, batch=batch)


def write(admin: psycopg.Connection, **columns: Any) -> str:
    """Write a row as AuraConnect does, and return its id."""
    row = {"id": uuid.uuid4(), "error_type": "ValueError", "created_at": START} | columns
    names = ", ".join(row)
    admin.execute(f"INSERT INTO error_logs ({names}) VALUES ({', '.join(['%s'] * len(row))})", [*row.values()])  # noqa: S608
    return str(row["id"])


async def read_all(reader: ErrorLogReader, cursor: ErrorCursor) -> tuple[list[ErrorRecord], ErrorCursor]:
    """Step until there is no more at once."""
    records: list[ErrorRecord] = []
    step = Step((), cursor, more=True)
    while step.more:
        step = await reader.step(step.cursor)
        assert reader.problem == ""
        records += step.records
    return records, step.cursor


@both_releases
async def test_a_row_becomes_a_record_as_it_is(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """Every column, naive times as UTC to the microsecond, tags as data, and where it comes from."""
    id_ = write(
        admin,
        error_message="Überlauf",
        stack_trace="Traceback:\n  …",
        endpoint="/orders/17",
        method="POST",
        status_code=500,
        user_id="u1",
        restaurant_id=42,
        request_id="r-1",
        tags=json.dumps({"ü": [1, 2.5, None, {"deep": True}], "big": 10**30}),
        resolved=True,
        resolved_at=START + timedelta(seconds=1),
    )
    bare = write(admin, created_at=START + timedelta(microseconds=1))
    step = await reader(postgres).step(BEGINNING)
    at = moment_of(START.replace(tzinfo=UTC))
    assert step.records == (
        ErrorRecord(
            id=id_,
            error_type="ValueError",
            error_message="Überlauf",
            created_at=at,
            stack_trace="Traceback:\n  …",
            endpoint="/orders/17",
            method="POST",
            status_code=500,
            user_id="u1",
            restaurant_id="42",
            request_id="r-1",
            tags={"ü": [1, 2.5, None, {"deep": True}], "big": 10**30},
            resolved=True,
            resolved_at=at + SECOND,
            source=f"error_logs:{id_}",
        ),
        ErrorRecord(bare, "ValueError", "", at + 1, source=f"error_logs:{bare}"),
    )
    assert not step.more


@both_releases
async def test_every_row_is_read_once_in_batches_however_many_share_a_moment(
    postgres: PostgreSQL, admin: psycopg.Connection
) -> None:
    """Oldest first, in batches smaller than the rows of one moment; then the last minute again, and only that."""
    written = [write(admin, created_at=START + timedelta(seconds=40 * (number // 7))) for number in range(35)]
    reading = reader(postgres, batch=3)
    records, cursor = await read_all(reading, BEGINNING)
    assert sorted(record.id for record in records) == sorted(written)
    assert [record.created_at for record in records] == sorted(record.created_at for record in records)
    newest = records[-1].created_at
    assert cursor == ErrorCursor(newest - LOOK_BACK, "", newest)
    again, cursor_again = await read_all(reading, cursor)
    assert {record.id for record in again} == set(written[21:])
    assert cursor_again == cursor


async def test_a_row_that_comes_late_is_found(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """A transaction commits 59 s after newer rows were read; an older one would be missed, as is said."""
    write(admin, created_at=START)
    _, cursor = await read_all(reader(postgres), BEGINNING)
    late = write(admin, created_at=START - timedelta(seconds=59))
    write(admin, created_at=START - timedelta(seconds=61))
    records, _ = await read_all(reader(postgres), cursor)
    assert late in {record.id for record in records}
    assert len(records) == 2


async def test_a_row_from_the_future_hides_none_of_today(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """A machine's clock is a day ahead; what is written now is found all the same. Impossible times are left out."""
    now = datetime.now(UTC).replace(tzinfo=None)
    ahead = write(admin, created_at=now + timedelta(days=1))
    for impossible in ("infinity", "-infinity", "20000-01-01", None):
        write(admin, created_at=impossible)
    records, cursor = await read_all(reader(postgres), BEGINNING)
    assert [record.id for record in records] == [ahead]
    today = write(admin, created_at=now - timedelta(seconds=30))
    records, _ = await read_all(reader(postgres), cursor)
    assert {record.id for record in records} == {today, ahead}


async def test_within_the_minute_a_row_comes_with_its_flags_of_now(
    postgres: PostgreSQL, admin: psycopg.Connection
) -> None:
    """Marked as resolved between two steps, it is read as resolved."""
    write(admin, resolved=False)
    records, cursor = await read_all(reader(postgres), BEGINNING)
    assert [record.resolved for record in records] == [False]
    admin.execute("UPDATE error_logs SET resolved = true, resolved_at = created_at")
    records, _ = await read_all(reader(postgres), cursor)
    assert [(record.resolved, record.resolved_at) for record in records] == [(True, records[0].created_at)]


async def test_an_empty_table_leaves_the_cursor_where_it_is(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """Reading begins where the caller says, and what is older is not read."""
    since = ErrorCursor(moment_of(START.replace(tzinfo=UTC)))
    assert await reader(postgres).step(since) == Step((), since)
    write(admin, created_at=START - timedelta(microseconds=1))
    id_ = write(admin, created_at=START)
    records, _ = await read_all(reader(postgres), since)
    assert [record.id for record in records] == [id_]


async def test_tags_that_no_store_could_keep_stay_text(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """PostgreSQL's json holds NUL, half of a surrogate pair, great depth and huge numbers."""
    hostile = [
        '{"a": "\\u0000"}',
        '"\\ud800"',
        "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH,
        "[" * 3000 + "]" * 3000,
        '{"a": ' * 3000 + "1" + "}" * 3000,
        "1e400",
    ]
    for number, tags in enumerate(hostile):
        write(admin, tags=tags, created_at=START + timedelta(seconds=number))
    step = await reader(postgres).step(BEGINNING)
    assert [record.tags for record in step.records] == hostile


async def test_a_huge_row_is_cut(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """A stack trace of a megabyte costs its end, tags of that size are left out."""
    huge = "ü" * 1_000_000
    write(admin, error_message=huge, stack_trace=huge, tags=json.dumps(huge))
    ((record,), _) = await read_all(reader(postgres), BEGINNING)
    assert (record.error_message, record.stack_trace, record.tags) == (huge[:MAX_TEXT], huge[:MAX_TEXT], None)


async def test_a_missing_table_and_a_missing_right_are_one_line_each(
    postgres: PostgreSQL, admin: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """However often one steps; the cursor stays, and with the right the rows come."""
    caplog.set_level("INFO")
    admin.execute(
        "CREATE ROLE monitoring LOGIN PASSWORD 'hunter2-of-monitoring'; ALTER TABLE error_logs RENAME TO away"
    )
    reading = reader(postgres, user="monitoring", password=Secret("hunter2-of-monitoring"))
    for _ in range(3):
        assert await reading.step(BEGINNING) == Step((), BEGINNING)
    assert reading.problem == "there is no table error_logs"
    admin.execute("ALTER TABLE away RENAME TO error_logs")
    for _ in range(3):
        assert await reading.step(BEGINNING) == Step((), BEGINNING)
    assert reading.problem == "permission denied for table error_logs"
    id_ = write(admin)
    admin.execute("GRANT SELECT ON error_logs TO monitoring")
    records, _ = await read_all(reading, BEGINNING)
    assert [record.id for record in records] == [id_]
    assert [(record.getMessage(), getattr(record, "reason", "")) for record in caplog.records] == [
        ("AuraConnect's error_logs can't be read", "there is no table error_logs"),
        ("AuraConnect's error_logs can't be read", "permission denied for table error_logs"),
        ("AuraConnect's error_logs can be read again", ""),
    ]


async def test_another_kind_of_table_is_told(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """A column that is not there."""
    admin.execute("ALTER TABLE error_logs DROP COLUMN tags")
    reading = reader(postgres)
    await reading.step(BEGINNING)
    assert reading.problem == 'column "tags" does not exist'


async def test_it_can_not_write(postgres: PostgreSQL, admin: psycopg.Connection) -> None:
    """Not even as a superuser, through a view that writes when it is read."""
    write(admin)
    admin.execute("ALTER TABLE error_logs RENAME TO hidden; ALTER TABLE hidden DROP stack_trace; CREATE TABLE trap ()")
    admin.execute(
        "CREATE FUNCTION spring() RETURNS text LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO trap DEFAULT VALUES; RETURN ''; END $$; "
        "CREATE VIEW error_logs AS SELECT *, spring() AS stack_trace FROM hidden"
    )
    reading = reader(postgres)
    await reading.step(BEGINNING)
    assert reading.problem == "cannot execute INSERT in a read-only transaction"


async def test_a_migration_that_holds_the_table_ends_the_step_in_time(
    postgres: PostgreSQL, admin: psycopg.Connection
) -> None:
    """It waits half of its time for the lock, and others who want the table don't wait behind it for longer."""
    write(admin)
    reading = reader(postgres, timeout=2.0)
    with psycopg.connect(postgres.dsn) as migration:
        migration.execute("LOCK TABLE error_logs")
        await reading.step(BEGINNING)
    assert reading.problem == "canceling statement due to lock timeout"
    records, _ = await read_all(reading, BEGINNING)
    assert len(records) == 1


async def test_nothing_stays_behind_in_pgbouncers_session(bouncer: PgBouncer, admin: psycopg.Connection) -> None:
    """In transaction mode it is somebody else's next, with timeouts and time zone as they were, after a failure too."""
    id_ = write(admin)
    reading = ErrorLogReader(endpoints.postgres(bouncer.dsn), CLOCK)
    records, _ = await read_all(reading, BEGINNING)
    assert [record.id for record in records] == [id_]
    admin.execute("ALTER TABLE error_logs RENAME TO away")
    await reading.step(BEGINNING)
    assert reading.problem == "there is no table error_logs"
    with psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as somebody:
        settings = ("statement_timeout", "lock_timeout", "timezone", "transaction_read_only")
        found = [somebody.execute(f"SHOW {setting}".encode()).fetchone() for setting in settings]
    assert found == [("0",), ("0",), ("Asia/Tokyo",), ("off",)]


@both_releases
async def test_a_frozen_server_holds_no_step(
    postgres: PostgreSQL, admin: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Each ends at its deadline and leaves nothing open; afterwards the rows come, and no password was said."""
    caplog.set_level("DEBUG")
    id_ = write(admin)
    reading = reader(postgres, timeout=0.5)
    await reading.step(BEGINNING)
    leaks = Leaks()
    postgres.freeze()
    try:
        for _ in range(3):
            begun = time.monotonic()
            assert await reading.step(BEGINNING) == Step((), BEGINNING)
            assert time.monotonic() - begun < 2.5
    finally:
        postgres.thaw()
    assert "no answer within 0.5 s" in reading.problem
    records, _ = await read_all(reading, BEGINNING)
    assert [record.id for record in records] == [id_]
    assert await leaks.found() == {}
    assert PASSWORD not in caplog.text


async def test_a_server_that_freezes_during_the_query_holds_no_step(
    postgres: PostgreSQL, admin: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """The socket is shut, so that the query ends at once; one that had to be left behind would be logged."""
    reading = reader(postgres, timeout=3.0)  # half of it may pass until the freeze
    await reading.step(BEGINNING)
    leaks = Leaks()
    with psycopg.connect(postgres.dsn) as holder:
        holder.execute("LOCK TABLE error_logs")
        begun = time.monotonic()
        step = asyncio.create_task(reading.step(BEGINNING))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'auraconnect-exporter errors'"
        while admin.execute(f"{waits} AND wait_event_type = 'Lock'").fetchone() != (1,):
            await asyncio.sleep(0.01)
        postgres.freeze()
        try:
            assert await step == Step((), BEGINNING)
            assert time.monotonic() - begun < 5.0
        finally:
            postgres.thaw()
    assert reading.problem == "no answer within 3 s"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert await leaks.found() == {}


async def test_nobody_there_is_a_problem_and_no_more() -> None:
    """Said in a sentence, without the password."""
    server = PostgresServer("127.0.0.1", free_port(), "monitoring", Secret(PASSWORD), "auraconnect")
    reading = ErrorLogReader(server, CLOCK)
    assert await reading.step(BEGINNING) == Step((), BEGINNING)
    assert "refused" in reading.problem
    assert PASSWORD not in reading.problem


@pytest.mark.parametrize("cursor", [BEGINNING, ErrorCursor(5, "a b", 7), ErrorCursor(1, str(uuid.UUID(int=1)), 2)])
def test_a_cursor_survives_as_text(cursor: ErrorCursor) -> None:
    """The store keeps it so."""
    assert ErrorCursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "1 2", "x 1 y"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """A damaged one is not taken for a beginning."""
    with pytest.raises(ValueError):
        ErrorCursor.parse(text)
