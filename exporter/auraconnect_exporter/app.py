"""The one place that wires: configuration, monitor and web server, from start to shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from auraconnect_exporter.config import Config, ConfigError
from auraconnect_exporter.maintenance import Calendar
from auraconnect_exporter.model import Clock, Reload
from auraconnect_exporter.monitor import Monitor
from auraconnect_exporter.probes import make_probe
from auraconnect_exporter.web.routes import Sources, make_application

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 1.0
"""How long answers that are under way may take once we are told to stop."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a reload does not change. ``external_url`` is the base of links; empty for links relative to the root."""

    address: Address
    external_url: str


class ListenError(Exception):
    """The address can't be listened on: one sentence."""


class Exporter:
    """Watches the targets of a configuration, which it can read again."""

    def __init__(self, load: Callable[[], Config], clock: Clock) -> None:
        self._load = load
        self._clock = clock
        self._started = clock.monotonic()
        self._reloading = asyncio.Lock()
        self._reload = Reload(successful=True, timestamp=clock.time())
        self._calendar = Calendar(())
        self._monitor = Monitor(lambda target: make_probe(target, clock), clock)

    async def start(self, config: Config) -> None:
        """Watch what a configuration says, from now on."""
        await self._monitor.watch(config.targets)
        self._calendar = Calendar(config.windows)

    async def reload(self) -> str | None:
        """Read the configuration again; returns what is wrong with it, in which case the one in use is kept."""
        async with self._reloading:
            try:
                config = self._load()
            except ConfigError as error:
                self._reload = Reload(successful=False, timestamp=self._reload.timestamp)
                log.error("the configuration was not reloaded", extra={"detail": str(error)})  # noqa: TRY400
                return str(error)
            await self.start(config)
            self._reload = Reload(successful=True, timestamp=self._clock.time())
            log.info("the configuration has been reloaded", extra={"targets": len(config.targets)})
            return None

    async def close(self) -> None:
        """Stop watching."""
        await self._monitor.close()

    def sources(self, external_url: str, runbooks: Path) -> Sources:
        """Return what the web routes serve from."""
        return Sources(
            snapshot=self._monitor.snapshot,
            windows=lambda: self._calendar.at(self._clock.time()),
            last_reload=lambda: self._reload,
            reload=self.reload,
            uptime=lambda: self._clock.monotonic() - self._started,
            base_path=urlsplit(external_url).path,
            runbooks=runbooks,
        )


async def serve(load: Callable[[], Config], config: Config, settings: Settings, clock: Clock) -> None:
    """Watch and serve until SIGTERM or SIGINT; SIGHUP reloads. Raises ListenError."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    exporter = Exporter(load, clock)
    reloads: set[asyncio.Task[str | None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(exporter.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    runner = web.AppRunner(
        make_application(exporter.sources(settings.external_url, runbook_folder())),
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await _listen(runner, settings.address)
        await exporter.start(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, begin_reload)
        log.info("listening", extra={"address": settings.address, "targets": len(config.targets)})
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()
        await exporter.close()


async def _listen(runner: web.AppRunner, address: Address) -> None:
    try:
        await web.TCPSite(runner, address.host or None, address.port).start()
    except OSError as error:
        cause = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ListenError(f"can't listen on {address}: {cause}") from None


def runbook_folder() -> Path:
    """Return where the runbooks are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "runbooks"
    return installed if installed.is_dir() else package.parent.parent / "runbooks"
