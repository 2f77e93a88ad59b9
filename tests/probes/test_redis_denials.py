"""Who was not let in, and what was not allowed: counted by Redis itself, or by us from its ACL LOG."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as Client
from redis.exceptions import AuthenticationError, NoPermissionError

from auraconnect_exporter.model import Secret
from auraconnect_exporter.probes.certificates import Trust
from auraconnect_exporter.probes.redis_connection import FORBIDDEN_SECONDS, Connector
from auraconnect_exporter.probes.redis_denials import DenialCounter, Denials, parse_log
from auraconnect_exporter.probes.redis_server import ACL_LOG_SECONDS
from auraconnect_exporter.targets import Redis as RedisSystem
from tests.builders import FakeClock, collectors
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, cache, values
from tools.servers import Redis, Valkey

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(params=["distribution", "newest", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Redis]:
    """Return the distribution's Redis, the newest one, and the newest Valkey."""
    with ExitStack() as stack:
        if request.param == "valkey":
            yield stack.enter_context(Valkey(tmp_path, password=PASSWORD, release="newest"))
        else:
            yield stack.enter_context(Redis(tmp_path, password=PASSWORD, release=request.param))


@asynccontextmanager
async def admin(server: Redis) -> AsyncIterator[Client]:
    """Open a client with all rights, whose introduction is no error that counts."""
    async with aclosing(Connector(cache(server).server, Trust()).client()) as client:
        yield client


@asynccontextmanager
async def user(server: Redis, name: str, *rights: str, password: str = PASSWORD) -> AsyncIterator[Client]:
    """Give a user these rights, and open a client of that user with a password."""
    async with admin(server) as client:
        await client.acl_setuser(name, enabled=True, passwords=[f"+{PASSWORD}"], commands=rights, keys=["mine"])
    signed = dataclasses.replace(cache(server).server, user=name, password=Secret(password))
    async with aclosing(Connector(signed, Trust()).client()) as client:
        yield client


def as_user(server: Redis, name: str, *, acl_log: bool | None = None) -> RedisSystem:
    """Return a Redis as the configuration names it with a user, and database 5, which only some may choose."""
    system = cache(server)
    return dataclasses.replace(
        system, server=dataclasses.replace(system.server, user=name, database=5), acl_log=acl_log
    )


async def denied_commands(server: Redis) -> tuple[int, int]:
    """Return how many errors Redis has answered with, and how many entries its ACL LOG has."""
    async with admin(server) as client:
        return (await client.info("stats"))["total_error_replies"], len(await client.acl_log())


async def test_denied_logins_commands_and_keys_are_counted(server: Redis, watch: Watch) -> None:
    """By reason, from zero, whichever version counts or logs them; nothing is counted twice."""
    clock = FakeClock()
    watched = watch(cache(server), clock=clock)
    before = values(await watched.attempt(), "redis_access_denied_total")
    async with user(server, "shop", "+get") as client:
        for _ in range(2):
            with pytest.raises(NoPermissionError):
                await client.set("mine", 1)
        with pytest.raises(NoPermissionError):
            await client.get("yours")
        async with user(server, "shop", password="wrong") as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()
        clock.advance(ACL_LOG_SECONDS)
        counted = values(await watched.attempt(), "redis_access_denied_total")
        clock.advance(ACL_LOG_SECONDS)
        again = values(await watched.attempt(), "redis_access_denied_total")
        with pytest.raises(NoPermissionError):
            await client.set("mine", 1)
        clock.advance(ACL_LOG_SECONDS)
        more = values(await watched.attempt(), "redis_access_denied_total")
    expected = {("auth",): 1, ("cmd",): 2, ("key",): 1, ("channel",): 0}
    assert set(before.values()) == {0}
    assert {key: counted[key] for key in expected} == expected
    assert again == counted
    assert more == {**counted, ("cmd",): 3}


async def test_the_least_rights_are_enough_and_a_check_denies_nothing(server: Redis, watch: Watch) -> None:
    """As the documentation makes the user, every part is read, and Redis neither refuses nor logs anything of ours."""
    documented = re.search(r"^ACL (SETUSER monitoring .*)$", DOCUMENTATION.read_text("utf-8"), re.MULTILINE)
    assert documented is not None
    async with admin(server) as client:
        await client.acl_setuser("monitoring", enabled=True, passwords=[f"+{PASSWORD}"])
        command, name, *rights = documented[1].split()
        await client.execute_command("ACL", command, name, *rights)  # type: ignore[no-untyped-call]  # redis-py's gap
    before = await denied_commands(server)
    attempts = [await watch(as_user(server, name, acl_log=True)).attempt() for _ in range(3)]
    assert await denied_commands(server) == before
    assert [collectors(attempt) for attempt in attempts] == [{"ping": True, "info": True, "acl": True}] * 3
    assert {key for (key,) in values(attempts[0], "redis_access_denied_total")} >= {"auth", "cmd", "key", "channel"}


async def test_a_right_that_may_be_missing_is_not_tried(redis: Redis, watch: Watch) -> None:
    """A user of its own is not taken to have ACL LOG where only that tells; its part says what to do, or is let be."""
    async with user(redis, "monitoring", "+ping", "+info"):
        before = await denied_commands(redis)
        unsaid = await watch(as_user(redis, "monitoring")).attempt()
        unwanted = await watch(as_user(redis, "monitoring", acl_log=False)).attempt()
        assert await denied_commands(redis) == before
    assert [part.absent.endswith("acl_log: true") for part in unsaid.reading.parts] == [False, False, True]
    assert collectors(unwanted) == {"ping": True, "info": True, "acl": True}
    assert values(unwanted, "redis_access_denied_total") == {}


async def test_a_command_that_was_refused_is_not_sent_again_for_an_hour(redis: Redis, watch: Watch) -> None:
    """Each would be one more denied access; the other parts are read, and after a grant all of them."""
    clock = FakeClock()
    watched = watch(as_user(redis, "monitoring", acl_log=True), clock=clock)
    async with user(redis, "monitoring", "+ping"):
        for _ in range(4):
            attempt = await watched.attempt()
            clock.advance(ACL_LOG_SECONDS)
            assert collectors(attempt) == {"ping": True, "info": False, "acl": False}
        async with admin(redis) as client:
            assert [entry["count"] for entry in await client.acl_log()] == [1, 1]
    async with user(redis, "monitoring", "+info", "+acl|log"):
        assert collectors(await watched.attempt()) == {"ping": True, "info": False, "acl": False}
        clock.advance(FORBIDDEN_SECONDS)
        assert collectors(await watched.attempt()) == {"ping": True, "info": True, "acl": True}


def entry(count: int, last: float, key: str = "a") -> Denials:
    """Return an entry of denied commands."""
    return Denials((key.encode(),), "cmd", count, last)


@pytest.mark.parametrize(
    ("logs", "total"),
    [
        ([[], [entry(1, 0)]], 1),
        ([[entry(3, 0)]], 3),
        ([[entry(3, 0)], [entry(3, 0.4)]], 3),
        ([[entry(3, 0)], [entry(5, 20)]], 5),
        ([[entry(3, 0)], [entry(4, 59)]], 4),
        ([[entry(3, 0)], [entry(1, 70), entry(3, 0)]], 4),
        ([[entry(3, 0)], [entry(1, 200), entry(4, 59)]], 5),
        ([[entry(3, 0), entry(9, -90)], [entry(4, 50), entry(9, -90)]], 13),
        ([[entry(1, 0)], [entry(1, 3600)]], 2),
        ([[entry(3, 0)], [], [entry(1, 40)]], 4),
        ([[entry(3, 0)], [entry(1, 1, "b"), entry(3, 0)]], 4),
        ([[entry(3, 0)], [entry(1, 5)]], 4),
    ],
    ids=[
        "the first",
        "what was there before",
        "the same, told a little later",
        "grown at once",
        "grown within a minute",
        "a second entry",
        "grown, and a second entry",
        "grown beside an old one",
        "again after the old one was forgotten",
        "forgotten and again",
        "another user",
        "reset, and again at once",
    ],
)
def test_what_has_come_to_the_log_is_counted(logs: list[list[Denials]], total: int) -> None:
    """However entries grow, age and go."""
    counter = DenialCounter()
    for log in logs:
        counter.take(log)
    assert counter.totals["cmd"] == total


class AclLog:
    """Redis's log: alike denials within a minute share an entry, the newest entry is first."""

    def __init__(self, length: int) -> None:
        self.entries: list[Denials] = []
        self.length = length

    def deny(self, key: str, now: float) -> None:
        for index, known in enumerate(self.entries[:10]):
            if known.key == (key.encode(),) and now - known.last <= 60:
                del self.entries[index]
                self.entries.insert(0, entry(known.count + 1, now, key))
                return
        self.entries = [entry(1, now, key), *self.entries][: self.length]


STEPS = st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["a", "b", "c", "", "", "", "RESET"])), max_size=60)


@given(STEPS, st.sampled_from([4, 128]))
def test_the_count_is_the_number_of_denials(steps: list[tuple[float, str]], length: int) -> None:
    """Denials and readings in any order; a log that forgets may hide denials, and never makes any up."""
    log, counter, now, denied, forgets = AclLog(length), DenialCounter(), 0.0, 0, length < 128
    for pause, key in steps:
        now += pause
        if key == "RESET":
            forgets = True
            log.entries = []
        elif key:
            log.deny(key, now)
            denied += 1
        else:
            counter.take(log.entries)
    counter.take(log.entries)
    assert counter.totals["cmd"] <= denied
    if not forgets:
        assert counter.totals["cmd"] == denied


def test_an_entry_is_read_as_redis_writes_it() -> None:
    """As Redis 6.2 sends it; one of a kind that is not known is passed over."""
    fields = [b"count", 2, b"reason", b"auth", b"context", b"toplevel", b"object", b"AUTH", b"username", b"shop"]
    written = [*fields, b"age-seconds", b"4.5", b"client-info", b"id=5 addr=127.0.0.1:35952"]
    found = parse_log([written], 100.0)
    assert found == [Denials((b"auth", b"toplevel", b"AUTH", b"shop"), "auth", 2, 95.5)]
    assert parse_log([[b"moon" if word == b"auth" else word for word in written]], 100.0) == []


@pytest.mark.parametrize("answer", [7, None, [7], [[b"count"]], [[b"count", 1]], [[b"reason", None]]])
def test_what_is_no_log_is_refused(answer: object) -> None:
    """It costs the part, and nothing else."""
    with pytest.raises(ValueError, match="not as ACL LOG has them"), suppress(KeyError):
        parse_log(answer, 0.0)
