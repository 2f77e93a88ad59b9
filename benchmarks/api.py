"""Measure what the health API serves, and what it costs, while what it watches hangs.

    python -m benchmarks.api [--runs 5] [--seconds 5] [--people 500] [--few 1000] [--many 1000000] [--rounds 200]

1. With a watched PostgreSQL and Redis frozen (SIGSTOP): GET /api/v1/health, requests a second, in turn with an aiohttp
   handler that does nothing, in a process like it. wrk asks, on 16 connections.
2. Still frozen: the processor time that the exporter takes, all of its work included, while so many people look at
   /dashboard every 5 s with the ETag they have.
3. How long GET /errors?hours=1 and GET /errors/summary take over HTTP with few errors stored and with many, on SQLite
   and on PostgreSQL, in turn.

Exit status 1 when a bar is missed.
"""

import argparse
import asyncio
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import psycopg

from auraconnect_exporter.records import SECOND
from auraconnect_exporter.store import open_store
from auraconnect_exporter.tokens import ADMIN_FILE
from auraconnect_exporter.web.health_api import PREFIX
from benchmarks.store import fill
from tools.servers import HTTPServer, PostgreSQL, Redis, free_port, program

RATE_BAR = 0.60
"""Of the requests a second of a handler that does nothing, at least."""
DASHBOARD_BAR = 0.25
"""Of one core, at most."""
STORED_BAR = 2.0
"""Times as long with many errors as with few, at most."""

READINGS = ("/errors?hours=1", "/errors/summary")
CONNECTIONS = 16
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """What one run of wrk has measured: requests a second, and the server's processor time for one, in seconds."""

    rate: float
    cost: float


@dataclass(frozen=True)
class Polled:
    """What the people at the dashboard cost: processor time in seconds, and their answers by status."""

    cpu: float
    elapsed: float
    answers: Mapping[str, int]

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu / self.elapsed


def parse_wrk(printed: str) -> tuple[int, float]:
    """Return the number of requests and those a second. Raises ValueError where wrk could not connect or read."""
    count, rate = re.search(r"(\d+) requests in", printed), re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if count is None or rate is None or "Socket errors" in printed:
        raise ValueError(f"wrk says: {printed}")
    return int(count[1]), float(rate[1])


def rate_report(empty: Sequence[Run], ours: Sequence[Run]) -> tuple[str, bool]:
    """Return the table of both handlers, and whether the bar is held; the medians count."""
    names = ("aiohttp, a handler that does nothing", "`GET /api/v1/health`")
    lines = ["| served | requests/s, median | each | processor time for one, µs |", "|---|---|---|---|"]
    for name, runs in zip(names, (empty, ours), strict=True):
        rate, cost = median(run.rate for run in runs), median(run.cost for run in runs)
        each = ", ".join(f"{run.rate:.0f}" for run in runs)
        lines.append(f"| {name} | {rate:.0f} | {each} | {cost * 1e6:.0f} |")
    share = median(run.rate for run in ours) / median(run.rate for run in empty)
    lines += ["", f"**{share:.0%}** of the requests a second (bar: at least {RATE_BAR:.0%})."]
    return "\n".join(lines), share >= RATE_BAR


def dashboard_report(polled: Polled, people: int) -> tuple[str, bool]:
    """Return what the dashboard costs, and whether the bar is held; every answer must be 200 or 304."""
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(polled.answers.items()))
    good = set(polled.answers) <= {"200", "304"} and bool(polled.answers) and polled.share < DASHBOARD_BAR
    asked = sum(polled.answers.values()) / polled.elapsed
    text = f"**{polled.share:.1%} of one core** for {people} people, {asked:.0f} requests/s ({answers}); "
    return text + f"bar: under {DASHBOARD_BAR:.0%}, all that the exporter does included.", good


def stored_report(name: str, few: int, many: int, times: Mapping[str, tuple[float, float]]) -> tuple[str, bool]:
    """Return the table of one engine, from medians in seconds with few and with many, and whether the bar is held."""
    lines = [f"| {name} | {few} errors, ms | {many} errors, ms | ratio |", "|---|---|---|---|"]
    lines += [
        f"| `GET {path}` | {short * 1e3:.2f} | {long * 1e3:.2f} | {long / short:.2f} |"
        for path, (short, long) in times.items()
    ]
    return "\n".join(lines), all(long <= STORED_BAR * short for short, long in times.values())


# ── The servers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def exporter(folder: Path, **environment: str) -> Iterator[HTTPServer]:
    """Run the exporter with its data in a folder."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address={address}", f"--data.path={folder}"]
    with HTTPServer("exporter", command, _log(folder), url=f"http://{address}", env=_environment(environment)) as one:
        yield one


@contextmanager
def empty_handler(folder: Path) -> Iterator[HTTPServer]:
    """Run the handler that does nothing."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.empty_handler", str(port)]
    with HTTPServer("empty", command, _log(folder), url=f"http://127.0.0.1:{port}", env=_environment({})) as one:
        yield one


def _log(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "log"


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    ours = ("DATABASE_URL", "REDIS_URL", "API_URL", "WORKER_QUEUES", "STORE_URL", "PROMETHEUS_URL", "ALERTMANAGER_URL")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "PYTHONPATH": f"{_ROOT / 'exporter'}:{_ROOT}", **more}


def processor_time(server: HTTPServer) -> float:
    """Return the processor time that a server has taken so far, in seconds."""
    times = psutil.Process(server.pid).cpu_times()
    return times.user + times.system


def token_in(folder: Path) -> str:
    """Return the token that the exporter made at its first start."""
    return (folder / ADMIN_FILE).read_text(encoding="ascii").strip()


class Caller:
    """A program that makes calls on one connection."""

    def __init__(self, server: HTTPServer, token: str) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def call(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        self._connection.request("GET", PREFIX + path, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def time(self, path: str) -> float:
        """Return how long a GET takes, in seconds. Raises ValueError where it is not answered with 200."""
        begun = time.perf_counter()
        status, body = self.call(path)
        taken = time.perf_counter() - begun
        if status != 200:
            raise ValueError(f"{path}: {status} {body[:200]!r}")
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# ── What is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Ask again and again until something holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.1)


def rates(empty: HTTPServer, ours: HTTPServer, runs: int, seconds: float) -> tuple[list[Run], list[Run]]:
    """Return so many runs of both, in turn: others use the machine, too."""
    measured: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(runs):
        for server, found in zip((empty, ours), measured, strict=True):
            found.append(_run(server, seconds))
    return measured


def _run(server: HTTPServer, seconds: float) -> Run:
    options = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={max(1, round(seconds))}s"]
    command = [str(program("wrk")), *options, server.url + PREFIX]
    before = processor_time(server)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count, rate = parse_wrk(printed)
    return Run(rate, (processor_time(server) - before) / count)


def dashboard(ours: HTTPServer, token: str, people: int, seconds: float) -> Polled:
    """Let so many people look at the dashboard."""
    host, _, port = ours.url.removeprefix("http://").partition(":")
    command = [sys.executable, "-m", "benchmarks.pollers", host, port, f"--people={people}", f"--seconds={seconds}"]
    environment = _environment({"TOKEN": token})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        if process.stdout is None or process.stdout.readline().strip() != "polling":
            raise ValueError("the people at the dashboard did not get that far")
        before = processor_time(ours)
        told = json.loads(process.stdout.readline())
        used = processor_time(ours) - before
    return Polled(used, told.pop("seconds"), told)


def stored(name: str, urls: Sequence[str], folder: Path, options: argparse.Namespace) -> tuple[str, bool]:
    """Measure one engine with few errors and with many."""
    now = int(time.time()) * SECOND
    with ExitStack() as running:
        callers = []
        for number, (url, count) in enumerate(zip(urls, (options.few, options.many), strict=True)):
            asyncio.run(_filled(url, count, now))
            data = folder / f"{name}-{number}"
            server = running.enter_context(exporter(data, STORE_URL=url))
            caller = Caller(server, token_in(data))
            running.callback(caller.close)
            callers.append(caller)
        times: dict[str, tuple[float, float]] = {}
        for path in READINGS:
            taken = [[caller.time(path) for caller in callers] for _ in range(options.rounds)]
            few, many = zip(*taken, strict=True)
            times[path] = (median(few), median(many))
    return stored_report(name, options.few, options.many, times)


async def _filled(url: str, count: int, now: int) -> None:
    store = open_store(url, Path(), deadline=60.0)
    await fill(store, count, now)
    await store.close()


def while_frozen(folder: Path, options: argparse.Namespace) -> list[tuple[str, bool]]:
    """Measure the first two, with frozen servers behind the exporter."""
    with (
        PostgreSQL(folder) as postgres,
        Redis(folder) as redis,
        exporter(folder / "data", DATABASE_URL=postgres.dsn, REDIS_URL=redis.url) as ours,
        empty_handler(folder / "empty") as empty,
    ):
        token = token_in(folder / "data")
        caller = Caller(ours, token)

        def passed() -> int:
            checks: int = json.loads(caller.call("")[1])["checks_passed"]
            return checks

        wait_for(lambda: passed() == 3, "a good check of each")
        postgres.freeze()
        redis.freeze()
        wait_for(lambda: passed() == 1, "the checks that time out")
        caller.close()
        measured = rates(empty, ours, options.runs, options.seconds)
        polled = dashboard(ours, token, options.people, max(30.0, 6 * options.seconds))
    return [rate_report(*measured), dashboard_report(polled, options.people)]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description="What the health API serves.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--few", type=int, default=1000, help="errors stored")
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200, help="calls of each kind")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-api-") as name:
        folder = Path(name)
        reports = while_frozen(folder, options)
        for report, _ in reports:
            print(report, end="\n\n", flush=True)
        files = [f"sqlite://{folder / size}.sqlite3" for size in ("few", "many")]
        reports.append(stored("SQLite", files, folder, options))
        print(reports[-1][0], end="\n\n", flush=True)
        with PostgreSQL(folder, settings={"max_wal_size": "4GB", "shared_buffers": "128MB"}) as postgres:
            urls = []
            with psycopg.connect(postgres.dsn, autocommit=True) as connection:
                for database in ("few", "many"):
                    connection.execute(f"CREATE DATABASE {database}".encode())
                    urls.append(postgres.dsn.removesuffix("postgres") + database)
            reports.append(stored("PostgreSQL", urls, folder, options))
        print(reports[-1][0])
    return 0 if all(good for _, good in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
