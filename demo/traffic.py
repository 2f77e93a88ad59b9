"""People who order: a few requests and a job a second, whatever becomes of them; fills Redis where that is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import Final

import aiohttp
import redis.asyncio
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from demo import QUEUES
from demo.faults import Faults
from demo.jobs import tell_restaurant

REQUESTS_PER_SECOND: Final = 10
TIMEOUT: Final = 10.0
FILLER: Final = "demo:filler"
FILLER_BYTES: Final = 256 * 1024


async def browse(session: aiohttp.ClientSession, api: str) -> None:
    """Look at menus and order, again and again."""
    waiting: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(_one(session, api))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        await asyncio.sleep(1 / REQUESTS_PER_SECOND)


async def _one(session: aiohttp.ClientSession, api: str) -> None:
    is_order = random.random() < 0.3  # noqa: S311, PLR2004  # not all who look are hungry
    path = "/orders" if is_order else f"/restaurants/{random.randint(1, 50)}/menu"  # noqa: S311
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.request("POST" if is_order else "GET", api + path) as response:
            await response.read()


async def enqueue() -> None:
    """Give the workers something to do."""
    while True:
        for queue in QUEUES:
            with contextlib.suppress(OperationalError, RedisError, OSError):
                await asyncio.to_thread(tell_restaurant.apply_async, queue=queue, retry=False)
        await asyncio.sleep(1.0)


async def fill(faults: Faults, url: str) -> None:
    """Fill Redis up to its limit while that is asked for, and empty it again."""
    client = redis.asyncio.Redis.from_url(url)
    full = False
    while True:
        wanted = faults.has("memory")
        with contextlib.suppress(RedisError, OSError):
            if full and not wanted:
                await client.delete(FILLER)
            elif wanted:
                await client.rpush(FILLER, b"x" * FILLER_BYTES)
        full = wanted
        await asyncio.sleep(0.05 if wanted else 1.0)


async def main() -> None:
    """Order for ever."""
    faults = Faults(Path(os.environ["DEMO_FAULTS"]))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(browse(session, os.environ["API_URL"].removesuffix("/health")))
        tasks.create_task(enqueue())
        tasks.create_task(fill(faults, os.environ["REDIS_URL"]))


if __name__ == "__main__":
    asyncio.run(main())
