"""Probes: one file a system, and the table that says which one watches which."""

from __future__ import annotations

from auraconnect_exporter.model import Clock
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.host import HostProbe
from auraconnect_exporter.probes.http_api import HttpProbe
from auraconnect_exporter.probes.pgbouncer import PgBouncerProbe
from auraconnect_exporter.probes.postgres import PostgresProbe
from auraconnect_exporter.probes.redis_server import RedisProbe
from auraconnect_exporter.targets import Host, Http, PgBouncer, Postgres, Redis, Target, Workers


def make_probe(target: Target, clock: Clock, trust: Trust) -> Probe:
    """Return a new probe for a target; it connects when it is first used."""
    probe: Probe
    match target.system:
        case Postgres() as system:
            probe = PostgresProbe(system, target.timeout, clock)
        case PgBouncer() as system:
            probe = PgBouncerProbe(system, target.timeout, clock.monotonic)
        case Redis() as system:
            probe = RedisProbe(system, clock.monotonic, trust)
        case Http() as system:
            probe = HttpProbe(system, target.timeout, clock, trust)
        case Workers(kind="celery") as system:
            # What nobody watches needs no memory: these probes bring psutil along.
            from auraconnect_exporter.probes.celery_queue import CeleryProbe  # noqa: PLC0415

            probe = CeleryProbe(system, target.timeout, clock.monotonic, trust)
        case Workers() as system:
            from auraconnect_exporter.probes.arq_queue import ArqProbe  # noqa: PLC0415

            probe = ArqProbe(system, clock.monotonic, trust)
        case Host() as system:
            probe = HostProbe(system, target.timeout, clock.monotonic)
    return probe
