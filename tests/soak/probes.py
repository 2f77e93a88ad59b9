"""A day of probes squeezed into minutes: memory, descriptors, tasks and threads stay as they are, whatever breaks.

    python -m tests.soak.probes [--cycles 20000] [--seed N]

The exporter watches a real PostgreSQL, Redis and HTTP server, and each of them once more behind a proxy, four times a
second, while servers are killed and started, frozen and thawed, and the proxies cut, say nothing, say garbage or are
slow; two clients scrape it meanwhile. After each tenth of the checks all is well for a while, and what the process
holds is counted. Exit status 1 when it holds more at the end than after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from tests.probes.test_celery_queue import CHANNEL, heartbeat
from tools.processes import HTTPServer, Server, free_port
from tools.servers import PostgreSQL, Redis

ROOT: Final = Path(__file__).parents[2]
INTERVAL: Final = 0.25
COPIES: Final = 3
"""Targets of each kind, straight and behind the proxy."""
BREAK_SECONDS: Final = (0.3, 2.0)
"""How long a fault lasts, and the peace after it."""
MEMORY_BAR: Final = 1.05
"""Times the memory after the warm-up, at most."""
SETTLE_SECONDS: Final = 3.0
SAMPLES: Final = 20
PATIENCE: Final = 120.0

PROXY_FAULTS: Final = ("cut", "silent", "garbage", "slow")
SLOW_SECONDS: Final = 0.2


class Proxy:
    """Passes bytes on to a port, unless its fault says otherwise."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._connections: set[asyncio.Task[None]] = set()
        self.fault = ""
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.break_with("cut")
            await asyncio.gather(*self._connections, return_exceptions=True)

    def break_with(self, fault: str) -> None:
        """Behave so from now on; what is open is cut where the fault says so."""
        self.fault = fault
        if fault == "cut":
            for task in self._connections:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self.fault != "cut":
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.fault == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            if self.fault == "silent":
                continue
            writer.write(b"\x16\x00garbage\r\n\r\n" if self.fault == "garbage" else data)
            await writer.drain()
        raise EOFError


@dataclass(frozen=True)
class Held:
    """What the exporter's process holds."""

    checks: int
    memory: int
    descriptors: int
    tasks: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.checks:6} checks: {self.memory / 1e6:.1f} MB, {self.descriptors} descriptors, {self.tasks} tasks, "
            f"{self.threads} threads"
        )


def grown(before: Held, after: Held) -> list[str]:
    """Return what there is more of than there may be."""
    names = [name for name in ("descriptors", "tasks", "threads") if getattr(after, name) > getattr(before, name)]
    return names + ["memory"] * (after.memory > before.memory * MEMORY_BAR)


class Exporter(HTTPServer):
    """The exporter as it is, and a line about its tasks in a file whenever it is asked; see `watched_exporter`."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        file = folder / "exporter.yml"
        file.write_text(json.dumps(config), encoding="utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        self._tasks = folder / "tasks"
        command: list[str | Path] = [
            *(sys.executable, "-m", "tests.soak.probes_exporter", self._tasks, f"--config.file={file}"),
            *(f"--web.listen-address={url.removeprefix('http://')}", f"--data.path={folder / 'data'}"),
            "--log.level=error",
        ]
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'exporter'}:{ROOT}"}
        super().__init__("exporter", command, folder / "exporter.log", url=url, env=env)

    def page(self) -> str:
        """Return the metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    def held(self) -> Held:
        """Count what it holds at the least within a while: checks are under way at any moment."""
        seen = []
        for _ in range(SAMPLES):
            seen.append(self._held())
            time.sleep(INTERVAL / 3)
        lowest = {name: min(getattr(one, name) for one in seen) for name in ("descriptors", "tasks", "threads")}
        return replace(seen[-1], **lowest)

    def _held(self) -> Held:
        self._tasks.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        while not self._tasks.exists():
            time.sleep(0.05)
        tasks = int(self._tasks.read_text(encoding="ascii"))
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        memory, threads = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("VmRSS", "Threads"))
        descriptors = sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        return Held(checks(self.page()), memory * 1024, descriptors, tasks, threads)


def checks(page: str) -> int:
    """Return how many checks a page of metrics has counted."""
    return int(sum(map(float, re.findall(r"^auraconnect_component_probes_total\{.*\} (\S+)$", page, re.MULTILINE))))


def results(page: str) -> Counter[str]:
    """Return the checks by component and result."""
    found: Counter[str] = Counter()
    pattern = r'^auraconnect_component_probes_total\{component="(\w+)",result="(\w+)".*\} (\S+)$'
    for component, result, count in re.findall(pattern, page, re.MULTILINE):
        found[f"{component} {result}"] += int(float(count))
    return found


def not_well(page: str) -> list[str]:
    """Return the targets that don't answer; not arq's, which ask for a real worker, and that would die with Redis."""
    healths = re.findall(r'^auraconnect_component_up\{.*target="([^"]+)"\} (\S+)$', page, re.MULTILINE)
    return [name for name, up in healths if up != "1.0" and not name.startswith("arq")]


def configuration(straight: dict[str, str], proxied: dict[str, str]) -> dict[str, object]:
    """Return the configuration: each system several times, straight and behind its proxy."""
    sections: dict[str, object] = {"check": {"interval": f"{INTERVAL}s", "timeout": f"{INTERVAL}s"}}
    for kind, url in straight.items():
        urls = [url] * COPIES + [proxied[kind]] * COPIES
        sections[kind] = [{"name": f"{kind}-{number}", "url": one} for number, one in enumerate(urls)]
    sections["workers"] = [
        {"name": f"{kind}-{place}", "kind": kind, "url": url, "queues": ["exports"]}
        for kind in ("celery", "arq")
        for place, url in (("straight", straight["redis"]), ("proxied", proxied["redis"]))
    ]
    return sections


@dataclass
class Soak:
    """The systems that are watched, and what breaks them."""

    exporter: Exporter
    servers: Sequence[Server]
    proxies: Sequence[Proxy]
    chance: random.Random

    async def rest(self) -> Held:
        """Let all be well for a while; returns what is held then. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while sick := not_well(await asyncio.to_thread(self.exporter.page)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not well again: {', '.join(sick)}")
            await asyncio.sleep(0.3)
        await asyncio.sleep(SETTLE_SECONDS)
        return await asyncio.to_thread(self.exporter.held)

    async def break_until(self, wanted: int) -> None:
        """Break one thing after the other until there were so many checks."""
        # Servers are started from the main thread, for the kernel kills them when that ends.
        while checks(await asyncio.to_thread(self.exporter.page)) < wanted:
            if self.chance.random() < 0.5:
                await self._break_proxy(self.chance.choice(self.proxies))
            else:
                await self._break_server(self.chance.choice(self.servers))
            await asyncio.sleep(self.chance.uniform(*BREAK_SECONDS))

    async def _break_proxy(self, proxy: Proxy) -> None:
        proxy.break_with(self.chance.choice(PROXY_FAULTS))
        await asyncio.sleep(self.chance.uniform(*BREAK_SECONDS))
        proxy.break_with("")

    async def _break_server(self, server: Server) -> None:
        if self.chance.random() < 0.5:
            server.freeze()
            await asyncio.sleep(self.chance.uniform(*BREAK_SECONDS))
            server.thaw()
        else:
            server.kill()
            await asyncio.sleep(self.chance.uniform(*BREAK_SECONDS))
            server.start()


async def working(redis: Redis) -> None:
    """Be a Celery worker, as far as a probe can see, and seem to be one of arq's, until cancelled."""
    while True:
        with contextlib.suppress(RedisError, OSError):
            async with Client.from_url(redis.url, socket_timeout=1) as client:
                await client.publish(CHANNEL, heartbeat())
                await client.set("exports:health-check", "here", ex=5)
        await asyncio.sleep(0.5)


async def scraping(exporter: Exporter) -> None:
    """Scrape twice a second, until cancelled."""
    while True:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(exporter.page)
        await asyncio.sleep(0.5)


async def soak(folder: Path, cycles: int, seed: int) -> bool:
    """Run and print; returns whether nothing has grown."""
    async with AsyncExitStack() as running:
        postgres = running.enter_context(PostgreSQL(folder))
        redis = running.enter_context(Redis(folder))
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.empty_handler", str(port)]
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'exporter'}:{ROOT}"}
        api = running.enter_context(
            HTTPServer("api", command, folder / "api.log", url=f"http://127.0.0.1:{port}", env=env)
        )
        ports = {"database": postgres.port, "redis": redis.port, "api": port}
        straight = {"database": postgres.dsn, "redis": redis.url, "api": f"{api.url}/-/ready"}
        proxies = {kind: await running.enter_async_context(Proxy(to).serving()) for kind, to in ports.items()}
        proxied = {kind: url.replace(str(ports[kind]), str(proxies[kind].port)) for kind, url in straight.items()}
        exporter = running.enter_context(Exporter(folder, configuration(straight, proxied)))
        others = [asyncio.create_task(act) for act in (scraping(exporter), scraping(exporter), working(redis))]
        it = Soak(exporter, (postgres, redis, api), list(proxies.values()), random.Random(seed))  # noqa: S311  # a seed
        begun = time.monotonic()
        held = []
        for tenth in range(1, 11):
            await it.break_until(cycles * tenth // 10)
            held.append(await it.rest())
            print(f"{time.monotonic() - begun:5.0f} s, {held[-1]}", flush=True)
        for other in others:
            other.cancel()
        print(f"\n{dict(sorted(results(exporter.page()).items()))}")
    more = grown(held[0], held[-1])
    print(f"grown: {', '.join(more) or 'nothing'} (seed {seed})")
    return not more


def main(arguments: Sequence[str]) -> int:
    """Soak and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.probes", description="A day of probes in minutes.")
    parser.add_argument("--cycles", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311  # no secret
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-probes-") as name:
        return 0 if asyncio.run(soak(Path(name), options.cycles, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
