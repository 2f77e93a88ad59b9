"""How probes speak to Redis: one connection, no retries, failures named."""

from __future__ import annotations

from typing import Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError, explain
from auraconnect_exporter.targets import RedisServer


def open_redis(server: RedisServer) -> Redis:
    """Return a client that connects when first used.

    Its own retries held a refused probe for 4.6 s, so it has none, nor deadlines of its own: the runner's is the one.
    It does not introduce itself (CLIENT SETNAME and SETINFO): a user with no right to that would fail, or be counted by
    Redis as one whose access was denied.
    """
    return Redis(
        host=server.host,
        port=server.port,
        unix_socket_path=server.socket_path,
        ssl=server.tls,
        ssl_cert_reqs="required" if server.verify else "none",
        ssl_check_hostname=server.verify,
        ssl_ca_certs=server.ca_file,
        db=server.database,
        username=server.user,
        password=server.password.reveal() if server.password else None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        max_connections=1,
        driver_info=None,
        protocol=2,
    )


# What the server says, or that it hung up; the first row that fits counts.
_FAILURES: Final = (
    (exceptions.AuthenticationError, "", Reason.AUTH),
    (exceptions.NoPermissionError, "", Reason.AUTH),
    (exceptions.BusyLoadingError, "", Reason.REFUSED),
    (exceptions.ConnectionError, "max number of clients reached", Reason.REFUSED),
    (exceptions.ConnectionError, "closed by server", Reason.PROTOCOL),
    (exceptions.ResponseError, "", Reason.QUERY),
)


def explain_redis(error: exceptions.RedisError) -> ProbeError:
    """Name a failure of redis-py: what the server said, else the operating system's error behind it."""
    if isinstance(error, exceptions.InvalidResponse):
        return ProbeError(Reason.PROTOCOL, "what answers does not speak Redis")
    text = str(error)
    for kind, fragment, reason in _FAILURES:
        if isinstance(error, kind) and fragment in text:
            return ProbeError(reason, text)
    return explain(error)
