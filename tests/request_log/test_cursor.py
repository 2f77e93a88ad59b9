"""Each row counts once: over any order of transactions, commits, steps and restarts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.records import SECOND, Moment
from auraconnect_exporter.request_log.cursor import (
    FIRST_REACH,
    LATE,
    REACH,
    SLICE,
    WATCH_EVERY,
    ErrorCursor,
    Glance,
    RequestCursor,
    advanced,
    error_window,
    errors_advanced,
    window,
)

START = 1_800_000_000 * SECOND


@dataclass
class Row:
    """A row: when it says it was written, and by which transaction."""

    at: Moment
    transaction: int
    committed: bool = False


@dataclass
class Table:
    """A table with transactions, as PostgreSQL shows them; ``open`` are top ones, whose rows may have numbers above."""

    now: Moment = START
    next: int = 2**32 - 20  # so that the rows' numbers begin anew
    open: dict[int, list[Row]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def glance(self) -> Glance:
        return Glance(self.now, min([self.next, *self.open]), self.next, "one")

    def begin(self) -> int:
        self.open[self.next] = []
        self.next += 1
        return self.next - 1

    def insert(self, top: int, at: Moment, *, savepoint: bool) -> None:
        number = top
        if savepoint:
            number, self.next = self.next, self.next + 1
        row = Row(at, number)
        self.open[top].append(row)
        self.rows.append(row)

    def commit(self, top: int) -> None:
        for row in self.open.pop(top):
            row.committed = True


@dataclass
class Reader:
    """Counts a table as the SQL does."""

    table: Table
    cursor: RequestCursor | None = None
    counted: Counter[int] = field(default_factory=Counter)
    late: int = 0

    def step(self) -> bool:
        """Take a step; returns whether there is more at once."""
        table, glance = self.table, self.table.glance()
        todo = window(self.cursor, glance)
        cursor = todo.cursor
        new = [
            row
            for row in table.rows
            if row.committed
            and row.at >= todo.since
            and (todo.until is None or row.at < todo.until)
            and (cursor.horizon is None or row.transaction >= cursor.horizon)
            and row.transaction % 2**32 not in cursor.seen
        ]
        self.late += sum(row.at < todo.late for row in new)
        found = [row for row in new if row.at >= todo.late]
        self.counted.update(id(row) for row in found)
        if todo.watch is not None:
            seen = [row for row in table.rows if row.committed]
            if cursor.watch is not None:
                again = sum(cursor.watch.since <= row.at < cursor.watch.until for row in seen)
                self.late += again - cursor.watch.rows
            rows = sum(todo.watch.since <= row.at < todo.watch.until for row in seen)
            todo = replace(todo, watch=replace(todo.watch, rows=rows))
        newest = max((min(row.at, table.now) for row in found), default=None)
        open_ = {row.transaction % 2**32: row.at for row in sorted(new, key=lambda row: row.at)}
        later = {
            number: at
            for number, at in open_.items()
            if any(row.transaction % 2**32 == number and row.transaction >= glance.oldest_open for row in new)
        }
        self.cursor = advanced(todo, glance, newest, later)
        return todo.until is not None

    def catch_up(self) -> None:
        while self.step():
            pass


class World:
    """Transactions that last at most 25 s, and write rows that are at most 30 s old then; and a reader of them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.table = Table()
        self.reader = Reader(self.table)
        self.reader.catch_up()
        self.began: dict[int, Moment] = {}
        self.save()

    def begin(self) -> None:
        self.began[self.table.begin()] = self.table.now

    def insert(self) -> None:
        if self.table.open:
            top = self.chance.choice([*self.table.open])
            late = self.chance.choice([0, 0, 1, 30 * SECOND])
            self.table.insert(top, self.table.now - late, savepoint=self.chance.random() < 0.3)

    def commit(self) -> None:
        if self.table.open:
            self.table.commit(self.chance.choice([*self.table.open]))

    def wait(self) -> None:
        self.table.now += self.chance.choice([0, 1, SECOND, 5 * SECOND])
        for top in [top for top in self.table.open if self.table.now - self.began[top] > 20 * SECOND]:
            self.table.commit(top)

    def step(self) -> None:
        self.reader.step()

    def save(self) -> None:
        self.saved = (self.reader.cursor, self.reader.counted.copy())

    def restart(self) -> None:
        self.reader.cursor, self.reader.counted = self.saved[0], self.saved[1].copy()


@given(st.randoms(use_true_random=False), st.integers(1, 150))
def test_every_row_counts_once(chance: random.Random, acts: int) -> None:
    """Up to a minute late, sharing times and transactions, with savepoints, and over restarts from an older state."""
    world = World(chance)
    choices = [world.begin, world.insert, world.insert, world.commit, world.wait, world.step, world.save, world.restart]
    for _ in range(acts):
        chance.choice(choices)()
    for top in [*world.table.open]:
        world.table.commit(top)
    world.reader.catch_up()
    assert world.reader.counted == Counter(id(row) for row in world.table.rows)


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_no_row_counts_twice_and_what_is_not_counted_is_dropped(chance: random.Random, acts: int) -> None:
    """However late, and with clocks ahead: once the watch has come round, every row was counted or dropped."""
    table = Table()
    reader = Reader(table)
    reader.catch_up()
    for _ in range(acts):
        if chance.random() < 0.6:
            top = table.begin()
            late = chance.choice([-86400, -5, 0, 1, 59, 60, 61, 90, 200, 400])
            table.insert(top, table.now - late * SECOND, savepoint=False)
            table.commit(top)
        else:
            table.now += chance.choice([0, 1, 5, 5, 30]) * SECOND
            reader.step()
    reader.catch_up()
    table.now += WATCH_EVERY
    reader.catch_up()
    assert set(reader.counted.values()) <= {1}
    assert len(reader.counted) + reader.late == len(table.rows)


def test_what_was_missed_is_read_in_slices() -> None:
    """An hour of it at most; the rest is time that was skipped, and no row counts twice at the seams."""
    table = Table()
    reader = Reader(table)
    reader.catch_up()
    table.now += SECOND
    for _ in range(2 * 3600):
        top = table.begin()
        table.now += SECOND
        table.insert(top, table.now, savepoint=False)
        table.commit(top)
    todo = window(reader.cursor, table.glance())
    assert todo.skipped == table.now - REACH - (START - LATE)
    steps = 1
    while reader.step():
        steps += 1
    assert steps == REACH // SLICE
    assert reader.counted == Counter(id(row) for row in table.rows if row.at >= table.now - REACH)


def test_a_clock_that_was_ahead_stops_nothing() -> None:
    """The database's clock goes back by a day: what is written then counts."""
    table = Table(now=START + 86400 * SECOND)
    reader = Reader(table)
    for _ in range(3):
        top = table.begin()
        table.insert(top, table.now, savepoint=False)
        table.commit(top)
        reader.catch_up()
        table.now = START
    reader.catch_up()
    assert reader.counted == Counter(id(row) for row in table.rows)


def test_another_server_is_read_on_from_the_newest_row() -> None:
    """Restored elsewhere, the rows have other transactions: those that were counted don't count again."""
    glance = Glance(START, 5000, 5000, "one")
    cursor = RequestCursor(0, START - 7, START, "one", horizon=5000, seen={5001: START})
    assert window(cursor, glance).since == START - 7 - LATE
    moved = window(cursor, replace(glance, server="two"))
    assert (moved.since, moved.cursor.horizon, moved.cursor.seen) == (START - 6, None, {})
    wrapped = window(cursor, replace(glance, next=5000 + 2**31))
    assert (wrapped.since, wrapped.cursor.horizon) == (START - 6, None)


def test_a_standby_that_lags_takes_nothing_back() -> None:
    """Its oldest open transaction is older than the one that was known: what was counted stays counted."""
    cursor = RequestCursor(0, START, START, "one", horizon=5000, seen={5001: START})
    lagging = Glance(START, 4000, 4900, "one")
    after = advanced(window(cursor, lagging), lagging, None, {})
    assert (after.horizon, after.seen) == (5000, {5001: START})


@pytest.mark.parametrize("wait", [0, 1, 59])
def test_errors_of_the_last_minute_are_counted_again_and_what_is_more_is_new(wait: int) -> None:
    """Late ones are found, those that have gone stay counted, and those that were marked count once."""
    now = START + 500_000
    cursor, since = error_window(None, now)
    assert since == START - FIRST_REACH
    second = START // SECOND
    cursor, new = errors_advanced(cursor, {second: {"A": 3, "B": 1}, second - 200: {"A": 1}})
    assert new == {"A": 4, "B": 1}
    cursor, since = error_window(cursor, now + wait * SECOND)
    assert since == START - LATE
    cursor, new = errors_advanced(cursor, {second: {"A": 4}, second - 60: {"C": 2}})
    assert new == {"A": 1, "C": 2}
    assert errors_advanced(cursor, {second: {"A": 4, "B": 1}, second - 60: {"C": 2}})[1] == {}


def test_a_clock_that_was_ahead_starts_the_errors_anew() -> None:
    """From the moment on that it shows now: what was counted of that time can't be told any more."""
    assert error_window(ErrorCursor(0, START + 86400 * SECOND), START) == (ErrorCursor(START, START), START)
