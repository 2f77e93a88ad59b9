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
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tools.packages import ServerUnavailable
from tools.processes import HTTPServer, Server, ServerFailed, free_port
from tools.programs import PROGRAMS, prepare, program

__all__ = [
    "Alertmanager",
    "HTTPServer",
    "PostgreSQL",
    "Prometheus",
    "Redis",
    "Server",
    "ServerFailed",
    "ServerUnavailable",
    "Valkey",
    "free_port",
    "program",
]


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
    """Alertmanager with a configuration file, its data in `<folder>/alertmanager`.

    Alone, without a cluster, unless a subclass has other `arguments`.
    """

    arguments: Sequence[str] = ("--cluster.listen-address=",)

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
            f"--web.listen-address={address}",
            *self.arguments,
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

    program_name = "redis-server"

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
        super().__init__("redis", [program(self.program_name, release), config], folder / "redis.log")

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


class Valkey(Redis):
    """Valkey, which takes Redis's configuration; only the newest suites have it."""

    program_name = "valkey-server"


def main(arguments: Sequence[str]) -> int:
    """`fetch NAME` gets one program and prints its path; `prepare` gets all that the tests need."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.servers", description=main.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("fetch")
    one.add_argument("name", choices=sorted(PROGRAMS))
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
