"""Real servers: started when they answer, frozen and killed whole, gone with their test and their parent."""

import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import psycopg
import pytest
import redis

from tools import programs
from tools.servers import (
    Alertmanager,
    HTTPServer,
    PostgreSQL,
    Prometheus,
    Redis,
    ServerFailed,
    ServerUnavailable,
    free_port,
    program,
)
from tools.sources import os_release

ALERTMANAGER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def processes(pattern: str) -> list[int]:
    """Find the live processes whose command line contains a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if pattern in command and state != "Z" and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class TestProgram:
    @pytest.mark.parametrize(
        ("name", "release", "version"),
        [
            ("promtool", "oldest", r"promtool, version 2\.42\."),
            ("promtool", "newest", r"promtool, version 3\."),
            ("amtool", "oldest", r"amtool, version 0\.25\."),
            ("amtool", "newest", r"amtool, version 0\.3"),
            ("postgres", "oldest", r"postgres \(PostgreSQL\) 1[34]\."),
            ("postgres", "newest", r"postgres \(PostgreSQL\) 1[89]"),
        ],
    )
    def test_a_release_is_the_same_version_everywhere(self, name: str, release: str, version: str) -> None:
        """The oldest and the newest supported versions run on this machine, whatever its own libraries are."""
        answer = subprocess.run([program(name, release), "--version"], check=True, capture_output=True, text=True)
        assert re.match(version, answer.stdout or answer.stderr)

    def test_prefers_what_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program on PATH is taken, under either of Alertmanager's names."""
        installed = tmp_path / "prometheus-alertmanager"
        installed.write_text("#!/bin/sh\n")
        installed.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert program("alertmanager") == installed

    def test_a_wrapper_is_no_program_of_postgresql(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where PATH has Debian's pg_wrapper as psql, the real one is taken, which lies beside its server."""
        wrapper = tmp_path / "pg_wrapper"
        wrapper.write_text("#!/bin/sh\n")
        wrapper.chmod(0o755)
        (tmp_path / "psql").symlink_to(wrapper)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        psql = program("psql")
        assert psql.name == "psql"
        assert psql.with_name("postgres").exists()

    def test_a_suite_that_has_left_the_mirrors_gives_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest PostgreSQL is this distribution's once an older suite can't be had any more."""
        monkeypatch.setitem(programs._OLDEST_POSTGRESQL, os_release()[0], "no-such-suite")
        assert program("postgres", "oldest") == program("postgres")

    def test_an_unknown_name_is_refused(self) -> None:
        """The sentence names what there is."""
        with pytest.raises(ServerUnavailable, match="no server program grafana; known are prometheus, promtool,"):
            program("grafana")


class TestPostgreSQL:
    def test_checks_passwords_on_every_way_in(self, tmp_path: Path) -> None:
        """The right password opens, a wrong one does not, over TCP and over the socket."""
        with PostgreSQL(tmp_path, password="it's right") as postgres:
            for host in ("127.0.0.1", postgres.socket_folder):
                dsn = f"host={host} port={postgres.port} user=postgres dbname=postgres"
                with psycopg.connect(dsn, password="it's right") as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    psycopg.connect(dsn, password="wrong")

    def test_takes_settings(self, tmp_path: Path) -> None:
        """Settings reach the server, those with quotes as well."""
        settings = {"max_connections": "7", "log_line_prefix": "it's %p "}
        with PostgreSQL(tmp_path, settings=settings) as postgres, psycopg.connect(postgres.dsn) as connection:
            query = "SELECT current_setting('max_connections'), current_setting('log_line_prefix')"
            assert connection.execute(query).fetchone() == ("7", "it's %p ")

    def test_freezes_with_all_its_children(self, tmp_path: Path) -> None:
        """A frozen server accepts connections and answers none, open ones included; thawed it goes on."""
        with PostgreSQL(tmp_path) as postgres, psycopg.connect(postgres.dsn) as connection:
            postgres.freeze()
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                psycopg.connect(postgres.dsn, connect_timeout=2)
            connection.pgconn.send_query(b"SELECT 41 + 1")
            assert select.select([connection.pgconn.socket], [], [], 0.3) == ([], [], [])
            postgres.thaw()
            result = connection.pgconn.get_result()
            assert result is not None
            assert result.get_value(0, 0) == b"42"
            assert connection.pgconn.get_result() is None

    def test_killed_it_is_gone_and_comes_back_with_its_data(self, tmp_path: Path) -> None:
        """After kill() nothing listens; start() serves the same data on the same port."""
        with PostgreSQL(tmp_path) as postgres:
            with psycopg.connect(postgres.dsn) as connection:
                connection.execute("CREATE TABLE kept (n int)")
                connection.commit()
                postgres.kill()
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
            assert not is_open(postgres.port)
            postgres.start()
            with psycopg.connect(postgres.dsn) as connection:
                assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)

    @pytest.mark.parametrize("release", ["newest"])
    def test_the_newest_runs_too(self, tmp_path: Path, release: str) -> None:
        """The newest suite's PostgreSQL runs with its own libraries."""
        with PostgreSQL(tmp_path, release=release) as postgres, psycopg.connect(postgres.dsn) as connection:
            assert connection.info.server_version >= 180000

    def test_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """When the block ends, even frozen and by a failure, its processes and its data are gone."""

        def fail() -> None:
            with PostgreSQL(tmp_path) as postgres:
                postgres.freeze()
                home.append(postgres.socket_folder)
                assert processes(str(home[0]))
                raise ZeroDivisionError

        home: list[Path] = []
        with pytest.raises(ZeroDivisionError):
            fail()
        assert not processes(str(home[0]))
        assert not home[0].exists()

    def test_says_what_the_log_says(self, tmp_path: Path) -> None:
        """A server that can't start is named, with its status and its log's end."""
        with (
            pytest.raises(ServerFailed, match=r'(?s)postgres stopped with status 1 before.*"no_such_setting"'),
            PostgreSQL(tmp_path, settings={"no_such_setting": "1"}),
        ):
            pass


class TestRedis:
    def test_serves_with_and_without_a_password(self, tmp_path: Path) -> None:
        """Its URL opens it; without the password of one that has one, nothing is answered."""
        for password in ("", "p4ss"):
            with Redis(tmp_path, password=password) as server, redis.Redis.from_url(server.url) as client:
                assert client.ping() is True
                with redis.Redis(port=server.port) as anonymous:
                    if password:
                        with pytest.raises(redis.AuthenticationError):
                            anonymous.ping()
                    else:
                        assert anonymous.ping() is True

    def test_keeps_the_password_off_its_command_line(self, tmp_path: Path) -> None:
        """Who lists processes sees no password, and only the owner may read the file that has it."""
        with Redis(tmp_path, password="s3cret") as server:
            assert b"s3cret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0

    def test_freezes_and_thaws(self, tmp_path: Path) -> None:
        """Frozen it accepts a connection and is silent; thawed it answers the same connection."""
        with Redis(tmp_path) as server, socket.socket() as client:
            server.freeze()
            client.settimeout(0.3)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                client.recv(16)
            server.thaw()
            client.settimeout(5)
            assert client.recv(16) == b"+PONG\r\n"

    def test_remembers_nothing(self, tmp_path: Path) -> None:
        """After a restart it is empty: no test sees another's keys."""
        with Redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            server.stop()
            server.start()
            assert client.get("key") is None


class TestPrometheusAndAlertmanager:
    @pytest.mark.parametrize("release", ["oldest", "newest"])
    def test_serve_in_both_versions(self, tmp_path: Path, release: str) -> None:
        """Both start without root's help, the templates of Debian's Alertmanager found, and show their pages."""
        config = tmp_path / "alertmanager.yml"
        config.write_text(ALERTMANAGER)
        empty = tmp_path / "prometheus.yml"
        empty.write_text("{}")
        with Prometheus(tmp_path, empty, release=release) as prometheus:
            with Alertmanager(tmp_path, config, release=release) as alertmanager:
                for url in (f"{alertmanager.url}/api/v2/status", f"{prometheus.url}/api/v1/status/flags"):
                    with urllib.request.urlopen(url, timeout=5) as response:
                        assert response.status == 200
                with urllib.request.urlopen(f"{prometheus.url}/api/v1/status/flags", timeout=5) as response:
                    assert b'"rules.alert.for-grace-period":"0s"' in response.read()
            assert alertmanager.exit_status == 0
            assert not is_open(int(alertmanager.url.rpartition(":")[2]))

    def test_a_broken_configuration_is_told(self, tmp_path: Path) -> None:
        """The error names the server and carries the reason from its log."""
        config = tmp_path / "broken.yml"
        config.write_text("nonsense: 1\n")
        with pytest.raises(ServerFailed, match=r"(?s)prometheus stopped with status .*nonsense"):
            Prometheus(tmp_path, config).start()


class TestServer:
    def test_gives_up_on_one_that_never_gets_ready(self, tmp_path: Path) -> None:
        """A program that runs and never serves is killed at the deadline and named."""
        command = [sys.executable, "-c", "print('still thinking', flush=True); import time; time.sleep(600)"]
        server = HTTPServer("thinker", command, tmp_path / "log", url=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(ServerFailed, match=r"(?s)thinker was not ready within 0.5 s.*still thinking"):
            server.start(timeout=0.5)
        assert not processes("still thinking")

    def test_kills_one_that_ignores_its_stop_signal(self, tmp_path: Path) -> None:
        """stop() does not wait longer than asked."""
        port = free_port()
        code = (
            "import signal, http.server; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "H = type('H', (http.server.BaseHTTPRequestHandler,), "
            "{'do_GET': lambda s: (s.send_response(200), s.end_headers())}); "
            f"http.server.HTTPServer(('127.0.0.1', {port}), H).serve_forever()"
        )
        server = HTTPServer("stubborn", [sys.executable, "-c", code], tmp_path / "log", url=f"http://127.0.0.1:{port}")
        server.start()
        server.stop(timeout=0.3)
        assert not is_open(port)

    @pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
    @pytest.mark.parametrize("kind", ["PostgreSQL", "Redis"])
    def test_dies_with_a_parent_that_is_killed(self, tmp_path: Path, kind: str, frozen: bool) -> None:
        """SIGKILL to the process that started a server leaves none of the server's processes, frozen or not."""
        code = f"""
import pathlib, sys
from tools.processes import descendants
from tools.servers import {kind}
server = {kind}(pathlib.Path(sys.argv[1])).__enter__()
{"server.freeze()" if frozen else ""}
print(server.pid, *descendants(server.pid), flush=True)
sys.stdin.read()
"""
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch).chmod(0o755)  # root's PostgreSQL runs as somebody else
            with subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "TMPDIR": scratch},
            ) as parent:
                assert parent.stdout is not None
                watched = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
                assert len(watched) >= (5 if kind == "PostgreSQL" else 1)
                parent.kill()
            gone = [bool(select.select([process], [], [], 10)[0]) for process in watched]
            assert gone == [True] * len(watched)
            for process in watched:
                os.close(process)


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    """No client's own port can take the place of a server that a test has stopped."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= free_port() < first for _ in range(50))
