"""Real servers for the tests of the probes, each test its own."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from auraconnect_exporter.model import Clock
from auraconnect_exporter.targets import System
from tests.probes.support import CLOCK, PASSWORD, Watched, watch_system
from tools.servers import PostgreSQL, Redis


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL that takes ten connections."""
    settings = {"max_connections": "10", "superuser_reserved_connections": "2"}
    with PostgreSQL(tmp_path, password=PASSWORD, settings=settings) as server:
        yield server


@pytest.fixture
def admin(postgres: PostgreSQL) -> Iterator[psycopg.Connection]:
    """Return a superuser's connection to it."""
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Return a Redis with a password."""
    with Redis(tmp_path, password=PASSWORD) as server:
        yield server


class Watch(Protocol):
    """Puts a system under watch until the test ends."""

    def __call__(self, system: System, timeout: float = 2.0, clock: Clock = CLOCK) -> Watched: ...


@pytest.fixture
async def watch(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Watch]:
    """Return a way to watch systems; at the end, nothing that was said or logged may hold the password."""
    caplog.set_level("DEBUG")
    watched: list[Watched] = []
    systems: list[System] = []

    def start(system: System, timeout: float = 2.0, clock: Clock = CLOCK) -> Watched:
        systems.append(system)
        watched.append(watch_system(system, timeout, clock))
        return watched[-1]

    yield start
    for one in watched:
        await one.runner.close()
    said = repr([systems, [one.attempts for one in watched]]) + caplog.text
    assert PASSWORD not in said
    gc.collect()  # a socket that nobody closed warns here, in the test that left it
