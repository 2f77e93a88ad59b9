"""Statements: which have a series of their own, and that each second is counted once, whatever comes and goes."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Part
from auraconnect_exporter.probes.postgres_statements import CANDIDATES, SQL, TOP, Statements
from auraconnect_exporter.targets import Postgres
from tests.builders import absences, problems
from tests.probes.conftest import Watch
from tests.probes.support import database
from tools.servers import PostgreSQL

Totals = dict[int, float]


def read(statements: Statements, server: Totals) -> dict[str, float]:
    """Return the series after a reading of a server that has these totals."""
    total = sum(server.values())
    rows = [(queryid, seconds, total) for queryid, seconds in server.items()]
    return series(statements.read(rows))


def series(part: Part) -> dict[str, float]:
    """Return a part's values by queryid."""
    found = {sample.label_values[0]: sample.value for sample in part.samples}
    assert len(found) == len(part.samples)
    return found


def idle(count: int) -> Totals:
    """Return so many statements that took a second each, numbered from 1000."""
    return {1000 + number: 1.0 for number in range(count)}


def test_the_busiest_have_their_own_series_and_the_rest_is_other() -> None:
    """At first by what they took since the server began to count."""
    found = read(Statements(), {7: 50.0, 8: 30.0, **idle(TOP)})
    assert (found["7"], found["8"], found["other"]) == (50, 30, 2)
    assert len(found) == TOP + 1


def test_a_newcomer_begins_at_nothing_and_other_does_not_fall() -> None:
    """What it took before stays in other, what it takes from then on is its own."""
    statements = Statements()
    server = idle(TOP + 1)
    read(statements, server)
    server[7] = 40.0
    before = read(statements, server)
    assert ("7" in before, before["other"]) == (False, 41)
    server[7] = 90.0
    joined = read(statements, server)
    assert (joined["7"], joined["other"]) == (0, 91)
    server[7] = 95.0
    after = read(statements, server)
    assert (after["7"], after["other"]) == (5, 91)


def test_who_leaves_the_top_goes_on_in_other() -> None:
    """Its series ends; other grows by what it takes from then on, not by what it had."""
    statements = Statements()
    server = idle(TOP)
    read(statements, server)
    for seconds in (10.0, 20.0):
        server[7] = seconds
        found = read(statements, server)
    assert "7" in found
    (left,) = {str(queryid) for queryid in idle(TOP)} - set(found)
    other = found["other"]
    server[int(left)] += 3
    assert read(statements, server)["other"] == other + 3


def test_the_top_is_not_exchanged_for_little() -> None:
    """One that is hardly busier, or that hardly counts, takes nobody's place."""
    statements = Statements()
    server = {**idle(TOP), 7: 1.0, 8: 1.0}
    first = set(read(statements, server))
    newcomers = {number for number in server if str(number) not in first}
    for _ in range(5):
        server = {number: seconds + (1.5 if number in newcomers else 1.0) for number, seconds in server.items()}
        assert set(read(statements, server)) == first


def test_a_server_that_begins_anew_makes_no_counter_fall() -> None:
    """After a reset what was counted since is added to the series, and other waits for one reading."""
    statements = Statements()
    read(statements, {7: 50.0, **idle(TOP + 4)})
    found = read(statements, {7: 2.0, 1000: 0.5, 5: 0.25})
    assert (found["7"], found["1000"], found["other"]) == (52, 1.5, 5)
    found = read(statements, {7: 3.0, 1000: 0.5, 5: 1.25, 6: 1.0})
    assert (found["7"], found["other"]) == (53, 7)


def test_statements_that_the_server_drops_do_not_make_other_fall() -> None:
    """It has room for so many, and forgets the rest."""
    statements = Statements()
    server = {7: 50.0, **idle(TOP + 4)}
    before = read(statements, server)
    gone = next(queryid for queryid in server if str(queryid) not in before)
    del server[gone]
    assert read(statements, server) == before
    server[gone] = 2.0
    assert read(statements, server)["other"] == before["other"] + 2


def test_statements_of_others_that_are_hidden_are_other_and_a_problem() -> None:
    """Without pg_monitor the server gives their time without an id."""
    part = Statements().read([(7, 3.0, 10.0), (None, 7.0, 10.0)])
    assert series(part) == {"7": 3, "other": 7}
    assert part.problem == "other roles' statements can't be told apart without the role pg_monitor"


def test_a_server_without_statements_has_none() -> None:
    """It has just been reset."""
    assert series(Statements().read([])) == {"other": 0}


def test_those_with_a_series_are_always_asked_for() -> None:
    """However little they have taken since a reset."""
    statements = Statements()
    assert statements.statement(150004) == SQL % ("", CANDIDATES + TOP)
    read(statements, {7: 1.0, -8: 2.0})
    assert "ANY ('{-8,7}')" in statements.statement(150004)


steps = st.lists(st.dictionaries(st.integers(1, 25), st.floats(0, 100), min_size=1, max_size=8), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_second_is_counted_once_and_nothing_falls(work: list[Totals]) -> None:
    """Whatever statements come, leave and come back, series and other grow by what the server has measured."""
    statements, server = Statements(), dict.fromkeys(range(1, 26), 1.0)
    before = read(statements, server)
    for step in work:
        for queryid, seconds in step.items():
            server[queryid] += seconds
        after = read(statements, server)
        kept = set(before) & set(after)
        assert all(after[name] >= before[name] for name in kept)
        assert all(after[name] == 0 for name in set(after) - kept)
        grown = sum(after[name] - before[name] for name in kept)
        assert grown == pytest.approx(sum(step.values()), abs=1e-6)
        before = after


async def test_a_database_without_the_extension_costs_only_this_part(
    postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch
) -> None:
    """It is not there to be read, which is no fault; where it is there but not loaded, the server says so."""
    system = Postgres(database(postgres).server, slow=60.0)
    attempt = await watch(system).attempt()
    missing = "this database has no extension pg_stat_statements"
    assert "pg_stat_statements" not in postgres.log.read_text()
    assert (absences(attempt), problems(attempt)) == ({"statements": missing}, {})
    admin.execute("CREATE EXTENSION pg_stat_statements")
    attempt = await watch(system).attempt()
    assert problems(attempt)["statements"].startswith("pg_stat_statements must be loaded")
    assert attempt.ok


async def test_no_text_of_a_statement_is_shown(postgres: PostgreSQL, admin: psycopg.Connection, watch: Watch) -> None:
    """Not even in what is said when one fails."""
    server = endpoints.postgres(postgres.dsn)
    system = Postgres(server, slow=60.0, statements=False, backup_query="SELECT secret_column FROM backups")
    admin.execute("CREATE TABLE backups (id int)")
    attempt = await watch(system).attempt()
    assert problems(attempt) == {"backup": 'column "secret_column" does not exist'}
