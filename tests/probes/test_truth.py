"""Redis's and the API's figures against those of the exporters that ours stands for, at the same moment."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter.model import Reason
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, cache, connected, serving, value, values
from tests.probes.test_http_api import answering, api, serves_as
from tools.servers import Redis, Server, free_port, program


class Exporter(Server):
    """One of the distribution's exporters."""

    def __init__(self, folder: Path, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        command: list[str | Path] = [program(name), f"--web.listen-address={self._address}", *arguments]
        super().__init__(name, command, folder / f"{name}.log", env=env)

    def scrape(self, path: str = "/metrics") -> dict[str, float]:
        """Return its samples; those with several series by their labels' values."""
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request("GET", path)
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def is_ready(self) -> bool:
        try:
            return bool(self.scrape())
        except (OSError, http.client.HTTPException):
            return False


# What ours is called there, and by which part of itself it may move between two readings.
SAME = {
    "redis_memory_used_bytes": ("redis_memory_used_bytes", 0.3),
    "redis_memory_max_bytes": ("redis_memory_max_bytes", 0),
    "redis_fragmentation_ratio": ("redis_mem_fragmentation_ratio", 0.3),
    "redis_connected_clients": ("redis_connected_clients", 0),
    "redis_max_clients": ("redis_config_maxclients", 0),
    "redis_blocked_clients": ("redis_blocked_clients", 0),
    "redis_rejected_connections_total": ("redis_rejected_connections_total", 0),
    "redis_keyspace_hits_total": ("redis_keyspace_hits_total", 0),
    "redis_keyspace_misses_total": ("redis_keyspace_misses_total", 0),
    "redis_evicted_keys_total": ("redis_evicted_keys_total", 0),
    "redis_connected_replicas": ("redis_connected_slaves", 0),
    "redis_last_save_ok": ("redis_rdb_last_bgsave_status", 0),
}


async def test_redis_is_as_redis_exporter_sees_it(redis: Redis, tmp_path: Path, watch: Watch) -> None:
    """Every figure that both have, on a server with evictions, misses, a blocked and a rejected client."""
    async with connected(redis) as client, connected(redis) as waiting:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("maxmemory", (await client.info("memory"))["used_memory"] + 512 * 1024)
        for number in range(100):
            await client.set(f"key {number}", bytes(32 * 1024))
            await client.get(f"key {number - number % 2}")
        pop = asyncio.ensure_future(waiting.blpop(["jobs"], timeout=0))
        while (await client.info("clients"))["blocked_clients"] == 0:
            await asyncio.sleep(0)
        watched = watch(cache(redis))
        await client.config_set("maxclients", 2)
        assert (await watched.attempt()).reason is Reason.REFUSED
        await client.config_set("maxclients", 100)
        address = f"--redis.addr=redis://127.0.0.1:{redis.port}"
        with Exporter(tmp_path, "redis-exporter", address, env={"REDIS_PASSWORD": PASSWORD}) as exporter:
            theirs = await asyncio.to_thread(exporter.scrape)
            attempt = await watched.attempt()
        await client.rpush("jobs", "one")
        await pop
    ours = {metric: value(attempt, metric) for metric in SAME}
    far = {
        metric: (ours[metric], theirs[name])
        for metric, (name, share) in SAME.items()
        if abs(ours[metric] - theirs[name]) > share * theirs[name]
    }
    assert far == {}
    assert min(ours["redis_evicted_keys_total"], ours["redis_rejected_connections_total"]) > 0


async def test_an_api_is_as_blackbox_exporter_sees_it(tmp_path: Path, watch: Watch) -> None:
    """The same status, the same certificate's expiry, the same phases; both wait as long for the answer."""
    certificate, tls = serves_as(tmp_path, "localhost")
    module = {"prober": "http", "http": {"tls_config": {"ca_file": str(certificate)}, "valid_status_codes": [418]}}
    (tmp_path / "blackbox.json").write_text(json.dumps({"modules": {"api": module}}))
    answer = b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(answer, delay=0.2), tls=tls) as port:
        with Exporter(tmp_path, "blackbox-exporter", f"--config.file={tmp_path / 'blackbox.json'}") as exporter:
            path = f"/probe?module=api&target=https://localhost:{port}"
            theirs = await asyncio.to_thread(exporter.scrape, path)
        attempt = await watch(api(f"https://localhost:{port}", certificate, frozenset({418}))).attempt()
    assert (theirs["probe_success"], attempt.ok) == (1, True)
    assert value(attempt, "api_probe_status_code") == theirs["probe_http_status_code"] == 418
    assert value(attempt, "api_certificate_expiry_timestamp_seconds") == theirs["probe_ssl_earliest_cert_expiry"]
    phases = {phase: seconds for (phase,), seconds in values(attempt, "api_probe_phase_seconds").items()}
    expected = {phase: theirs[f"probe_http_duration_seconds {phase}"] for phase in phases}
    assert list(phases) == ["resolve", "connect", "tls", "processing", "transfer"]
    assert min(phases["processing"], expected["processing"]) > 0.2
