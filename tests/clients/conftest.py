"""What the tests of the clients run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from auraconnect_exporter.blocking import ExporterLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every asynchronous test of this folder on the exporter's own loop."""
    return {"loop": ExporterLoop}
