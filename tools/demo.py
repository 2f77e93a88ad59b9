"""`./run demo`: the stack, and a small AuraConnect for it to watch; `./run break NAME` and `./run mend NAME`.

The rules run five times as fast as in production, so that nobody has to wait a quarter of an hour for the CTO.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from demo import QUEUES
from demo.faults import FAULTS, Faults
from tools.bootstrap import ROOT
from tools.servers import HTTPServer, PostgreSQL, Redis, Server, ServerFailed, free_port
from tools.shorten import shorten
from tools.stack import Stack, run, stop_on_signals

FACTOR = 5
"""How much faster than in production the rules run."""

_MOST_MEMORY = "32mb"


class Process(Server):
    """A program that serves nobody: ready once it runs."""

    def is_ready(self) -> bool:
        """Return whether it runs."""
        return self.exit_status is None


class DemoStack(Stack):
    """A stack whose rules run faster."""

    def _rule_files(self, patterns: Sequence[str]) -> Iterator[Path]:
        del patterns
        yield from shorten(self.root / "rules", self.build / "demo/rules", FACTOR, {})


class Demo:
    """What is watched. Broken parts are those whose fault is there; `say` prints one sentence."""

    def __init__(self, build: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.folder = build / "demo"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.faults = Faults(self.folder / "faults")
        self._environ, self._say = environ, say
        limits = [f"maxmemory {_MOST_MEMORY}", "maxmemory-policy noeviction"]
        self._postgres = PostgreSQL(self.folder)
        self._redis = Redis(self.folder, settings=limits)
        self._workers: Process | None = None
        self.api_port = free_port()

    @property
    def environ(self) -> dict[str, str]:
        """What AuraConnect's own `.env` would say."""
        return {
            **self._environ,
            "DATABASE_URL": self._postgres.dsn,
            "REDIS_URL": self._redis.url,
            "API_URL": f"http://127.0.0.1:{self.api_port}/health",
            "WORKER_QUEUES": ",".join(f"celery:{queue}" for queue in QUEUES),
            "DEMO_FAULTS": str(self.folder / "faults"),
        }

    def config(self) -> Path:
        """Write and return the exporter's configuration: only what the environment can't say."""
        database = {"name": "primary", "url": self._postgres.dsn, "error_logs": True}
        path = self.folder / "exporter.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump({"database": [database]}))
        return path

    def start(self, running: ExitStack) -> None:
        """Start all of it, whole. Raises ServerFailed, ServerUnavailable."""
        for name in FAULTS:
            self.faults.end(name)
        running.enter_context(self._postgres)
        running.enter_context(self._redis)
        url = f"http://127.0.0.1:{self.api_port}"
        uvicorn = [sys.executable, "-m", "uvicorn", "demo.api:app", "--port", str(self.api_port), "--no-access-log"]
        running.enter_context(HTTPServer("api", uvicorn, self.folder / "api.log", url=url, env=self.environ))
        celery = [sys.executable, "-m", "celery", "--app", "demo.jobs", "worker", "--queues", ",".join(QUEUES)]
        celery += ["--concurrency", "2", "--loglevel", "WARNING"]
        self._workers = running.enter_context(Process("workers", celery, self.folder / "workers.log", env=self.environ))
        traffic = [sys.executable, "-m", "demo.traffic"]
        running.enter_context(Process("traffic", traffic, self.folder / "traffic.log", env=self.environ))

    def follow(self, stopped: threading.Event) -> None:
        """Break and mend what is asked for, until the end."""
        kept: dict[str, Server] = {"database": self._postgres, "redis": self._redis}
        if self._workers is not None:
            kept["workers"] = self._workers
        broken: set[str] = set()
        while not stopped.wait(0.2):
            wanted = self.faults.broken()
            for name in sorted(wanted - broken):
                self._say(f"Broken: {FAULTS[name]}. Mend it with ./run mend {name}")
                if name in kept:
                    kept[name].kill()
            for name in sorted(broken - wanted):
                self._say(f"Mended: {name}")
                if name in kept:
                    kept[name].start()
            broken = wanted


def demo(environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Run the demo until a signal comes. Returns the exit status."""
    watched = Demo(ROOT / "build", environ, say)
    stopped = threading.Event()
    with ExitStack() as running:
        try:
            watched.start(running)
        except ServerFailed as error:
            say(str(error))
            return 1
        say(f"The demo's rules run {FACTOR} times as fast as in production: a minute here is five there.")
        say(f"Break something: ./run break {'|'.join(FAULTS)}")
        follower = threading.Thread(target=watched.follow, args=(stopped,))
        follower.start()
        running.callback(follower.join)
        running.callback(stopped.set)
        return run(DemoStack(ROOT, watched.environ, say, (f"127.0.0.1:{watched.api_port}",)), watched.config())


def change(action: str, names: Sequence[str], say: Callable[[str], None]) -> int:
    """Break or mend what is named. Returns the exit status."""
    faults = Faults(ROOT / "build/demo/faults")
    unknown = [name for name in names if name not in FAULTS]
    if unknown or not names:
        say(f"./run {action} takes one or more of {', '.join(FAULTS)}" + (f", not {unknown[0]}." if unknown else "."))
        return 2
    for name in names:
        (faults.start if action == "break" else faults.end)(name)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or break or mend a part of the one that runs."""

    def say(text: str) -> None:
        print(text, flush=True)

    if arguments and arguments[0] in {"break", "mend"}:
        return change(arguments[0], arguments[1:], say)
    stop_on_signals()
    try:
        return demo(os.environ, say)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
