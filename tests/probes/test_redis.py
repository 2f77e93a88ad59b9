"""Redis as it really is: what it measures, and how each failure is named."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason, Secret
from auraconnect_exporter.probes.redis_server import info_samples, memory_findings
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import (
    PASSWORD,
    Leaks,
    cache,
    close_at_once,
    connected,
    say_garbage,
    say_nothing,
    self_signed,
    serving,
    value,
)
from tools.servers import Redis, free_port


def at(port: int) -> RedisSystem:
    """Return a Redis at a port of this machine."""
    return RedisSystem(endpoints.redis(f"redis://:{PASSWORD}@127.0.0.1:{port}/0"), slow=60.0)


async def test_values_are_those_of_info(redis: Redis, watch: Watch) -> None:
    """Clients, memory, hits and misses are what INFO says at the same time."""
    async with connected(redis) as client:
        await client.set("here", 1)
        await client.mget("here", "here", "nowhere")
        await client.config_set("maxmemory", 64 * 1024 * 1024)
        before = await client.info()
        attempt = await watch(cache(redis)).attempt()
    assert value(attempt, "redis_connected_clients") == 2
    assert value(attempt, "redis_blocked_clients") == 0
    assert value(attempt, "redis_memory_max_bytes") == 64 * 1024 * 1024
    assert value(attempt, "redis_memory_used_bytes") == pytest.approx(before["used_memory"], rel=0.3)
    assert value(attempt, "redis_keyspace_hits_total") == 2
    assert value(attempt, "redis_keyspace_misses_total") == 1
    assert value(attempt, "redis_rejected_connections_total") == 0
    assert value(attempt, "redis_evicted_keys_total") == 0
    assert 0 < value(attempt, "redis_ping_duration_seconds") < attempt.duration
    assert collectors(attempt) == {"info": True}


async def test_a_blocked_client_is_counted(redis: Redis, watch: Watch) -> None:
    """A worker that waits for a job is a blocked client."""
    async with connected(redis) as client, connected(redis) as waiting:
        pop = asyncio.ensure_future(waiting.blpop(["jobs"], timeout=0))
        while (await client.info("clients"))["blocked_clients"] == 0:
            await asyncio.sleep(0)
        attempt = await watch(cache(redis)).attempt()
        await client.rpush("jobs", "one")
        await pop
    assert value(attempt, "redis_blocked_clients") == 1


async def test_memory_near_its_limit_is_a_finding(redis: Redis, watch: Watch) -> None:
    """Above three quarters of maxmemory Redis counts as degraded; it still answers."""
    async with connected(redis) as client:
        await client.set("large", bytes(4 * 1024 * 1024))
    async with connected(redis) as client:  # without the buffer that the large value came through
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used * 1.1))
    attempt = await watch(cache(redis)).attempt()
    assert attempt.ok
    assert [finding.startswith("memory is 9") for finding in attempt.reading.degraded] == [True]


def test_memory_has_no_limit_unless_one_is_set() -> None:
    """Zero means none; exactly three quarters is no finding yet."""
    assert memory_findings({"used_memory": 10**12, "maxmemory": 0}) == []
    assert memory_findings({"used_memory": 75, "maxmemory": 100}) == []
    assert memory_findings({"used_memory": 76, "maxmemory": 100}) == ["memory is 76% of its limit"]


def test_a_field_that_a_server_lacks_has_no_series() -> None:
    """An older or different server shows what it has."""
    samples = info_samples({"used_memory": 7, "unknown": "x"})
    assert [(sample.metric.name, sample.value) for sample in samples] == [("redis_memory_used_bytes", 7.0)]


async def test_signing_in_is_no_part_of_the_latency(watch: Watch) -> None:
    """A server that takes its time over AUTH answers a PING as fast as ever."""

    async def slow_to_sign_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n", b"INFO": b"$0\r\n\r\n"}
        while word := (await reader.readline()).strip():
            await asyncio.sleep(0.2 if word == b"AUTH" else 0)
            writer.write(answers.get(word, b""))

    async with serving(slow_to_sign_in) as port:
        attempt = await watch(at(port)).attempt()
    assert value(attempt, "redis_ping_duration_seconds") < 0.1


async def test_a_slow_answer_is_a_finding(redis: Redis, watch: Watch) -> None:
    """A PING slower than the limit says how slow it was."""
    attempt = await watch(dataclasses.replace(cache(redis), slow=0.0)).attempt()
    assert attempt.ok
    assert attempt.reading.degraded == ("a PING took 0.00 s",)


async def test_a_killed_server_refuses_and_is_well_again_when_it_is_back(redis: Redis, watch: Watch) -> None:
    """Nobody listens; then somebody does."""
    watched = watch(cache(redis))
    redis.kill()
    refused = await watched.attempt()
    assert (refused.reason, collectors(refused)) == (Reason.REFUSED, {"info": False})
    redis.start()
    assert (await watched.attempt()).ok


async def test_a_name_with_two_addresses_that_both_refuse_is_refused(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is ::1 and 127.0.0.1 on most machines; asyncio reports both failures as one."""
    port = free_port()
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    system = RedisSystem(endpoints.redis(f"redis://cache.test:{port}"), slow=1.0)
    attempt = await watch(system).attempt()
    assert attempt.reason is Reason.REFUSED, attempt


async def test_a_server_with_all_its_clients_refuses(redis: Redis, watch: Watch) -> None:
    """At maxclients Redis says so and hangs up."""
    async with connected(redis) as client:
        await client.config_set("maxclients", 1)
        attempt = await watch(cache(redis)).attempt()
    assert attempt.reason is Reason.REFUSED, attempt
    assert "max number of clients reached" in attempt.message


async def test_a_server_that_loads_its_data_refuses(tmp_path: Path, watch: Watch) -> None:
    """While Redis reads its file it answers with LOADING; afterwards it is well."""
    with Redis(tmp_path, password=PASSWORD) as server:
        async with connected(server) as client:
            await client.mset({str(number): number for number in range(10_000)})
            await client.save()
    slowly = ["key-load-delay 50", "loading-process-events-interval-bytes 1024"]  # microseconds a key
    with Redis(tmp_path, password=PASSWORD, settings=slowly) as server:
        watched = watch(cache(server))
        attempt = await watched.attempt()
        assert attempt.reason is Reason.REFUSED, attempt
        await watched.until(None)


async def test_the_name_of_no_server_is_dns(watch: Watch) -> None:
    """A name that nobody knows can't be resolved."""
    system = RedisSystem(endpoints.redis(f"redis://:{PASSWORD}@cache.invalid/0"), slow=1.0)
    assert (await watch(system).attempt()).reason is Reason.DNS


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, "wrong"), (None, None), ("stranger", PASSWORD), ("limited", PASSWORD)],
    ids=["wrong password", "no password", "unknown user", "no right to INFO"],
)
async def test_who_is_not_let_in_has_an_auth_failure(
    redis: Redis, watch: Watch, user: str | None, password: str | None
) -> None:
    """WRONGPASS, NOAUTH and NOPERM are all auth."""
    async with connected(redis) as client:
        await client.acl_setuser("limited", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping", "+client"])
    server = dataclasses.replace(cache(redis).server, user=user, password=Secret(password) if password else None)
    attempt = await watch(RedisSystem(server, slow=1.0)).attempt()
    assert attempt.reason is Reason.AUTH, attempt


async def test_a_user_with_the_two_commands_that_it_takes_is_enough(redis: Redis, watch: Watch) -> None:
    """PING and INFO are all the rights there need be."""
    async with connected(redis) as client:
        await client.acl_setuser("limited", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping", "+info"])
    server = dataclasses.replace(cache(redis).server, user="limited")
    attempt = await watch(RedisSystem(server, slow=60.0)).attempt()
    assert attempt.ok, attempt


async def test_a_password_that_the_server_does_not_have_is_an_auth_failure(tmp_path: Path, watch: Watch) -> None:
    """Redis refuses AUTH where no password is set."""
    with Redis(tmp_path) as server:
        assert (await watch(at(server.port)).attempt()).reason is Reason.AUTH


async def test_a_command_that_is_refused_is_a_query_failure(tmp_path: Path, watch: Watch) -> None:
    """A managed Redis may have renamed INFO."""
    with Redis(tmp_path, password=PASSWORD, settings=['rename-command INFO ""']) as server:
        attempt = await watch(cache(server)).attempt()
    assert attempt.reason is Reason.QUERY, attempt


async def test_a_stranger_is_told_apart_by_what_is_said(watch: Watch) -> None:
    """Silence is a timeout; garbage, and a hang-up, break the protocol."""
    strangers = {say_nothing: Reason.TIMEOUT, say_garbage: Reason.PROTOCOL, close_at_once: Reason.PROTOCOL}
    for handler, reason in strangers.items():
        async with serving(handler) as port:
            attempt = await watch(at(port), timeout=0.3).attempt()
        assert attempt.reason is reason, attempt


async def test_a_server_without_tls_is_a_tls_failure_where_tls_is_asked_for(watch: Watch) -> None:
    """What answers the TLS handshake with something else is told as such."""
    async with serving(say_garbage) as port:
        system = RedisSystem(endpoints.redis(f"rediss://:{PASSWORD}@localhost:{port}/0"), slow=60.0)
        assert (await watch(system).attempt()).reason is Reason.TLS


class TLSRedis(Redis):
    """A Redis that speaks TLS as `localhost`, on a port beside the plain one."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = self_signed(folder, "localhost")
        self.tls_port = free_port()
        settings = [
            f"tls-port {self.tls_port}",
            f'tls-cert-file "{self.certificate}"',
            f'tls-key-file "{key}"',
            f'tls-ca-cert-file "{self.certificate}"',
            "tls-auth-clients no",
        ]
        super().__init__(folder, password=PASSWORD, settings=settings)

    def system(self, host: str, options: str = "", ca_file: Path | None = None) -> RedisSystem:
        """Return it as seen under a host name."""
        url = f"rediss://:{PASSWORD}@{host}:{self.tls_port}/0{options}"
        return RedisSystem(endpoints.redis(url, str(ca_file) if ca_file else None), slow=60.0)


async def test_a_certificate_counts_for_its_own_name(tmp_path: Path, watch: Watch) -> None:
    """Trusted and for this name is good, not verified is good; a stranger's, or another name, is a TLS failure."""
    stranger, _ = self_signed(tmp_path, "stranger")
    with TLSRedis(tmp_path) as server:
        for system, reason in (
            (server.system("localhost", ca_file=server.certificate), None),
            (server.system("127.0.0.1", "?ssl_cert_reqs=none"), None),
            (server.system("localhost"), Reason.TLS),
            (server.system("localhost", ca_file=stranger), Reason.TLS),
            (server.system("127.0.0.1", ca_file=server.certificate), Reason.TLS),
        ):
            attempt = await watch(system).attempt()
            assert attempt.reason is reason, attempt


async def test_a_frozen_redis_with_tls_leaves_nothing_behind(tmp_path: Path, watch: Watch) -> None:
    """Closing does not wait for the good-bye of the other side."""
    with TLSRedis(tmp_path) as server:
        watched = watch(server.system("localhost", ca_file=server.certificate), timeout=0.3)
        assert (await watched.attempt()).ok
        leaks = Leaks()
        server.freeze()
        assert [(await watched.attempt()).reason for _ in range(5)] == [Reason.TIMEOUT] * 5
        server.thaw()
        assert await leaks.found() == {}
        await watched.until(None)
