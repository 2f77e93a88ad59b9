"""Every metric there is: what is declared, and what a full scrape of real systems had, in ``golden/scrape.txt``.

    python -m tests.scrape        # watches everything that can be watched, and writes that file anew

The file holds, of each family, type and help, and of each kind of series its name with the names of its labels.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psycopg
from redis import Redis as RedisClient

from auraconnect_exporter import metrics, probes
from auraconnect_exporter.model import Metric
from auraconnect_exporter.tokens import ADMIN_FILE
from tests.probes.support import PASSWORD, self_signed
from tests.probes.test_celery_queue import Worker
from tests.probes.test_pgbouncer import PgBouncer
from tests.probes.test_postgres_replication import Standby
from tests.request_log.support import TABLES
from tools.programs import program
from tools.servers import HTTPServer, PostgreSQL, Redis, Server, free_port

ROOT: Final = Path(__file__).parent.parent
GOLDEN: Final = Path(__file__).parent / "golden" / "scrape.txt"
PREFIX: Final = "auraconnect_"
PATIENCE: Final = 60.0

UNSEEN: Final[Mapping[str, str]] = {
    "auraconnect_exporter_render_failures_total": "nothing of it is broken",
    "auraconnect_series_dropped_total": "nothing has too many series",
    "auraconnect_collector_absent": "nothing of it is missing",
}
"""Metrics that a full scrape on one machine can't have, and why."""


def declared() -> dict[str, tuple[str, str, frozenset[str] | None]]:
    """Return type, help and labels of every family of ours by name; None where labels are not declared."""
    found: dict[str, tuple[str, str, frozenset[str] | None]] = {}
    for family in metrics.families():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, family.documentation, None)
    for module in pkgutil.iter_modules(probes.__path__):
        for value in vars(importlib.import_module(f"{probes.__name__}.{module.name}")).values():
            several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            for metric in several:
                if isinstance(metric, Metric):
                    labels = frozenset(("target", *metric.labels))
                    found[PREFIX + metric.name] = (metric.kind, metric.help, labels)
    return found


def masked(page: str) -> list[str]:
    """Return a page of the text format without values: what there is, each once, by family's name."""
    families: dict[str, tuple[list[str], set[str]]] = {}
    heading: list[str] = []
    for line in page.splitlines():
        if line.startswith("#"):
            name = line.split()[2]
            heading, _ = families.setdefault(name, ([], set()))
            heading.append(line)
        else:
            series = re.sub(r'"(?:[^"\\]|\\.)*"', "", line.rpartition(" ")[0]).replace("=", "")
            families[name][1].add(series)
    return [line for name in sorted(families) for line in (*families[name][0], *sorted(families[name][1]))]


def golden() -> dict[str, tuple[str, str, frozenset[str] | None]]:
    """Return type, help and labels of every family of the golden file by name; None where it has no series."""
    found: dict[str, tuple[str, str, frozenset[str] | None]] = {}
    name, text, kind = "", "", ""
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        if line.startswith("# HELP "):
            name, _, text = line.removeprefix("# HELP ").partition(" ")
        elif line.startswith("# TYPE "):
            kind = line.rpartition(" ")[2]
            found[name] = (kind, text, None)
        else:
            inside = line.partition("{")[2].rstrip("}")
            found[name] = (kind, text, frozenset(inside.split(",")) - {"", "le"})
    return found


# ── The full scrape ──────────────────────────────────────────────────────────────────────────────────────────────────


class Api(Server):
    """OpenSSL's own web server: something that speaks HTTPS, with a certificate."""

    def __init__(self, folder: Path, certificate: Path, key: Path) -> None:
        self.port = free_port()
        command: list[str | Path] = [
            *(program("openssl"), "s_server", "-quiet", "-www", "-accept", f"127.0.0.1:{self.port}"),
            *("-cert", certificate, "-key", key),
        ]
        super().__init__("api", command, folder / "api.log")

    def is_ready(self) -> bool:
        """Return whether it listens."""
        return f":{self.port:04X} " in Path("/proc/net/tcp").read_text(encoding="ascii")


def watched(folder: Path, running: ExitStack) -> dict[str, object]:
    """Start all that can be watched; returns the configuration that watches it."""
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "archive_mode": "on",
        "archive_command": "true",
        "logging_collector": "off",
    }
    postgres = running.enter_context(PostgreSQL(folder, password=PASSWORD, settings=settings))
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute(TABLES)
        connection.execute("CREATE TABLE backups AS SELECT now() AS finished")
        connection.execute(
            "INSERT INTO performance_metrics (id, endpoint, method, response_time_ms, status_code, created_at)"
            " VALUES (gen_random_uuid(), '/orders/1', 'GET', 12, 200, now() AT TIME ZONE 'UTC' + interval '10 s')"
        )
        connection.execute(
            "INSERT INTO error_logs (id, error_type, created_at)"
            " VALUES (gen_random_uuid(), 'ValueError', now() AT TIME ZONE 'UTC' + interval '10 s')"
        )
        connection.execute("SELECT pg_switch_wal()")
    (folder / "standby").mkdir()
    standby = running.enter_context(Standby(folder / "standby", postgres, "distribution"))
    bouncer = PgBouncer(folder, postgres)
    with (folder / "pgbouncer.ini").open("a", encoding="ascii") as config:
        config.write("stats_users = postgres\n")
    running.enter_context(bouncer)
    redis = running.enter_context(Redis(folder))
    (folder / "replica").mkdir()
    replica = running.enter_context(Redis(folder / "replica", settings=[f"replicaof 127.0.0.1 {redis.port}"]))
    certificate, key = self_signed(folder, "localhost")
    api = running.enter_context(Api(folder, certificate, key))
    running.enter_context(Worker(folder, redis, "exports", f"one@{socket.gethostname()}"))
    with RedisClient.from_url(redis.url) as client:
        client.set("notifications:health-check", "here")
    return {
        "check": {"interval": "0.5s", "timeout": "0.5s"},
        "database": [
            {
                "name": "primary",
                "url": postgres.dsn,
                "backup_query": "SELECT max(finished) FROM backups",
                "log_file": str(postgres.log),
            },
            {"name": "standby", "url": standby.dsn},
            {
                "name": "bouncer",
                "kind": "pgbouncer",
                "url": bouncer.dsn.removesuffix("postgres") + "pgbouncer",
            },
        ],
        "redis": [{"name": "cache", "url": redis.url}, {"name": "replica", "url": replica.url}],
        "api": [{"name": "api", "url": f"https://localhost:{api.port}/", "ca_file": str(certificate)}],
        "workers": [
            {
                "name": "celery",
                "kind": "celery",
                "url": redis.url,
                "queues": ["exports"],
                "interval": "3s",
                "timeout": "3s",
            },
            {"name": "arq", "kind": "arq", "url": redis.url, "queues": ["notifications"]},
        ],
        "maintenance": [{"name": "upgrade", "start": "2100-01-01T00:00", "duration": "1h"}],
    }


def scrape(folder: Path) -> str:
    """Return a page of metrics on which everything is that can be."""
    with ExitStack() as running:
        config = folder / "exporter.yml"
        config.write_text(json.dumps(watched(folder, running)), encoding="utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            *(sys.executable, "-m", "auraconnect_exporter", f"--config.file={config}"),
            *(f"--web.listen-address={url.removeprefix('http://')}", f"--data.path={folder}"),
        ]
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'exporter'}:{ROOT}"}
        running.enter_context(HTTPServer("exporter", command, folder / "exporter.log", url=url, env=env))
        token = (folder / ADMIN_FILE).read_text(encoding="ascii").strip()
        alert = {"alert_type": "resource", "severity": "info", "component": "host", "title": "A disk is filling up"}
        urllib.request.urlopen(
            urllib.request.Request(
                f"{url}/api/v1/health/alerts",
                json.dumps(alert).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
        ).close()
        wanted, deadline = declared().keys() - UNSEEN.keys(), time.monotonic() + PATIENCE
        while True:
            with urllib.request.urlopen(f"{url}/metrics") as answer:
                page: str = answer.read().decode()
            missing = {name for name in wanted if not re.search(rf"^{name}(_bucket)?(\{{| )", page, re.MULTILINE)}
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(1)
    if missing:
        sys.stderr.write(f"without a series: {', '.join(sorted(missing))}\n")
    return page


def main() -> int:
    """Write the golden file."""
    with tempfile.TemporaryDirectory(prefix="scrape-") as name:
        Path(name).chmod(0o755)  # PgBouncer runs as another user
        page = scrape(Path(name))
    GOLDEN.write_text("\n".join([*masked(page), ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
