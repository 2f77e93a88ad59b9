"""Configuration: a YAML file and AuraConnect's environment variables → Config, or ConfigError that says where.

The file's sections are the components. A section that the file leaves out is taken from the environment, so that
AuraConnect's own ``.env`` is enough to begin with. Reads the files that it is told to (secrets), nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from auraconnect_exporter import endpoints, strict_yaml
from auraconnect_exporter.model import Component, Secret, TargetId
from auraconnect_exporter.targets import Host, Http, Postgres, Redis, RedisServer, System, Target, Workers

MAX_TARGETS = 1000
MAX_SECRET_BYTES = 64 * 1024
SHORTEST_INTERVAL = 0.1
LONGEST_INTERVAL = 3600.0
DEFAULT_TIMEOUT = 2.0

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration can't be used: one sentence that begins with the place."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a reload replaces."""

    targets: tuple[Target, ...]


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
        return Config(_targets(_checked(sections), path.parent if path else Path()))
    except _Problem as problem:
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


# --- What the file may say -------------------------------------------------------------------------------------


class _Problem(Exception):
    """Something wrong at a path of the document, such as ``database[0].url``."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry's path in the document, and the folder that its relative file names start from."""

    path: str
    folder: Path

    def problem(self, key: str, problem: str) -> _Problem:
        return _Problem(f"{self.path}.{key}", problem)


class Duration(float):
    """Seconds, written as ``5s``, ``500ms``, ``2m`` or ``1h``, or as a plain number of seconds."""

    UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Return the duration that a YAML value means. Raises ValueError."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(value)
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("expected a duration such as 5s, 500ms or 2m")
        return cls(float(match[1]) * cls.UNITS[match[2]])


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every entry may say."""

    name: str
    critical: bool | None = None
    interval: Duration | None = None
    timeout: Duration | None = None

    def system(self, place: _Place) -> System:
        """Return the system that the entry describes. Raises _Problem."""
        raise NotImplementedError


class _UrlSpec(_Spec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry with a URL, which may stand in a file of its own."""

    url: str | None = None
    url_file: str | None = None

    def parsed_url(self, place: _Place, parse: Callable[[str], T]) -> T:
        url = _text_or_file(place, "url", self.url, self.url_file)
        if url is None:
            raise _Problem(place.path, "needs a url or a url_file")
        try:
            return parse(url)
        except endpoints.EndpointProblem as problem:
            raise place.problem("url_file" if self.url is None else "url", str(problem)) from None


class _PasswordSpec(_UrlSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry whose password may stand apart from the URL."""

    password: str | None = None
    password_file: str | None = None

    def separate_password(self, place: _Place) -> Secret | None:
        password = _text_or_file(place, "password", self.password, self.password_file)
        return None if password is None else Secret(password)


class _DatabaseSpec(_PasswordSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    slow: Duration = Duration(0.5)

    def system(self, place: _Place) -> Postgres:
        server = self.parsed_url(place, endpoints.postgres)
        password = self.separate_password(place) or server.password
        return Postgres(replace(server, password=password), _positive(place, "slow", self.slow))


class _RedisServerSpec(_PasswordSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ca_file: str | None = None

    def server(self, place: _Place) -> RedisServer:
        ca_file = _existing_file(place, "ca_file", self.ca_file)
        server = self.parsed_url(place, lambda url: endpoints.redis(url, ca_file))
        return replace(server, password=self.separate_password(place) or server.password)


class _RedisSpec(_RedisServerSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    slow: Duration = Duration(0.5)

    def system(self, place: _Place) -> Redis:
        return Redis(self.server(place), _positive(place, "slow", self.slow))


class _ApiSpec(_UrlSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    statuses: tuple[int, ...] = tuple(range(200, 400))
    slow: Duration = Duration(0.5)
    ca_file: str | None = None

    def system(self, place: _Place) -> Http:
        ca_file = _existing_file(place, "ca_file", self.ca_file)
        url = self.parsed_url(place, lambda text: endpoints.http(text, ca_file))
        if not self.statuses or not all(100 <= status <= 599 for status in self.statuses):  # noqa: PLR2004 (RFC 9110)
            raise place.problem("statuses", "expected one or more HTTP status codes from 100 to 599")
        return Http(url, frozenset(self.statuses), _positive(place, "slow", self.slow))


class _WorkersSpec(_RedisServerSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: Literal["celery", "arq"]
    queues: tuple[str, ...]

    def system(self, place: _Place) -> Workers:
        if not self.queues:
            raise place.problem("queues", "names no queue")
        for index, queue in enumerate(self.queues):
            if not re.fullmatch(r"[!-~]{1,100}", queue):
                raise place.problem(f"queues[{index}]", "expected 1 to 100 visible ASCII characters")
            if queue in self.queues[:index]:
                raise place.problem(f"queues[{index}]", f"names {queue!r} twice")
        return Workers(self.kind, self.server(place), self.queues)


class _HostSpec(_Spec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    filesystems: tuple[str, ...] = ()

    def system(self, place: _Place) -> Host:
        for index, mount in enumerate(self.filesystems):
            if not mount.startswith("/") or mount in self.filesystems[:index]:
                raise place.problem(f"filesystems[{index}]", "expected a mount point such as /var, each once")
        return Host(self.filesystems)


class _CheckSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rhythm of every target that has none of its own."""

    interval: Duration = Duration(5)
    timeout: Duration | None = None


class _FileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    check: _CheckSpec = _CheckSpec()
    database: tuple[_DatabaseSpec, ...] = ()
    redis: tuple[_RedisSpec, ...] = ()
    api: tuple[_ApiSpec, ...] = ()
    workers: tuple[_WorkersSpec, ...] = ()
    host: tuple[_HostSpec, ...] = ()


def _checked(sections: dict[str, Any]) -> _FileSpec:
    """Check names and types. Raises _Problem."""

    def decode(kind: type, value: object) -> object:
        if kind is Duration:
            return Duration.parse(value)
        raise NotImplementedError

    try:
        return msgspec.convert(sections, _FileSpec, dec_hook=decode)
    except msgspec.ValidationError as error:
        problem, _, at = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
        path = at.removesuffix("`").lstrip(".")
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL)
        if unknown:
            name = unknown[1] if unknown[1].isprintable() else repr(unknown[1])
            raise _Problem(f"{path}.{name}".lstrip("."), "is not a setting that exists here") from None
        raise _Problem(path, problem[:1].lower() + problem[1:].replace("`", "")) from None


# --- What the environment may say ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _EnvironmentSection:
    """A section's entries as the file would have them, and the variable that is to blame for their faults."""

    variable: str
    entries: list[dict[str, Any]]


def _environment(environ: Mapping[str, str], hostname: str) -> dict[str, _EnvironmentSection]:
    """Return the sections that the environment describes."""

    def setting(variable: str, key: str) -> dict[str, str]:
        """Return what VARIABLE and VARIABLE_FILE say, as the file would say it."""
        sources = {key: variable, f"{key}_file": f"{variable}_FILE"}
        return {name: environ[source] for name, source in sources.items() if environ.get(source)}

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


# --- From what is said to what is watched ----------------------------------------------------------------------


def _targets(spec: _FileSpec, folder: Path) -> tuple[Target, ...]:
    """Return the targets in the order of the components. Raises _Problem."""
    sections: dict[Component, tuple[_Spec, ...]] = {
        Component.DATABASE: spec.database,
        Component.REDIS: spec.redis,
        Component.API: spec.api,
        Component.WORKERS: spec.workers,
        Component.HOST: spec.host,
    }
    if len(spec.host) > 1:
        raise _Problem("host[1]", "one entry at most: only the exporter's own machine can be watched")
    targets: dict[TargetId, Target] = {}
    for component, specs in sections.items():
        for index, entry in enumerate(specs):
            place = _Place(f"{component}[{index}]", folder)
            target = _target(component, entry, spec.check, place)
            if target.id in targets:
                raise place.problem("name", f"{entry.name!r} is the name of another entry already")
            targets[target.id] = target
    if not targets:
        raise _Problem("", "names nothing to watch")
    if len(targets) > MAX_TARGETS:
        raise _Problem("", f"names {len(targets)} targets, {MAX_TARGETS} are the most")
    return tuple(targets.values())


def _target(component: Component, entry: _Spec, check: _CheckSpec, place: _Place) -> Target:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", entry.name):
        raise place.problem("name", "expected 1 to 64 letters, digits, dots, dashes or underscores")
    rhythm = place if entry.interval is not None else _Place("check", place.folder)
    interval = check.interval if entry.interval is None else entry.interval
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise rhythm.problem("interval", f"expected {SHORTEST_INTERVAL}s to {LONGEST_INTERVAL:.0f}s")
    rhythm = place if entry.timeout is not None else _Place("check", place.folder)
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


def _positive(place: _Place, key: str, value: float) -> float:
    if value <= 0:
        raise place.problem(key, "expected more than 0s")
    return float(value)


def _text_or_file(place: _Place, key: str, text: str | None, file: str | None) -> str | None:
    """Return what ``key`` says, or what the file that ``key_file`` names says, without its last line's end."""
    if text is not None and file is not None:
        raise place.problem(key, f"stands beside {key}_file, use one of them")
    if file is not None:
        text = _secret_file(place, f"{key}_file", file)
    if text is not None and (not text or "\0" in text):
        raise place.problem(key if file is None else f"{key}_file", "is empty" if not text else "has a NUL in it")
    return text


def _secret_file(place: _Place, key: str, name: str) -> str:
    path = place.folder / name
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_SECRET_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise place.problem(key, f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise place.problem(key, f"{path} is not UTF-8 text") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise place.problem(key, f"{path} is larger than {MAX_SECRET_BYTES} bytes")
    return text.rstrip("\r\n")


def _existing_file(place: _Place, key: str, name: str | None) -> str | None:
    if name is None:
        return None
    path = place.folder / name
    if not path.is_file():
        raise place.problem(key, f"{path} is not a file")
    return str(path)
