"""The one place that wires: configuration, monitor, incident store and web server, from start to shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from auraconnect_exporter import tokens, web_config
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.auth import AccessTokens, AccessTokenSettings, Authenticator
from auraconnect_exporter.clients.alertmanager import Alertmanager
from auraconnect_exporter.clients.prometheus import Prometheus
from auraconnect_exporter.config import Config, ConfigError
from auraconnect_exporter.dashboard import BackgroundReader
from auraconnect_exporter.error_log import ErrorLogReader
from auraconnect_exporter.errors import Errors
from auraconnect_exporter.figures import Figures
from auraconnect_exporter.housekeeping import keep_house
from auraconnect_exporter.limits import FailedSignIns, Network, RateLimit
from auraconnect_exporter.maintenance import Calendar, Occurrence
from auraconnect_exporter.model import Clock, Link, Reload, Secret, StatusPage
from auraconnect_exporter.monitor import Monitor
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.probes import make_probe
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.request_log import RequestLog, RequestLogView
from auraconnect_exporter.store import Store, StoreError, StoreUnavailable, open_store
from auraconnect_exporter.web import server
from auraconnect_exporter.web.access import Gate
from auraconnect_exporter.web.health_api import HealthApi, Served
from auraconnect_exporter.web.notices_api import NoticesApi
from auraconnect_exporter.web.routes import Sources, make_application
from auraconnect_exporter.web_config import ServerTls, WebConfig

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
    """What a reload does not change.

    ``external_url`` is the base of links; empty for links relative to the root. ``data_folder`` holds tokens and,
    unless ``store_url`` names another place, the incident store, whose history is kept for ``retention`` seconds.
    """

    address: Address
    external_url: str
    data_folder: Path
    store_url: Secret
    retention: float
    web_config: Path | None
    proxies: tuple[Network, ...]
    closed_metrics: bool
    access_tokens: AccessTokenSettings | None


class StartError(Exception):
    """The exporter can't start: one sentence."""


class Exporter:
    """Watches the targets of a configuration, which it can read again."""

    def __init__(self, load: Callable[[], Config], reload_access: Callable[[], None], clock: Clock) -> None:
        """``reload_access`` reads the web configuration again; both raise ConfigError and then change nothing."""
        self._load = load
        self._reload_access = reload_access
        self._clock = clock
        self._started = clock.monotonic()
        self._reloading = asyncio.Lock()
        self._calendar = Calendar(())
        self._peers: object = None
        self.links: tuple[Link, ...] = ()
        self.status_page = StatusPage()
        self.last_reload = Reload(successful=True, timestamp=clock.time())
        trust = Trust()
        self.monitor = Monitor(lambda target: make_probe(target, clock, trust), clock)

    async def start(self, config: Config) -> None:
        """Watch what a configuration says, from now on."""
        await self.monitor.watch(config.targets)
        self._calendar = Calendar(config.windows)
        self.links = config.links
        self.status_page = config.status_page
        peers = (
            config.prometheus,
            config.alertmanagers,
            config.pagerduty_secrets,
            config.error_log,
            config.request_log,
        )
        if self._peers is None:
            self._peers = peers
        elif peers != self._peers:
            log.warning("what is asked, told, copied or counted has changed; that counts after a restart")

    async def reload(self) -> str | None:
        """Read the configuration again; returns what is wrong with it, in which case the one in use is kept."""
        async with self._reloading:
            try:
                config = self._load()
                self._reload_access()
            except ConfigError as error:
                self.last_reload = Reload(successful=False, timestamp=self.last_reload.timestamp)
                log.error("the configuration was not reloaded", extra={"detail": str(error)})  # noqa: TRY400
                return str(error)
            await self.start(config)
            self.last_reload = Reload(successful=True, timestamp=self._clock.time())
            log.info("the configuration has been reloaded", extra={"targets": len(config.targets)})
            return None

    def uptime(self) -> float:
        """Return for how long it has been running, in seconds."""
        return self._clock.monotonic() - self._started

    def windows(self) -> tuple[Occurrence, ...]:
        """Return what the windows of planned maintenance show now."""
        return self._calendar.at(self._clock.time())


@dataclass(frozen=True, slots=True)
class Incidents:
    """The incident store and all that works on it."""

    alerts: Alerts
    errors: Errors
    notices: Notices
    background: BackgroundReader
    figures: Figures | None
    pagerduty_secrets: tuple[Secret, ...]
    request_log: RequestLog | None

    def counted(self) -> RequestLogView | None:
        """Return what is known of the API's requests and errors now."""
        return None if self.request_log is None else self.request_log.latest

    def state(self) -> AlertState:
        """Return what is known of alerts now."""
        alerts = self.alerts
        return AlertState(
            open=alerts.open if alerts.is_loaded else None,
            suppressed=alerts.suppressed,
            times=alerts.times,
            deliveries=alerts.deliveries,
            peers={name: name not in alerts.unreachable for name in alerts.peers},
        )


async def serve(load: Callable[[], Config], config: Config, settings: Settings, clock: Clock) -> None:
    """Watch and serve until SIGTERM or SIGINT; SIGHUP reloads. Raises StartError, ConfigError."""
    async with AsyncExitStack() as running:
        store = await _open(settings, running)
        gate, secured = _access(settings, clock)
        tls = ServerTls(secured.tls, clock) if secured.tls else None
        exporter = Exporter(load, lambda: _reload_tls(settings.web_config, tls), clock)
        incidents = await _incidents(store, config, settings, clock, running)
        runner = web.AppRunner(
            make_application(_sources(exporter, incidents, settings, secured, gate)),
            shutdown_timeout=SHUTDOWN_SECONDS,
            **server.options(),
        )
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        await _listen(runner, settings.address, tls)
        running.push_async_callback(exporter.monitor.close)
        await exporter.start(config)
        log.info("listening", extra={"address": settings.address, "targets": len(config.targets)})
        await _until_stopped(exporter)
        log.info("stopping")


def _reload_tls(path: Path | None, tls: ServerTls | None) -> None:
    """Use the certificates that the web configuration names by now. Raises ConfigError."""
    if path is None or tls is None:
        return
    changed = web_config.load(path).tls
    if changed is None:
        raise ConfigError(f"{path}: tls_server_config is gone; TLS can be turned off by a restart only")
    tls.replace(changed)


async def _until_stopped(exporter: Exporter) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    reloads: set[asyncio.Task[str | None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(exporter.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, begin_reload)
    await stop.wait()


async def _open(settings: Settings, running: AsyncExitStack) -> Store:
    """Open the store. One that can't be reached now may come back; one that can never work is an error."""
    try:
        store = open_store(settings.store_url.reveal(), settings.data_folder)
        running.push_async_callback(store.close)
        await store.ready()
    except StoreUnavailable as error:
        log.warning("the incident store can't be reached; it is tried again", extra={"detail": str(error)})
    except StoreError as error:
        raise StartError(str(error)) from None
    return store


def _access(settings: Settings, clock: Clock) -> tuple[Gate, WebConfig]:
    """Return who is let in, and how the address is secured. Raises StartError, ConfigError."""
    secured = web_config.load(settings.web_config) if settings.web_config else WebConfig()
    try:
        made = tokens.first_start(settings.data_folder, clock.time(), others=settings.access_tokens is not None)
        known = tokens.TokenFile(settings.data_folder, clock)
    except tokens.TokenProblem as error:
        raise StartError(str(error)) from None
    if made is not None:
        log.info("an administrator's token has been made; sign in with what this file holds", extra={"file": made})
    access_tokens = AccessTokens(settings.access_tokens, clock) if settings.access_tokens else None
    authenticator = Authenticator(known, access_tokens, secured.passwords)
    return Gate(authenticator, settings.proxies, FailedSignIns(), RateLimit(settings.proxies), clock.monotonic), secured


async def _incidents(
    store: Store, config: Config, settings: Settings, clock: Clock, running: AsyncExitStack
) -> Incidents:
    prometheus = Prometheus(config.prometheus) if config.prometheus else None
    alertmanagers = {name: Alertmanager(server) for name, server in config.alertmanagers}
    if prometheus is not None:
        running.push_async_callback(prometheus.close)
    for alertmanager in alertmanagers.values():
        running.push_async_callback(alertmanager.close)
    if not alertmanagers:
        log.warning("no Alertmanager is configured: what is posted here is told to nobody")
    alerts = Alerts(store, clock, alertmanagers, prometheus, settings.external_url)
    running.push_async_callback(alerts.close)
    await alerts.start()
    figures = Figures(prometheus, clock) if prometheus else None
    if figures is not None:
        running.push_async_callback(figures.close)
    errors = Errors(store, clock)
    notices = Notices(store, clock)
    background = BackgroundReader(prometheus, figures, errors, notices, clock)
    _in_background(background.run(), running)
    _in_background(keep_house(store, clock, settings.retention), running)
    if config.error_log is not None:
        _in_background(errors.copy(ErrorLogReader(config.error_log, clock)), running)
    request_log = None
    if config.request_log is not None:
        request_log = RequestLog(config.request_log, store, clock)
        _in_background(request_log.run(), running)
    return Incidents(alerts, errors, notices, background, figures, config.pagerduty_secrets, request_log)


def _in_background(work: Coroutine[Any, Any, None], running: AsyncExitStack) -> None:
    task = asyncio.create_task(work)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    running.push_async_callback(stop)


def _sources(exporter: Exporter, incidents: Incidents, settings: Settings, secured: WebConfig, gate: Gate) -> Sources:
    """Return what the routes serve from."""
    snapshot = exporter.monitor.snapshot
    served = Served(
        snapshot=snapshot,
        uptime=exporter.uptime,
        monotonic=gate.monotonic,
        background=lambda: incidents.background.latest,
        alerts=incidents.alerts,
        errors=incidents.errors,
        figures=incidents.figures,
        windows=exporter.windows,
        links=lambda: exporter.links,
        pagerduty_secrets=incidents.pagerduty_secrets,
    )
    return Sources(
        snapshot=snapshot,
        windows=exporter.windows,
        alerts=incidents.state,
        last_reload=lambda: exporter.last_reload,
        request_log=incidents.counted,
        reload=exporter.reload,
        base_path=urlsplit(settings.external_url).path,
        runbooks=runbook_folder(),
        api=HealthApi(served),
        notices=NoticesApi(incidents.notices, lambda: exporter.status_page, snapshot, exporter.windows),
        gate=gate,
        https=settings.external_url.startswith("https:"),
        closed_metrics=settings.closed_metrics or secured.passwords is not None,
        headers=secured.headers,
    )


async def _listen(runner: web.AppRunner, address: Address, tls: ServerTls | None) -> None:
    context = tls.context if tls else None
    try:
        await web.TCPSite(runner, address.host or None, address.port, ssl_context=context).start()
    except OSError as error:
        cause = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise StartError(f"can't listen on {address}: {cause}") from None


def runbook_folder() -> Path:
    """Return where the runbooks are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "runbooks"
    return installed if installed.is_dir() else package.parent.parent / "runbooks"
