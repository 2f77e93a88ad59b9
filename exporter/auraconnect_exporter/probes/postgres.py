"""PostgreSQL: can one connect and query, how long does it take, how near are its limits, and what else it tells.

Works as a role with ``pg_monitor``; one with less sees less, which costs the parts that need more. What is read with
each check comes in one round trip; what costs more is read once a minute, as far as the check's time allows, and what
was read last stands until then.
"""

from __future__ import annotations

import logging
from typing import Final

import psycopg

from auraconnect_exporter.model import Clock, Part, Reading
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.postgres_activity import Activity
from auraconnect_exporter.probes.postgres_collector import ONCE_A_MINUTE, Collector
from auraconnect_exporter.probes.postgres_connection import Rows, Session, begin
from auraconnect_exporter.probes.postgres_failures import explain_psycopg
from auraconnect_exporter.probes.postgres_log import AuthenticationLog
from auraconnect_exporter.probes.postgres_replication import Replication
from auraconnect_exporter.probes.postgres_statements import Statements
from auraconnect_exporter.probes.postgres_upkeep import Upkeep
from auraconnect_exporter.targets import Postgres

log = logging.getLogger(__name__)

ENOUGH_FOR: Final = 1.5
"""A question is only begun when so many times the trivial query's time are left: who is slow is not down."""


class PostgresProbe(Probe):
    """Watches one PostgreSQL server over one connection."""

    def __init__(self, system: Postgres, timeout: float, clock: Clock) -> None:
        self._system = system
        self._timeout = timeout
        self._monotonic = clock.monotonic
        self._session = Session(system.server, timeout, clock.monotonic)
        collectors = (
            *Activity(system).collectors(),
            *Replication(system.replication_lag, clock.monotonic).collectors(),
            *Upkeep(system.backup_query, clock.time).collectors(),
            *(Statements().collectors() if system.statements else ()),
        )
        self._log = AuthenticationLog(system.log_file) if system.log_file else None
        self.collectors = (
            "latency",
            *(collector.name for collector in collectors),
            *([AuthenticationLog.collector] if self._log else []),
        )
        self._often = [collector for collector in collectors if not collector.every]
        self._seldom = [collector for collector in collectors if collector.every]
        self._kept: dict[str, Part] = {}
        """What was last found of those that are asked seldom, and of those that the server refuses."""
        self._due: dict[str, float] = {}
        """When to ask for it again, by the monotonic clock."""

    async def check(self) -> Reading:
        """Query once, and read what the statistics views say."""
        try:
            return await self._read(self._monotonic() + self._timeout)
        except BaseException as error:
            await self._session.close()
            if isinstance(error, psycopg.Error):
                raise explain_psycopg(error) from None
            raise

    def interrupt(self) -> bool:
        """Let the query fail at once."""
        return self._session.interrupt()

    async def close(self) -> None:
        """Close the connection."""
        if self._log is not None:
            self._log.close()
        await self._session.close()

    async def _read(self, deadline: float) -> Reading:
        seconds = await self._session.ping(f"{begin(_milliseconds(self._timeout))}SELECT 1; COMMIT")
        parts = [self._session.latency(seconds, self._system.slow)]
        if deadline - self._monotonic() < ENOUGH_FOR * seconds:
            late = "the server is so slow that no time was left to ask"
            parts += [Part(collector.name, problem=late) for collector in self._often]
        else:
            parts += await self._ask_often()
        for collector in self._seldom:
            left = deadline - self._monotonic()
            if self._is_due(collector) and left > max(self._timeout / 2, ENOUGH_FOR * seconds):
                self._keep(await self._ask(collector, left / 2), collector.every)
            if collector.name in self._kept:
                parts.append(self._kept[collector.name])
        if self._log is not None:
            parts.append(await self._log.part())
        return Reading(tuple(parts))

    async def _ask_often(self) -> list[Part]:
        """Read all that belongs to each check in one go; where the server refuses some of it, one after the other.

        What was refused is left out for a minute.
        """
        asked = [collector for collector in self._often if self._is_due(collector) and not collector.only_if]
        statements = [collector.statement(self._session.version) for collector in asked]
        try:
            answers = await self._session.transaction(statements, _milliseconds(self._timeout))
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except psycopg.Error:
            found = {collector.name: await self._ask(collector, self._timeout) for collector in asked}
            for part in found.values():
                if part.problem and not part.samples:
                    self._keep(part, ONCE_A_MINUTE)
        else:
            found = {one.name: _interpreted(one, rows) for one, rows in zip(asked, answers, strict=True)}
        for collector in self._often:
            if collector.only_if:
                found[collector.name] = (
                    await self._ask(collector, self._timeout) if collector.only_if() else collector.read([])
                )
        return [found.get(collector.name) or self._kept[collector.name] for collector in self._often]

    async def _ask(self, collector: Collector, seconds: float) -> Part:
        """Read one part; where the server refuses it, or takes too long for it, that costs only this part."""
        try:
            if collector.extension and not await self._has(collector.extension, seconds):
                return Part(collector.name, absent=f"this database has no extension {collector.extension}")
            answers = await self._session.transaction(
                [collector.statement(self._session.version)], _milliseconds(seconds)
            )
        except psycopg.Error as error:
            if not self._session.is_usable:
                raise
            # Not the whole error, which quotes the statement.
            return Part(collector.name, problem=error.diag.message_primary or str(error))
        return _interpreted(collector, answers[-1])

    async def _has(self, extension: str, seconds: float) -> bool:
        found = f"SELECT 1 FROM pg_extension WHERE extname = '{extension}'"  # noqa: S608  # a name of ours
        return bool((await self._session.transaction([found], _milliseconds(seconds)))[-1])

    def _is_due(self, collector: Collector) -> bool:
        return self._monotonic() >= self._due.get(collector.name, 0.0)

    def _keep(self, part: Part, seconds: float) -> None:
        self._kept[part.collector] = part
        self._due[part.collector] = self._monotonic() + seconds


def _interpreted(collector: Collector, rows: Rows) -> Part:
    """Return what rows mean; one collector that can't make sense of them must not cost the others."""
    try:
        return collector.read(rows)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        log.debug("the rows of a collector make no sense", extra={"collector": collector.name}, exc_info=True)
        return Part(collector.name, problem="the server's answer makes no sense")


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
