"""Find the server programs, start real servers, freeze, kill and stop them: for `./run` and the tests.

Programs: `program("promtool")` is a path to run. It is looked for on PATH first, then in the cache folder,
and fetched into it otherwise (see `packages`). `release` names a version, the same wherever the tests run:
"distribution" (PATH, or this distribution's suite), "oldest" and "newest" (of the versions we support), or a
suite of the distribution. From a shell: `python3 -m tools.servers fetch promtool --release oldest`.

Servers: each class starts one, waits until it is ready, and stops it at the end of the block:

    with PostgreSQL(folder) as postgres, Redis(folder, password="…") as redis:
        postgres.dsn, redis.url              # where they listen, on free ports of 127.0.0.1
        postgres.freeze(); postgres.thaw()   # SIGSTOP and SIGCONT, to all of its processes
        postgres.kill(); postgres.start()    # SIGKILL; again on the same data and port
    with Prometheus(folder, config) as prometheus, Alertmanager(folder, config) as alertmanager:
        prometheus.url

Each keeps its log as `<folder>/<name>.log`. Nothing outlives the process that started it: start servers from
a thread that lives as long as they should (the main one), for the kernel counts the thread.

Raises ServerUnavailable when a program can't be had, ServerFailed when one stops or never gets ready; both
say in a sentence what to do or what the log's end shows. Standard library only.
"""

import argparse
import contextlib
import http.client
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tools.packages import ServerUnavailable, cache_folder, fetch, install, os_release

__all__ = [
    "Alertmanager",
    "HTTPServer",
    "PostgreSQL",
    "Prometheus",
    "Redis",
    "Server",
    "ServerFailed",
    "ServerUnavailable",
    "free_port",
    "program",
]


@dataclass(frozen=True)
class _Program:
    package: str
    names: tuple[str, ...]
    folders: tuple[str, ...] = ("usr/bin", "usr/sbin")


_POSTGRESQL = ("usr/lib/postgresql/*/bin",)
_PROGRAMS = {
    "prometheus": _Program("prometheus", ("prometheus",)),
    "promtool": _Program("prometheus", ("promtool",)),
    "alertmanager": _Program("prometheus-alertmanager", ("alertmanager", "prometheus-alertmanager")),
    "amtool": _Program("prometheus-alertmanager", ("amtool",)),
    "postgres": _Program("postgresql", ("postgres",), _POSTGRESQL),
    "initdb": _Program("postgresql", ("initdb",), _POSTGRESQL),
    "psql": _Program("postgresql", ("psql",), _POSTGRESQL),
    "redis-server": _Program("redis-server", ("redis-server",)),
    "redis-cli": _Program("redis-server", ("redis-cli",)),
    "postgres-exporter": _Program("prometheus-postgres-exporter", ("prometheus-postgres-exporter",)),
}

# Prometheus 2.42 and Alertmanager 0.25 are in Debian 12; Ubuntu's first that has both is 24.04.
_SUITES = {
    "debian": {"oldest": "bookworm", "newest": "forky"},
    "ubuntu": {"oldest": "noble", "newest": "devel"},
}


class ServerFailed(Exception):
    """A server stopped, or was not ready in time; the text names it and shows its log's end."""


def program(name: str, release: str = "distribution") -> Path:
    """Return the path of a server program, fetched if need be. Raises ServerUnavailable.

    Of PostgreSQL, the programs of one version lie side by side: `program("postgres").with_name("initdb")`.
    """
    if name not in _PROGRAMS:
        raise ServerUnavailable(f"There is no server program {name}; known are {', '.join(_PROGRAMS)}.")
    wanted = _PROGRAMS[name]
    distribution, codename = os_release()
    if release == "distribution":
        installed = _on_path(wanted)
        if installed:
            return installed
        release = codename
    suite = _SUITES[distribution].get(release, release)
    tree = fetch(suite, [wanted.package], cache_folder())
    found = _in_folders(wanted, tree)
    if not found:
        raise ServerUnavailable(f"The package {wanted.package} of {suite} has no program {name}; put it on PATH.")
    return found


def _on_path(wanted: _Program) -> Path | None:
    for name in wanted.names:
        found = shutil.which(name)
        if found:
            # Beside a link in /usr/local/bin the other programs of the version are missing.
            return Path(found).resolve() if wanted.folders is _POSTGRESQL else Path(found)
    # Distributions keep PostgreSQL's programs off PATH.
    return _in_folders(wanted, Path("/")) if wanted.folders is _POSTGRESQL else None


def _in_folders(wanted: _Program, root: Path) -> Path | None:
    found = [path for folder in wanted.folders for name in wanted.names for path in root.glob(f"{folder}/{name}")]
    return max(found, default=None)


class Server:
    """One server process: started, asked until it is ready, stopped. A context manager; see the module."""

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.name, self.log = name, log
        self._command, self._env, self._user = command, env, user
        self._process: subprocess.Popen[bytes] | None = None
        self._avenger: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server; ServerFailed when it was not started."""
        if not self._process:
            raise ServerFailed(f"{self.name} is not running.")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs, else its exit status (negative: the signal)."""
        return self._process.poll() if self._process else 0

    def is_ready(self) -> bool:
        """Ask the server whether it serves."""
        raise NotImplementedError

    def start(self, timeout: float = 30.0) -> None:
        """Start it and wait until it is ready. Raises ServerFailed after `timeout` seconds or if it stops."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # The kernel kills the server when its parent dies, whatever the parent dies of.
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                # Ctrl-C in the terminal is for the parent, which stops its servers in order.
                start_new_session=True,
            )
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self.exit_status is not None:
                raise ServerFailed(
                    f"{self.name} stopped with status {self.exit_status} before it was ready.{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} was not ready within {timeout:g} s.{self.log_tail()}")
            time.sleep(0.05)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to stop, kill it after `timeout` seconds; harmless when it does not run."""
        if self._process and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill it and all its children at once (SIGKILL), and wait until they are gone."""
        if not self._process:
            return
        children = _descendants(self._process.pid) if self._process.poll() is None else []
        self._process.kill()
        for pid in children:
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        while any(_parent(pid) is not None for pid in children):
            time.sleep(0.01)
        self._dismiss_avenger()
        self._process = None

    def freeze(self) -> None:
        """Stop all its processes where they are (SIGSTOP): connections stay open, nothing answers."""
        frozen: list[int] = []
        while new := [pid for pid in [self.pid, *_descendants(self.pid)] if pid not in frozen]:
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            frozen += new
        # Should this process die meanwhile, the kernel kills the server alone; its frozen children can't
        # notice. The shell does: its input ends.
        self._dismiss_avenger()
        self._avenger = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -KILL "$@"', "sh", *map(str, frozen)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def thaw(self) -> None:
        """Let frozen processes go on (SIGCONT)."""
        self._dismiss_avenger()
        for pid in [self.pid, *_descendants(self.pid)]:
            _signal(pid, signal.SIGCONT)

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the log, introduced, for an error's text."""
        try:
            tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            tail = []
        return "".join(["\nThe end of its log, ", str(self.log), ":", *(f"\n  {line}" for line in tail)])

    def _dismiss_avenger(self) -> None:
        if self._avenger:
            self._avenger.kill()
            self._avenger.communicate()
            self._avenger = None


class HTTPServer(Server):
    """A server that tells with `GET <url>/-/ready` whether it serves: Prometheus, Alertmanager, the exporter."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        url: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, command, log, env=env)
        self.url = url

    def is_ready(self) -> bool:
        """Return whether `/-/ready` answers 200."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=1)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Prometheus(HTTPServer):
    """Prometheus with a configuration file, its data in `<folder>/prometheus`."""

    def __init__(
        self,
        folder: Path,
        config: Path,
        *,
        port: int | None = None,
        release: str = "distribution",
    ) -> None:
        address = f"127.0.0.1:{port or free_port()}"
        command: list[str | Path] = [
            program("prometheus", release),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            # Trends compare with weeks before.
            "--storage.tsdb.retention.time=30d",
            # An alert that was firing fires again at once after a restart, not ten minutes later.
            "--rules.alert.for-grace-period=0s",
            "--web.enable-lifecycle",
            f"--web.listen-address={address}",
        ]
        super().__init__("prometheus", command, folder / "prometheus.log", url=f"http://{address}")


class Alertmanager(HTTPServer):
    """Alertmanager with a configuration file, its data in `<folder>/alertmanager`; alone, without a cluster."""

    def __init__(
        self,
        folder: Path,
        config: Path,
        *,
        port: int | None = None,
        release: str = "distribution",
        env: Mapping[str, str] | None = None,
    ) -> None:
        address = f"127.0.0.1:{port or free_port()}"
        command: list[str | Path] = [
            program("alertmanager", release),
            f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}",
            "--cluster.listen-address=",
            f"--web.listen-address={address}",
        ]
        super().__init__("alertmanager", command, folder / "alertmanager.log", url=f"http://{address}", env=env)


class PostgreSQL(Server):
    """PostgreSQL with an empty cluster and a superuser, `postgres`, whose password is really checked.

    `settings` go into `postgresql.conf`. Its data, and its socket, whose path must be short, are in a
    temporary folder of its own until the block ends; it listens on 127.0.0.1. Since it refuses to run as
    root, root runs it as `nobody`.
    """

    stop_signal = signal.SIGINT  # its fast shutdown; SIGTERM would wait for the clients

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        password: str | None = None,
        release: str = "distribution",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.password = port or free_port(), password or secrets.token_hex(8)
        self._postgres = program("postgres", release)
        self._settings = settings or {}
        self._home = Path()
        super().__init__("postgres", [], folder / "postgres.log", user="nobody" if os.geteuid() == 0 else None)

    @property
    def dsn(self) -> str:
        """Its address with the superuser's name and password, as a URL."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_folder(self) -> Path:
        """The folder of its Unix socket."""
        return self._home

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._make_cluster()
            return super().__enter__()
        except BaseException:
            shutil.rmtree(self._home, ignore_errors=True)
            raise

    def __exit__(self, *exception: object) -> None:
        try:
            super().__exit__(*exception)
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def _make_cluster(self) -> None:
        secret = self._home / "password"
        secret.write_text(self.password)
        if self._user:
            owner = pwd.getpwnam(self._user)
            for path in (self._home, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = self._home / "data"
        made = subprocess.run(
            [
                *(self._postgres.with_name("initdb"), "--pgdata", data, "--username=postgres"),
                *("--auth=scram-sha-256", "--pwfile", secret),
                *("--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            cwd=self._home,
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ServerFailed(f"initdb failed and says: {made.stderr.strip()}")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._home),
            "shared_buffers": "16MB",
            "fsync": "off",
            **self._settings,
        }
        lines = [f"{name} = '{value.replace(chr(39), 2 * chr(39))}'\n" for name, value in settings.items()]
        with (data / "postgresql.conf").open("a") as config:
            config.writelines(lines)
        self._command = [self._postgres, "-D", data]

    def is_ready(self) -> bool:
        """Return whether its pid file says so, which is where `pg_ctl --wait` looks (miscadmin.h)."""
        try:
            lines = (self._home / "data/postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return lines[:1] == [str(self.pid)] and lines[-1].strip() == "ready"


class Redis(Server):
    """Redis without persistence, with a password if one is given. `settings` are lines of `redis.conf`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        password: str = "",
        release: str = "distribution",
        settings: Sequence[str] = (),
    ) -> None:
        self.port, self.password = port or free_port(), password
        config = folder / "redis.conf"
        lines = ["bind 127.0.0.1", f"port {self.port}", 'save ""', "appendonly no", f'dir "{folder}"', *settings]
        config.touch(mode=0o600)
        config.write_text("\n".join([*lines, f'requirepass "{password}"' if password else "", ""]))
        super().__init__("redis", [program("redis-server", release), config], folder / "redis.log")

    @property
    def url(self) -> str:
        """Its address, with the password if it has one."""
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    def is_ready(self) -> bool:
        """Return whether it answers a PING, be it by asking for the password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1, below those that the kernel gives to outgoing connections.

    One from there could be taken by any client while a test has its server stopped, or answer a client
    that connects to it with the client's own packets (a simultaneous open).
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_ephemeral, 11_000))  # noqa: S311 - a port is no secret
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the command's name: state, parent, … (proc(5)); [] if gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int | None:
    """Return the parent's process id; None for a process that is gone, or dead and not yet collected."""
    fields = _stat(pid)
    return int(fields[1]) if fields and fields[0] not in {"Z", "X"} else None


def _descendants(pid: int) -> list[int]:
    # PostgreSQL's children are sessions of their own, so a process group would not do.
    parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def prepare() -> None:
    """Get every server that the tests start. As root, install the distribution's. Raises ServerUnavailable."""
    if os.geteuid() == 0:
        missing = sorted({wanted.package for wanted in _PROGRAMS.values() if not _on_path(wanted)})
        if missing:
            install(missing)
    for name in _PROGRAMS:
        program(name)
    for name in ("prometheus", "alertmanager"):
        program(name, "oldest")
    for name in ("prometheus", "alertmanager", "postgres"):
        program(name, "newest")


def main(arguments: Sequence[str]) -> int:
    """`fetch NAME` gets one program and prints its path; `prepare` gets all that the tests need."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.servers", description=main.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("fetch")
    one.add_argument("name", choices=sorted(_PROGRAMS))
    one.add_argument("--release", default="distribution")
    actions.add_parser("prepare")
    options = parser.parse_args(arguments)
    try:
        if options.action == "prepare":
            prepare()
        else:
            print(program(options.name, options.release))
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
