"""What the dashboard needs beside the snapshot and the open alerts, read in the background into memory.

However many people look, Prometheus and the store are asked once in five seconds.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from auraconnect_exporter import history
from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.prometheus import Sample, Series
from auraconnect_exporter.episodes import identity
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import EndpointPerformance, Figures, FiguresUnavailable, Totals
from auraconnect_exporter.history import Strips
from auraconnect_exporter.model import Clock
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.records import ErrorRecord, Identity, Moment, moment
from auraconnect_exporter.store.engine import StoreError
from auraconnect_exporter.store.errors import ErrorSummary

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
HISTORY_SECONDS: Final = 60.0
WINDOW_MINUTES: Final = 5
TOP: Final = 5
SUMMARY_HOURS: Final = 24

CLOCKS_SERIES: Final = "alert:firing_since:timestamp_seconds"
"""Since when each alert's clock of escalation runs, by Prometheus's count (rules/escalation.yml)."""
NOT_CONFIGURED: Final = "no Prometheus is configured"

DELAYS_SERIES: Final = "auraconnect:escalation_delay:seconds"


@dataclass(frozen=True, slots=True)
class Background:
    """What was read last. ``unavailable`` says in a sentence what could not be, by source."""

    totals: Totals | None = None
    performance: tuple[EndpointPerformance, ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    summary: ErrorSummary | None = None
    clocks: Mapping[Identity, Moment] = field(default_factory=dict)
    """Since when alerts climb."""
    delays: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Seconds until a level of a severity is told."""
    strips: Strips = field(default_factory=dict)
    strips_end: Moment = 0
    """The end of the strips' last cell."""
    unavailable: Mapping[str, str] = field(default_factory=dict)


class Asks(Protocol):
    """What we need of a Prometheus."""

    async def query(self, expression: str) -> list[Sample]:
        """Return an expression's values now."""

    async def query_range(self, expression: str, start: Moment, end: Moment, step: float) -> list[Series]:
        """Return an expression's values over a time."""


class BackgroundReader:
    """Reads the figures, the clocks of escalation and the errors every five seconds, the history every minute."""

    def __init__(
        self, prometheus: Asks | None, figures: Figures | None, errors: Errors, notices: Notices, clock: Clock
    ) -> None:
        self._prometheus = prometheus
        self._figures = figures
        self._errors = errors
        self._notices = notices
        self._clock = clock
        self._history: tuple[Strips, Moment] = ({}, 0)
        self._history_at = -math.inf
        self._errors_state: tuple[int, int] | None = None
        self.latest = Background(unavailable={"prometheus": "not asked yet", "store": "not asked yet"})

    async def run(self) -> None:
        """Read again and again, until cancelled."""
        while True:
            try:
                await self.read()
            except Exception:
                log.exception("reading for the dashboard failed; it goes on")
            await asyncio.sleep(EVERY_SECONDS)

    async def read(self) -> None:
        """Read once; what can't be reached is said in ``latest``."""
        unavailable: dict[str, str] = {}
        totals: Totals | None = None
        performance: tuple[EndpointPerformance, ...] = ()
        clocks, delays = self.latest.clocks, self.latest.delays
        if self._figures is None or self._prometheus is None:
            unavailable["prometheus"] = NOT_CONFIGURED
        else:
            try:
                totals = await self._figures.totals()
                performance = (await self._figures.performance(WINDOW_MINUTES))[:TOP]
                clocks, delays = await _escalation(self._prometheus)
                await self._read_history(self._prometheus)
            except (FiguresUnavailable, ClientError) as error:
                unavailable["prometheus"] = str(error)
        errors, summary = self.latest.errors, self.latest.summary
        try:
            state = await self._errors.state()
            if state != self._errors_state:
                newest = await self._errors.newest(SUMMARY_HOURS, TOP, None, None, resolved=None)
                errors, summary = tuple(newest), await self._errors.summary(SUMMARY_HOURS)
                await self._notices.read()
                self._errors_state = state
        except StoreError as error:
            log.debug("the errors could not be read", extra={"detail": str(error)})
            unavailable["store"] = "the incident store can't be used at the moment"
            self._notices.shown = None
            errors, summary, self._errors_state = (), None, None
        self.latest = Background(
            totals, performance, errors, summary, clocks, delays, *self._history, unavailable=unavailable
        )

    async def _read_history(self, prometheus: Asks) -> None:
        if self._clock.monotonic() - self._history_at < HISTORY_SECONDS:
            return
        first, last = history.ends(moment(self._clock.time()))
        series = await prometheus.query_range(history.EXPRESSION, first, last, history.CELL_SECONDS)
        self._history = history.strips(series, first), last
        self._history_at = self._clock.monotonic()


async def _escalation(prometheus: Asks) -> tuple[dict[Identity, Moment], dict[tuple[str, str], float]]:
    """Return since when alerts climb, and the delays of the levels; NaN counts as nothing."""
    clocks = {
        identity(one.labels): moment(one.value)
        for one in await prometheus.query(CLOCKS_SERIES)
        if math.isfinite(one.value)
    }
    delays = {
        (one.labels.get("severity", ""), one.labels.get("escalation", "")): one.value
        for one in await prometheus.query(DELAYS_SERIES)
        if math.isfinite(one.value)
    }
    return clocks, delays
