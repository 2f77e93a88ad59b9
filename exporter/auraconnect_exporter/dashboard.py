"""What the dashboard needs beside the snapshot and the open alerts, read in the background into memory.

However many people look, Prometheus and the store are asked once in five seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import EndpointPerformance, Figures, FiguresUnavailable, Totals
from auraconnect_exporter.records import ErrorRecord
from auraconnect_exporter.store.engine import StoreError
from auraconnect_exporter.store.errors import ErrorSummary

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 5.0
WINDOW_MINUTES: Final = 5
TOP: Final = 5
SUMMARY_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Background:
    """What was read last. ``unavailable`` says in a sentence what could not be, by source."""

    totals: Totals | None = None
    performance: tuple[EndpointPerformance, ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    summary: ErrorSummary | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)


class BackgroundReader:
    """Reads the figures and the errors every five seconds."""

    def __init__(self, figures: Figures | None, errors: Errors) -> None:
        self._figures = figures
        self._errors = errors
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
        if self._figures is None:
            unavailable["prometheus"] = "no Prometheus is configured"
        else:
            try:
                totals = await self._figures.totals()
                performance = (await self._figures.performance(WINDOW_MINUTES))[:TOP]
            except FiguresUnavailable as error:
                unavailable["prometheus"] = str(error)
        errors: tuple[ErrorRecord, ...] = ()
        summary: ErrorSummary | None = None
        try:
            newest = await self._errors.newest(SUMMARY_HOURS, TOP, None, None, resolved=None)
            errors, summary = tuple(newest), await self._errors.summary(SUMMARY_HOURS)
        except StoreError as error:
            log.debug("the errors could not be read", extra={"detail": str(error)})
            unavailable["store"] = "the incident store can't be used at the moment"
        self.latest = Background(totals, performance, errors, summary, unavailable)
