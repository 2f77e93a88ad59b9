"""Real servers for tests: each fixture is a factory, and whatever it started is gone when the test ends.

`postgres()` answers a running `PostgreSQL`, `prometheus(config, release="oldest")` a running `Prometheus`: the
arguments are those of the class but for its folder, which is new each time.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tools.servers import Alertmanager, PostgreSQL, Prometheus, Redis


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Keep what a test has started, and stop it when the test ends, last started first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Make a new folder for a server."""

    def make() -> Path:
        path = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}"
        path.mkdir()
        return path

    return make


@pytest.fixture
def postgres(running: ExitStack, folder: Callable[[], Path]) -> Callable[..., PostgreSQL]:
    """Start a PostgreSQL of its own."""

    def start(**options: Any) -> PostgreSQL:
        return running.enter_context(PostgreSQL(folder(), **options))

    return start


@pytest.fixture
def redis(running: ExitStack, folder: Callable[[], Path]) -> Callable[..., Redis]:
    """Start a Redis of its own."""

    def start(**options: Any) -> Redis:
        return running.enter_context(Redis(folder(), **options))

    return start


@pytest.fixture
def prometheus(running: ExitStack, folder: Callable[[], Path]) -> Callable[..., Prometheus]:
    """Start a Prometheus on a configuration file."""

    def start(config: Path, **options: Any) -> Prometheus:
        return running.enter_context(Prometheus(folder(), config, **options))

    return start


@pytest.fixture
def alertmanager(running: ExitStack, folder: Callable[[], Path]) -> Callable[..., Alertmanager]:
    """Start an Alertmanager on a configuration file."""

    def start(config: Path, **options: Any) -> Alertmanager:
        return running.enter_context(Alertmanager(folder(), config, **options))

    return start
