"""Each test of the store gets an empty database, of each engine where it takes the fixture ``place``."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from auraconnect_exporter.store import Store
from tests.store.support import PASSWORD, Place, new_database
from tools.servers import PostgreSQL


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL that the tests share; each has a database of its own."""
    with PostgreSQL(tmp_path_factory.mktemp("postgresql"), password=PASSWORD) as started:
        yield started


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    """Return a place for a store in a file."""
    return Place("", tmp_path / "data")


@pytest.fixture
def postgresql(server: PostgreSQL, tmp_path: Path) -> Place:
    """Return a place for a store in an empty database of the server."""
    return Place(new_database(server), tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    """Return a place for a store, on each engine."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """Return an empty store, on each engine."""
    opened = place.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def _nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("DEBUG")
    yield
    assert PASSWORD not in caplog.text
    gc.collect()  # a connection that nobody closed warns here, in the test that left it
