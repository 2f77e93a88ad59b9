"""The request log on a real PostgreSQL: what is folded, counted, refused, and that it keeps to its bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter.database_step import Session
from auraconnect_exporter.request_log.counts import OTHER
from auraconnect_exporter.request_log.tables import Errors, ErrorState, Requests, RequestState
from tests.probes.support import CLOCK
from tests.request_log.support import (
    INDEX,
    Connection,
    auraconnect,
    now,
    read,
    read_errors,
    steps,
    total,
    write,
    write_error,
)
from tools.servers import PostgreSQL

SECOND = timedelta(seconds=1)


@pytest.fixture
def dsn(postgresql_server: PostgreSQL) -> str:
    """Return AuraConnect's database, on a server shared with other tests."""
    return auraconnect(postgresql_server)


@pytest.fixture
def api(dsn: str) -> Iterator[Connection]:
    """Return the API's connection to it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


PATHS = {
    "/": "/",
    "": "/",
    "/menu": "/menu",
    "/menu/": "/menu",
    "menu": "/menu",
    "/api/v1/orders": "/api/v1/orders",
    "/api/v2/oauth2/well-known_x.json": "/api/v2/oauth2/well-known_x.json",
    "/orders/17": "/orders/{id}",
    "/orders/17/items/4?expand=lines&token=a/17": "/orders/{id}/items/{id}",
    "/orders/1/2/3": "/orders/{id}/{id}/{id}",
    "/17": "/{id}",
    "/staff/0b0f4b7e-3f0e-4bb1-9d3a-6a1f2f7d9c11/shifts": "/staff/{id}/shifts",
    "/files/5f4dcc3b5aa765d61d8327deb882cf99": "/files/{id}",
    "/invites/aB3xZ9": "/invites/{id}",
    "/reset/eyJhbGciOiJIUzI1NiJ9.e30.x": "/reset/{id}",
    "/reports/2026-11-25": "/reports/{id}",
    "/users/ada@example.com": "/users/{id}",
    "/menus/Käse": "/menus/{id}",
    "/menus/a b": "/menus/{id}",
    '/x"} 1\nevil_total{y="': "/{id}",
    "/orders/{order_id}": "/orders/{id}",
    "/" + "long-" * 39: "/" + ("long-" * 39)[:99],
}


async def test_paths_are_folded(dsn: str, api: Connection) -> None:
    """Numbers, UUIDs, hashes, tokens, dates and whatever no route is made of become ``{id}``; queries are cut."""
    at = now(api)
    for path in PATHS:
        write(api, at, path)
    state = await read(steps(dsn))
    expected = [PATHS[path] for path in PATHS]
    assert dict(state.counts.requests) == {(handler, "GET", "200"): expected.count(handler) for handler in expected}


async def test_times_and_labels_are_made_fit(dsn: str, api: Connection) -> None:
    """A bound belongs to its bucket, hours are an hour, what is no time is in no bucket; odd labels are ``other``."""
    at = now(api)
    for milliseconds in (0, 50, 50.1, 2000, 5000, 5000.1, 30000, 30001, 1e300, "infinity"):
        write(api, at, response_time_ms=milliseconds)
    for milliseconds in (-1, "NaN", "-infinity"):
        write(api, at, response_time_ms=milliseconds)
    write(api, at, method="get", status_code=599)
    write(api, at, method="PROPFIND", status_code=99)
    state = await read(steps(dsn))
    assert state.counts.requests == {
        ("/menu", "GET", "200"): 13,
        ("/menu", "GET", "599"): 1,
        ("/menu", OTHER, OTHER): 1,
    }
    histogram = state.counts.durations["/menu", "GET"]
    assert histogram.counts == (3, 1, 0, 0, 0, 1, 1, 1, 1, 3)
    assert histogram.seconds == pytest.approx(0.0125 + 0.1001 + 2 + 10.0001 + 60.001 + 7200)


async def test_each_row_counts_once_whenever_it_comes(dsn: str, api: Connection) -> None:
    """Behind newer ones by 59 s, with the time of others, in transactions and savepoints that stay open meanwhile."""
    start = now(api)
    stepping = steps(dsn)
    state = await read(stepping)
    with ExitStack() as open_:
        slow, savepoint = (open_.enter_context(psycopg.connect(dsn)) for _ in range(2))
        write(slow, start)
        savepoint.execute("SELECT pg_current_xact_id(); SAVEPOINT one")
        write(savepoint, start)
        for _ in range(3):
            write(api, start)
        state = await read(stepping, state)
        assert total(state) == 3
        write(api, start - 59 * SECOND)
        slow.commit()
        state = await read(stepping, state)
        assert total(state) == 5
        savepoint.execute("RELEASE SAVEPOINT one")
        savepoint.commit()
        write(api, start)
        state = await read(stepping, state)
    assert (total(state), state.counts.late) == (7, 0)
    assert total(await read(stepping, state)) == 7


async def test_what_comes_later_than_a_minute_is_counted_as_dropped(dsn: str, api: Connection) -> None:
    """By two seconds in the same step; by minutes with the watch that comes every five."""
    start = now(api)
    write(api, start)
    stepping = steps(dsn)
    state = await read(stepping)
    write(api, start - 62 * SECOND)
    write(api, start - 600 * SECOND)
    state = await read(stepping, state)
    assert state.cursor is not None
    assert state.cursor.watch is not None
    due = replace(state.cursor, watch=replace(state.cursor.watch, at=state.cursor.watch.at - 301_000_000))
    state = await read(stepping, replace(state, cursor=due))
    assert (total(state), state.counts.late) == (1, 2)
    assert (await read(stepping, state)).counts.late == 2


async def test_the_future_and_impossible_times_hide_nothing(dsn: str, api: Connection) -> None:
    """A machine's clock is a day ahead; its rows count once, and those of today as well."""
    start = now(api)
    stepping = steps(dsn)
    for at in (start + timedelta(days=1), "infinity", "20000-01-01", "-infinity"):
        write(api, at)
    write(api, start, "/nowhen", created_at=None)
    state = await read(stepping)
    assert total(state) == 3
    write(api, start - 30 * SECOND)
    write(api, start + timedelta(days=1))
    assert total(await read(stepping, state)) == 5


async def test_a_first_start_looks_back_five_minutes(dsn: str, api: Connection) -> None:
    """What was before is history."""
    start = now(api)
    for minutes in (0, 1, 2, 3, 4, 6, 60):
        write(api, start - timedelta(minutes=minutes))
    state = await read(steps(dsn))
    assert (total(state), state.counts.late, state.skipped) == (5, 0, 0)


async def test_thousands_of_paths_make_few_groups(dsn: str, api: Connection) -> None:
    """Names that nothing folds are left in the database but for the busiest, and handlers that are known stay known."""
    start = now(api)
    stepping = steps(dsn)
    write(api, start, "/zzz")
    state = await read(stepping)
    api.execute(
        "INSERT INTO performance_metrics (id, endpoint, method, response_time_ms, status_code, created_at) "
        "SELECT gen_random_uuid(), '/' || translate(md5(n::text), '0123456789', 'ghijklmnop'), 'GET', 1, 200, %s "
        "FROM generate_series(1, 5000) n",
        [start],
    )
    write(api, start, "/zzz")
    state = await read(stepping, state)
    assert state.counts.requests["/zzz", "GET", "200"] == 2
    assert total(state) == 5002
    assert len(state.counts.requests) == 201


async def test_a_large_table_without_the_index_is_left_alone(
    dsn: str, api: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once and names the place of the statement, which then makes it readable; a small one is read."""
    stepping = steps(dsn)
    assert total(await read(stepping)) == 0
    api.execute("ALTER TABLE performance_metrics SET (autovacuum_enabled = off)")
    api.execute(
        "INSERT INTO performance_metrics (id, endpoint, method, response_time_ms, status_code, created_at, user_id) "
        "SELECT gen_random_uuid(), '/menu', 'GET', 1, 200, clock_timestamp() AT TIME ZONE 'UTC', repeat('x', 100) "
        "FROM generate_series(1, 120000)"
    )

    async def act(session: Session) -> object:
        return await Requests().step(session, RequestState())

    for statistics in ("", "ANALYZE performance_metrics"):
        api.execute(statistics.encode())
        assert await stepping.run(act) is None
        assert "rows and no index that begins with created_at, so it is not read" in stepping.problem
        assert "docs/configuration.md" in stepping.problem
    assert "1.2e+05" in stepping.problem
    api.execute(INDEX)
    assert total(await read(stepping)) == 120_000
    assert len([record for record in caplog.records if "can't be read" in record.getMessage()]) <= 2


def test_the_documentation_has_this_index() -> None:
    """What people copy is what the tests use."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    assert f"{INDEX.strip()};" in text


async def test_the_index_is_used(dsn: str, api: Connection) -> None:
    """Whatever the planner thinks of a table that was never analyzed: a step reads few of its pages."""
    api.execute("ALTER TABLE performance_metrics SET (autovacuum_enabled = off)")
    api.execute(
        "INSERT INTO performance_metrics (id, endpoint, method, response_time_ms, status_code, created_at) "
        "SELECT gen_random_uuid(), '/menu', 'GET', 1, 200, now() AT TIME ZONE 'UTC' - make_interval(secs => 40000 - n) "
        "FROM generate_series(1, 40000) n"
    )
    api.execute(INDEX)
    stepping = steps(dsn)
    state = await read(stepping)
    assert total(state) == pytest.approx(300, abs=3)
    api.execute("SELECT pg_stat_reset()")
    await read(stepping, state)
    for _ in range(200):  # a session reports when it ends
        row = api.execute(
            "SELECT seq_scan, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'performance_metrics'"
        ).fetchone()
        if row != (0, 0):
            break
        time.sleep(0.02)
    assert row is not None
    assert row[0] == 0
    assert 0 < row[1] < 4000


async def test_a_table_that_is_not_there_is_no_problem(dsn: str, api: Connection) -> None:
    """Neither is read, neither has failed."""
    api.execute("DROP TABLE performance_metrics, error_logs")
    stepping = steps(dsn)

    async def act(session: Session) -> tuple[object, object]:
        requests = await Requests().step(session, RequestState())
        await session.query("COMMIT", {})
        return requests, await Errors().step(session, ErrorState())

    assert await stepping.run(act) == (None, None)
    assert stepping.problem == ""


async def test_a_role_without_the_right_is_told_which(dsn: str, api: Connection) -> None:
    """One sentence; all else that is asked, anybody may."""
    api.execute("DROP ROLE IF EXISTS rightless; CREATE ROLE rightless LOGIN PASSWORD 'hunter2-of-rightless'")
    stepping = steps(dsn.replace("postgres:Hunter2-never-shown", "rightless:hunter2-of-rightless"))

    async def act(session: Session) -> object:
        return await Requests().step(session, RequestState())

    assert await stepping.run(act) is None
    assert stepping.problem == "permission denied for table performance_metrics"
    api.execute("GRANT SELECT ON performance_metrics TO rightless")
    write(api, now(api))
    assert total(await read(stepping)) == 1
    api.execute("DROP OWNED BY rightless; DROP ROLE rightless")


async def test_a_migration_that_holds_the_table_ends_the_step_in_time(dsn: str, api: Connection) -> None:
    """It waits half of its time, then lets go of its place in the queue; nothing is lost."""
    write(api, now(api))
    stepping = steps(dsn, timeout=0.6)

    async def act(session: Session) -> object:
        return await Requests().step(session, RequestState())

    with psycopg.connect(dsn) as migration:
        migration.execute("LOCK TABLE performance_metrics")
        begun = CLOCK.monotonic()
        assert await stepping.run(act) is None
        assert CLOCK.monotonic() - begun < 3.0
    assert stepping.problem == "canceling statement due to lock timeout"
    assert total(await read(steps(dsn))) == 1


async def test_errors_count_by_type(dsn: str, api: Connection) -> None:
    """Once each, also late or marked as resolved; what is no name is ``other``; those of the future when it comes."""
    start = now(api)
    stepping = steps(dsn, "error_logs")
    for error_type in ("ValueError", "ValueError", "app.errors.Declined", 'x"} 1\nevil', "ü" * 100):
        write_error(api, start, error_type)
    write_error(api, start + timedelta(days=1), "TooEarly")
    state = await read_errors(stepping)
    expected = {"ValueError": 2, "app.errors.Declined": 1, OTHER: 2}
    assert state.counts.errors == expected
    api.execute("UPDATE error_logs SET resolved = true, resolved_at = created_at")
    write_error(api, start - 59 * SECOND, "ValueError")
    state = await read_errors(stepping, state)
    assert state.counts.errors == expected | {"ValueError": 3}
    assert (await read_errors(stepping, state)).counts.errors == expected | {"ValueError": 3}


async def test_the_newest_server_knows_the_statements(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A step through either table, on another release than the other tests'."""
    with PostgreSQL(tmp_path_factory.mktemp("newest"), password="Hunter2-never-shown", release="newest") as server:
        dsn = auraconnect(server)
        with psycopg.connect(dsn, autocommit=True) as api:
            api.execute(INDEX)
            write(api, now(api))
            write_error(api, now(api))
        assert total(await read(steps(dsn))) == 1
        assert (await read_errors(steps(dsn, "error_logs"))).counts.errors == {"ValueError": 1}
