"""`./run`: the exporter, Prometheus and Alertmanager on this repository's configuration, until Ctrl-C.

Everything that it writes is below `build/`: the derived configuration, the servers' data, `build/logs`, and
`build/pages.log` with the pages that no channel could take.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from tools import derive
from tools.bootstrap import ROOT
from tools.console_sink import ConsoleSink
from tools.servers import Alertmanager, HTTPServer, Prometheus, Server, ServerFailed, ServerUnavailable, free_port

_PORTS = {"exporter": 9850, "prometheus": 9090, "alertmanager": 9093}
# Who Alertmanager is for the exporter, which it tells of alerts.
_TELLER = "alertmanager"
# What each variable of AuraConnect's environment makes the exporter watch.
_WATCHED = {
    "DATABASE_URL": "the database",
    "REDIS_URL": "Redis",
    "API_URL": "the API",
    "WORKER_QUEUES": "the workers",
}


class Stack:
    """The folders and ports of one run, and what it starts in them. `say` prints one sentence.

    `api` are the addresses of an API that exposes metrics of its own, beside those in `prometheus/targets`.
    """

    def __init__(
        self, root: Path, environ: Mapping[str, str], say: Callable[[str], None], api: Sequence[str] = ()
    ) -> None:
        self.root, self.build, self.environ, self.say = root, root / "build", environ, say
        self.api = api
        self.ports = dict(_PORTS)

    def choose_ports(self) -> None:
        """Take the usual ports, and others where those are in use."""
        for name, usual in _PORTS.items():
            if not _is_free(usual):
                self.ports[name] = free_port()
                self.say(f"Port {usual} is in use, so {name} listens on {self.ports[name]}.")

    def url(self, name: str) -> str:
        """Return a server's address for people."""
        return f"http://localhost:{self.ports[name]}"

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses in the repository's files, and the ones to use in their place."""
        moved = {name: port for name, port in self.ports.items() if port != _PORTS[name]}
        return {f"localhost:{_PORTS[name]}": f"localhost:{port}" for name, port in moved.items()}

    def exporter(self, config: Path | None) -> HTTPServer:
        """Return the exporter, not started."""
        command = [sys.executable, "-m", "auraconnect_exporter"]
        command += [f"--web.listen-address=127.0.0.1:{self.ports['exporter']}"]
        command += [f"--web.external-url={self.url('exporter')}", f"--data.path={self.build / 'data'}"]
        command += [f"--config.file={config}"] if config else []
        url = f"http://127.0.0.1:{self.ports['exporter']}"
        peers = {
            f"{name.upper()}_URL": f"http://127.0.0.1:{self.ports[name]}" for name in ("prometheus", "alertmanager")
        }
        environ = {**peers, **self.environ}
        return HTTPServer("exporter", command, self.build / "logs/exporter.log", url=url, env=environ)

    def prometheus(self) -> Prometheus:
        """Return Prometheus, not started, on the derived `build/prometheus.yml`. Raises ServerUnavailable."""
        source = self.root / "prometheus/prometheus.yml"
        config = derive.relocate(_load(source), source.parent, self.addresses)
        if self.api:
            config = derive.add_api(config, self.api)
        config["rule_files"] = [str(path) for path in self._rule_files(config.get("rule_files", []))]
        prometheus = Prometheus(self.build, _dump(self.build / "prometheus.yml", config), port=self.ports["prometheus"])
        prometheus.log = self.build / "logs/prometheus.log"
        return prometheus

    def incident_log_token(self) -> Path:
        """Return the file with Alertmanager's token for the exporter, made where it is missing. Raises ServerFailed.

        Only when the exporter has started: its first start makes the administrator's token if there is no other.
        """
        path = self.build / "data/incident-log-token"
        if not path.exists():
            # A token whose file is gone is of no use to anybody.
            self._exporter_command("token", "revoke", _TELLER)
            created = self._exporter_command("token", "create", _TELLER, "--role", "alertmanager")
            if created.returncode:
                raise ServerFailed(f"its token for the exporter can't be made: {created.stderr.strip()}")
            half_written = path.with_suffix(".new")
            half_written.touch(mode=0o600)
            half_written.write_text(created.stdout)
            half_written.rename(path)
        return path

    def _exporter_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "auraconnect_exporter", f"--data.path={self.build / 'data'}", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)

    def alertmanager(self, sink: str) -> Alertmanager:
        """Return Alertmanager, not started, on the derived `build/alertmanager.yml`.

        Raises ServerUnavailable, and ServerFailed when the exporter can't make it a token.
        """
        source = self.root / "alertmanager/alertmanager.yml"
        aws_credentials = source.parent / "secrets/aws-credentials"
        config = derive.relocate(_load(source), source.parent, self.addresses)
        config = derive.replace_secret(config, "incident-log-token", self.incident_log_token())
        config = derive.use_sink(config, sink, aws_credentials, Path.is_file)
        alertmanager = Alertmanager(
            self.build,
            _dump(self.build / "alertmanager.yml", config),
            port=self.ports["alertmanager"],
            env={**self.environ, "AWS_SHARED_CREDENTIALS_FILE": str(aws_credentials)},
        )
        alertmanager.log = self.build / "logs/alertmanager.log"
        return alertmanager

    def _rule_files(self, patterns: Sequence[str]) -> Iterator[Path]:
        """Find the rule files; one that names an address not used here is replaced by a copy that does not."""
        for pattern in patterns:
            folder = Path(pattern).parent
            for path in sorted(folder.glob(Path(pattern).name)):
                text = path.read_text(encoding="utf-8")
                moved = derive.replace_addresses(text, self.addresses)
                if moved == text:
                    yield path.resolve()
                else:
                    copy = self.build / "rules" / path.name
                    copy.parent.mkdir(exist_ok=True)
                    copy.write_text(moved, encoding="utf-8")
                    yield copy


def run(stack: Stack, config: Path | None) -> int:
    """Start everything, watch over it until a signal comes, stop everything. Returns the exit status."""
    (stack.build / "logs").mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as running:
        lock = running.enter_context((stack.build / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stack.say("Another ./run of this folder is running; stop it first.")
            return 1
        stack.choose_ports()
        try:
            exporter = running.enter_context(stack.exporter(config))
        except ServerFailed as error:
            stack.say(str(error))
            return 1
        stack.say(f"Exporter:     {stack.url('exporter')}")
        sink = running.enter_context(ConsoleSink(stack.build / "pages.log", stack.say))
        servers: list[Server] = [exporter]
        starts: dict[str, Callable[[], Server]] = {
            "prometheus": stack.prometheus,
            "alertmanager": lambda: stack.alertmanager(sink.place),
        }
        for name, make in starts.items():
            try:
                servers.append(running.enter_context(make()))
                stack.say(f"{name.capitalize() + ':':13} {stack.url(name)}")
            except (ServerUnavailable, ServerFailed) as error:
                stack.say(f"{name.capitalize()} can't run, the rest goes on without it: {error}")
        stack.say(_what_is_watched(config, stack.environ))
        stack.say("Pages without a channel appear here and in build/pages.log. Ctrl-C stops everything.")
        try:
            return _watch_over(servers, stack.say)
        finally:
            stack.say("Stopping …")


def _watch_over(servers: list[Server], say: Callable[[str], None]) -> int:
    """Name each server that stops; return when the exporter did, for without it nothing is watched."""
    while True:
        for server in list(servers):
            if server.exit_status is not None:
                say(f"{server.name} stopped with status {server.exit_status}.{server.log_tail()}")
                servers.remove(server)
                if server.name == "exporter":
                    return 1
        time.sleep(0.5)


def _what_is_watched(config: Path | None, environ: Mapping[str, str]) -> str:
    by_environment = [what for name, what in _WATCHED.items() if environ.get(name)]
    unset = [name for name in _WATCHED if not environ.get(name)]
    sentence = "Watching " + ", ".join(["this host", *by_environment, *([f"what {config} names"] if config else [])])
    return f"{sentence}; not set: {', '.join(unset)}." if unset else f"{sentence}."


def _is_free(port: int) -> bool:
    # As the servers themselves bind: a connection that lingers after a stop does not count as use.
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def _dump(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text("# Derived by ./run at every start; change the original.\n" + yaml.safe_dump(config))
    return path


def stop_on_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP unwind the program once; a second one can't interrupt the unwinding."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)


def main(arguments: Sequence[str]) -> int:
    """Run the stack with the configuration file that the first argument or `$CONFIG_FILE` names, if any."""
    named = arguments[0] if arguments else os.environ.get("CONFIG_FILE", "")
    config = Path(named).absolute() if named else None
    stop_on_signals()
    try:
        return run(Stack(ROOT, os.environ, lambda text: print(text, flush=True)), config)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
