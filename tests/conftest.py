"""The loop that the exporter runs on, its logging, and an empty store on each engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.store import Store
from auraconnect_exporter.store.postgresql import SCHEMA
from tests.store.support import PASSWORD, Place
from tools.servers import PostgreSQL


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every asynchronous test on the exporter's own loop."""
    return {"loop": ExporterLoop}


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Leave the process's logging to the next test as this one found it: the command line sets it up anew."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL that the tests share, one after the other."""
    with PostgreSQL(tmp_path_factory.mktemp("postgresql"), password=PASSWORD) as started:
        yield started


@pytest.fixture
def shared_place(postgresql_server: PostgreSQL, tmp_path: Path) -> Place:
    """Return an empty place for a store that several exporters can share."""
    with psycopg.connect(postgresql_server.dsn, autocommit=True) as connection:
        # A database for each test would be a thousand files for each.
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
    return Place(postgresql_server.dsn, tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place for a store, on each engine."""
    if request.param == "sqlite":
        return Place("", tmp_path / "data")
    found: Place = request.getfixturevalue("shared_place")
    return found


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """Return an empty store, on each engine."""
    opened = place.open()
    yield opened
    await opened.close()
