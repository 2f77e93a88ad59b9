"""Where things are: the URLs of PostgreSQL, Redis and HTTP servers, taken apart and checked. Pure.

A URL is taken apart here once, so that no driver parses it again: their parsers quote the whole URL, password and
all, in their errors, and SQLAlchemy's and Celery's dialects of it are not theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from auraconnect_exporter.model import Secret
from auraconnect_exporter.targets import HttpUrl, PostgresServer, RedisServer


class EndpointProblem(Exception):
    """A URL that can't be used; the message is a sentence without the URL, which may hold a password."""


# libpq's parameters that make sense for one connection to one server; the rest would be ignored or do harm.
_POSTGRES_OPTIONS = frozenset(
    {
        "channel_binding",
        "gssencmode",
        "host",
        "password",
        "port",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "user",
    },
)


def postgres(url: str) -> PostgresServer:
    """Take ``postgresql[+driver]://user:password@host:5432/name?sslmode=…`` apart. Raises EndpointProblem."""
    parts = _split(url, ("postgresql", "postgres"), "postgresql://user@host:5432/name")
    options = dict(_query(parts, _POSTGRES_OPTIONS))
    host = options.pop("host", "") or unquote(parts.hostname or "")
    if "," in parts.netloc or "," in host:
        raise EndpointProblem("names several hosts, one server is one target")
    if not host:
        raise EndpointProblem("has no host")
    user = options.pop("user", "") or unquote(parts.username or "")
    if not user:
        raise EndpointProblem("has no user")
    password = options.pop("password", "") or unquote(parts.password or "")
    port = _number(options.pop("port", ""), "port", 65535) or _port(parts, 5432)
    return PostgresServer(
        host=host,
        port=port,
        user=user,
        password=Secret(password) if password else None,
        dbname=unquote(parts.path.lstrip("/")) or user,
        options=tuple(sorted(options.items())),
    )


def redis(url: str, ca_file: str | None = None) -> RedisServer:
    """Take ``redis[s]://user:password@host:6379/0`` or ``unix:///path?db=0`` apart. Raises EndpointProblem."""
    parts = _split(url, ("redis", "rediss", "unix"), "redis://host:6379/0")
    options = dict(_query(parts, frozenset({"db", "ssl_cert_reqs"})))
    unix = parts.scheme == "unix"
    database = options.get("db", "") or ("" if unix else parts.path.strip("/"))
    verify = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verify not in {"required", "none"}:
        raise EndpointProblem("has an ssl_cert_reqs other than required or none")
    if unix and not parts.path.strip("/"):
        raise EndpointProblem("has no path to the socket")
    if not unix and not parts.hostname:
        raise EndpointProblem("has no host")
    if ca_file and parts.scheme != "rediss":
        raise EndpointProblem("is not rediss://, so a ca_file means nothing")
    return RedisServer(
        host=unquote(parts.hostname or ""),
        port=_port(parts, 6379),
        database=_number(database, "database number", 65535) or 0,
        user=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        tls=parts.scheme == "rediss",
        verify=verify == "required",
        ca_file=ca_file,
        socket_path=unquote(parts.path) if unix else None,
    )


def http(url: str, ca_file: str | None = None) -> HttpUrl:
    """Take ``http[s]://host/path?query`` apart. Raises EndpointProblem."""
    parts = _split(url, ("http", "https"), "https://host/path")
    if not parts.hostname:
        raise EndpointProblem("has no host")
    if parts.username or parts.password:
        raise EndpointProblem("has a user or password, which does not belong into a URL")
    if not (parts.path + parts.query).isascii():
        raise EndpointProblem("has a path that must be percent-encoded")
    if ca_file and parts.scheme != "https":
        raise EndpointProblem("is not https://, so a ca_file means nothing")
    tls = parts.scheme == "https"
    return HttpUrl(
        tls=tls,
        host=parts.hostname,
        port=_port(parts, 443 if tls else 80),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        ca_file=ca_file,
    )


def _split(url: str, schemes: Iterable[str], example: str) -> SplitResult:
    """Split a URL of one of the schemes; ``+driver`` and ``,`` after it are dropped."""
    if any(character <= " " or character == "\x7f" for character in url):
        raise EndpointProblem("has a space or control character in it")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.partition("+")[0].lower()
    if not separator or scheme not in schemes:
        raise EndpointProblem(f"is not a URL such as {example}")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise EndpointProblem("has a host that can't be read") from None
    if parts.fragment or (scheme not in {"http", "https"} and "@" in parts.path + parts.query):
        raise EndpointProblem("has a # or @ too many: in a password they must stand percent-encoded, or use a file")
    return parts


def _port(parts: SplitResult, default: int) -> int:
    try:
        port = default if parts.port is None else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise EndpointProblem("has a port that is not a number from 1 to 65535")
    return port


def _query(parts: SplitResult, known: frozenset[str]) -> Iterable[tuple[str, str]]:
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            hint = ", did you mean sslmode" if key == "ssl" and "sslmode" in known else ""
            raise EndpointProblem(f"has an option {key[:40]!r} that is not supported{hint}")
        yield key, value


def _number(text: str, what: str, highest: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > highest:
        raise EndpointProblem(f"has a {what} that is not a number up to {highest}")
    return int(text)
