"""Redis or Valkey: does it answer, how fast, how near are its limits, and does it keep and copy what it is given.

Source: INFO and ACL LOG as Redis's documentation has them; INFO as a whole, since Redis before 7.0 takes one section at
a time. A fresh connection for every check: it is cheap, and it notices a changed password or a server that takes no
more clients. A user needs ``+ping +info``, and ``+acl|log`` before Redis 7.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MasterDownError, NoPermissionError, RedisError, ResponseError

from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.redis_connection import FORBIDDEN_SECONDS, Connector, explain_redis
from auraconnect_exporter.probes.redis_denials import DenialCounter, parse_log
from auraconnect_exporter.targets import Redis

CONNECT_DURATION = Metric("redis_connect_duration_seconds", "gauge", "Time to open a new connection and sign in.")
PING_DURATION = Metric("redis_ping_duration_seconds", "gauge", "Time of a PING on an open connection.")
REPLICATION_CONNECTED = Metric(
    "redis_replication_connected", "gauge", "Whether a replica's link to its primary is up; a primary has none."
)
LAST_SAVE_OK = Metric(
    "redis_last_save_ok", "gauge", "Whether the last snapshot, append and rewrite of the append-only file succeeded."
)
ACCESS_DENIED = Metric("redis_access_denied_total", "counter", "Denied logins and commands.", ("reason",))

_INFO_METRICS: Final = {
    "used_memory": Metric("redis_memory_used_bytes", "gauge", "Memory that Redis has allocated."),
    "maxmemory": Metric("redis_memory_max_bytes", "gauge", "Limit on memory; 0 means that there is none."),
    "mem_fragmentation_ratio": Metric(
        "redis_fragmentation_ratio", "gauge", "Resident memory by memory that Redis has allocated."
    ),
    "connected_clients": Metric("redis_connected_clients", "gauge", "Client connections."),
    "maxclients": Metric("redis_max_clients", "gauge", "Client connections that the server allows."),
    "blocked_clients": Metric("redis_blocked_clients", "gauge", "Clients that wait in a blocking command."),
    "rejected_connections": Metric(
        "redis_rejected_connections_total", "counter", "Connections refused because of maxclients."
    ),
    "keyspace_hits": Metric("redis_keyspace_hits_total", "counter", "Look-ups that found their key."),
    "keyspace_misses": Metric("redis_keyspace_misses_total", "counter", "Look-ups that found no key."),
    "evicted_keys": Metric("redis_evicted_keys_total", "counter", "Keys evicted because of maxmemory."),
    "connected_slaves": Metric("redis_connected_replicas", "gauge", "Replicas that are connected to this server."),
}

_SAVES: Final = {
    "rdb_last_bgsave_status": "the last snapshot (bgsave) failed",
    "aof_last_write_status": "the last write to the append-only file failed",
    "aof_last_bgrewrite_status": "the last rewrite of the append-only file failed",
}

WRITES_REFUSED: Final = "writes are refused, since what was written could not be saved (MISCONF)"

_DENIED_FIELD: Final = "acl_access_denied_"
_DENIED_REASONS: Final = ("auth", "cmd", "key", "channel", "db", "tls_cert")
"""The last two are Valkey's."""

ACL_LOG_SECONDS: Final = 10.0
"""How often ACL LOG is read: a log full of entries costs as much as all the rest."""

ACL_LOG_LENGTH: Final = 128

Info = Mapping[str, str]


class RedisProbe(Probe):
    """Watches one Redis server."""

    collectors = ("ping", "info", "acl")

    def __init__(self, system: Redis, monotonic: Callable[[], float], trust: Trust) -> None:
        self._system = system
        # To choose a database is a right of its own, and no database's numbers are read.
        self._server = replace(system.server, database=0)
        self._monotonic = monotonic
        self._trust = trust
        self._connector: Connector | None = None
        self._refused: dict[str, tuple[float, str]] = {}
        self._denials = DenialCounter()
        self._acl_read = -math.inf
        self._acl = Part("acl")

    async def check(self) -> Reading:
        """PING, then INFO, and ACL LOG where INFO does not count what was denied."""
        try:
            self._connector = self._connector or Connector(self._server, self._trust)
            begun = self._monotonic()
            async with self._connector.connected() as connection:
                return await self._read(connection, self._monotonic() - begun)
        except RedisError as error:
            failure = explain_redis(error)
            if failure.reason is Reason.TLS:
                self._trust.forget(self._server.ca_file)  # the authorities may have been renewed
                self._connector = None
            raise failure from None

    async def _read(self, connection: AbstractConnection, connecting: float) -> Reading:
        begun = self._monotonic()
        refusal = await _ping(connection)
        pinging = self._monotonic() - begun
        durations = (CONNECT_DURATION.sample(connecting), PING_DURATION.sample(pinging))
        reply, problem = await self._ask(connection, "INFO")
        info = parse_info(reply)
        samples = info_samples(info)
        if isinstance(refusal, MasterDownError):
            raise ProbeError(Reason.REFUSED, str(refusal), (*durations, *samples))
        findings = (*((WRITES_REFUSED,) if refusal else ()), *info_findings(info, self._system))
        if not samples:
            problem = problem or "INFO says nothing that is known"
        return Reading(
            (
                Part("ping", durations, tuple(self._slow(("connecting", connecting), ("a PING", pinging)))),
                Part("info", samples, findings, problem),
                await self._access_denied(connection, info),
            )
        )

    def _slow(self, *durations: tuple[str, float]) -> Iterator[str]:
        return (f"{what} took {seconds:.2f} s" for what, seconds in durations if seconds > self._system.slow)

    async def _access_denied(self, connection: AbstractConnection, info: Info) -> Part:
        if counted := denied_samples(info):
            return Part("acl", counted)
        wanted, now = self._system.acl_log, self._monotonic()
        if wanted is None and self._server.user not in {None, "default"}:
            return Part(
                "acl",
                absent="INFO does not count denied access, as Redis 7.2 does; "
                "to read ACL LOG instead, let the user run it (+acl|log) and set acl_log: true",
            )
        if wanted is False or now - self._acl_read < ACL_LOG_SECONDS:
            return self._acl
        self._acl_read = now
        reply, problem = await self._ask(connection, "ACL", "LOG", str(ACL_LOG_LENGTH))
        if not problem:
            try:
                self._denials.take(parse_log(reply, _number(info, "server_time_usec", now * 1e6) / 1e6))
            except ValueError as error:
                problem = f"ACL LOG can't be read: {error}"
        counted = tuple(ACCESS_DENIED.sample(count, reason) for reason, count in self._denials.totals.items())
        self._acl = Part("acl", problem=problem) if problem else Part("acl", counted)
        return self._acl

    async def _ask(self, connection: AbstractConnection, *command: str) -> tuple[Any, str]:
        """Return the answer to a command and, when this server or this user has no such command, why not.

        It is not sent again for a while then.
        """
        again, problem = self._refused.get(command[0], (-math.inf, ""))
        if self._monotonic() < again:
            return None, problem
        try:
            return await _answer(connection, *command), ""
        except NoPermissionError as error:
            problem = f"{error}; asked again in an hour"
        except ResponseError as error:
            if "unknown command" not in str(error):
                raise
            problem = f"{error}; asked again in an hour"
        self._refused[command[0]] = (self._monotonic() + FORBIDDEN_SECONDS, problem)
        return None, problem


async def _answer(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


async def _ping(connection: AbstractConnection) -> ResponseError | None:
    """PING; returns the refusal of a server that answers, but not to everything.

    A primary that can't save refuses writes (MISCONF), a replica without its primary may refuse all (MASTERDOWN); both
    refuse a PING as well, and tell their state all the same.
    """
    try:
        reply = await _answer(connection, "PING")
    except MasterDownError as error:
        return error
    except ResponseError as error:
        if not str(error).startswith("MISCONF"):
            raise
        return error
    if reply != b"PONG":
        raise ProbeError(Reason.PROTOCOL, "the answer to a PING is no PONG")
    return None


def parse_info(reply: object) -> Info:
    """Return the fields of INFO; none for what is no text."""
    lines = reply.decode("utf-8", "replace").split("\r\n") if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _number(info: Info, field: str, default: float = 0.0) -> float:
    """Return a field's number; the default for one that is not there, or is no number."""
    try:
        number = float(info[field])
    except (KeyError, ValueError):
        return default
    return number if math.isfinite(number) else default


def info_samples(info: Info) -> tuple[Sample, ...]:
    """Return the samples of those fields that this server's INFO has."""
    samples = [
        metric.sample(number)
        for field, metric in _INFO_METRICS.items()
        if (number := _number(info, field, -1.0)) >= 0  # none of them can be negative
    ]
    if info.get("role") == "slave":
        samples.append(REPLICATION_CONNECTED.sample(info.get("master_link_status") == "up"))
    saves = [info[field] for field in _SAVES if field in info]
    if saves:
        samples.append(LAST_SAVE_OK.sample(all(status == "ok" for status in saves)))
    return tuple(samples)


def denied_samples(info: Info) -> tuple[Sample, ...]:
    """Return what INFO counts as denied; nothing before Redis 7.2."""
    return tuple(
        ACCESS_DENIED.sample(_number(info, _DENIED_FIELD + reason), reason)
        for reason in _DENIED_REASONS
        if _DENIED_FIELD + reason in info
    )


def info_findings(info: Info, system: Redis) -> Iterator[str]:
    """Say in words what is wrong with a server that answers."""
    used, limit = _number(info, "used_memory"), _number(info, "maxmemory")
    counted = used - _number(info, "mem_not_counted_for_evict")
    if limit and counted >= limit and info.get("maxmemory_policy") == "noeviction":
        yield "memory is full, and the policy noeviction refuses every write that needs more"
    elif limit and used > system.memory_usage * limit:
        yield f"memory is {used / limit:.0%} of its limit"
    clients, most = _number(info, "connected_clients"), _number(info, "maxclients")
    if most and clients > system.clients_usage * most:
        yield f"{clients:.0f} of {most:.0f} clients are connected"
    if info.get("role") == "slave" and info.get("master_link_status") != "up":
        copies = info.get("master_sync_in_progress") == "1"
        yield "the replica is copying its primary anew" if copies else "the replica's link to its primary is down"
    yield from (finding for field, finding in _SAVES.items() if info.get(field, "ok") != "ok")
