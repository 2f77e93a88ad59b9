"""How a lost PostgreSQL is usually watched, to compare with: postgres_exporter, `pg_up == 0`, default grouping.

Prometheus scrapes and evaluates every 15 s; the alert waits for nothing (no `for`); Alertmanager has its defaults
(`group_wait` 30 s) and one channel, PagerDuty. All of it is the distribution's.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.stack import get, metric, wait_until
from tests.standins.pagerduty import PagerDuty
from tools.servers import Alertmanager, HTTPServer, Prometheus, free_port, program

ROUTING_KEY = "0" * 32
SECONDS = "15s"


class PostgresExporter(HTTPServer):
    """The Prometheus community's postgres_exporter."""

    def __init__(self, folder: Path, dsn: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        command: list[str | Path] = [program("postgres-exporter"), f"--web.listen-address={address}"]
        env = {**os.environ, "DATA_SOURCE_NAME": f"{dsn}?sslmode=disable"}
        super().__init__(
            "postgres-exporter", command, folder / "postgres-exporter.log", url=f"http://{address}", env=env
        )

    def is_ready(self) -> bool:
        """Return whether its metrics say that PostgreSQL is up; it has no page for it."""
        try:
            return metric(self, "pg_up") == 1
        except OSError:
            return False


@contextmanager
def alerting(folder: Path, dsn: str) -> Iterator[PagerDuty]:
    """Watch a PostgreSQL that is up, until the end of the block; gives the stand-in at which pages arrive.

    To start all of it anew for each fault is in its favor: by Alertmanager's default `group_interval`, an alert
    that comes back within five minutes waits for the rest of them.
    """
    with (
        PagerDuty(ROUTING_KEY) as pagerduty,
        PostgresExporter(folder, dsn) as exporter,
        Alertmanager(folder, _alertmanager_config(folder, pagerduty)) as alertmanager,
        Prometheus(folder, _prometheus_config(folder, exporter, alertmanager)) as prometheus,
    ):
        discovered = "prometheus_notifications_alertmanagers_discovered"
        wait_until(lambda: metric(prometheus, discovered) == 1, 30, "Prometheus to know its Alertmanager")
        wait_until(lambda: '"1"' in get(f"{prometheus.url}/api/v1/query?query=pg_up"), 60, "pg_up in Prometheus")
        yield pagerduty


def _alertmanager_config(folder: Path, pagerduty: PagerDuty) -> Path:
    receiver = {"name": "pagerduty", "pagerduty_configs": [{"routing_key": ROUTING_KEY, "severity": "critical"}]}
    config = {
        "global": {"pagerduty_url": pagerduty.url},
        "route": {"receiver": "pagerduty"},
        "receivers": [receiver],
    }
    return _write(folder / "alertmanager.yml", config)


def _prometheus_config(folder: Path, exporter: HTTPServer, alertmanager: HTTPServer) -> Path:
    rule = {"alert": "PostgreSQLDown", "expr": "pg_up == 0", "labels": {"severity": "critical"}}
    rules = _write(folder / "rules.yml", {"groups": [{"name": "postgresql", "rules": [rule]}]})
    config = {
        "global": {"scrape_interval": SECONDS, "evaluation_interval": SECONDS},
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [_address(alertmanager)]}]}]},
        "scrape_configs": [{"job_name": "postgresql", "static_configs": [{"targets": [_address(exporter)]}]}],
    }
    return _write(folder / "prometheus.yml", config)


def _address(server: HTTPServer) -> str:
    return server.url.removeprefix("http://")


def _write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(json.dumps(config))  # which is YAML, too
    return path
