"""Redis or Valkey: does it answer, how fast, and how near is its memory to the limit.

Source: the INFO command's sections clients, memory and stats. A fresh connection for every check: it is cheap, and it
notices a changed password or a server that takes no more clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from redis.exceptions import RedisError

from auraconnect_exporter.model import Metric, Part, Reading, Sample
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.probes.redis_connection import explain_redis, open_redis
from auraconnect_exporter.targets import Redis

PING_DURATION = Metric("redis_ping_duration_seconds", "gauge", "Time of a PING on an open connection.")

MEMORY_LIMIT_RATIO: Final = 0.75

_INFO_METRICS: Final = {
    "used_memory": Metric("redis_memory_used_bytes", "gauge", "Memory that Redis has allocated."),
    "maxmemory": Metric("redis_memory_max_bytes", "gauge", "Limit on memory; 0 means that there is none."),
    "connected_clients": Metric("redis_connected_clients", "gauge", "Client connections."),
    "blocked_clients": Metric("redis_blocked_clients", "gauge", "Clients that wait in a blocking command."),
    "rejected_connections": Metric(
        "redis_rejected_connections_total", "counter", "Connections refused because of maxclients."
    ),
    "keyspace_hits": Metric("redis_keyspace_hits_total", "counter", "Look-ups that found their key."),
    "keyspace_misses": Metric("redis_keyspace_misses_total", "counter", "Look-ups that found no key."),
    "evicted_keys": Metric("redis_evicted_keys_total", "counter", "Keys evicted because of maxmemory."),
}


class RedisProbe(Probe):
    """Watches one Redis server."""

    collectors = ("info",)

    def __init__(self, system: Redis, monotonic: Callable[[], float]) -> None:
        self._system = system
        self._monotonic = monotonic

    async def check(self) -> Reading:
        """PING, then INFO."""
        try:
            async with aclosing(open_redis(self._system.server)) as client:
                await client.ping()  # connects and signs in, which is not what a command takes
                begun = self._monotonic()
                await client.ping()
                seconds = self._monotonic() - begun
                info = await client.info()
        except RedisError as error:
            raise explain_redis(error) from None
        slow = [f"a PING took {seconds:.2f} s"] if seconds > self._system.slow else []
        samples = (PING_DURATION.sample(seconds), *info_samples(info))
        return Reading((Part("info", samples, (*slow, *memory_findings(info))),))


def info_samples(info: Mapping[str, Any]) -> list[Sample]:
    """Return the samples of those fields that this server's INFO has."""
    return [metric.sample(float(info[field])) for field, metric in _INFO_METRICS.items() if field in info]


def memory_findings(info: Mapping[str, Any]) -> list[str]:
    """Say so when memory comes near its limit; without a limit there is nothing to come near to."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if limit and used > MEMORY_LIMIT_RATIO * limit:
        return [f"memory is {used / limit:.0%} of its limit"]
    return []
