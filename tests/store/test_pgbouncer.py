"""The store behind PgBouncer in transaction mode, where each transaction may get another session."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import psycopg

from auraconnect_exporter.store import open_store
from tests.probes.test_pgbouncer import PgBouncer
from tests.store.support import note, subjects
from tools.servers import PostgreSQL


async def test_the_store_works_and_leaves_no_setting_behind(server: PostgreSQL, tmp_path: Path) -> None:
    """Writes and reads of two exporters share one session, and the application finds it as it was."""
    select = "SELECT current_setting('search_path'), current_setting('statement_timeout'), pg_backend_pid()"
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        Path(name).chmod(0o755)  # noqa: ASYNC240  # a folder of this test
        with (
            PgBouncer(Path(name), server) as bouncer,
            psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as application,
        ):
            before = application.execute(select).fetchone()
            stores = [open_store(bouncer.dsn, tmp_path) for _ in range(2)]
            await asyncio.gather(*(store.write(note("")) for _ in range(20) for store in stores))
            found = await stores[0].read(subjects)
            await asyncio.gather(*(store.close() for store in stores))
            after = application.execute(select).fetchone()
    assert (len(found), after) == (40, before)
