"""What the end-to-end tests watch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.database import Database, database
from tools.servers import Redis


@pytest.fixture(name="database")
def fixture_database(tmp_path: Path) -> Iterator[Database]:
    with database(tmp_path) as started:
        yield started


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path, password="secret") as started:
        yield started
