"""Configuration: a YAML file and AuraConnect's environment variables → Config, or ConfigError that says where.

The file's sections are the components. A section that the file leaves out is taken from the environment, so that
AuraConnect's own ``.env`` is enough to begin with. Reads the files that it is told to (secrets), nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auraconnect_exporter import strict_yaml
from auraconnect_exporter.clients.server import Server
from auraconnect_exporter.maintenance import Window
from auraconnect_exporter.model import Component, Link, Secret, StatusPage, TargetId
from auraconnect_exporter.schema import CheckSpec, EntrySpec, FileSpec, Place, Problem, checked
from auraconnect_exporter.targets import Postgres, PostgresServer, Target

MAX_TARGETS = 1000
MAX_WINDOWS = 200
MAX_LINKS = 20
SHORTEST_INTERVAL = 0.1
LONGEST_INTERVAL = 3600.0
DEFAULT_TIMEOUT = 2.0


class ConfigError(Exception):
    """The configuration can't be used: one sentence that begins with the place."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload replaces."""

    targets: tuple[Target, ...]
    windows: tuple[Window, ...] = ()
    prometheus: Server | None = None
    alertmanagers: tuple[tuple[str, Server], ...] = ()
    """By name; one is told of posted alerts, and asked what fires, as the others are."""
    pagerduty_secrets: tuple[Secret, ...] = ()
    error_log: PostgresServer | None = None
    """The database whose table ``error_logs`` is copied."""
    request_log: PostgresServer | None = None
    """The database whose requests and errors are counted."""
    links: tuple[Link, ...] = ()
    """Where people look further."""
    status_page: StatusPage = field(default_factory=StatusPage)


def load(path: Path | None, environ: Mapping[str, str], hostname: str) -> Config:
    """Read the file (if any) and the environment. Raises ConfigError.

    ``hostname`` names this machine where the file has no ``host`` section.
    """
    document = _read(path) if path else strict_yaml.Document({})
    if not isinstance(document.data, dict):
        raise ConfigError(f"{path}: expected sections such as 'database:' at the top")
    from_environment = _environment(environ, hostname)
    sections = {key: section.entries for key, section in from_environment.items()} | document.data
    try:
        spec = checked(sections)
        folder = path.parent if path else Path()
        targets = _targets(spec, folder)
        return Config(
            targets=targets,
            windows=_windows(spec, targets),
            prometheus=_prometheus(spec, folder),
            alertmanagers=_alertmanagers(spec, folder),
            pagerduty_secrets=() if spec.pagerduty is None else spec.pagerduty.secrets(Place("pagerduty", folder)),
            error_log=_the_one(spec, targets, "error_logs"),
            request_log=_the_one(spec, targets, "request_log", by_default=True),
            links=_links(spec),
            status_page=spec.status_page.page(Place("status_page", folder)),
        )
    except Problem as problem:
        section = re.split(r"[.\[]", problem.path)[0]
        if path and (not section or section in document.data):
            place = f"{path}:{document.line(problem.path)}: {problem.path}".removesuffix(": ")
        else:
            place = from_environment[section].variable if section in from_environment else "configuration"
        raise ConfigError(f"{place}: {problem}") from None


def _read(path: Path) -> strict_yaml.Document:
    try:
        return strict_yaml.load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except strict_yaml.YAMLProblem as error:
        raise ConfigError(f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}") from None


def _targets(spec: FileSpec, folder: Path) -> tuple[Target, ...]:
    """Return the targets in the order of the components. Raises Problem."""
    sections: dict[Component, tuple[EntrySpec, ...]] = {
        Component.DATABASE: spec.database,
        Component.REDIS: spec.redis,
        Component.API: spec.api,
        Component.WORKERS: spec.workers,
        Component.HOST: spec.host,
    }
    if len(spec.host) > 1:
        raise Problem("host[1]", "one entry at most: only the exporter's own machine can be watched")
    targets: dict[TargetId, Target] = {}
    for component, specs in sections.items():
        for index, entry in enumerate(specs):
            place = Place(f"{component}[{index}]", folder)
            target = _target(component, entry, spec.check, place)
            if target.id in targets:
                raise place.problem("name", f"{entry.name!r} is the name of another entry already")
            targets[target.id] = target
    if not targets:
        raise Problem("", "names nothing to watch")
    if len(targets) > MAX_TARGETS:
        raise Problem("", f"names {len(targets)} targets, {MAX_TARGETS} are the most")
    return tuple(targets.values())


def _windows(spec: FileSpec, targets: Iterable[Target]) -> tuple[Window, ...]:
    """Return the maintenance windows. Raises Problem."""
    known = {target.id for target in targets}
    windows: dict[str, Window] = {}
    for index, entry in enumerate(spec.maintenance):
        place = Place(f"maintenance[{index}]", Path())
        _check_name(entry.name, place)
        if entry.name in windows:
            raise place.problem("name", f"{entry.name!r} is the name of another entry already")
        windows[entry.name] = entry.window(place, known)
    if len(windows) > MAX_WINDOWS:
        raise Problem("maintenance", f"has {len(windows)} entries, {MAX_WINDOWS} are the most")
    return tuple(windows.values())


def _links(spec: FileSpec) -> tuple[Link, ...]:
    """Return the links. Raises Problem."""
    if len(spec.links) > MAX_LINKS:
        raise Problem("links", f"has {len(spec.links)} entries, {MAX_LINKS} are the most")
    return tuple(entry.link(Place(f"links[{index}]", Path())) for index, entry in enumerate(spec.links))


def _the_one(
    spec: FileSpec, targets: Iterable[Target], setting: str, *, by_default: bool = False
) -> PostgresServer | None:
    """Return the database that has a setting; one at most, maybe by default the first if it says nothing else.

    Raises Problem.
    """
    said = {index: getattr(entry, setting) for index, entry in enumerate(spec.database) if entry.kind == "postgresql"}
    wanted = [index for index, value in said.items() if value]
    if len(wanted) > 1:
        raise Problem(f"database[{wanted[1]}].{setting}", "is set for another database already")
    if by_default and not wanted:
        wanted = [index for index in list(said)[:1] if said[index] is None]
    servers = {target.id.name: target.system.server for target in targets if isinstance(target.system, Postgres)}
    return servers[spec.database[wanted[0]].name] if wanted else None


def _prometheus(spec: FileSpec, folder: Path) -> Server | None:
    return None if spec.prometheus is None else spec.prometheus.server(Place("prometheus", folder))


def _alertmanagers(spec: FileSpec, folder: Path) -> tuple[tuple[str, Server], ...]:
    """Return the Alertmanagers by name; one alone needs none. Raises Problem."""
    found: dict[str, Server] = {}
    for index, entry in enumerate(spec.alertmanager):
        place = Place(f"alertmanager[{index}]", folder)
        name = entry.name or ("alertmanager" if len(spec.alertmanager) == 1 else f"alertmanager-{index + 1}")
        _check_name(name, place)
        if name in found:
            raise place.problem("name", f"{name!r} is the name of another entry already")
        found[name] = entry.server(place)
    return tuple(found.items())


def _check_name(name: str, place: Place) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise place.problem("name", "expected 1 to 64 letters, digits, dots, dashes or underscores")


def _target(component: Component, entry: EntrySpec, check: CheckSpec, place: Place) -> Target:
    _check_name(entry.name, place)
    rhythm = place if entry.interval is not None else Place("check", place.folder)
    interval = check.interval if entry.interval is None else entry.interval
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise rhythm.problem("interval", f"expected {SHORTEST_INTERVAL}s to {LONGEST_INTERVAL:.0f}s")
    rhythm = place if entry.timeout is not None else Place("check", place.folder)
    timeout = entry.timeout if entry.timeout is not None else check.timeout
    if timeout is not None and not 0 < timeout <= interval:
        raise rhythm.problem("timeout", f"expected more than 0s and at most the interval of {interval:g}s")
    critical = component in {Component.DATABASE, Component.API} if entry.critical is None else entry.critical
    return Target(
        id=TargetId(component, entry.name),
        critical=critical,
        interval=float(interval),
        timeout=float(min(DEFAULT_TIMEOUT, interval) if timeout is None else timeout),
        system=entry.system(place),
    )


@dataclass(frozen=True, slots=True)
class _EnvironmentSection:
    """A section's entries as the file would have them, and the variable that is to blame for their faults."""

    variable: str
    entries: list[dict[str, Any]] | dict[str, Any]


def _environment(environ: Mapping[str, str], hostname: str) -> dict[str, _EnvironmentSection]:
    """Return the sections that the environment describes."""

    def setting(variable: str, key: str) -> dict[str, str]:
        """Return what VARIABLE and VARIABLE_FILE say, as the file would say it."""
        said = {key: environ[variable]} if environ.get(variable) else {}
        if file := environ.get(f"{variable}_FILE"):
            said[f"{key}_file"] = str(Path(file).absolute())  # not relative to the configuration file
        return said

    database = setting("DATABASE_URL", "url")
    redis = setting("REDIS_URL", "url")
    api = setting("API_URL", "url")
    if redis:
        redis |= setting("REDIS_PASSWORD", "password")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", hostname)[:64].lstrip("-._") or "localhost"
    sections = {"host": _EnvironmentSection("host name", [{"name": name}])}
    if database:
        sections["database"] = _EnvironmentSection("DATABASE_URL", [{"name": "primary", **database}])
    if redis:
        sections["redis"] = _EnvironmentSection("REDIS_URL", [{"name": "primary", **redis}])
    if api:
        sections["api"] = _EnvironmentSection("API_URL", [{"name": "auraconnect-api", **api}])
    if prometheus := setting("PROMETHEUS_URL", "url"):
        sections["prometheus"] = _EnvironmentSection("PROMETHEUS_URL", prometheus)
    if alertmanager := setting("ALERTMANAGER_URL", "url"):
        sections["alertmanager"] = _EnvironmentSection("ALERTMANAGER_URL", [alertmanager])
    if environ.get("WORKER_QUEUES"):
        entries = _worker_queues(environ["WORKER_QUEUES"], redis)
        sections["workers"] = _EnvironmentSection("WORKER_QUEUES", entries)
    return sections


def _worker_queues(text: str, redis: dict[str, str]) -> list[dict[str, Any]]:
    """Return the entries that ``celery:payroll_default,arq:notifications`` stands for, one for each kind."""
    queues: dict[str, list[str]] = {}
    for entry in text.split(","):
        kind, _, queue = entry.strip().partition(":")
        if kind not in {"celery", "arq"} or not queue:
            raise ConfigError(
                f"WORKER_QUEUES: expected entries such as celery:exports,arq:notifications, got {entry.strip()!r}",
            )
        queues.setdefault(kind, []).append(queue)
    if not redis:
        raise ConfigError("WORKER_QUEUES: needs REDIS_URL beside it, the Redis that holds the queues")
    return [{"name": kind, "kind": kind, "queues": names, **redis} for kind, names in queues.items()]
