"""A frozen PostgreSQL slows nothing else down."""

import itertools
import time
from pathlib import Path

from tests.e2e.database import PASSWORD, Database, frozen
from tests.e2e.stack import exporter, get, metric, wait_until
from tools.servers import Redis

INTERVAL = 5.0
LAST_RUN = "auraconnect_component_probe_last_run_timestamp_seconds"


def test_other_probes_keep_their_rhythm_while_postgresql_is_frozen(
    database: Database, redis: Redis, tmp_path: Path
) -> None:
    """Through three checks Redis and the host are checked every five seconds, and /metrics answers at once."""
    targets = {
        "database": [{"name": "primary", "url": database.url(), "password": PASSWORD}],
        "redis": [{"name": "primary", "url": redis.url}],
        "host": [{"name": "here"}],
    }
    with exporter(tmp_path, targets) as watching:
        of_database = {"component": "database"}
        wait_until(lambda: metric(watching, "auraconnect_component_up", **of_database) == 1, 10, "a first check")
        runs: dict[str, list[float]] = {"redis": [], "host": []}
        slowest = 0.0

        def observe() -> bool:
            nonlocal slowest
            begun = time.monotonic()
            get(f"{watching.url}/metrics")
            slowest = max(slowest, time.monotonic() - begun)
            for component, seen in runs.items():
                last = metric(watching, LAST_RUN, component=component)
                if last not in seen:
                    seen.append(last)
            return all(len(seen) == 4 for seen in runs.values())

        with frozen(database):
            wait_until(observe, 30, "four checks of Redis and of the host")
            timeouts = metric(watching, "auraconnect_component_probes_total", result="timeout", **of_database)
            up = metric(watching, "auraconnect_component_up", **of_database)
        assert (timeouts >= 3, up) == (True, 0)
        for seen in runs.values():
            gaps = [later - earlier for earlier, later in itertools.pairwise(seen)]
            assert max(gaps) < INTERVAL + 1.0
        assert slowest < 1.0
