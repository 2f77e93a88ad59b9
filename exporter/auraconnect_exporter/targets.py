"""What is watched: the frozen, checked form of the configuration. Equal targets are the same target.

Durations are in seconds; ``slow`` is the response time above which a system that answers counts as degraded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auraconnect_exporter.model import Secret, TargetId

LONGEST_LOCK_WAIT = 30.0
LONGEST_POOL_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One PostgreSQL server and database; ``host`` may be the folder of a Unix socket, ``options`` are libpq's."""

    host: str
    port: int
    user: str
    password: Secret | None
    dbname: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One Redis server and database number; ``socket_path`` stands for host and port where it is set."""

    host: str
    port: int
    database: int
    user: str | None
    password: Secret | None
    tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    socket_path: str | None = None


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """One HTTP resource; ``ca_file`` is trusted instead of the system's authorities where it is set."""

    tls: bool
    host: str
    port: int
    path: str
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server, or a PgBouncer in front of one; above each of its limits it counts as degraded."""

    server: PostgresServer
    slow: float
    connections: float = 0.8
    """Share of the connections that are not reserved."""
    longest_transaction: float = 3600.0
    longest_idle_transaction: float = 600.0
    longest_wait: float = LONGEST_LOCK_WAIT
    """Of a query, for a lock."""
    replication_lag: float = 60.0
    statements: bool = True
    """Whether pg_stat_statements is read."""
    backup_query: str = ""
    """One SELECT that answers when the last backup ended; empty where nothing tells."""
    log_file: str = ""
    """The server's log on this machine, maybe with ``*`` in its last part; empty where it is not to be read."""


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """The administration console of a PgBouncer; ``longest_wait`` is how long a client may wait for a connection."""

    server: PostgresServer
    slow: float
    longest_wait: float = LONGEST_POOL_WAIT


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis or Valkey server; more than these ratios of its memory and clients in use is degraded.

    ``acl_log`` says whether its user may read ACL LOG; None takes it that the default user may.
    """

    server: RedisServer
    slow: float
    memory_usage: float = 0.75
    clients_usage: float = 0.8
    acl_log: bool | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """A URL of the API; any of ``statuses`` is a good answer, if it holds what is expected of headers and body.

    In what is expected, ``*`` stands for anything. A certificate that expires within ``certificate_expires`` is a
    finding. ``token`` is sent as a bearer's.
    """

    url: HttpUrl
    statuses: frozenset[int]
    slow: float
    expect_body: str = ""
    expect_headers: tuple[tuple[str, str], ...] = ()
    request_headers: tuple[tuple[str, str], ...] = ()
    token: Secret | None = None
    certificate_expires: float = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers of one kind, seen through the Redis that holds their queues.

    They are degraded when a job has waited for longer than ``queue_age`` (seconds), when more jobs than ``queue_depth``
    wait in one queue, or when fewer than ``min_workers`` of Celery's are online.
    """

    kind: Literal["celery", "arq"]
    server: RedisServer
    queues: tuple[str, ...]
    queue_age: float = 300.0
    queue_depth: int | None = None
    min_workers: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that the exporter runs on; ``filesystems`` are mount points, none meaning all local ones.

    Above each of the ratios it counts as degraded: memory in use, space or inodes of a file system in use, and the
    share of the last minute in which everything waited for memory.
    """

    filesystems: tuple[str, ...] = ()
    memory_usage: float = 0.85
    disk_usage: float = 0.9
    memory_pressure: float = 0.2


System = Postgres | PgBouncer | Redis | Http | Workers | Host


@dataclass(frozen=True, slots=True)
class Target:
    """One system to watch, every ``interval`` seconds, each time for at most ``timeout``."""

    id: TargetId
    critical: bool
    interval: float
    timeout: float
    system: System
