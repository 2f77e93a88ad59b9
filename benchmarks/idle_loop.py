"""Be an event loop that does nothing but wake: by how much it is late is the machine's doing.

    python -m benchmarks.idle_loop

Wakes twenty times a second until its input ends, then says, as JSON, by how many seconds late each time.
"""

import asyncio
import json
import sys

from auraconnect_exporter.blocking import ExporterLoop

EVERY = 0.05


async def wake(late: list[float], stop: asyncio.Event) -> None:
    """Note how late each waking is, until told to stop."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + EVERY
        await asyncio.sleep(EVERY)
        late.append(loop.time() - due)


async def idle() -> list[float]:
    """Wake until the input ends."""
    late: list[float] = []
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    await wake(late, stop)
    return late


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=ExporterLoop) as loop:
        print(json.dumps(loop.run(idle())))
