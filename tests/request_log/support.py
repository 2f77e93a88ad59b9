"""What the tests of the request log share: AuraConnect's tables, rows in them, and steps through them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import psycopg

from auraconnect_exporter import endpoints
from auraconnect_exporter.database_step import Session, Steps
from auraconnect_exporter.request_log.tables import Errors, ErrorState, Requests, RequestState, Table
from tests.probes.support import CLOCK
from tests.store.support import new_database
from tools.servers import PostgreSQL

# As SQLAlchemy makes them for AuraConnect.
TABLES: Final = """
CREATE TABLE performance_metrics (
    id uuid PRIMARY KEY, endpoint varchar(200) NOT NULL, method varchar(10) NOT NULL,
    response_time_ms double precision NOT NULL, status_code integer NOT NULL,
    request_size_bytes integer, response_size_bytes integer, db_query_count integer, db_query_time_ms double precision,
    cache_hits integer, cache_misses integer, user_id varchar, restaurant_id integer, request_id varchar,
    created_at timestamp without time zone
);
CREATE INDEX ON performance_metrics (endpoint, created_at);
CREATE INDEX ON performance_metrics (method);
CREATE INDEX ON performance_metrics (status_code);
CREATE TABLE error_logs (
    id uuid PRIMARY KEY, error_type varchar(100) NOT NULL, error_message text, stack_trace text, endpoint varchar(200),
    method varchar(10), status_code integer, user_id varchar, restaurant_id integer, request_id varchar, tags json,
    created_at timestamp without time zone, resolved boolean, resolved_at timestamp without time zone
);
CREATE INDEX ON error_logs (created_at);
"""

INDEX: Final = """
CREATE INDEX CONCURRENTLY performance_metrics_created_at ON performance_metrics
    USING brin (created_at) WITH (pages_per_range = 16, autosummarize = on)
"""
"""As docs/configuration.md has it; a test compares."""

S = TypeVar("S")
Connection = psycopg.Connection[tuple[Any, ...]]


def auraconnect(server: PostgreSQL) -> str:
    """Make a database with AuraConnect's tables that lives elsewhere than UTC, and return its URL."""
    dsn = new_database(server)
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = dsn.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'".encode())
        connection.execute(TABLES)
    return dsn


def steps(dsn: str, table: str = "performance_metrics", timeout: float = 10.0) -> Steps:
    """Return what steps through a table of a database."""
    return Steps(endpoints.postgres(dsn), CLOCK, table, name="request log", timeout=timeout)


def now(connection: Connection) -> datetime:
    """Return the database's clock as AuraConnect writes it: naive, UTC."""
    row = connection.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


def write(connection: Connection, at: datetime | str, path: object = "/menu", **columns: object) -> None:
    """Write a request as AuraConnect does."""
    row = {
        "id": uuid.uuid4(),
        "endpoint": path,
        "method": "GET",
        "response_time_ms": 12.5,
        "status_code": 200,
        "created_at": at,
    } | columns
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO performance_metrics ({names}) VALUES ({places})".encode(), [*row.values()])  # noqa: S608


def write_error(connection: Connection, at: datetime | str, error_type: str = "ValueError") -> None:
    """Write an error as AuraConnect does."""
    connection.execute(
        "INSERT INTO error_logs (id, error_type, created_at, resolved) VALUES (%s, %s, %s, false)",
        (uuid.uuid4(), error_type, at),
    )


async def _read(table: Table[S], stepping: Steps, state: S) -> S:
    more = True
    while more:

        async def act(session: Session, state: S = state) -> tuple[S, bool] | None:
            return await table.step(session, state)

        done = await stepping.run(act)
        assert done is not None, stepping.problem or f"there is no {table.name}"
        state, more = done
    return state


async def read(stepping: Steps, state: RequestState | None = None) -> RequestState:
    """Count the requests up to the end of the table, through the text that a restart would begin with."""
    table = Requests()
    return table.decode(table.encode(await _read(table, stepping, state or RequestState())))


async def read_errors(stepping: Steps, state: ErrorState | None = None) -> ErrorState:
    """Count the errors up to the end of the table, through the text that a restart would begin with."""
    table = Errors()
    return table.decode(table.encode(await _read(table, stepping, state or ErrorState())))


def total(state: RequestState) -> int:
    """Return how many requests are counted."""
    return sum(state.counts.requests.values())


def by_handler(requests: Mapping[tuple[str, str, str], int] | Iterable[tuple[str, str, str]]) -> set[str]:
    """Return the handlers of label sets."""
    return {handler for handler, _, _ in requests}
