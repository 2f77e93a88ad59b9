"""PgBouncer, asked at its administration console: who has a connection, who waits for one, and for how long.

Source: PgBouncer's documentation, "Admin console", SHOW POOLS. The role must be one of ``stats_users`` or
``admin_users``. What is behind it is another target: one whose URL leads through it, or past it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psycopg

from auraconnect_exporter.model import Metric, Part, Reading
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.postgres_connection import Session
from auraconnect_exporter.probes.postgres_failures import explain_psycopg
from auraconnect_exporter.targets import PgBouncer

CLIENTS = Metric("postgres_pgbouncer_clients", "gauge", "Clients of all of PgBouncer's pools by state.", ("state",))
MAX_WAIT = Metric(
    "postgres_pgbouncer_max_wait_seconds", "gauge", "How long the first client in line has waited for a connection."
)

CONSOLE: Final = "pgbouncer"
"""The database that is the console itself."""


class PgBouncerProbe(Probe):
    """Watches the pools of one PgBouncer over one connection."""

    collectors = ("latency", "pools")

    def __init__(self, system: PgBouncer, timeout: float, monotonic: Callable[[], float]) -> None:
        self._system = system
        self._session = Session(system.server, timeout, monotonic)

    async def check(self) -> Reading:
        """Ask for the version, which is little, then for the pools."""
        try:
            seconds = await self._session.ping("SHOW VERSION")
            pools = await self._session.table("SHOW POOLS")
        except BaseException as error:
            await self._session.close()
            if isinstance(error, psycopg.Error):
                raise explain_psycopg(error) from None
            raise
        return Reading(
            (self._session.latency(seconds, self._system.slow), pools_part(pools, self._system.longest_wait))
        )

    def interrupt(self) -> bool:
        """Let the query fail at once."""
        return self._session.interrupt()

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()


def pools_part(pools: Sequence[Mapping[str, Any]], longest_wait: float) -> Part:
    """Turn the rows of SHOW POOLS, one a database and user, into samples and a finding."""
    real = [pool for pool in pools if pool["database"] != CONSOLE]
    waits = [(pool["maxwait"] + pool.get("maxwait_us", 0) / 1e6, pool["database"]) for pool in real]
    wait, database = max(waits, default=(0.0, ""))
    findings = (f"a client has waited {wait:.1f} s for a connection to {database}",) if wait > longest_wait else ()
    return Part(
        "pools",
        (
            CLIENTS.sample(sum(pool["cl_active"] for pool in real), "active"),
            CLIENTS.sample(sum(pool["cl_waiting"] for pool in real), "waiting"),
            MAX_WAIT.sample(wait),
        ),
        findings,
    )
