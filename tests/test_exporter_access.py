"""Access to the exporter as a process: its first start, TLS and passwords, and a Prometheus that gets through them."""

from __future__ import annotations

import base64
import json
import os
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import yaml

from tests.e2e.stack import get, wait_until
from tests.probes.support import self_signed
from tools.servers import Prometheus, free_port


@dataclass(frozen=True)
class Running:
    """A running exporter."""

    port: int
    process: subprocess.Popen[str]
    log: Path

    def status(
        self, path: str, headers: Mapping[str, str], context: ssl.SSLContext | None = None, method: str = "GET"
    ) -> int:
        """Return the status that a path answers, 0 while nobody does whom ``context`` trusts."""
        url = f"{'https' if context else 'http'}://localhost:{self.port}{path}"
        request = urllib.request.Request(url, headers=dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    port, log = free_port(), folder / "exporter.log"
    names = {"DATABASE_URL", "REDIS_URL", "API_URL", "WORKER_QUEUES", "JWT_SECRET_KEY", "STORE_URL"}
    environ = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--data.path={folder / 'data'}", *arguments]
    with log.open("w") as stream, subprocess.Popen(command, env=environ, stderr=stream, text=True) as process:
        try:
            yield Running(port, process, log)
        finally:
            process.terminate()
            process.wait(timeout=10)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_first_start_makes_an_administrator_and_says_where(tmp_path: Path) -> None:
    """The token is in a file that nobody else may read, not in the log, and is still the one after a restart."""
    token_file = tmp_path / "data/admin-token"
    tokens = []
    for _ in range(2):
        with running(tmp_path) as exporter:
            wait_until(lambda: exporter.status("/-/healthy", {}) == 200, 20, "the exporter to serve")
            tokens.append(token_file.read_text().strip())
            bearer = {"Authorization": f"Bearer {tokens[-1]}"}
            assert exporter.status("/api/v1/health/alerts", bearer) == 200
            assert exporter.status("/api/v1/health/alerts", {}) == 401
            said = exporter.log.read_text()
            assert tokens[-1] not in said
            assert (str(token_file) in said) is (len(tokens) == 1)
    assert tokens[0] == tokens[1]
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600


def test_a_second_exporter_on_the_same_store_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Two processes on one SQLite would not see each other's alerts."""
    with running(tmp_path) as exporter:
        wait_until(lambda: exporter.status("/-/healthy", {}) == 200, 20, "the exporter to serve")
        other = tmp_path / "other"
        other.mkdir()
        command = [sys.executable, "-m", "auraconnect_exporter", f"--web.listen-address=127.0.0.1:{free_port()}"]
        second = subprocess.run(
            [*command, f"--data.path={tmp_path / 'data'}"], capture_output=True, text=True, timeout=30, check=False
        )
    assert second.returncode == 1
    assert "another" in second.stderr.splitlines()[-1].lower()
    assert "Traceback" not in second.stderr


def test_prometheus_scrapes_through_tls_and_a_password(tmp_path: Path) -> None:
    """With a web configuration file, /metrics is closed to strangers and open to Prometheus with its password."""
    certificate, key = self_signed(tmp_path, "localhost")
    hashed = bcrypt.hashpw(b"hunter2-scrape", bcrypt.gensalt(5)).decode()
    web = tmp_path / "web.yml"
    web.write_text(
        yaml.safe_dump(
            {
                "tls_server_config": {"cert_file": certificate.name, "key_file": key.name},
                "basic_auth_users": {"prometheus": hashed},
            }
        )
    )
    context = ssl.create_default_context(cafile=certificate)
    with running(tmp_path, f"--web.config.file={web}") as exporter:
        wait_until(lambda: exporter.status("/-/healthy", {}, context) == 200, 20, "the exporter to serve")
        assert exporter.status("/metrics", {}, context) == 401
        assert exporter.status("/metrics", basic("prometheus", "wrong"), context) == 401
        assert exporter.status("/metrics", basic("prometheus", "hunter2-scrape"), context) == 200
        assert exporter.status("/api/v1/health/alerts", basic("prometheus", "hunter2-scrape"), context) == 403
        config = tmp_path / "prometheus.yml"
        job = {
            "job_name": "auraconnect-exporter",
            "scheme": "https",
            "tls_config": {"ca_file": str(certificate)},
            "basic_auth": {"username": "prometheus", "password": "hunter2-scrape"},
            "static_configs": [{"targets": [f"localhost:{exporter.port}"]}],
        }
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        with Prometheus(tmp_path, config) as prometheus:

            def is_up() -> bool:
                answer = json.loads(get(f"{prometheus.url}/api/v1/query?query=up"))
                return [series["value"][1] for series in answer["data"]["result"]] == ["1"]

            wait_until(is_up, 30, "Prometheus to scrape the exporter")
        assert "hunter2" not in exporter.log.read_text()


def test_a_reload_names_other_certificates_and_keeps_the_old_ones_when_it_fails(tmp_path: Path) -> None:
    """POST /-/reload reads the web configuration as SIGHUP does; a broken one is said, and changes nothing."""
    pairs = {}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        pairs[name] = self_signed(tmp_path / name, "localhost")
    trusted = {name: ssl.create_default_context(cafile=certificate) for name, (certificate, _) in pairs.items()}
    web = tmp_path / "web.yml"

    def use(name: str) -> None:
        certificate, key = pairs[name]
        files = {"cert_file": str(certificate), "key_file": str(key)}
        web.write_text(yaml.safe_dump({"tls_server_config": files}))

    use("old")
    with running(tmp_path, f"--web.config.file={web}") as exporter:
        wait_until(lambda: exporter.status("/-/healthy", {}, trusted["old"]) == 200, 20, "the exporter to serve")
        web.write_text("tls_server_config: 5")
        assert exporter.status("/-/reload", {}, trusted["old"], "POST") == 500
        web.write_text("{}")
        assert exporter.status("/-/reload", {}, trusted["old"], "POST") == 500
        assert exporter.status("/-/healthy", {}, trusted["new"]) == 0
        use("new")
        assert exporter.status("/-/reload", {}, trusted["old"], "POST") == 200
        assert exporter.status("/-/healthy", {}, trusted["new"]) == 200
        assert exporter.status("/-/healthy", {}, trusted["old"]) == 0
