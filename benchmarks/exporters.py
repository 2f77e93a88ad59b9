"""Measure ours beside the four exporters that it replaces, and how it grows with targets and with series.

    python -m benchmarks.exporters [--seconds 300] [--warm-up 10] [--targets 10 100 300] [--series 1000 10000]

1. A real PostgreSQL, a real Redis and a small HTTP server are watched by node, postgres, redis and blackbox exporter,
   and by ours. For so many seconds a client asks each every 5 s, as Prometheus does: on a kept connection, for
   OpenMetrics, compressed. The four read their system when they are asked; ours checks its targets every 5 s by itself,
   and that is part of what it costs.
2. Ours with ten, a hundred and three hundred targets, a third of each kind. How late its checks begin is compared with
   how late an event loop wakes that does nothing else, in the same seconds: the machine is busy with others, too.
3. Ours with a thousand and ten thousand series, of arq's queues.

Exit status 1 when a bar is missed.
"""

import argparse
import gzip
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import psutil
import redis as redis_client

from tools.servers import HTTPServer, PostgreSQL, Redis, Server, free_port, program

SCRAPE_BAR = 0.2
"""Of the sum of the four's scrape times, at most."""
LATENESS_BAR = 0.5
"""Seconds: the 99th percentile with a hundred targets, less that of an idle loop."""
GROWTH_BAR = 2.0
"""Times the memory of ten targets, with a hundred."""

EVERY = 5.0
"""Seconds between two scrapes, and between two checks of a target."""
QUEUES = 100
"""Queues of one arq target; three series each."""
OURS = "auraconnect"
_ROOT = Path(__file__).parent.parent
_ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@dataclass(frozen=True)
class Cost:
    """What a program cost while it was scraped: ``seconds`` of the clock, ``cpu`` of a processor, memory in bytes."""

    seconds: float
    cpu: float
    resident: int
    proportional: int
    scrapes: Sequence[float] = ()
    """How long each scrape took, in seconds."""
    series: int = 0

    @property
    def cpu_per_hour(self) -> float:
        """Seconds of a processor that an hour costs."""
        return self.cpu / self.seconds * 3600


@dataclass(frozen=True)
class Grown:
    """Ours with so many targets; lateness in seconds, the 99th percentile."""

    targets: int
    cost: Cost
    late: float
    idle: float


@dataclass
class Watched:
    """A program under measurement: where it is scraped, and its process."""

    name: str
    url: str
    process: psutil.Process
    scrapes: list[float] = field(default_factory=list)
    body: bytes = b""
    _connection: http.client.HTTPConnection | None = None

    def scrape(self) -> None:
        """Ask for the metrics as Prometheus does. Raises ValueError where it is not answered with 200."""
        parts = urlsplit(self.url)
        connection = self._connection = self._connection or http.client.HTTPConnection(parts.netloc, timeout=60)
        begun = time.perf_counter()
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET", path, headers={"Accept": _ACCEPT, "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        self.body = answer.read()
        self.scrapes.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise ValueError(f"{self.url}: {answer.status} {self.body[:200]!r}")

    def cpu(self) -> float:
        """Return the processor time taken so far, in seconds."""
        times = self.process.cpu_times()
        return times.user + times.system

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


def percentile(values: Sequence[float]) -> float:
    """Return the 99th percentile; of few values the worst."""
    return quantiles(values, n=100)[98] if len(values) >= 100 else max(values)


def count_series(text: str) -> int:
    """Return the number of samples of a scrape."""
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))


def lateness(text: str) -> list[float]:
    """Return how late the last check of each target began, in seconds, from a scrape of ours."""
    found = re.findall(r"^auraconnect_component_probe_lateness_seconds\{[^}]*\} (\S+)", text, re.MULTILINE)
    return [float(value) for value in found]


# ── What is printed ──────────────────────────────────────────────────────────────────────────────────────────────────


def beside_report(costs: Mapping[str, Cost]) -> tuple[str, bool]:
    """Return the table of all five, from what each cost by name, and whether the bars are held."""
    head = "| | scrape: median, ms | p99, ms | CPU, s an hour | RSS, MB | PSS, MB | series |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    others = [cost for name, cost in costs.items() if name != OURS]
    lines += [_row(name, [cost]) for name, cost in costs.items() if name != OURS]
    lines += [_row("the four", others), _row("**ours**", [costs[OURS]])]
    ours, four = _figures([costs[OURS]]), _figures(others)
    ratios = [mine / theirs for mine, theirs in zip(ours, four, strict=True)]
    bars = (SCRAPE_BAR, None, 1.0, 1.0, 1.0)
    cells = [f"{ratio:.2f}" + (f" (bar {bar:g})" if bar else "") for ratio, bar in zip(ratios, bars, strict=True)]
    lines.append(f"| of theirs | {' | '.join(cells)} | |")
    held = all(bar is None or ratio <= bar for ratio, bar in zip(ratios, bars, strict=True))
    return "\n".join(lines), held


def _figures(costs: Sequence[Cost]) -> tuple[float, ...]:
    """Return the sums: median and 99th percentile in ms, processor seconds an hour, RSS and PSS in MB."""
    return (
        sum(median(cost.scrapes) for cost in costs) * 1e3,
        sum(percentile(cost.scrapes) for cost in costs) * 1e3,
        sum(cost.cpu_per_hour for cost in costs),
        sum(cost.resident for cost in costs) / 1e6,
        sum(cost.proportional for cost in costs) / 1e6,
    )


def _row(name: str, costs: Sequence[Cost]) -> str:
    middle, high, cpu, resident, proportional = _figures(costs)
    figures = f"{middle:.1f} | {high:.1f} | {cpu:.1f} | {resident:.1f} | {proportional:.1f}"
    return f"| {name} | {figures} | {sum(cost.series for cost in costs)} |"


def growth_report(grown: Sequence[Grown]) -> tuple[str, bool]:
    """Return the table of ours by number of targets, and whether the bars of 100 beside 10 are held."""
    lines = [
        "| targets | CPU, s an hour | RSS, MB | PSS, MB | scrape: median, ms | series | p99 late, ms | idle loop, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in grown:
        middle, _, cpu, resident, proportional = _figures([each.cost])
        late = f"{each.late * 1e3:.1f} | {each.idle * 1e3:.1f}"
        figures = f"{cpu:.1f} | {resident:.1f} | {proportional:.1f} | {middle:.1f} | {each.cost.series}"
        lines.append(f"| {each.targets} | {figures} | {late} |")
    by_count = {each.targets: each for each in grown}
    ten, hundred = by_count.get(10), by_count.get(100)
    if ten is None or hundred is None:
        return "\n".join(lines), True
    growth, behind = hundred.cost.resident / ten.cost.resident, hundred.late - hundred.idle
    verdict = (
        f"100 targets: {growth:.2f} times the memory of 10 (bar: under {GROWTH_BAR:g}), and checks begin "
        f"{behind * 1e3:.1f} ms later than an idle loop wakes (bar: under {LATENESS_BAR * 1e3:g} ms)."
    )
    return "\n".join([*lines, "", verdict]), growth < GROWTH_BAR and behind < LATENESS_BAR


def series_report(costs: Sequence[Cost]) -> str:
    """Return the table of ours by number of series."""
    lines = [
        "| series | scrape: median, ms | p99, ms | CPU, s an hour | RSS, MB | PSS, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {cost.series} | {' | '.join(f'{figure:.1f}' for figure in _figures([cost]))} |" for cost in costs]
    return "\n".join(lines)


# ── The programs ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Listening(Server):
    """A program that is ready when something listens on its port."""

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, port: int, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name, command, folder / f"{name}.log", env=env)
        self.port = port

    def is_ready(self) -> bool:
        """Return whether it answers anything."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def small_api(folder: Path) -> Iterator[str]:
    """Serve what stands for AuraConnect's API; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.empty_handler", str(port)]
    with HTTPServer("api", command, folder / "api.log", url=f"http://127.0.0.1:{port}", env=_environment({})) as one:
        yield f"{one.url}/-/ready"


@contextmanager
def the_four(folder: Path, postgres: PostgreSQL, redis: Redis, api: str) -> Iterator[list[Watched]]:
    """Run node, postgres, redis and blackbox exporter as they come, each on its system."""
    blackbox = folder / "blackbox.yml"
    blackbox.write_text("modules:\n  http_2xx: {prober: http, http: {preferred_ip_protocol: ip4}}\n", encoding="ascii")
    ports = [free_port() for _ in range(4)]
    listen = [f"--web.listen-address=127.0.0.1:{port}" for port in ports]
    source = {"DATA_SOURCE_NAME": f"{postgres.dsn}?sslmode=disable"}
    programs: list[tuple[str, list[str], Mapping[str, str]]] = [
        ("node-exporter", [listen[0]], {}),
        ("postgres-exporter", [listen[1]], source),
        ("redis-exporter", [f"--redis.addr={redis.url.removesuffix('/0')}", listen[2]], {}),
        ("blackbox-exporter", [f"--config.file={blackbox}", listen[3]], {}),
    ]
    with ExitStack() as running:
        watched = []
        for port, (name, flags, more) in zip(ports, programs, strict=True):
            server = Listening(name, [program(name), *flags], folder, port, {**os.environ, **more})
            running.enter_context(server)
            path = f"/probe?module=http_2xx&target={api}" if name == "blackbox-exporter" else "/metrics"
            one = Watched(name, f"http://127.0.0.1:{port}{path}", psutil.Process(server.pid))
            running.callback(one.close)
            watched.append(one)
        yield watched


@contextmanager
def ours(folder: Path, sections: Mapping[str, object]) -> Iterator[Watched]:
    """Run the exporter on a configuration, until every target has been checked and on; its data in the folder."""
    folder.mkdir(mode=0o700)
    config = folder / "config.yml"
    config.write_text(json.dumps({"check": {"interval": f"{EVERY:g}s"}, **sections}), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        *(sys.executable, "-m", "auraconnect_exporter", f"--config.file={config}"),
        *(f"--web.listen-address={url.removeprefix('http://')}", f"--data.path={folder}"),
    ]
    with HTTPServer("exporter", command, folder / "log", url=url, env=_environment({})) as server:
        one = Watched(OURS, f"{url}/metrics", psutil.Process(server.pid))
        yield one
        one.close()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    systems = (
        "DATABASE_URL",
        "REDIS_URL",
        "API_URL",
        "WORKER_QUEUES",
        "STORE_URL",
        "PROMETHEUS_URL",
        "ALERTMANAGER_URL",
    )
    kept = {name: value for name, value in os.environ.items() if name not in systems}
    return {**kept, "PYTHONPATH": f"{_ROOT / 'exporter'}:{_ROOT}", **more}


@contextmanager
def idle_loop() -> Iterator[list[float]]:
    """Run an event loop that does nothing but wake; the list holds by how many seconds late it did, once that is over.

    A process of its own, like the exporter.
    """
    late: list[float] = []
    command = [sys.executable, "-m", "benchmarks.idle_loop"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment({})
    ) as process:
        try:
            yield late
            told, _ = process.communicate("")
            late += json.loads(told)
        finally:
            process.kill()


# ── What is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def measure(programs: Sequence[Watched], seconds: float) -> tuple[dict[str, Cost], list[float]]:
    """Scrape each every 5 s, one after the other; returns what each cost, and how late checks of ours began."""
    late: list[float] = []
    for one in programs:
        one.scrape()
        one.scrapes.clear()
    before = {one.name: (time.monotonic(), one.cpu()) for one in programs}
    begun = due = time.monotonic()
    while due < begun + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        due += EVERY
        for one in programs:
            one.scrape()
            if one.name == OURS:
                late += lateness(_text(one))
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    costs = {}
    for one in programs:
        since, cpu = before[one.name]
        memory = one.process.memory_full_info()
        costs[one.name] = Cost(
            time.monotonic() - since,
            one.cpu() - cpu,
            memory.rss,
            memory.pss,
            tuple(one.scrapes),
            count_series(_text(one)),
        )
    return costs, late


def _text(one: Watched) -> str:
    """Return what a program answered last, which came compressed or not."""
    return (gzip.decompress(one.body) if one.body[:2] == b"\x1f\x8b" else one.body).decode()


def beside(folder: Path, postgres: PostgreSQL, redis: Redis, api: str, options: argparse.Namespace) -> tuple[str, bool]:
    """Measure ours beside the four."""
    sections = {
        "database": [{"name": "primary", "url": postgres.dsn}],
        "redis": [{"name": "primary", "url": redis.url}],
        "api": [{"name": "api", "url": api}],
    }
    with the_four(folder, postgres, redis, api) as four, ours(folder / "ours", sections) as own:
        time.sleep(options.warm_up)
        costs, _ = measure([*four, own], options.seconds)
    return beside_report(costs)


def with_targets(folder: Path, systems: Mapping[str, str], count: int, options: argparse.Namespace) -> Grown:
    """Measure ours with so many targets, a third of each kind."""
    kinds = list(systems)
    sections: dict[str, list[dict[str, str]]] = {kind: [] for kind in (*kinds, "host")}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        sections[kind].append({"name": f"target-{number}", "url": systems[kind]})
    with ours(folder / f"targets-{count}", sections) as own:
        time.sleep(options.warm_up)
        with idle_loop() as idle:
            costs, late = measure([own], options.seconds)
    return Grown(count, costs[OURS], percentile(late), percentile(idle))


def with_series(folder: Path, redis: Redis, count: int, options: argparse.Namespace) -> Cost:
    """Measure ours with about so many series, of arq's queues, each with a worker."""
    with redis_client.Redis.from_url(redis.url) as client:
        for number in range(QUEUES):
            client.set(f"queue-{number}:health-check", "here")
    names = [f"queue-{number}" for number in range(QUEUES)]
    targets = max(1, round(count / (3 * QUEUES)))
    entries = [{"name": f"arq-{number}", "kind": "arq", "url": redis.url, "queues": names} for number in range(targets)]
    with ours(folder / f"series-{count}", {"workers": entries, "host": []}) as own:
        time.sleep(options.warm_up)
        costs, _ = measure([own], options.seconds)
    return costs[OURS]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporters", description="Ours beside four exporters.")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=2 * EVERY, help="seconds before it")
    parser.add_argument("--targets", type=int, nargs="*", default=[10, 100, 300])
    parser.add_argument("--series", type=int, nargs="*", default=[1000, 10_000])
    options = parser.parse_args(arguments)
    subprocess.run(
        [sys.executable, "-m", "auraconnect_exporter", "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=_environment({}),
    )  # compiles them
    with tempfile.TemporaryDirectory(prefix="bench-exporters-") as name:
        folder = Path(name)
        with (
            PostgreSQL(folder, settings={"max_connections": "400"}) as postgres,
            Redis(folder, settings=["maxclients 2000"]) as redis,
            small_api(folder) as api,
        ):
            table, good = beside(folder, postgres, redis, api, options)
            print(table, end="\n\n", flush=True)
            systems = {"database": postgres.dsn, "redis": redis.url, "api": api}
            grown = [with_targets(folder, systems, count, options) for count in options.targets]
            table, bounded = growth_report(grown)
            print(table, end="\n\n", flush=True)
            print(series_report([with_series(folder, redis, count, options) for count in options.series]))
    return 0 if good and bounded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
