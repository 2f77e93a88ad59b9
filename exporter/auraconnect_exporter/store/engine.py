"""The engine of the store: acts run one after the other, each a function in one transaction, in threads of our own.

Why so: a connection that several tasks share was seen to lose rows, when one task's insert joined another's
transaction and was rolled back with it. Here a transaction belongs to one function, which runs from its beginning to
its end in one thread, and whoever asked for it hears of it after the commit.

A commit that waits for the disk takes milliseconds, so some hundred small writes a second are to be had. What comes
in greater numbers, such as a delivery's alerts, belongs into one act.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from auraconnect_exporter.store import meta, migrations
from auraconnect_exporter.store.driver import Connection, Driver
from auraconnect_exporter.store.problems import StoreBusy, StoreError, StoreTooNew, StoreUnavailable
from auraconnect_exporter.store.transaction import Transaction

__all__ = ["Store", "StoreBusy", "StoreError", "StoreTooNew", "StoreUnavailable"]

T = TypeVar("T")
Perform = Callable[[Connection, Callable[[Transaction], Any]], Any]

DEADLINE: Final = 5.0
"""Seconds that an act may take, from the call to the answer."""

WAITING: Final = 1000
"""How many acts may wait."""

REVISION_SECONDS: Final = 10.0
"""For how long the revision is believed where nobody else writes: a write of ours may come true after its deadline."""

GRACE: Final = 0.5
"""Seconds that an interrupted act has to say what became of it."""


class Store:
    """A database with our tables, for every task of the process."""

    def __init__(self, driver: Driver, *, deadline: float = DEADLINE, waiting: int = WAITING) -> None:
        self._driver = driver
        self._deadline = deadline
        self._writer = _Lane("store writer", self._connect_writer, self._write, deadline, waiting)
        self._reader = _Lane("store reader", self._connect_reader, self._read, deadline, waiting)
        self._writes = 0
        self._known: tuple[int, float, int] | None = None
        """After which write, and until when, the revision is known; and the revision."""

    def __repr__(self) -> str:
        return f"Store({self._driver!r})"

    async def write(self, act: Callable[[Transaction], T]) -> T:
        """Run ``act`` as one transaction, alone among writers, and return what it does after the durable commit.

        What ``act`` raises rolls back and comes out here. Raises StoreBusy when too many wait, StoreUnavailable when
        it was not done in time: then it has happened as a whole or not at all, and doing it again must be harmless.
        """
        try:
            return await self._writer.run(act)
        finally:
            self._writes += 1

    async def read(self, query: Callable[[Transaction], T]) -> T:
        """Run ``query`` in a transaction that sees one state of the store and can't change it; raises as ``write``."""
        return await self._reader.run(query)

    async def revision(self) -> int:
        """Return a number that grows with each write, whichever exporter's it is. It may be asked for often."""
        if self._driver.shared:
            return await self.read(meta.revision)
        writes, now = self._writes, asyncio.get_running_loop().time()
        if self._known is None or self._known[0] != writes or now > self._known[1]:
            self._known = writes, now + REVISION_SECONDS, await self.read(meta.revision)
        return self._known[2]

    async def ready(self) -> None:
        """Connect, and bring the tables up to date.

        Every act does so where it is due; at start, this tells early what will never work (StoreError) from what may
        come back by itself (StoreUnavailable).
        """
        await self._reader.run(_nothing)

    async def close(self) -> None:
        """Finish what waits, for as long as the deadline of one act, and close; what comes later is refused."""
        if all(await asyncio.gather(self._writer.close(), self._reader.close())):
            self._driver.close()

    def _connect_writer(self) -> Connection:
        connection = self._driver.connect(read_only=False)
        try:
            migrations.migrate(connection, self._driver)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> Connection:
        connection = self._driver.connect(read_only=True)
        try:
            connection.begin(self._deadline)
            current = migrations.is_current(connection)
            connection.rollback()
            if not current:
                self._connect_writer().close()
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _write(connection: Connection, act: Callable[[Transaction], T]) -> T:
        meta.count_write(connection, migrations.VERSION)
        return act(connection)

    @staticmethod
    def _read(connection: Connection, query: Callable[[Transaction], T]) -> T:
        return query(connection)


def _nothing(transaction: Transaction) -> None:
    """Need nothing but the connection."""
    del transaction


class _Answer(Generic[T]):
    """What a thread will say to the task that waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def give(self, result: T) -> None:
        """Hand a result over, from the thread."""
        self._settle(self.future.set_result, result)

    def fail(self, error: BaseException) -> None:
        """Hand a failure over, from the thread."""
        self._settle(self.future.set_exception, error)

    def _settle(self, how: Callable[[Any], None], what: Any) -> None:
        def settle() -> None:
            if not self.future.done():
                how(what)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle)


class _Job(Generic[T]):
    """An act, and the answer to the task that wants it."""

    def __init__(self, act: Callable[[Transaction], T]) -> None:
        self.act = act
        self.answer = _Answer[T]()
        self.overdue = False


class _Lane:
    """A thread with a connection, which does one job after the other."""

    def __init__(
        self, name: str, connect: Callable[[], Connection], perform: Perform, deadline: float, waiting: int
    ) -> None:
        self._name = name
        self._connect = connect
        self._perform = perform
        self._deadline = deadline
        self._waiting = waiting
        self._changed = threading.Condition()
        """Held to touch what follows."""
        self._jobs: collections.deque[_Job[Any]] = collections.deque()
        self._running: _Job[Any] | None = None
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._farewells: list[_Answer[None]] = []

    async def run(self, act: Callable[[Transaction], T]) -> T:
        """Do ``act`` in its turn."""
        job = _Job(act)
        self._put(job)
        future = job.answer.future
        try:
            await asyncio.wait({future}, timeout=self._deadline)
            if not future.done() and self._interrupt(job):
                # Only the thread knows whether it was committed before that, and will say so soon.
                await asyncio.wait({future}, timeout=GRACE)
            if not future.done():
                raise StoreUnavailable(f"The store did not answer within {self._deadline:g} seconds.")
            return future.result()
        finally:
            self._drop(job)

    async def close(self) -> bool:
        """Refuse what comes, finish what waits; returns whether the thread ended before the deadline."""
        farewell = _Answer[None]()
        with self._changed:
            self._closed = True
            if self._thread is None:
                return True
            self._farewells.append(farewell)
            self._changed.notify()
        await asyncio.wait({farewell.future}, timeout=self._deadline)
        return farewell.future.done()

    def _put(self, job: _Job[Any]) -> None:
        with self._changed:
            if self._closed:
                raise StoreUnavailable("The store is closed: the exporter is shutting down.")
            if len(self._jobs) >= self._waiting:
                raise StoreBusy(f"The store is busy: {self._waiting} acts wait for it already.")
            self._jobs.append(job)
            if self._thread is None:
                # A daemon, which no exit waits for.
                self._thread = threading.Thread(target=self._work, daemon=True, name=self._name)
                self._thread.start()
            self._changed.notify()

    def _drop(self, job: _Job[Any]) -> None:
        """Forget a job that nobody waits for: it is over, or its time was, or the task was cancelled."""
        with self._changed, contextlib.suppress(ValueError):
            self._jobs.remove(job)
        future = job.answer.future
        if not future.cancel() and not future.cancelled():
            future.exception()  # seen: else asyncio would report a failure that came as the task was cancelled

    def _interrupt(self, job: _Job[Any]) -> bool:
        """End a job if it runs; returns whether it does."""
        with self._changed:
            if self._running is not job:
                return False
            job.overdue = True
            if self._connection is not None:
                self._connection.interrupt()
            return True

    def _work(self) -> None:
        """Do what is wanted until the lane is closed and nothing waits: the thread."""
        while (job := self._next()) is not None:
            try:
                result = self._do(job)
            except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
                self._done(job)
                job.answer.fail(error)
            else:
                self._done(job)
                job.answer.give(result)
        self._disconnect()
        with self._changed:
            self._thread = None
            farewells, self._farewells = self._farewells, []
        for farewell in farewells:
            farewell.give(None)

    def _next(self) -> _Job[Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return None
            self._running = self._jobs.popleft()
            return self._running

    def _done(self, job: _Job[Any]) -> None:
        with self._changed:
            self._running = None
        if job.overdue:
            self._disconnect()  # an interrupted connection serves nobody

    def _do(self, job: _Job[T]) -> T:
        connection = self._begin(job)
        try:
            result: T = self._perform(connection, job.act)
            connection.commit()
        except BaseException:
            self._undo(connection)
            raise
        return result

    def _begin(self, job: _Job[Any]) -> Connection:
        """Begin, on a new connection where the old one was lost since the last job."""
        if self._connection is not None:
            try:
                self._connection.begin(self._deadline)
            except StoreUnavailable:
                self._disconnect()
                if job.overdue:
                    raise
            else:
                return self._connection
        connection = self._connect()
        with self._changed:
            self._connection = connection
            if job.overdue:
                raise StoreUnavailable("The store could not be reached in time.")
        try:
            connection.begin(self._deadline)
        except StoreError:
            self._disconnect()
            raise
        return connection

    def _undo(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except StoreError:  # lost or interrupted: the database rolls back by itself
            self._disconnect()

    def _disconnect(self) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
