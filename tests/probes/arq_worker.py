"""A real arq worker, and one who gives it work; runs in arq's own environment, not in the exporter's.

`arq tests.probes.arq_worker.Settings` serves the queue QUEUE, one job at a time; `enqueue QUEUE FILE SECONDS` adds a
job, due after so many seconds, that runs until the file exists. The broker's address is in BROKER_URL.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from arq import create_pool  # type: ignore[import-not-found]  # not in the environment that is checked
from arq.connections import RedisSettings  # type: ignore[import-not-found]


async def wait_for(_: object, file: str) -> None:
    """Run until a file exists."""
    while not await asyncio.to_thread(Path(file).exists):
        await asyncio.sleep(0.02)


class Settings:
    """What arq's own command line serves."""

    functions = (wait_for,)
    queue_name = os.environ.get("QUEUE", "")
    redis_settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])
    max_jobs = 1
    poll_delay = 0.05
    health_check_interval = float(os.environ.get("HEALTH_CHECK_INTERVAL", "3600"))


async def enqueue(queue: str, file: str, seconds: str) -> None:
    """Add a job."""
    pool = await create_pool(RedisSettings.from_dsn(os.environ["BROKER_URL"]), default_queue_name=queue)
    await pool.enqueue_job("wait_for", file, _defer_by=float(seconds))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(*sys.argv[2:]))
