"""Redis as it really is: what it measures, and how each failure is named."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import OutOfMemoryError

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason, Secret
from auraconnect_exporter.probes.redis_server import (
    WRITES_REFUSED,
    denied_samples,
    info_findings,
    info_samples,
    parse_info,
)
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import (
    PASSWORD,
    Leaks,
    cache,
    close_at_once,
    connected,
    issued,
    say_garbage,
    say_nothing,
    self_signed,
    serving,
    value,
    values,
)
from tools.servers import Redis, free_port

RECORDED = Path(__file__).parent / "recorded"


def at(port: int) -> RedisSystem:
    """Return a Redis at a port of this machine."""
    return RedisSystem(endpoints.redis(f"redis://:{PASSWORD}@127.0.0.1:{port}/0"), slow=60.0)


NAMED_BY_INFO = {
    "redis_memory_max_bytes": "maxmemory",
    "redis_connected_clients": "connected_clients",
    "redis_max_clients": "maxclients",
    "redis_blocked_clients": "blocked_clients",
    "redis_rejected_connections_total": "rejected_connections",
    "redis_keyspace_hits_total": "keyspace_hits",
    "redis_keyspace_misses_total": "keyspace_misses",
    "redis_evicted_keys_total": "evicted_keys",
    "redis_connected_replicas": "connected_slaves",
}


async def test_values_are_those_of_info(redis: Redis, watch: Watch) -> None:
    """Clients, memory, hits and misses are what INFO says at the same time."""
    async with connected(redis) as client:
        await client.set("here", 1)
        await client.mget("here", "here", "nowhere")
        await client.config_set("maxmemory", 64 * 1024 * 1024)
        attempt = await watch(cache(redis)).attempt()
        info = await client.info()
    shown = {metric: value(attempt, metric) for metric in NAMED_BY_INFO}
    info["connected_clients"] += 1  # the probe itself was one
    assert shown == {metric: info[field] for metric, field in NAMED_BY_INFO.items()}
    assert (info["keyspace_hits"], info["keyspace_misses"]) == (2, 1)
    assert value(attempt, "redis_memory_used_bytes") == pytest.approx(info["used_memory"], rel=0.3)
    assert value(attempt, "redis_fragmentation_ratio") == pytest.approx(info["mem_fragmentation_ratio"], rel=0.3)
    assert value(attempt, "redis_last_save_ok") == 1
    assert values(attempt, "redis_replication_connected") == {}
    assert 0 < value(attempt, "redis_ping_duration_seconds") < attempt.duration
    assert collectors(attempt) == {"ping": True, "info": True, "acl": True}


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


async def test_memory_that_is_full_refuses_writes(redis: Redis, watch: Watch) -> None:
    """At maxmemory with noeviction Redis answers, reads, and refuses to write; the finding says so."""
    async with connected(redis) as client:
        await client.config_set("maxmemory", 1024 * 1024)
        with pytest.raises(OutOfMemoryError):
            await client.set("large", bytes(64 * 1024))
        attempt = await watch(cache(redis)).attempt()
        assert attempt.reading.degraded == (
            "memory is full, and the policy noeviction refuses every write that needs more",
        )
        await client.config_set("maxmemory-policy", "allkeys-lru")
        evicting = await watch(cache(redis)).attempt()
    assert [finding.startswith("memory is 1") for finding in evicting.reading.degraded] == [True]


async def test_clients_near_their_limit_are_a_finding(redis: Redis, watch: Watch) -> None:
    """Above four fifths of maxclients Redis counts as degraded; the limit is the configuration's."""
    async with connected(redis) as client:
        await client.config_set("maxclients", 2)
        attempt = await watch(cache(redis)).attempt()
        relaxed = await watch(dataclasses.replace(cache(redis), clients_usage=1.0)).attempt()
    assert attempt.reading.degraded == ("2 of 2 clients are connected",)
    assert relaxed.reading.degraded == ()


async def test_a_save_that_failed_is_a_finding(tmp_path: Path, watch: Watch) -> None:
    """Redis then refuses writes, and a PING as well; it is read all the same, and well again after a good save."""
    in_the_way = tmp_path / "dump.rdb" / "folder"
    with Redis(tmp_path, password=PASSWORD, settings=["save 3600 1000000"]) as server:
        watched = watch(cache(server))
        async with connected(server) as client:
            in_the_way.mkdir(parents=True)
            await saved(client, "err")
            attempt = await watched.attempt()
            assert attempt.ok
            assert value(attempt, "redis_last_save_ok") == 0
            assert attempt.reading.degraded == (WRITES_REFUSED, "the last snapshot (bgsave) failed")
            in_the_way.rmdir()
            in_the_way.parent.rmdir()
            await saved(client, "ok")
        attempt = await watched.attempt()
    assert value(attempt, "redis_last_save_ok") == 1
    assert attempt.reading.degraded == ()


async def saved(client: Client, status: str) -> None:
    """Let Redis save in the background, and wait for how that ends."""
    await client.bgsave()
    while (await client.info("persistence"))["rdb_last_bgsave_status"] != status:
        await asyncio.sleep(0.01)


async def test_a_replica_tells_whether_its_link_is_up(tmp_path: Path, redis: Redis, watch: Watch) -> None:
    """Up, cut, and where it serves nobody without its primary, down as a whole; the primary counts its replicas."""
    (tmp_path / "replica").mkdir()
    settings = [f"replicaof 127.0.0.1 {redis.port}", f"masterauth {PASSWORD}"]
    async with connected(redis) as client:
        await client.config_set("repl-diskless-sync-delay", 0)
    with Redis(tmp_path / "replica", password=PASSWORD, settings=settings) as replica:
        watched, primary = watch(cache(replica)), watch(cache(redis))
        attempt = await watched.attempt()
        while value(attempt, "redis_replication_connected") == 0:
            await asyncio.sleep(0.05)
            attempt = await watched.attempt()
        assert attempt.reading.degraded == ()
        assert value(await primary.attempt(), "redis_connected_replicas") == 1
        redis.kill()
        attempt = await watched.attempt()
        while value(attempt, "redis_replication_connected") == 1:
            await asyncio.sleep(0.05)
            attempt = await watched.attempt()
        assert attempt.reading.degraded == ("the replica's link to its primary is down",)
        async with connected(replica) as client:
            await client.config_set("replica-serve-stale-data", "no")
            attempt = await watched.attempt()
            assert (attempt.reason, value(attempt, "redis_replication_connected")) == (Reason.REFUSED, 0)
            await client.replicaof("NO", "ONE")
            promoted = await watched.attempt()
    assert promoted.ok
    assert values(promoted, "redis_replication_connected") == {}


def findings(**fields: object) -> list[str]:
    """Return what is wrong with a server whose INFO has these fields."""
    system = RedisSystem(endpoints.redis("redis://cache"), slow=1.0)
    return list(info_findings({name: str(field) for name, field in fields.items()}, system))


def test_limits_are_exceeded_only_above_them() -> None:
    """No limit on memory is none to come near to; exactly at a ratio is no finding yet."""
    assert findings(used_memory=10**12, maxmemory=0) == []
    assert findings(used_memory=75, maxmemory=100) == []
    assert findings(used_memory=76, maxmemory=100) == ["memory is 76% of its limit"]
    assert findings(connected_clients=80, maxclients=100) == []
    assert findings(connected_clients=81, maxclients=100) == ["81 of 100 clients are connected"]


def test_what_does_not_count_for_eviction_does_not_fill_the_memory() -> None:
    """The buffers of replicas and of the append-only file are beyond maxmemory."""
    full = {"used_memory": 110, "maxmemory": 100, "maxmemory_policy": "noeviction"}
    assert findings(**full)[0].startswith("memory is full")
    assert findings(**full, mem_not_counted_for_evict=20) == ["memory is 110% of its limit"]


def test_the_append_only_file_counts_as_a_save() -> None:
    """A write or a rewrite of it that failed is named; a copy in progress is no cut link."""
    assert findings(aof_last_write_status="err") == ["the last write to the append-only file failed"]
    assert findings(aof_last_bgrewrite_status="err") == ["the last rewrite of the append-only file failed"]
    assert findings(role="slave", master_link_status="down", master_sync_in_progress=1) == [
        "the replica is copying its primary anew"
    ]


def test_redis_6_2_tells_all_but_what_was_denied() -> None:
    """As it was recorded; the fields have had these names since then."""
    info = parse_info((RECORDED / "redis-6.2.14-info.txt").read_bytes())
    assert {sample.metric.name: sample.value for sample in info_samples(info)} == {
        "redis_memory_used_bytes": 939352,
        "redis_memory_max_bytes": 0,
        "redis_fragmentation_ratio": 5.00,
        "redis_connected_clients": 1,
        "redis_max_clients": 10000,
        "redis_blocked_clients": 0,
        "redis_rejected_connections_total": 0,
        "redis_keyspace_hits_total": 0,
        "redis_keyspace_misses_total": 0,
        "redis_evicted_keys_total": 0,
        "redis_connected_replicas": 0,
        "redis_last_save_ok": 1,
    }
    assert denied_samples(info) == ()


@pytest.mark.parametrize(
    "reply",
    [
        None,
        7,
        [b"used_memory:7"],
        b"",
        b"used_memory\r\n",
        b"used_memory:\r\n",
        b"used_memory:many\r\n",
        b"used_memory:nan\r\n",
        b"used_memory:1e999\r\n",
        b"used_memory:-1\r\n",
        b"\xff\xfe:\x00\r\n",
    ],
)
def test_what_is_no_number_has_no_series(reply: object) -> None:
    """Whatever stands in the place of INFO, nothing is made up and nothing breaks."""
    info = parse_info(reply)
    assert info_samples(info) == ()
    assert list(info_findings(info, RedisSystem(endpoints.redis("redis://cache"), slow=1.0))) == []


async def test_signing_in_is_no_part_of_the_latency(watch: Watch) -> None:
    """A server that takes its time over AUTH answers a PING as fast as ever."""

    async def slow_to_sign_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n", b"INFO": b"$0\r\n\r\n", b"LOG": b"*0\r\n"}
        while word := (await reader.readline()).strip():
            await asyncio.sleep(0.2 if word == b"AUTH" else 0)
            writer.write(answers.get(word, b""))

    async with serving(slow_to_sign_in) as port:
        attempt = await watch(at(port)).attempt()
    assert value(attempt, "redis_ping_duration_seconds") < 0.1


async def test_a_slow_answer_is_a_finding(redis: Redis, watch: Watch) -> None:
    """A connect or a PING slower than the limit says how slow it was."""
    attempt = await watch(dataclasses.replace(cache(redis), slow=0.0)).attempt()
    assert attempt.ok
    assert [finding.split(" took ")[0] for finding in attempt.reading.degraded] == ["connecting", "a PING"]


async def test_a_killed_server_refuses_and_is_well_again_when_it_is_back(redis: Redis, watch: Watch) -> None:
    """Nobody listens; then somebody does."""
    watched = watch(cache(redis))
    redis.kill()
    refused = await watched.attempt()
    assert refused.reason is Reason.REFUSED
    assert collectors(refused) == {"ping": False, "info": False, "acl": False}
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
    ids=["wrong password", "no password", "unknown user", "no right to PING"],
)
async def test_who_is_not_let_in_has_an_auth_failure(
    redis: Redis, watch: Watch, user: str | None, password: str | None
) -> None:
    """WRONGPASS, NOAUTH and NOPERM are all auth."""
    async with connected(redis) as client:
        await client.acl_setuser("limited", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+info", "+client"])
    server = dataclasses.replace(cache(redis).server, user=user, password=Secret(password) if password else None)
    attempt = await watch(RedisSystem(server, slow=1.0)).attempt()
    assert attempt.reason is Reason.AUTH, attempt


async def test_a_password_that_the_server_does_not_have_is_an_auth_failure(tmp_path: Path, watch: Watch) -> None:
    """Redis refuses AUTH where no password is set."""
    with Redis(tmp_path) as server:
        assert (await watch(at(server.port)).attempt()).reason is Reason.AUTH


async def test_a_command_that_does_not_exist_costs_its_part(tmp_path: Path, watch: Watch) -> None:
    """A managed Redis may have renamed INFO."""
    with Redis(tmp_path, password=PASSWORD, settings=['rename-command INFO ""']) as server:
        attempt = await watch(cache(server)).attempt()
    assert attempt.ok
    assert collectors(attempt) == {"ping": True, "info": False, "acl": True}


async def test_an_answer_that_holds_nothing_costs_its_part(watch: Watch) -> None:
    """Something that speaks like Redis, and has nothing to tell."""

    async def tell_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n", b"INFO": b"$0\r\n\r\n", b"LOG": b"*1\r\n:7\r\n"}
        while word := (await reader.readline()).strip():
            writer.write(answers.get(word, b""))

    async with serving(tell_nothing) as port:
        attempt = await watch(at(port)).attempt()
    assert {part.collector: part.problem for part in attempt.reading.parts} == {
        "ping": "",
        "info": "INFO says nothing that is known",
        "acl": "ACL LOG can't be read: an entry is not as ACL LOG has them",
    }


async def test_who_answers_a_ping_otherwise_is_no_redis(watch: Watch) -> None:
    """It may speak the protocol, and be something else."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(b"+OK\r\n")

    async with serving(echo) as port:
        assert (await watch(at(port)).attempt()).reason is Reason.PROTOCOL


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

    def __init__(self, folder: Path, days: int = 2) -> None:
        self.certificate, key = issued(folder, "localhost", days)
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


async def test_an_expired_certificate_is_a_tls_failure_until_it_is_renewed(tmp_path: Path, watch: Watch) -> None:
    """The sentence says so; the server's new certificate, and the file that it is trusted by, count at once."""
    with TLSRedis(tmp_path, days=-1) as server:
        watched = watch(server.system("localhost", ca_file=server.certificate))
        attempt = await watched.attempt()
        assert (attempt.reason, attempt.message) == (Reason.TLS, "TLS failed: certificate has expired")
        renewed, key = issued(tmp_path, "localhost", days=2)
        server.certificate.write_bytes(renewed.read_bytes())
        async with connected(server) as client:
            await client.config_set("tls-cert-file", str(renewed), "tls-key-file", str(key))
        await watched.until(None)


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
