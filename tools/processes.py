"""A server process: started, asked until it is ready, frozen, thawed, killed, stopped. Linux only.

Nothing outlives the process that started it. Start servers from a thread that lives as long as they should
(the main one), for the kernel counts the thread. Standard library only.
"""

import contextlib
import http.client
import os
import pwd
import random
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class ServerFailed(Exception):
    """A server stopped, or was not ready in time; the text names it and shows its log's end."""


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
        children = descendants(self._process.pid) if self._process.poll() is None else []
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
        while new := [pid for pid in [self.pid, *descendants(self.pid)] if pid not in frozen]:
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
        for pid in [self.pid, *descendants(self.pid)]:
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


def descendants(pid: int) -> list[int]:
    """Return the processes below one; PostgreSQL's are sessions of their own, so a process group would not do."""
    parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
