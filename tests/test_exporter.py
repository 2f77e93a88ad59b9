"""The exporter as a process: started, reloaded, stopped, with real servers behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.servers import PostgreSQL, Redis, free_port, program


class Exporter:
    """A running exporter and what it says."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def post(self, path: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, method="POST"), timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def health(self) -> Any:
        return json.loads(self.get("/api/v1/health")[1])

    def until(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        """Ask again and again, as Prometheus would, until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s; the log says:\n{self.log.read_text()}")
            time.sleep(0.05)

    def is_serving(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the exporter has stopped:\n{self.log.read_text()}")
        try:
            return self.get("/-/ready")[0] == 200
        except OSError:
            return False


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[Exporter]:
    port = free_port()
    log = folder / "exporter.log"
    names = ("DATABASE_URL", "REDIS_URL", "API_URL", "WORKER_QUEUES")
    environment = {key: value for key, value in os.environ.items() if key not in names} | environ
    command = [sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--data.path={folder / 'data'}", *arguments]
    with log.open("w") as stream, subprocess.Popen(command, env=environment, stderr=stream, text=True) as process:
        exporter = Exporter(process, f"http://127.0.0.1:{port}", log)
        try:
            exporter.until(exporter.is_serving)
            yield exporter
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that another user may enter, as PostgreSQL needs it when the tests run as root."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    (tmp_path / "pg").mkdir()
    (tmp_path / "redis").mkdir()
    return tmp_path


def test_stops_at_once_while_its_targets_are_frozen(folder: Path) -> None:
    """SIGTERM ends the exporter within three seconds though PostgreSQL and Redis hang."""
    with (
        PostgreSQL(folder / "pg") as postgres,
        Redis(folder / "redis") as redis,
        running(folder, DATABASE_URL=postgres.dsn, REDIS_URL=redis.url) as exporter,
    ):
        postgres.freeze()
        redis.freeze()
        exporter.until(lambda: exporter.health()["checks_failed"] == 2)
        begun = time.monotonic()
        exporter.process.send_signal(signal.SIGTERM)
        assert exporter.process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 3


def test_a_dead_database_is_seen_and_its_return_too(folder: Path) -> None:
    """Killed, the database is unhealthy for a reason; started again, all is well; no password is logged."""
    without_host = folder / "exporter.yml"  # which may have a full disk of its own
    without_host.write_text("host: []\n", encoding="utf-8")
    with (
        PostgreSQL(folder / "pg") as postgres,
        running(folder, f"--config.file={without_host}", DATABASE_URL=postgres.dsn) as exporter,
    ):
        assert exporter.health()["status"] == "healthy"
        postgres.kill()
        exporter.until(lambda: exporter.health()["status"] == "unhealthy")
        status, body = exporter.get("/api/v1/health")
        assert (status, json.loads(body)["checks_failed"]) == (503, 1)
        metrics = exporter.get("/metrics")[1]
        assert 'auraconnect_component_up{component="database",target="primary"} 0.0' in metrics
        assert 'result="refused"' in metrics
        postgres.start()
        exporter.until(lambda: bool(exporter.health()["status"] == "healthy"))
        password = postgres.dsn.split(":")[2].split("@")[0]
        assert password not in exporter.log.read_text() + metrics


def test_reload_takes_what_is_right_and_keeps_what_was(folder: Path) -> None:
    """SIGHUP and POST reload; a broken file changes nothing and shows in a metric."""
    config = folder / "exporter.yml"
    config.write_text("host: [{name: first}]")
    with running(folder, f"--config.file={config}") as exporter:
        config.write_text("host: [{name: second}]")
        exporter.process.send_signal(signal.SIGHUP)
        exporter.until(lambda: 'target="second"' in exporter.get("/metrics")[1])
        config.write_text("host: 5")
        assert exporter.post("/-/reload") == 500
        metrics = exporter.get("/metrics")[1]
        assert "auraconnect_exporter_config_last_reload_successful 0.0" in metrics
        assert 'target="second"' in metrics
        config.write_text("host: [{name: third}]")
        assert exporter.post("/-/reload") == 200
        exporter.until(lambda: 'component_up{component="host",target="third"} 1.0' in exporter.get("/metrics")[1])
        assert "auraconnect_exporter_config_last_reload_successful 1.0" in exporter.get("/metrics")[1]


@pytest.mark.parametrize("release", ["oldest", "newest"])
def test_promtool_finds_nothing_to_say_of_the_metrics(folder: Path, release: str) -> None:
    """``promtool check metrics`` is silent about a scrape of real systems, down ones among them."""
    with PostgreSQL(folder / "pg") as postgres, Redis(folder / "redis") as redis:
        environ = {"DATABASE_URL": postgres.dsn, "REDIS_URL": redis.url, "WORKER_QUEUES": "arq:jobs,celery:jobs"}
        with running(folder, **environ) as exporter:
            # No worker serves the queues; their depth is known all the same.
            exporter.until(lambda: exporter.get("/metrics")[1].count("\nauraconnect_worker_online{") == 2)
            metrics = exporter.get("/metrics")[1]
    assert 'auraconnect_component_up{component="workers",target="celery"} 0.0' in metrics
    checked = subprocess.run(
        [program("promtool", release), "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
