"""Measure whether the store stays quick when it is full, and how much it writes, on both engines.

    python -m benchmarks.store [--few 1000] [--many 1000000] [--rounds 50] [--writes 300]

The same number of errors happened in the last hour of either store, the rest in the week before. It reads what
GET /errors?hours=1&limit=100 and GET /errors/summary read, with few errors and with many, and prints the medians; the
summary also as after a write, when it is made anew. Then it writes one audit entry a transaction, one caller waiting
for each and many callers at once. Both databases commit durably. Exit status 1 when a request takes more than twice as
long with many errors as with few.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median

from auraconnect_exporter.records import SECOND, AuditEntry, ErrorRecord, Moment
from auraconnect_exporter.store import Store, audit, errors, open_store
from auraconnect_exporter.store.errors import HOUR, ErrorFilter
from auraconnect_exporter.store.summaries import Summaries
from tools.servers import PostgreSQL

BAR = 2.0
"""How many times as long a reading may take with many errors."""

LAST_HOUR = 500
BATCH = 1000

ANEW = " after a write"
"""Marks what is measured beside the requests, and is under no bar."""

Reading = Callable[[Store], Awaitable[object]]


def made_up(count: int, now: Moment, random: Random) -> Iterator[ErrorRecord]:
    """Return errors of fifty types on two hundred endpoints."""
    hour, week = HOUR * SECOND, 168 * HOUR * SECOND
    for number in range(count):
        age = random.randrange(hour) if number < LAST_HOUR else random.randrange(hour, week)
        yield ErrorRecord(
            id=str(uuid.UUID(int=random.getrandbits(128))),
            error_type=f"Error{int(random.expovariate(0.1)) % 50}",
            error_message="no such order",
            created_at=now - age,
            stack_trace="Traceback (most recent call last): …\n" * 8,
            endpoint=f"/api/v1/orders/{int(random.expovariate(0.02)) % 200}",
            method="GET",
            status_code=500,
            resolved=random.random() < 0.5,
            source=str(number),
        )


def readings(now: Moment) -> dict[str, Reading]:
    """Return what is measured, by its request."""
    since = now - HOUR * SECOND
    filters = {
        "": ErrorFilter(since),
        "&resolved=false": ErrorFilter(since, resolved=False),
        "&error_type=Error1": ErrorFilter(since, error_type="Error1"),
        "&endpoint=/api/v1/orders/1": ErrorFilter(since, endpoint="/api/v1/orders/1"),
        "&error_type=Error1&endpoint=/api/v1/orders/1": ErrorFilter(since, "Error1", "/api/v1/orders/1"),
    }

    def listing(wanted: ErrorFilter) -> Reading:
        return lambda store: store.read(partial(errors.newest, wanted=wanted, limit=100))

    def summing(hours: int) -> Reading:
        kept: dict[Store, Summaries] = {}
        return lambda store: kept.setdefault(store, Summaries(store)).get(now, hours)

    def anew(hours: int) -> Reading:
        return lambda store: store.read(partial(errors.summary, now=now, hours=hours))

    return {
        **{f"/errors?hours=1{query}": listing(wanted) for query, wanted in filters.items()},
        **{f"/errors/summary?hours={hours}": summing(hours) for hours in (24, 168)},
        **{f"/errors/summary?hours={hours}{ANEW}": anew(hours) for hours in (24, 168)},
    }


async def fill(store: Store, count: int, now: Moment) -> None:
    """Put so many errors into an empty store."""
    made = made_up(count, now, Random(count))  # noqa: S311  # nothing secret
    while batch := list(islice(made, BATCH)):
        await store.write(partial(errors.insert_copied, errors=batch))


async def times(stores: Sequence[Store], wanted: dict[str, Reading], rounds: int) -> list[dict[str, float]]:
    """Return the median of each reading of each store, in seconds; they alternate, as others use the machine, too."""
    taken: list[dict[str, list[float]]] = [{name: [] for name in wanted} for _ in stores]
    for _ in range(rounds):
        for name, reading in wanted.items():
            for store, each in zip(stores, taken, strict=True):
                begun = time.perf_counter()
                await reading(store)
                each[name].append(time.perf_counter() - begun)
    return [{name: median(seconds) for name, seconds in each.items()} for each in taken]


async def write_rates(store: Store, writes: int) -> tuple[float, float]:
    """Return the writes a second of one caller after the other, and of many at once."""

    async def write() -> None:
        await store.write(partial(audit.insert, entry=AuditEntry(0, "ada", "acknowledge", "a1")))

    begun = time.perf_counter()
    for _ in range(writes):
        await write()
    alone = writes / (time.perf_counter() - begun)
    begun = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(writes)))
    return alone, writes / (time.perf_counter() - begun)


async def measure(name: str, urls: Sequence[str], options: argparse.Namespace) -> bool:
    """Print what one engine takes, with few errors and with many; returns whether it stays under the bar."""
    now = int(time.time()) * SECOND
    wanted = readings(now)
    stores = [open_store(url, Path(), deadline=60.0) for url in urls]
    for store, count in zip(stores, (options.few, options.many), strict=True):
        begun = time.perf_counter()
        await fill(store, count, now)
        print(f"{name}: {count} errors written in {time.perf_counter() - begun:.0f} s", flush=True)
    few, many = await times(stores, wanted, options.rounds)
    for store in stores:
        alone, together = await write_rates(store, options.writes)
        print(f"{name}: {alone:.0f} writes a second by one caller, {together:.0f} by many")
        await store.close()
    print(f"\n| {name} | {options.few} errors, ms | {options.many} errors, ms | ratio |\n|---|---|---|---|")
    for request in wanted:
        ratio = many[request] / few[request]
        print(f"| `{request}` | {few[request] * 1e3:.2f} | {many[request] * 1e3:.2f} | {ratio:.2f} |")
    print()
    return all(many[request] <= BAR * few[request] for request in wanted if not request.endswith(ANEW))


def main(arguments: Sequence[str]) -> int:
    """Measure both engines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--writes", type=int, default=300)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="store-") as name:
        folder = Path(name)
        files = [f"sqlite://{folder / size}.sqlite3" for size in ("few", "many")]
        good = [asyncio.run(measure("SQLite", files, options))]
        settings = {"fsync": "on", "max_wal_size": "4GB"}
        with (
            PostgreSQL(folder, settings=settings) as few,
            PostgreSQL(folder, settings={**settings, "shared_buffers": "128MB"}) as many,
        ):
            good.append(asyncio.run(measure("PostgreSQL", [few.dsn, many.dsn], options)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
