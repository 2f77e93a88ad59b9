"""A real arq worker, and one who gives it work; runs in arq's own environment, not in the exporter's.

`work QUEUE` serves a queue, one job at a time; `enqueue QUEUE FILE SECONDS` adds a job, due after so many seconds, that
runs until the file exists. The broker's address is in BROKER_URL.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from arq import Worker, create_pool  # type: ignore[import-not-found]  # not in the environment that is checked
from arq.connections import RedisSettings  # type: ignore[import-not-found]


async def wait_for(_: object, file: str) -> None:
    """Run until a file exists."""
    while not await asyncio.to_thread(Path(file).exists):
        await asyncio.sleep(0.02)


async def work(queue: str) -> None:
    """Serve a queue until killed."""
    settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])
    await Worker([wait_for], queue_name=queue, redis_settings=settings, max_jobs=1, poll_delay=0.05).async_run()


async def enqueue(queue: str, file: str, seconds: str) -> None:
    """Add a job."""
    pool = await create_pool(RedisSettings.from_dsn(os.environ["BROKER_URL"]), default_queue_name=queue)
    await pool.enqueue_job("wait_for", file, _defer_by=float(seconds))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[2:]) if sys.argv[1] == "work" else enqueue(*sys.argv[2:]))
