"""Measure whether every request is counted once, and what counting costs the database.

    python -m benchmarks.request_log [--rows 1000000] [--kills 20] [--pace 5000] [--seed N]
                                     [--history 3000000] [--seconds 120]

First ``tests.soak.request_log``: rows come late and out of order while the exporter is killed. Then a table with a
history and its index, into which an API writes a thousand requests a second, each in a transaction of its own: with and
without our steps every five seconds, and with them while a transaction that writes stays open. What counting costs is
how much more CPU time PostgreSQL's short-lived processes take with it. Exit status 1 when a count is wrong, or counting
costs 2% of a core or more.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil
import psycopg

from auraconnect_exporter import endpoints
from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.database_step import Session, Steps
from auraconnect_exporter.request_log.follower import STEP_SECONDS
from auraconnect_exporter.request_log.tables import Requests, RequestState
from tests.request_log.support import INDEX, auraconnect
from tests.soak.request_log import Plan, Wrong, run
from tests.store.support import PASSWORD
from tools.servers import PostgreSQL

BAR = 0.02
"""Of a core."""

PACE = 1000
"""Requests a second."""

PROCEDURES = """
CREATE FUNCTION answered(n int, late float8) RETURNS performance_metrics LANGUAGE sql AS $$
    SELECT gen_random_uuid(),
        CASE n % 5 WHEN 0 THEN '/api/v1/orders/' || n WHEN 1 THEN '/api/v1/restaurants/' || gen_random_uuid() || '/menu'
             WHEN 2 THEN '/menu' WHEN 3 THEN '/api/v1/staff/' || n || '/shifts/' || n ELSE '/api/v1/payments' END,
        (ARRAY['GET', 'POST', 'PUT'])[1 + n % 3], random() * 800, CASE WHEN n % 50 = 0 THEN 500 ELSE 200 END,
        100, 1000, 3, 1.5, 1, 1, repeat('u', n % 30), n % 100, md5(n::text),
        clock_timestamp() AT TIME ZONE 'UTC' - make_interval(secs => late)
$$;
CREATE PROCEDURE live(rows int) LANGUAGE plpgsql AS $$ BEGIN
    FOR n IN 1..rows LOOP
        INSERT INTO performance_metrics
        SELECT row.* FROM answered((random() * 1000000)::int, random() * random() * 20) AS row;
        COMMIT;
    END LOOP;
END $$;
"""
HISTORY = """
INSERT INTO performance_metrics
SELECT row.* FROM generate_series(1, %(rows)s) n, answered(n, (%(rows)s - n) / 1000.0 + 900) AS row
"""


class Api(threading.Thread):
    """Answers a thousand requests a second, over a connection that stays open."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self.rows = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Write until ended."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            due = time.monotonic()
            while not self.ended.wait(max(0.0, due - time.monotonic())):
                connection.execute("CALL live(%s)", [PACE // 20])
                self.rows += PACE // 20
                due += 1 / 20


def spent(postgres: PostgreSQL) -> float:
    """Return the CPU seconds of those of the server's processes that have ended; a step's session is one of them."""
    times = psutil.Process(postgres.pid).cpu_times()
    return float(times.children_user + times.children_system)


async def step_for(dsn: str, state: RequestState, seconds: float) -> tuple[list[float], RequestState]:
    """Step as the exporter does, at least until all is read; returns the seconds of each step and what was counted."""
    steps = Steps(endpoints.postgres(dsn), time, Requests.name, name="request log", timeout=60.0)
    table, took, more = Requests(), list[float](), True
    until = time.monotonic() + seconds
    while more or time.monotonic() < until:

        async def act(session: Session, state: RequestState = state) -> tuple[RequestState, bool] | None:
            return await table.step(session, state)

        begun = time.monotonic()
        done = await steps.run(act)
        if done is None:
            raise SystemExit(steps.problem)
        state, more = done
        took.append(time.monotonic() - begun)
        if not more:
            await asyncio.sleep(max(0.0, STEP_SECONDS - took[-1]))
    return took, state


def stepping(dsn: str, state: RequestState, seconds: float) -> tuple[list[float], RequestState]:
    """Step on the exporter's own loop."""
    with asyncio.Runner(loop_factory=ExporterLoop) as runner:
        return runner.run(step_for(dsn, state, seconds))


def measure(postgres: PostgreSQL, history: int, seconds: float) -> bool:
    """Print what counting costs; returns whether that is within the bar."""
    dsn = auraconnect(postgres)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PROCEDURES)
        connection.execute(HISTORY, {"rows": history})
        connection.execute("VACUUM ANALYZE performance_metrics")
        connection.execute(INDEX)
        size = connection.execute("SELECT pg_relation_size('performance_metrics_created_at') / 1024").fetchone()
    print(f"{history} rows; the index has {size and size[0]} KiB")
    api = Api(dsn)
    api.start()
    time.sleep(10)
    begun, rows = spent(postgres), api.rows
    time.sleep(seconds)
    idle = (spent(postgres) - begun) / seconds
    print(f"without steps: {(api.rows - rows) / seconds:.0f} rows a second; {idle:.2%} of a core")
    shares = [report(postgres, dsn, seconds, idle, "with steps")]
    with psycopg.connect(dsn) as long_one:
        long_one.execute("SELECT pg_current_xact_id()")
        report(postgres, dsn, seconds, idle, "while another transaction stays open")
    api.ended.set()
    api.join()
    return max(shares) < BAR


def report(postgres: PostgreSQL, dsn: str, seconds: float, idle: float, what: str) -> float:
    """Step for a while, print what that cost, and return the share of a core."""
    _, state = stepping(dsn, RequestState(), 0)
    begun = spent(postgres)
    took, state = stepping(dsn, state, seconds)
    share = (spent(postgres) - begun) / seconds - idle
    text = Requests().encode(state)
    print(
        f"{what}: {share:.2%} of a core; a step takes {1000 * median(took):.0f} ms, at most {1000 * max(took):.0f}; "
        f"{sum(state.counts.requests.values())} rows in {len(state.counts.requests)} series, "
        f"{len(state.cursor.seen) if state.cursor else 0} transactions remembered, {len(text)} bytes saved"
    )
    return share


def main(arguments: Sequence[str]) -> int:
    """Count exactly, then measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request_log")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pace", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--history", type=int, default=3_000_000)
    parser.add_argument("--seconds", type=int, default=120)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home, PostgreSQL(Path(home), password=PASSWORD) as postgres:
        try:
            if asked.rows:
                outcome = run(postgres, Path(home), Plan(asked.rows, asked.kills, asked.pace, asked.seed))
                print(
                    f"{outcome.rows} rows, {outcome.kills} kills, {outcome.scrapes} scrapes in {outcome.took:.0f} s: "
                    f"each row once, no counter fell; seed {asked.seed}"
                )
        except Wrong as problem:
            print(f"{problem} Seed {asked.seed}")
            return 1
        return 0 if measure(postgres, asked.history, asked.seconds) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
