"""What the store does by the hour: old history is removed, nothing that is open."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import moment
from auraconnect_exporter.store.engine import Store, StoreError
from auraconnect_exporter.store.retention import remove_older

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3600.0


async def keep_house(store: Store, clock: Clock, retention: float) -> None:
    """Remove what is older than ``retention`` seconds, once an hour, until cancelled."""
    while True:
        try:
            removed = await remove_older(store, moment(clock.time() - retention))
        except StoreError as error:
            log.warning("old history was not removed; tried again in an hour", extra={"detail": str(error)})
        except Exception:
            log.exception("removing old history failed; it goes on")
        else:
            if removed.episodes or removed.errors:
                log.info("old history was removed", extra={"alerts": removed.episodes, "errors": removed.errors})
        await asyncio.sleep(EVERY_SECONDS)
