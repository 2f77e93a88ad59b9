"""Errors are kept and counted together: each list and each summary says what was put in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auraconnect_exporter.records import SECOND, ErrorRecord, Moment
from auraconnect_exporter.store import Store, StoreError, errors
from auraconnect_exporter.store.errors import HOUR, MINUTE, NAMES, ErrorFilter, ErrorSummary
from auraconnect_exporter.store.transaction import Row, Transaction
from tests.store.support import NOON, Place, error, rows

FULL = ErrorRecord(
    id="e1",
    error_type="ValueError",
    error_message="no such order",
    created_at=NOON,
    stack_trace="Traceback …",
    endpoint="/api/v1/orders/7",
    method="POST",
    status_code=500,
    user_id="u1",
    restaurant_id="r1",
    request_id="q1",
    tags={"region": ["eu", None, 1.5]},
    resolved=True,
    resolved_at=NOON + SECOND,
    source="error_logs/7",
    created_by="api",
)


async def keep(store: Store, *kept: ErrorRecord) -> None:
    def act(transaction: Transaction) -> None:
        for one in kept:
            errors.insert(transaction, one)

    await store.write(act)


async def listed(store: Store, limit: int = 100, **wanted: Any) -> list[ErrorRecord]:
    return await store.read(partial(errors.newest, wanted=ErrorFilter(**{"since": 0, **wanted}), limit=limit))


async def summed_up(store: Store, now: Moment = NOON, hours: int = 24) -> ErrorSummary:
    return await store.read(partial(errors.summary, now=now, hours=hours))


async def test_an_error_comes_back_as_it_was(store: Store) -> None:
    """Every field survives, whether it is set or not."""
    bare = ErrorRecord(id="e0", error_type="KeyError", error_message="", created_at=NOON - 1)
    await keep(store, FULL, bare)
    assert await listed(store) == [FULL, bare]


async def test_the_newest_come_first_up_to_the_limit(store: Store) -> None:
    """Resolved or not, the list is one, newest first; what happened at once is ordered by id."""
    kept = [error(number, NOON + number // 2, resolved=number % 3 == 0) for number in range(20)]
    await keep(store, *kept)
    assert [one.id for one in await listed(store, limit=5)] == [f"e{number:06}" for number in (19, 18, 17, 16, 15)]
    assert len(await listed(store, since=NOON + 5)) == 10


@pytest.mark.parametrize("by_type", [None, "KeyError"])
@pytest.mark.parametrize("by_endpoint", [None, "/b"])
@pytest.mark.parametrize("by_resolved", [None, True, False])
async def test_each_filter_narrows_the_list(
    store: Store, by_type: str | None, by_endpoint: str | None, by_resolved: bool | None
) -> None:
    """Filters alone and together return what has all that is asked for, and nothing else."""
    kinds = itertools.product(("ValueError", "KeyError"), ("/a", "/b", None), (True, False))
    kept = [
        error(number, NOON + number, error_type=kind, endpoint=endpoint, resolved=resolved)
        for number, (kind, endpoint, resolved) in enumerate(kinds)
    ]
    await keep(store, *kept)
    expected = [
        one.id
        for one in reversed(kept)
        if by_type in {None, one.error_type}
        and by_endpoint in {None, one.endpoint}
        and by_resolved in {None, one.resolved}
    ]
    found = await listed(store, error_type=by_type, endpoint=by_endpoint, resolved=by_resolved)
    assert [one.id for one in found] == expected


class Explained:
    """A transaction that keeps the plans of the statements instead of running them."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.plans: list[str] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        plan = self._transaction.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        self.plans += [str(step[3]) for step in plan]
        return []


@pytest.mark.parametrize("by_type", [None, "KeyError"])
@pytest.mark.parametrize("by_endpoint", [None, "/b"])
@pytest.mark.parametrize("by_resolved", [None, True, False])
async def test_each_list_is_a_scan_of_one_index(
    sqlite: Place, by_type: str | None, by_endpoint: str | None, by_resolved: bool | None
) -> None:
    """Whatever the filters, SQLite finds the rows in an index that has them in the order that is wanted."""
    wanted = ErrorFilter(NOON, by_type, by_endpoint, by_resolved)

    def explain(transaction: Transaction) -> list[str]:
        explained = Explained(transaction)
        errors.newest(explained, wanted, 100)
        return explained.plans

    store = sqlite.open()
    plans = await store.read(explain)
    await store.close()
    columns = ["error_type=?"] * (by_type is not None) + ["endpoint=?"] * (by_endpoint is not None) + ["resolved=?"]
    assert len(plans) == (2 if by_resolved is None else 1)
    assert all(plan.endswith(f"({' AND '.join(columns)} AND created_at>?)") for plan in plans)


async def test_the_summary_says_what_happened(store: Store) -> None:
    """Totals, distinct types, both lists of ten in order, and the rate of the hours that were asked for."""
    kept = [
        error(number, NOON - number * SECOND, error_type=f"Error{number % 12}", endpoint=f"/{number % 3}")
        for number in range(30)
    ]
    await keep(store, *kept, error(99, NOON, error_type="Error0", endpoint=None))
    found = await summed_up(store, hours=2)
    assert (found.total_errors, found.unique_errors, found.error_rate_per_hour) == (31, 12, 15.5)
    assert found.top_errors == (
        ("Error0", 4),
        *((f"Error{number}", 3) for number in range(1, 6)),
        *((f"Error{number}", 2) for number in (10, 11, 6, 7)),
    )
    assert found.affected_endpoints == (("/0", 10), ("/1", 10), ("/2", 10))


async def test_no_errors_are_a_summary_of_zeros(store: Store) -> None:
    """An empty store has a summary, too."""
    assert await summed_up(store) == ErrorSummary(0, 0, 0.0, (), ())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ages=st.lists(st.integers(0, 4 * HOUR * SECOND), max_size=30),
    minutes=st.integers(0, 59),
    hours=st.integers(1, 4),
)
async def test_the_summary_counts_to_the_minute(sqlite: Place, ages: list[int], minutes: int, hours: int) -> None:
    """Whenever errors came and whenever one asks, what is counted is what came since, the first minute as a whole."""
    now = NOON + minutes * MINUTE * SECOND + 1
    store = sqlite.open()
    await store.write(rows("DELETE FROM errors"))
    await store.write(rows("DELETE FROM error_counts"))
    await keep(store, *(error(number, now - age) for number, age in enumerate(ages)))
    found = await summed_up(store, now, hours)
    await store.close()
    since = now - hours * HOUR * SECOND
    assert found.total_errors == sum(now - age >= since - since % (MINUTE * SECOND) for age in ages)


async def test_many_names_are_counted_as_other(store: Store) -> None:
    """An endpoint for every id can't fill the counts: the first have names, the rest one together, none is lost."""
    await keep(store, *(error(number, endpoint=f"/orders/{number}") for number in range(NAMES + 20)))
    await keep(store, error(999, endpoint="/orders/5"))
    ((kept,),) = await store.read(rows("SELECT endpoints FROM error_counts WHERE width = 60"))
    counts = json.loads(kept)
    found = await summed_up(store)
    assert (len(counts), counts["other"], counts["/orders/5"]) == (NAMES + 1, 20, 2)
    assert found.affected_endpoints[:2] == (("other", 20), ("/orders/5", 2))
    assert found.total_errors == NAMES + 21


async def test_a_copied_error_is_kept_and_counted_once(store: Store) -> None:
    """What is copied again, alone or among others, is not added and not counted again."""
    copies = [error(number, source=f"error_logs/{number}") for number in range(250)]
    first = await store.write(partial(errors.insert_copied, errors=copies[:150]))
    again = await store.write(partial(errors.insert_copied, errors=[replace(one, id=f"x{one.id}") for one in copies]))
    assert (first, again) == (150, 100)
    assert (await summed_up(store)).total_errors == 250
    assert len(await listed(store, limit=500)) == 250


async def test_nothing_to_copy_is_nothing(store: Store) -> None:
    """An empty batch adds nothing."""
    assert await store.write(partial(errors.insert_copied, errors=[])) == 0


async def test_an_error_with_a_known_id_is_refused_and_not_counted(store: Store) -> None:
    """An id is given once; the count belongs to the same transaction."""
    await keep(store, FULL)
    with pytest.raises(StoreError, match=r"refused a statement"):
        await keep(store, FULL)
    assert (await summed_up(store)).total_errors == 1


async def test_hostile_lengths_are_cut(store: Store) -> None:
    """Types and endpoints are kept as long as AuraConnect's own table keeps them, whatever came."""
    await keep(store, error(1, error_type="é" * 10_000, endpoint="/" * 10_000, error_message="m" * 1_000_000))
    (found,) = await listed(store)
    assert (len(found.error_type), len(found.endpoint or ""), len(found.error_message)) == (100, 200, 1_000_000)
