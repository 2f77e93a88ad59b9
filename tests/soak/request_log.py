"""Every request once: rows that come late and out of order, while the exporter is killed again and again.

Writers put rows into ``performance_metrics`` as the API does, in transactions and savepoints of all sizes, up to 55
seconds late, many with the same time; some transactions stay open for a while. Meanwhile the exporter gets SIGKILL and
is started again. No counter that it shows may ever fall, and at the end each must be what was written, to the row.
``make request-log`` runs it with a million rows.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter.request_log.counts import BOUNDS
from tests.request_log.support import INDEX, auraconnect
from tools.processes import HTTPServer, free_port
from tools.servers import PostgreSQL

ROOT: Final = Path(__file__).parents[2]
WRITERS: Final = 4
LATEST: Final = 50.0
"""Seconds; a transaction that stays open adds up to five."""

Series = dict[tuple[str, ...], float]

PATHS: Final = {
    "/menu": "/menu",
    "/api/v1/orders": "/api/v1/orders",
    "/api/v1/orders/{number}": "/api/v1/orders/{id}",
    "/api/v1/restaurants/{uuid}/menu?lang=en&n={number}": "/api/v1/restaurants/{id}/menu",
    "/api/v1/staff/{number}/shifts/{number}": "/api/v1/staff/{id}/shifts/{id}",
}
STATUSES: Final = ("200", "200", "200", "201", "404", "500", "503")
METHODS: Final = ("GET", "GET", "POST", "DELETE")


class Wrong(AssertionError):
    """What is shown is not what was written."""


@dataclass
class Written:
    """What is in the table by now, as the metrics must say it."""

    requests: Counter[tuple[str, ...]] = field(default_factory=Counter)
    buckets: Counter[tuple[str, ...]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    errors: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        with self.lock:
            return self.requests.total()

    def add(self, requests: Counter[tuple[str, ...]], buckets: Counter[tuple[str, ...]]) -> None:
        """Count what was committed."""
        with self.lock:
            self.requests += requests
            self.buckets += buckets


class Writer(threading.Thread):
    """Writes rows until there are enough."""

    def __init__(self, dsn: str, written: Written, rows: int, pace: float, chance: random.Random) -> None:
        """``pace`` is rows a second of this writer."""
        super().__init__(daemon=True)
        self._dsn = dsn
        self._written = written
        self._rows = rows
        self._pace = pace
        self._chance = chance

    def run(self) -> None:
        """Write."""
        try:
            with psycopg.connect(self._dsn) as connection:
                while (left := self._rows - self._written.rows) > 0:
                    size = min(left, self._chance.choice([1, 1, 5, 50, 400]))
                    begun = time.monotonic()
                    self._batch(connection, size)
                    time.sleep(max(0.0, size / self._pace - (time.monotonic() - begun)))
        except psycopg.Error as error:
            self._written.errors.append(str(error))

    def _batch(self, connection: psycopg.Connection[tuple[object, ...]], size: int) -> None:
        chance = self._chance
        requests, buckets, rows = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), []
        shared = chance.choice([0.0, chance.uniform(0, 10), chance.uniform(0, LATEST)])
        for _ in range(size):
            path, handler = chance.choice([*PATHS.items()])
            number = str(chance.randrange(100, 10**9))
            labels = (handler, chance.choice(METHODS), chance.choice(STATUSES))
            milliseconds = chance.choice([20.0, 50.0, 700.0, 2000.0, 4900.5, 5000.0, 31000.0, chance.uniform(0, 9000)])
            late = shared if chance.random() < 0.7 else chance.uniform(0, LATEST)
            endpoint = path.replace("{number}", number).replace("{uuid}", str(uuid.UUID(int=chance.getrandbits(128))))
            rows.append((uuid.UUID(int=chance.getrandbits(128)), endpoint, labels[1], milliseconds, labels[2], late))
            requests[labels] += 1
            for bound in [bound for bound in BOUNDS if milliseconds <= 1000 * bound]:
                buckets[*labels[:2], str(bound)] += 1
        nested = chance.random() < 0.3
        if nested:
            connection.execute("SELECT pg_current_xact_id(); SAVEPOINT inner_one")
        connection.execute(
            "INSERT INTO performance_metrics "
            "(id, endpoint, method, response_time_ms, status_code, created_at, user_id) "
            "SELECT id, endpoint, method, took, status::int, "
            "       clock_timestamp() AT TIME ZONE 'UTC' - make_interval(secs => late), repeat('u', took::int %% 40) "
            "FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::float8[], %s::text[], %s::float8[]) "
            "     AS row(id, endpoint, method, took, status, late)",
            [list(column) for column in zip(*rows, strict=True)],
        )
        if chance.random() < 0.02:
            time.sleep(chance.uniform(0, 5))
        connection.commit()
        self._written.add(requests, buckets)


@dataclass(frozen=True)
class Shown:
    """What /metrics shows; ``late`` rows were dropped. Without counters it is None."""

    requests: Series
    buckets: Series
    late: float


class Watcher(threading.Thread):
    """Scrapes as Prometheus does; no counter may fall, whichever process shows it."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._ended = threading.Event()
        self.shown: Shown | None = None
        self.scrapes = 0
        self.fallen: list[str] = []

    def run(self) -> None:
        """Scrape until stopped."""
        while not self._ended.wait(0.2):
            try:
                with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:
                    shown = parsed(answer.read().decode())
            except (OSError, urllib.error.URLError):
                continue
            if shown is None:
                continue
            self.scrapes += 1
            if self.shown is not None:
                before = self.shown.requests | self.shown.buckets
                after = shown.requests | shown.buckets
                self.fallen += [str(key) for key, value in before.items() if after.get(key, 0.0) < value]
            self.shown = shown

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


def parsed(text: str) -> Shown | None:
    """Return what a page shows of requests."""
    requests: dict[tuple[str, ...], float] = {}
    buckets: dict[tuple[str, ...], float] = {}
    late = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "auraconnect_http_requests_total":
                requests[labels["handler"], labels["method"], labels["status"]] = sample.value
            elif sample.name == "auraconnect_http_request_duration_seconds_bucket" and labels["le"] != "+Inf":
                buckets[labels["handler"], labels["method"], labels["le"]] = sample.value
            elif sample.name == "auraconnect_request_log_rows_dropped_total":
                late = sample.value
    return Shown(requests, buckets, late) if requests else None


@dataclass(frozen=True)
class Outcome:
    """What was done, for the report."""

    rows: int
    kills: int
    scrapes: int
    took: float


@dataclass(frozen=True)
class Plan:
    """How much is done: ``pace`` is rows a second."""

    rows: int
    kills: int
    pace: float
    seed: int


def run(postgres: PostgreSQL, folder: Path, plan: Plan) -> Outcome:
    """Write rows, and kill the exporter meanwhile. Raises Wrong."""
    rows, kills = plan.rows, plan.kills
    chance = random.Random(plan.seed)  # noqa: S311  # reproducible, not secret
    dsn = auraconnect(postgres)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(INDEX)
    url = f"http://127.0.0.1:{free_port()}"
    exporter = HTTPServer(
        "exporter",
        [
            *(sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address={url.removeprefix('http://')}"),
            f"--data.path={folder / 'data'}",
        ],
        folder / "exporter.log",
        url=url,
        env={**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": str(ROOT / "exporter")},
    )
    written = Written()
    begun = time.monotonic()
    writers = [
        Writer(dsn, written, rows, plan.pace / WRITERS, random.Random(chance.random()))  # noqa: S311
        for _ in range(WRITERS)
    ]
    watcher = Watcher(url)
    with exporter:
        for thread in (*writers, watcher):
            thread.start()
        for number in range(kills):
            due = rows * (number + chance.random()) / kills
            while written.rows < due and any(writer.is_alive() for writer in writers):
                time.sleep(0.05)
            exporter.kill()
            time.sleep(chance.choice([0.0, chance.uniform(0, 3)]))
            exporter.start()
        for writer in writers:
            writer.join()
        if written.rows < rows:
            raise Wrong(f"The writers have failed: {written.errors}")
        try:
            wait_for(watcher, written)
        finally:
            watcher.stop()
    compare(watcher, written)
    return Outcome(written.rows, kills, watcher.scrapes, time.monotonic() - begun)


def wait_for(watcher: Watcher, written: Written) -> None:
    """Wait until all is shown, or too much."""
    deadline = time.monotonic() + 60
    while watcher.shown is None or sum(watcher.shown.requests.values()) < written.rows:
        if time.monotonic() > deadline:
            shown = None if watcher.shown is None else sum(watcher.shown.requests.values())
            raise Wrong(f"A minute after the last of {written.rows} rows {shown} are counted.")
        time.sleep(0.1)


def compare(watcher: Watcher, written: Written) -> None:
    """Compare what is shown with what was written. Raises Wrong."""
    if watcher.fallen:
        raise Wrong(f"A counter fell: {watcher.fallen[0]}")
    shown = watcher.shown
    if shown is None:
        raise Wrong("No counter is shown.")
    if shown.late:
        raise Wrong(f"{shown.late:.0f} rows were dropped as too late.")
    for what, counted, expected in (
        ("requests", shown.requests, written.requests),
        ("buckets", shown.buckets, written.buckets),
    ):
        wrong = {
            key: (counted.get(key, 0.0), expected[key])
            for key in counted.keys() | expected.keys()
            if counted.get(key, 0.0) != expected[key]
        }
        if wrong:
            raise Wrong(f"{len(wrong)} {what} are not what was written: {dict(sorted(wrong.items())[:5])}")
