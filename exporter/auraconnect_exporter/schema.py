"""What the configuration file may say: its sections and their settings, and the system that each entry describes.

msgspec checks names and types; what is more than a type is checked where the entry becomes a system.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from auraconnect_exporter import endpoints, maintenance
from auraconnect_exporter.clients.server import Server
from auraconnect_exporter.clients.server import base as peer_base
from auraconnect_exporter.maintenance import Window
from auraconnect_exporter.model import Component, Link, Secret, StatusPage, TargetId
from auraconnect_exporter.targets import (
    LONGEST_LOCK_WAIT,
    LONGEST_POOL_WAIT,
    Host,
    Http,
    PgBouncer,
    Postgres,
    Redis,
    RedisServer,
    System,
    Workers,
)

MAX_SECRET_BYTES = 64 * 1024
LONGEST_WINDOW = 30 * 86400.0
MAX_LINK_NAME = 60
MAX_PUBLIC_WORDS = 200

MAX_QUEUES = 100
"""Of one entry: with ten priorities each, a check asks for a thousand lists."""

T = TypeVar("T")


class Problem(Exception):
    """Something wrong at a path of the document, such as ``database[0].url``."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path


@dataclass(frozen=True, slots=True)
class Place:
    """An entry's path in the document, and the folder that its relative file names start from."""

    path: str
    folder: Path

    def problem(self, key: str, problem: str) -> Problem:
        """Return the problem with one of the entry's settings."""
        return Problem(f"{self.path}.{key}", problem)


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


class EntrySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every entry may say."""

    name: str
    critical: bool | None = None
    interval: Duration | None = None
    timeout: Duration | None = None

    def system(self, place: Place) -> System:
        """Return the system that the entry describes. Raises Problem."""
        raise NotImplementedError


class _UrlSpec(EntrySpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry with a URL, which may stand in a file of its own."""

    url: str | None = None
    url_file: str | None = None

    def parsed_url(self, place: Place, parse: Callable[[str], T]) -> T:
        return _parsed_url(place, self.url, self.url_file, parse)


class _PasswordSpec(_UrlSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry whose password may stand apart from the URL."""

    password: str | None = None
    password_file: str | None = None

    def separate_password(self, place: Place) -> Secret | None:
        password = _text_or_file(place, "password", self.password, self.password_file)
        return None if password is None else Secret(password)


class _DatabaseSpec(_PasswordSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: Literal["postgresql", "pgbouncer"] = "postgresql"
    slow: Duration = Duration(0.5)
    connections: float = 0.8
    longest_transaction: Duration = Duration(3600)
    longest_idle_transaction: Duration = Duration(600)
    longest_wait: Duration | None = None
    replication_lag: Duration = Duration(60)
    statements: bool = True
    backup_query: str = ""
    log_file: str = ""
    error_logs: bool = False
    request_log: bool | None = None

    def system(self, place: Place) -> Postgres | PgBouncer:
        server = self.parsed_url(place, endpoints.postgres)
        server = replace(server, password=self.separate_password(place) or server.password)
        slow = _positive(place, "slow", self.slow)
        wait = None if self.longest_wait is None else _positive(place, "longest_wait", self.longest_wait)
        if self.kind == "pgbouncer":
            for key in ("backup_query", "log_file", "error_logs", "request_log"):
                if getattr(self, key):
                    raise place.problem(key, "belongs to a database, this entry is a PgBouncer's console")
            return PgBouncer(server, slow, LONGEST_POOL_WAIT if wait is None else wait)
        if not 0 < self.connections <= 1:
            raise place.problem("connections", "expected a share of the connections, more than 0 and at most 1")
        return Postgres(
            server,
            slow,
            connections=self.connections,
            longest_transaction=_positive(place, "longest_transaction", self.longest_transaction),
            longest_idle_transaction=_positive(place, "longest_idle_transaction", self.longest_idle_transaction),
            longest_wait=LONGEST_LOCK_WAIT if wait is None else wait,
            replication_lag=_positive(place, "replication_lag", self.replication_lag),
            statements=self.statements,
            backup_query=self._one_select(place),
            log_file=str(place.folder / self.log_file) if self.log_file else "",
        )

    def _one_select(self, place: Place) -> str:
        query = self.backup_query.strip().removesuffix(";").rstrip()
        if query and (";" in query or "\0" in query or not re.match(r"(?i)(select|with|table|values)\b", query)):
            raise place.problem("backup_query", "expected one SELECT, without a ; in it")
        return query


class _RedisServerSpec(_PasswordSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ca_file: str | None = None

    def server(self, place: Place) -> RedisServer:
        ca_file = _certificates(place, "ca_file", self.ca_file)
        server = self.parsed_url(place, lambda url: endpoints.redis(url, ca_file))
        return replace(server, password=self.separate_password(place) or server.password)


class _RedisSpec(_RedisServerSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    slow: Duration = Duration(0.5)
    memory_usage: float = 0.75
    clients_usage: float = 0.8
    acl_log: bool | None = None

    def system(self, place: Place) -> Redis:
        return Redis(
            self.server(place),
            _positive(place, "slow", self.slow),
            _ratio(place, "memory_usage", self.memory_usage),
            _ratio(place, "clients_usage", self.clients_usage),
            self.acl_log,
        )


class _ApiSpec(_UrlSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    statuses: tuple[int, ...] = tuple(range(200, 400))
    slow: Duration = Duration(0.5)
    ca_file: str | None = None
    expect_body: str = ""
    expect_headers: dict[str, str] = {}
    request_headers: dict[str, str] = {}
    token_file: str | None = None
    certificate_expires: Duration = Duration(14 * 86400)

    def system(self, place: Place) -> Http:
        ca_file = _certificates(place, "ca_file", self.ca_file)
        url = self.parsed_url(place, lambda text: endpoints.http(text, ca_file))
        if not self.statuses or not all(100 <= status <= 599 for status in self.statuses):  # noqa: PLR2004 (RFC 9110)
            raise place.problem("statuses", "expected one or more HTTP status codes from 100 to 599")
        token = _secret(place, "token", self.token_file)
        if token is not None and not re.fullmatch(r"[!-~]+", token.reveal()):
            raise place.problem("token_file", "holds more than one word of visible ASCII characters")
        return Http(
            url,
            frozenset(self.statuses),
            _positive(place, "slow", self.slow),
            self.expect_body,
            tuple(_headers(place, "expect_headers", self.expect_headers)),
            tuple(_headers(place, "request_headers", self.request_headers, _NOT_SENT | {"accept-encoding", "cookie"})),
            token,
            _positive(place, "certificate_expires", self.certificate_expires),
        )


class _WorkersSpec(_RedisServerSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: Literal["celery", "arq"]
    queues: tuple[str, ...]
    queue_age: Duration = Duration(300)
    queue_depth: int | None = None
    min_workers: int | None = None

    def system(self, place: Place) -> Workers:
        if not self.queues:
            raise place.problem("queues", "names no queue")
        if len(self.queues) > MAX_QUEUES:
            raise place.problem("queues", f"names more than {MAX_QUEUES} queues; they need entries of their own")
        for index, queue in enumerate(self.queues):
            if not re.fullmatch(r"[!-~]{1,100}", queue):
                raise place.problem(f"queues[{index}]", "expected 1 to 100 visible ASCII characters")
            if queue in self.queues[:index]:
                raise place.problem(f"queues[{index}]", f"names {queue!r} twice")
        for key, count in (("queue_depth", self.queue_depth), ("min_workers", self.min_workers)):
            if count is not None and count < 1:
                raise place.problem(key, "expected 1 or more")
        if self.min_workers is not None and self.kind == "arq":
            raise place.problem("min_workers", "needs kind: celery; arq's workers can't be counted")
        return Workers(
            self.kind,
            self.server(place),
            self.queues,
            queue_age=_positive(place, "queue_age", self.queue_age),
            queue_depth=self.queue_depth,
            min_workers=self.min_workers or 0,
        )


class _HostSpec(EntrySpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    filesystems: tuple[str, ...] = ()
    memory_usage: float = Host().memory_usage
    disk_usage: float = Host().disk_usage
    memory_pressure: float = Host().memory_pressure

    def system(self, place: Place) -> Host:
        for index, mount in enumerate(self.filesystems):
            if not mount.startswith("/") or mount in self.filesystems[:index]:
                raise place.problem(f"filesystems[{index}]", "expected a mount point such as /var, each once")
        return Host(
            self.filesystems,
            memory_usage=_ratio(place, "memory_usage", self.memory_usage),
            disk_usage=_ratio(place, "disk_usage", self.disk_usage),
            memory_pressure=_ratio(place, "memory_pressure", self.memory_pressure),
        )


class MaintenanceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Planned work; ``start`` is a date and time by the clocks of ``time_zone``."""

    name: str
    start: str
    duration: Duration
    time_zone: str = "UTC"
    component: Component | None = None
    target: str | None = None
    repeat: str | None = None
    mute_critical: bool = False
    announcement: str = ""

    def window(self, place: Place, targets: Collection[TargetId]) -> Window:
        """Return the window that the entry describes. Raises Problem."""
        start = self._start(place)
        if not 0 < self.duration <= LONGEST_WINDOW:
            raise place.problem("duration", "expected more than 0s and at most 30d")
        try:
            zone = ZoneInfo(self.time_zone)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise place.problem("time_zone", "is not a time zone such as UTC or Europe/Berlin") from None
        if self.target is not None and self.component is None:
            raise place.problem("target", "needs the component that it belongs to")
        if self.component is not None and self.component not in {id_.component for id_ in targets}:
            raise place.problem("component", f"no target of {self.component} is watched")
        if self.target is not None and TargetId(self.component or Component.HOST, self.target) not in targets:
            raise place.problem("target", f"{self.target!r} is not a target of {self.component}")
        return Window(
            name=self.name,
            start=start,
            duration=float(self.duration),
            zone=zone,
            component=self.component,
            target=self.target,
            repeat=self.repeat,
            mute_critical=self.mute_critical,
            announcement=_public_words(place, "announcement", self.announcement),
        )

    def _start(self, place: Place) -> datetime:
        try:
            start = datetime.fromisoformat(self.start)
        except ValueError:
            start = None
        if start is None or start.tzinfo is not None or len(self.start) == len("2026-12-01"):
            raise place.problem("start", "expected a local date and time such as 2026-12-01T22:00")
        if self.repeat is not None:
            try:
                maintenance.check_repeat(self.repeat, start)
            except ValueError as error:
                raise place.problem("repeat", str(error)) from None
        return start


class PeerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server with an HTTP API that we ask or tell: Prometheus (or what speaks like it), an Alertmanager."""

    name: str = ""
    url: str | None = None
    url_file: str | None = None
    timeout: Duration = Duration(5)
    user: str = ""
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    headers: dict[str, str] = {}

    def server(self, place: Place) -> Server:
        """Return where it is and how one signs in. Raises Problem."""
        if self.token_file is not None and (self.user or self.password_file is not None):
            raise place.problem("token_file", "stands beside a user or password, use one of them")
        if bool(self.user) != (self.password_file is not None):
            raise place.problem("user" if self.user else "password_file", "needs both user and password_file")
        ca_file = _certificates(place, "ca_file", self.ca_file)
        return Server(
            base=_parsed_url(place, self.url, self.url_file, lambda url: peer_base(url, ca_file)),
            token=_secret(place, "token", self.token_file),
            user=self.user,
            password=_secret(place, "password", self.password_file),
            headers=tuple(_headers(place, "headers", self.headers, _NOT_SENT)),
            timeout=_positive(place, "timeout", self.timeout),
        )


class PagerDutySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PagerDuty's webhook: the secrets with which its subscriptions sign."""

    signing_secret_files: tuple[str, ...]

    def secrets(self, place: Place) -> tuple[Secret, ...]:
        """Return the secrets. Raises Problem."""
        if not self.signing_secret_files:
            raise place.problem("signing_secret_files", "names no file")
        found = []
        for index, name in enumerate(self.signing_secret_files):
            secret = _secret_file(place, f"signing_secret_files[{index}]", name)
            if not secret:
                raise place.problem(f"signing_secret_files[{index}]", "is empty")
            found.append(Secret(secret))
        return tuple(found)


class LinkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A place where people look further: logs, traces, the infrastructure's own figures."""

    name: str
    url: str

    def link(self, place: Place) -> Link:
        """Return the link. Raises Problem."""
        if not self.name.isprintable() or not 1 <= len(self.name) <= MAX_LINK_NAME:
            raise place.problem("name", f"expected 1 to {MAX_LINK_NAME} printable characters")
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable or not re.fullmatch(r"[!-~]+", self.url):
            raise place.problem("url", "expected an address such as https://logs.example.com, without a password")
        return Link(self.name, self.url)


class StatusPageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the public page calls us, and those of our components that it shows."""

    title: str = StatusPage().title
    components: dict[Component, str] | None = None

    def page(self, place: Place) -> StatusPage:
        """Return what the entry says. Raises Problem."""
        components = StatusPage().components if self.components is None else self.components
        for component, name in components.items():
            if not _public_words(place, f"components.{component}", name):
                raise place.problem(f"components.{component}", "is empty; leave out what the public is not to see")
        return StatusPage(_public_words(place, "title", self.title), components)


class CheckSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rhythm of every target that has none of its own."""

    interval: Duration = Duration(5)
    timeout: Duration | None = None


class FileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file: a section a component, planned maintenance, and those that we ask and tell."""

    check: CheckSpec = CheckSpec()
    database: tuple[_DatabaseSpec, ...] = ()
    redis: tuple[_RedisSpec, ...] = ()
    api: tuple[_ApiSpec, ...] = ()
    workers: tuple[_WorkersSpec, ...] = ()
    host: tuple[_HostSpec, ...] = ()
    maintenance: tuple[MaintenanceSpec, ...] = ()
    prometheus: PeerSpec | None = None
    alertmanager: tuple[PeerSpec, ...] = ()
    pagerduty: PagerDutySpec | None = None
    links: tuple[LinkSpec, ...] = ()
    status_page: StatusPageSpec = StatusPageSpec()


def checked(sections: dict[str, Any]) -> FileSpec:
    """Check names and types of the configuration file. Raises Problem."""
    return converted(sections, FileSpec)


def converted(data: object, kind: type[T]) -> T:
    """Return what a document says as ``kind``, with names and types checked. Raises Problem."""

    def decode(kind: type, value: object) -> object:
        if kind is Duration:
            return Duration.parse(value)
        raise NotImplementedError

    try:
        return msgspec.convert(data, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        problem, _, at = str(error).partition(" - at `$")
        path = at.removesuffix("`").lstrip(".")
        raise _reworded(path, problem) from None


_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "a mapping",
    "str": "text",
}


def _reworded(path: str, problem: str) -> Problem:
    """Say what msgspec found in the words of YAML."""
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        return Problem(f"{path}.{match[1]}".lstrip("."), "is not a setting that exists here")
    if match := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return Problem(path, f"needs {match[1]}")
    if match := re.fullmatch(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`", problem):
        wanted, got = (_WORDS.get(word, word) for word in match.groups())
        return Problem(path, f"expected {wanted}, got {got}")
    if match := re.fullmatch(r"Invalid enum value (.*)", problem):
        return Problem(path, f"can't be {match[1]}")
    return Problem(path, problem[:1].lower() + problem[1:])


def _public_words(place: Place, key: str, text: str) -> str:
    if not text.isprintable() or len(text) > MAX_PUBLIC_WORDS:
        raise place.problem(key, f"expected one line of at most {MAX_PUBLIC_WORDS} printable characters")
    return text


def _positive(place: Place, key: str, value: float) -> float:
    if value <= 0:
        raise place.problem(key, "expected more than 0s")
    return float(value)


def _ratio(place: Place, key: str, value: float) -> float:
    if not 0 < value <= 1:
        raise place.problem(key, "expected a ratio above 0 and up to 1, such as 0.9")
    return float(value)


_NOT_SENT = frozenset({"authorization", "host", "connection", "content-length", "content-type", "transfer-encoding"})
"""Headers of a request that are ours to set, or that hold secrets."""


def _headers(
    place: Place, key: str, headers: Mapping[str, str], refused: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not re.fullmatch(r"[ -~]{0,1000}", value):
            raise place.problem(f"{key}.{name}", "is not a header such as X-Scope-OrgID: tenant")
        if name.lower() in refused:
            raise place.problem(f"{key}.{name}", "can't be set here")
        yield name, value


def _parsed_url(place: Place, url: str | None, url_file: str | None, parse: Callable[[str], T]) -> T:
    text = _text_or_file(place, "url", url, url_file)
    if text is None:
        raise Problem(place.path, "needs a url or a url_file")
    try:
        return parse(text)
    except endpoints.EndpointProblem as problem:
        raise place.problem("url_file" if url is None else "url", str(problem)) from None


def _text_or_file(place: Place, key: str, text: str | None, file: str | None) -> str | None:
    """Return what ``key`` says, or what the file that ``key_file`` names says, without its last line's end."""
    if text is not None and file is not None:
        raise place.problem(key, f"stands beside {key}_file, use one of them")
    if file is not None:
        text = _secret_file(place, f"{key}_file", file)
    if text is not None and (not text or "\0" in text):
        raise place.problem(key if file is None else f"{key}_file", "is empty" if not text else "has a NUL in it")
    return text


def _secret_file(place: Place, key: str, name: str) -> str:
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


def _secret(place: Place, key: str, file: str | None) -> Secret | None:
    """Return the secret in the file that ``key_file`` names."""
    text = _text_or_file(place, key, None, file)
    return None if text is None else Secret(text)


def _certificates(place: Place, key: str, name: str | None) -> str | None:
    if name is None:
        return None
    path = place.folder / name
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise place.problem(key, f"{path} holds no certificates in PEM form") from None
    except OSError as error:
        raise place.problem(key, f"{path} can't be read: {error.strerror}") from None
    return str(path)
