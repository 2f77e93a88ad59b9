"""URLs are taken apart or refused, and a refusal never shows the URL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Secret
from auraconnect_exporter.targets import HttpUrl, PostgresServer, RedisServer


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgres://u@h/d", PostgresServer("h", 5432, "u", None, "d")),
        ("postgresql+psycopg2://u:p%40%2Fss@h:6000/d", PostgresServer("h", 6000, "u", Secret("p@/ss"), "d")),
        ("postgresql://u@[::1]/d", PostgresServer("::1", 5432, "u", None, "d")),
        ("postgresql://u@h", PostgresServer("h", 5432, "u", None, "u")),
        (
            "postgresql://h/d?user=u&password=pw&port=7&sslmode=disable",
            PostgresServer("h", 7, "u", Secret("pw"), "d", (("sslmode", "disable"),)),
        ),
    ],
)
def test_postgres_url(url: str, server: PostgresServer) -> None:
    """Both libpq's and SQLAlchemy's forms of the URL mean the same server."""
    assert endpoints.postgres(url) == server


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://h", RedisServer("h", 6379, 0, None, None)),
        ("redis://h:7/5", RedisServer("h", 7, 5, None, None)),
        ("redis://:pw@h?db=3", RedisServer("h", 6379, 3, None, Secret("pw"))),
        (
            "rediss://u:pw@h?ssl_cert_reqs=CERT_NONE",
            RedisServer("h", 6379, 0, "u", Secret("pw"), tls=True, verify=False),
        ),
    ],
)
def test_redis_url(url: str, server: RedisServer) -> None:
    """Both redis-py's and Celery's forms of the URL mean the same server."""
    assert endpoints.redis(url) == server


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", HttpUrl(False, "h", 80, "/")),
        ("https://h:8443/a/@me?x=1", HttpUrl(True, "h", 8443, "/a/@me?x=1")),
        ("http://[::1]:8000/", HttpUrl(False, "::1", 8000, "/")),
    ],
)
def test_http_url(url: str, expected: HttpUrl) -> None:
    """A URL comes apart into what a request needs."""
    assert endpoints.http(url) == expected


@given(
    st.sampled_from([endpoints.postgres, endpoints.redis, endpoints.http]),
    st.sampled_from(["postgresql://", "redis://", "rediss://", "unix://", "https://", "http://", ""]),
    st.text(max_size=60),
)
def test_any_text_is_taken_apart_or_refused_without_showing_a_password(
    parse: Callable[[str], object], scheme: str, rest: str
) -> None:
    """No text makes the parsers fail in another way, and what follows the scheme stays out of the message."""
    for url in (scheme + rest, f"{scheme}u:hunter2@{rest}"):
        said = ""
        try:
            parse(url)
        except endpoints.EndpointProblem as problem:
            said = str(problem)
        assert "hunter2" not in said
