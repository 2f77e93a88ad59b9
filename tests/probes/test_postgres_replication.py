"""Replication as two real servers have it, seen from both of its ends; and what rows mean that no test can wait for."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Attempt, Part
from auraconnect_exporter.probes.postgres_replication import MISSED_FOR, Replication
from auraconnect_exporter.targets import Postgres
from tests.builders import FakeClock, problems
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, Watched, database, values
from tools.servers import PostgreSQL

CONNECTED, LAG = "postgres_replication_connected", "postgres_replication_lag_seconds"

SETTINGS = {"wal_retrieve_retry_interval": "50ms", "max_connections": "10", "superuser_reserved_connections": "2"}


class Standby(PostgreSQL):
    """A standby of another server, with the slot `replica` there."""

    def __init__(self, folder: Path, primary: PostgreSQL, release: str) -> None:
        self._primary = primary
        super().__init__(folder, password=PASSWORD, release=release)

    def _make_cluster(self) -> None:
        data = self._home / "data"
        user = "nobody" if os.geteuid() == 0 else None
        if user:
            os.chown(self._home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        subprocess.run(
            [
                *(self._postgres.with_name("pg_basebackup"), "--pgdata", data, "--write-recovery-conf"),
                *("--checkpoint=fast", "--no-sync", "--create-slot", "--slot=replica", f"--dbname={self._primary.dsn}"),
            ],
            cwd=self._home,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            check=True,
            capture_output=True,
        )
        own = {"port": str(self.port), "unix_socket_directories": str(self._home)}
        self._command = [self._postgres, "-D", data, *(f"--{name}={value}" for name, value in own.items())]


@pytest.fixture(params=["oldest", "newest"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[PostgreSQL, Standby]]:
    """Return a primary and its standby."""
    folder = tmp_path / "standby"
    folder.mkdir()
    with (
        PostgreSQL(tmp_path, password=PASSWORD, release=request.param, settings=SETTINGS) as primary,
        Standby(folder, primary, request.param) as standby,
    ):
        yield primary, standby


async def until(clock: FakeClock, watched: Watched, expected: Callable[[Attempt], bool]) -> Attempt:
    """Attempt until a reading is as expected: servers take a moment, which passes by the probe's clock as well."""
    for _ in range(200):
        attempt = await watched.attempt()
        if attempt.ok and expected(attempt):
            return attempt
        await asyncio.sleep(0.05)
        clock.advance(0.05)
    raise AssertionError(attempt.message, [part for part in attempt.reading.parts if part.collector == "replication"])


async def test_both_ends_tell_the_truth_about_the_link_and_the_lag(
    pair: tuple[PostgreSQL, Standby], watch: Watch
) -> None:
    """Idle, behind, cut, lost and promoted: no lag of an idle primary, and no lag of 0 on a link that is cut."""
    primary, standby = pair
    clock = FakeClock()
    above, below = watch(database(primary), clock=clock), watch(database(standby), clock=clock)

    def settled(label: str) -> Callable[[Attempt], bool]:
        return lambda one: (values(one, CONNECTED), values(one, LAG)) == ({(label,): 1}, {(label,): 0})

    await until(clock, above, settled("replica"))
    await until(clock, below, settled(""))

    # Nothing is written for an hour.
    clock.advance(3600)
    attempts = [await above.attempt(), await below.attempt()]
    assert [settled("replica")(attempts[0]), settled("")(attempts[1])] == [True, True]
    assert [problems(one) for one in attempts] == [{}, {}]
    assert [one.reading.degraded for one in attempts] == [(), ()]

    # The standby receives, but does not replay.
    with (
        psycopg.connect(standby.dsn, autocommit=True) as replica,
        psycopg.connect(primary.dsn, autocommit=True) as writer,
    ):
        replica.execute("SELECT pg_wal_replay_pause()")
        writer.execute("CREATE TABLE orders AS SELECT 1")
        await until(clock, above, lambda one: values(one, LAG) != {("replica",): 0})
        await until(clock, below, lambda one: values(one, LAG) != {("",): 0})
        clock.advance(90)
        behind = await above.attempt()
        assert values(behind, CONNECTED) == {("replica",): 1}
        assert values(behind, LAG)["replica",] >= 90
        assert behind.reading.degraded == ("the standby replica is 90 s behind",)
        own = await below.attempt()
        assert values(own, CONNECTED) == {("",): 1}
        assert own.reading.degraded == ("it is 90 s behind",)
        replica.execute("SELECT pg_wal_replay_resume()")
        await until(clock, above, settled("replica"))
        await until(clock, below, settled(""))

    # The primary is gone.
    primary.kill()
    cut = await until(clock, below, lambda one: values(one, CONNECTED) == {("",): 0})
    assert cut.reading.degraded == ("the link to the primary is down",)
    first = values(cut, LAG)["",]
    clock.advance(0.2)
    assert values(await below.attempt(), LAG)["",] > first
    primary.start()
    await until(clock, below, settled(""))
    await until(clock, above, settled("replica"))

    # The standby is promoted, and so it leaves its primary.
    with psycopg.connect(standby.dsn, autocommit=True) as replica:
        replica.execute("SELECT pg_promote()")
    promoted = await until(clock, below, lambda one: values(one, CONNECTED) == {})
    assert values(promoted, LAG) == {}
    assert promoted.reading.degraded == ()
    lost = await until(clock, above, lambda one: values(one, CONNECTED) == {("replica",): 0})
    assert lost.reading.degraded == ("the standby replica is not connected",)
    clock.advance(2 * MISSED_FOR)
    later = await above.attempt()
    assert values(later, CONNECTED) == {("replica",): 0}  # its slot is still there, and keeps what it would need
    assert values(later, LAG)["replica",] > MISSED_FOR


@pytest.mark.parametrize("pair", ["newest"], indirect=True)
async def test_links_that_a_role_may_not_see_are_a_problem_and_no_number(
    pair: tuple[PostgreSQL, Standby], watch: Watch
) -> None:
    """Without pg_monitor nothing is said of the links, but that they can't be seen; with it, everything."""
    clock = FakeClock()
    primary, standby = pair
    with psycopg.connect(primary.dsn, autocommit=True) as admin:
        for name, roles in (("plain", ""), ("monitoring", "IN ROLE pg_monitor")):
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {roles}")
    await until(clock, watch(database(primary)), lambda one: values(one, CONNECTED) == {("replica",): 1})
    await until(clock, watch(database(standby)), lambda one: values(one, CONNECTED) == {("",): 1})
    for server, label in ((primary, "replica"), (standby, "")):
        url = f"postgresql://{{}}:{PASSWORD}@127.0.0.1:{server.port}/postgres"
        for name, seen in (("plain", {}), ("monitoring", {(label,): 1.0})):
            system = Postgres(endpoints.postgres(url.format(name)), slow=60.0, statements=False)
            watched = watch(system)
            attempt = await until(clock, watched, lambda one: one.ok)
            assert values(attempt, CONNECTED) == seen
            said = "the links can't be seen without the role pg_monitor"
            assert problems(attempt).get("replication", "") == ("" if seen else said)


def primary_row(*links: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return the rows of a primary with these standbys (name, there, state, replay_lag, lsn, behind)."""
    own = (False, None, None, None, None)
    return [(*own, *link) for link in links] or [(*own, *(None,) * 6)]


def standby_row(
    expected: bool | None, status: str | None, complete: bool | None, age: float | None
) -> list[tuple[Any, ...]]:
    """Return the row of a standby without standbys of its own."""
    return [(True, expected, status, complete, age, *(None,) * 6)]


def measured(part: Part) -> dict[tuple[str, ...], float]:
    """Return a part's values by name, without what all have in common, and label."""
    return {
        (sample.metric.name.removeprefix("postgres_replication_"), *sample.label_values): sample.value
        for sample in part.samples
    }


class TestRows:
    """What rows mean, as they were seen on real servers, over time."""

    def setup_method(self) -> None:
        self.clock = FakeClock()
        self.replication = Replication(60.0, self.clock.monotonic)

    def read(self, rows: list[tuple[Any, ...]]) -> dict[tuple[str, ...], float]:
        return measured(self.replication.read(rows))

    def test_a_server_alone_says_nothing(self) -> None:
        """Neither a standby nor one with standbys."""
        assert self.read(primary_row()) == {}

    def test_the_least_that_is_known_to_be_the_most_is_the_lag(self) -> None:
        """A burst after an idle night is not a night's lag, a cut link counts from when all had arrived."""
        assert self.read(standby_row(True, "streaming", True, 30_000.0)) == {
            ("connected", ""): 1,
            ("lag_seconds", ""): 0,
        }
        self.clock.advance(5)
        assert self.read(standby_row(True, "streaming", False, 30_005.0))["lag_seconds", ""] == 5
        self.clock.advance(5)
        assert self.read(standby_row(True, "streaming", False, 2.5))["lag_seconds", ""] == 2.5
        self.clock.advance(5)
        assert self.read(standby_row(True, None, True, 7.5)) == {("connected", ""): 0, ("lag_seconds", ""): 7.5}
        self.clock.advance(60)
        assert self.read(standby_row(True, None, True, 30_100.0)) == {("connected", ""): 0, ("lag_seconds", ""): 75}

    def test_a_link_that_was_never_seen_up_has_the_age_of_what_was_replayed(self) -> None:
        """Or no lag, where nothing has been."""
        assert self.read(standby_row(True, "waiting", None, None)) == {("connected", ""): 0}
        assert self.read(standby_row(True, None, True, 12.0)) == {("connected", ""): 0, ("lag_seconds", ""): 12}

    def test_a_standby_of_archived_files_has_no_link(self) -> None:
        """It is told to have none, so none is missed."""
        part = self.replication.read(standby_row(False, None, True, 300.0))
        assert (measured(part), part.degraded, part.problem) == ({}, (), "")

    def test_a_standby_that_stands_still_falls_behind(self) -> None:
        """What the primary measured last is no lag of now; one that goes on has what was measured."""
        assert self.read(primary_row(("a", True, "streaming", 0.2, "0/5", True)))["lag_seconds", "a"] == 0.2
        self.clock.advance(50)
        assert self.read(primary_row(("a", True, "streaming", 0.2, "0/5", True)))["lag_seconds", "a"] == 50
        self.clock.advance(50)
        part = self.replication.read(primary_row(("a", True, "streaming", 0.2, "0/5", True)))
        assert part.degraded == ("the standby a is 100 s behind",)
        assert self.read(primary_row(("a", True, "streaming", 0.7, "0/6", True)))["lag_seconds", "a"] == 0.7
        assert self.read(primary_row(("a", True, "streaming", None, "0/7", False)))["lag_seconds", "a"] == 0

    def test_a_standby_without_a_slot_is_missed_for_an_hour(self) -> None:
        """Then it is taken to be removed on purpose."""
        self.read(primary_row(("a", True, "streaming", None, "0/5", False)))
        self.clock.advance(MISSED_FOR)
        part = self.replication.read(primary_row())
        assert measured(part) == {("connected", "a"): 0, ("lag_seconds", "a"): MISSED_FOR}
        assert part.degraded == ("the standby a is not connected",)
        self.clock.advance(1)
        assert self.read(primary_row()) == {}

    def test_two_standbys_of_one_name_are_as_far_behind_as_the_slower(self) -> None:
        """A series exists once."""
        rows = [("walreceiver", True, "streaming", lag, "0/5", True) for lag in (3.0, 7.0, 5.0)]
        assert self.read(primary_row(*rows))["lag_seconds", "walreceiver"] == 7

    def test_a_change_of_roles_forgets_the_standbys(self) -> None:
        """They have followed the new primary."""
        self.read(primary_row(("a", True, "streaming", None, "0/5", False)))
        assert self.read(standby_row(True, "streaming", True, 0.0)) == {("connected", ""): 1, ("lag_seconds", ""): 0}

    def test_hidden_links_are_a_problem(self) -> None:
        """A role without pg_monitor gets the row, and nothing in it."""
        for rows in (primary_row(("unnamed", True, None, None, None, None)), standby_row(None, None, True, 1.0)):
            part = self.replication.read(rows)
            assert (measured(part), part.problem) == ({}, "the links can't be seen without the role pg_monitor")
