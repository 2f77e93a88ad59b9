"""Be many people who look at the dashboard: each on a connection of their own, every few seconds, as browsers do it.

    TOKEN=auc_… python -m benchmarks.pollers HOST PORT [--people 500] [--every 5] [--seconds 60]

Each asks with the ETag of the answer before. Says "polling" once everybody has asked twice, and in the end, as JSON,
how many answers of which status there were since then.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from auraconnect_exporter.web.health_api import PREFIX


@dataclass(frozen=True)
class Head:
    """What the head of an answer says."""

    status: int
    etag: str
    length: int


def parse(head: bytes) -> Head:
    """Return what a head says; a 304 has no content, whatever its length says."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    return Head(status, fields.get("etag", ""), 0 if status == 304 else int(fields.get("content-length", "0")))


async def person(place: tuple[str, int], token: str, begin: float, every: float, seen: Counter[int]) -> None:
    """Ask from ``begin`` on (the loop's time), every so many seconds, until cancelled; counts the statuses."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*place)
    etag = ""
    while True:
        await asyncio.sleep(max(0.0, begin - loop.time()))
        begin += every
        known = f"If-None-Match: {etag}\r\n" if etag else ""
        head = f"GET {PREFIX}/dashboard HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{known}\r\n"
        writer.write(head.encode("ascii"))
        answer = parse(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(answer.length)
        etag = answer.etag
        seen[answer.status] += 1


async def poll(options: argparse.Namespace, token: str) -> dict[str, float]:
    """Be everybody for a while; returns the counts, and how long it was in fact."""
    seen: Counter[int] = Counter()
    begin, apart = asyncio.get_running_loop().time() + 2, options.every / options.people
    place = (options.host, options.port)
    async with asyncio.TaskGroup() as group:
        people = [
            group.create_task(person(place, token, begin + apart * number, options.every, seen))
            for number in range(options.people)
        ]
        await asyncio.sleep(2 + 2 * options.every)
        seen.clear()
        print("polling", flush=True)
        begun = time.monotonic()
        await asyncio.sleep(options.seconds)
        result = {**{str(status): count for status, count in seen.items()}, "seconds": time.monotonic() - begun}
        for task in people:
            task.cancel()
    return result


def main(arguments: Sequence[str]) -> int:
    """Poll and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pollers", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two calls of one person")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    print(json.dumps(asyncio.run(poll(options, os.environ["TOKEN"]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
