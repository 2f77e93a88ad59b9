"""`./run` on real servers: up, paging to the console, and gone with Ctrl-C or with its process."""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.servers import PostgreSQL

REPOSITORY = Path.cwd()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what ./run uses, so that its state is this test's own."""
    for name in ("tools", "prometheus", "rules", "alertmanager"):
        ignore = shutil.ignore_patterns("__pycache__", "secrets")
        shutil.copytree(REPOSITORY / name, tmp_path / "checkout" / name, ignore=ignore)
    return tmp_path / "checkout"


Started = Callable[..., "Run"]


class Run:
    """A started stack and what it says. `lines` keeps all that was read."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self._output = process, process.stdout
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """Read lines until one has this text, and return it; fail when the output ends before."""
        for line in self._output:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"the output ended without {text!r}: {self.lines}")

    def rest(self) -> list[str]:
        """Wait for the end and return the lines that are left."""
        return self._output.read().splitlines()

    def url(self, name: str) -> str:
        """Return the address that was printed for a server."""
        return next(line.split()[-1] for line in self.lines if line.startswith(f"{name}:"))


@pytest.fixture
def start(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Start ./run's Python part in the copy, with these variables; stop what is left at the end."""
    with ExitStack() as running:
        # Two at the same moment would find the same usual ports free.
        ports = running.enter_context((tmp_path_factory.getbasetemp().parent / "usual-ports").open("w"))
        fcntl.flock(ports, fcntl.LOCK_EX)

        def start(*arguments: str, path: str | None = None, **variables: str) -> Run:
            unset = ("DATABASE_URL", "REDIS_URL", "API_URL", "WORKER_QUEUES", "CONFIG_FILE")
            environ = {key: value for key, value in os.environ.items() if key not in unset}
            environ |= {"PYTHONPATH": f"{checkout}:{REPOSITORY / 'exporter'}", "PYTHONUNBUFFERED": "1", **variables}
            if path is not None:
                environ["PATH"] = path
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "tools.stack", *arguments],
                    env=environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            # Asked to stop, it waits for its servers, so that the ports are free for the next test.
            running.callback(process.communicate)
            running.callback(process.terminate)
            return Run(process)

        yield start


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def watch(processes: list[int]) -> list[int]:
    """Open a descriptor of each process, which is readable once it has ended (pidfd_open(2))."""
    return [os.pidfd_open(process) for process in processes]


def have_ended(descriptors: list[int]) -> bool:
    ended = all(select.select([descriptor], [], [], 10)[0] for descriptor in descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return ended


def test_starts_everything_and_stops_it_on_ctrl_c(start: Started) -> None:
    """All three answer at the printed addresses; one SIGINT ends them, with status 0 and no child left."""
    run = start()
    run.until("Ctrl-C")
    for name in ("Exporter", "Prometheus", "Alertmanager"):
        with urllib.request.urlopen(f"{run.url(name)}/-/ready", timeout=5) as response:
            assert response.status == 200
    assert "Watching this host; not set: DATABASE_URL, REDIS_URL, API_URL, WORKER_QUEUES." in run.lines
    left = watch(children(run.process.pid))
    assert len(left) == 3
    run.process.send_signal(signal.SIGINT)
    assert run.rest() == ["Stopping …", "Stopped."]
    assert run.process.wait() == 0
    assert have_ended(left)


def test_takes_its_servers_along_when_it_is_killed(start: Started) -> None:
    """SIGKILL leaves no server behind."""
    run = start()
    run.until("Ctrl-C")
    left = watch(children(run.process.pid))
    run.process.kill()
    assert have_ended(left)


def test_a_dead_database_is_paged_to_the_console(start: Started, checkout: Path, tmp_path: Path) -> None:
    """The database of DATABASE_URL dies, and its page appears in the terminal and in the log."""
    with PostgreSQL(tmp_path) as postgres:
        run = start(DATABASE_URL=postgres.dsn)
        run.until("Watching this host, the database; not set: REDIS_URL")
        run.until("Ctrl-C")
        postgres.kill()
        assert "oncall-engineer-page gets, through PagerDuty, SMS" in run.until("gets, through")
        assert "critical  DatabaseConnectionLost  database/" in run.until("FIRING")
        run.until(f"{run.url('Exporter')}/runbooks/DatabaseConnectionLost")
        metrics = urllib.request.urlopen(f"{run.url('Exporter')}/metrics", timeout=5).read().decode()
    pages = [json.loads(line) for line in (checkout / "build/pages.log").read_text().splitlines()]
    paged = [page for page in pages if page["receiver"] == "oncall-engineer-page"]
    assert [[alert["name"] for alert in page["alerts"]] for page in paged] == [["DatabaseConnectionLost"]]
    assert postgres.password not in "".join(run.lines)
    # Alertmanager has told the exporter as well, with a token made for it.
    token = checkout / "build/data/incident-log-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert 'auraconnect_webhook_deliveries_total{result="accepted"}' in metrics


def test_a_port_in_use_is_said_and_everything_follows(start: Started, checkout: Path) -> None:
    """With the usual ports taken others are used, and configuration and links lead there."""
    with ExitStack() as taken:
        for port in (9850, 9090, 9093):
            holder = taken.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(("127.0.0.1", port))
                holder.listen()
            except OSError:
                continue  # somebody else has it, which is as good
        run = start()
        run.until("Ctrl-C")
    exporter = run.url("Exporter")
    chosen = exporter.rpartition(":")[2]
    assert run.lines[0] == f"Port 9850 is in use, so exporter listens on {chosen}."
    assert chosen != "9850"
    for name in ("prometheus.yml", "rules/links.yml"):
        text = (checkout / "build" / name).read_text()
        assert f"localhost:{chosen}" in text
        assert "localhost:9850" not in text
    derived = (checkout / "build/prometheus.yml").read_text()
    assert run.url("Alertmanager").removeprefix("http://") in derived


def test_without_servers_the_exporter_goes_on(start: Started, tmp_path: Path) -> None:
    """No package tool and nothing on PATH: a sentence for each server, and the exporter answers."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("setpriv", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    run = start(path=str(tools), XDG_CACHE_HOME=str(tmp_path))
    run.until("Prometheus can't run, the rest goes on without it: prometheus comes with apt-get")
    run.until("Alertmanager can't run, the rest goes on without it: prometheus-alertmanager comes with apt-get")
    run.until("Ctrl-C")
    with urllib.request.urlopen(f"{run.url('Exporter')}/-/ready", timeout=5) as response:
        assert response.status == 200


def test_a_server_that_dies_is_named(start: Started) -> None:
    """Prometheus is killed from outside: its name and its log's end are shown, the rest goes on."""
    run = start()
    run.until("Ctrl-C")
    (prometheus,) = [pid for pid in children(run.process.pid) if "prometheus.yml" in command_line(pid)]
    os.kill(prometheus, signal.SIGKILL)
    assert run.until("prometheus stopped").startswith("prometheus stopped with status -9.")
    run.until("Server is ready to receive web requests")
    assert run.process.poll() is None


def test_a_broken_configuration_ends_it(start: Started, tmp_path: Path) -> None:
    """What the exporter says of its configuration file is shown, and the status is not 0."""
    broken = tmp_path / "broken.yml"
    broken.write_text("nonsense: 1\n")
    run = start(str(broken))
    run.until("exporter stopped with status 2 before it was ready.")
    assert "nonsense" in "\n".join(run.rest())
    assert run.process.wait() == 1


def test_one_run_a_checkout(start: Started) -> None:
    """A second one says so instead of fighting over the data."""
    first = start()
    first.until("Ctrl-C")
    second = start()
    assert second.rest() == ["Another ./run of this folder is running; stop it first."]
    assert second.process.wait() == 1
