"""Every firing once, every acknowledgement kept, nothing lost that was taken: while the process is killed at random.

Three Alertmanagers deliver what really happened, each message several times and out of order, and repeat whatever is
not answered with 200; people acknowledge what they see. Meanwhile the process that takes it in gets SIGKILL again and
again. After each kill, before it is started again, the store is read from beside: all that was answered by then must
be there. At the end the history must be what really happened, no more and no less. ``make exactly-once`` runs it long.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from auraconnect_exporter.records import EventKind, Report
from auraconnect_exporter.store.transaction import Row
from tests.incidents import delivery, report, seconds
from tests.store.support import Place
from tools.processes import HTTPServer, free_port

ROOT: Final = Path(__file__).parents[2]
ALERTMANAGERS: Final = 3
AT_ONCE: Final = 4
"""Deliveries that one Alertmanager has under way."""
BACKOFF: Final = 0.02
"""Seconds before a delivery that failed comes again."""

Fact = tuple[str, float, float | None]
"""A fingerprint, when it began to fire and when that ended, or None while it fires."""


class Wrong(AssertionError):
    """The history is not what happened."""


@dataclass(frozen=True)
class Plan:
    """What really happens, and how it is told."""

    firings: Sequence[Fact]
    deliveries: Sequence[Sequence[Report]]

    @property
    def open(self) -> list[str]:
        """The fingerprints that fire in the end."""
        return sorted(name for name, _, ends in self.firings if ends is None)

    @staticmethod
    def make(chance: random.Random, deliveries: int) -> Plan:
        """Make up firings until there is enough to tell."""
        firings: list[Fact] = []
        told: list[tuple[float, Report]] = []
        for number in itertools.count():
            if len(told) >= deliveries * 1.5:
                break
            now = chance.uniform(0, 1000)
            for last in [False] * chance.randrange(4) + [True]:
                starts, length, pause = (round(each, 3) for each in (now, *(chance.uniform(1, 500) for _ in "ab")))
                ends = None if last and chance.random() < 0.5 else round(starts + length, 3)
                fact = (f"f{number}", starts, ends)
                firings.append(fact)
                now = starts + length + pause
                for what in ((*fact[:2], None), fact):
                    for _ in range(chance.randint(1, 3)):
                        # Most come somewhat late, some very late.
                        late = chance.expovariate(1 / (2000 if chance.random() < 0.1 else 100))
                        told.append(((what[2] or what[1]) + late, said(what)))
        ordered = iter([each for _, each in sorted(told, key=lambda pair: pair[0])])
        sizes = iter(lambda: 1 if chance.random() < 0.8 else chance.randint(2, 4), 0)
        bundles = itertools.takewhile(bool, (tuple(itertools.islice(ordered, size)) for size in sizes))
        return Plan(firings, list(bundles))


def said(fact: Fact) -> Report:
    """Return how Alertmanager tells a fact."""
    name, starts, ends = fact
    return report(starts, ends, fingerprint=name, target=name)


@dataclass
class Senders:
    """Alertmanagers and people, in a thread of their own; what was answered is known to others at any moment."""

    url: str
    plan: Plan
    chance: random.Random
    taken: list[Sequence[Report]] = field(default_factory=list)
    """Deliveries that were answered with 200."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """By episode who acknowledged it, as it was first answered."""
    wrong: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """The fingerprints that are open when all is told."""
    attempts: int = 0
    progress: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, taken: int) -> None:
        """Wait until so many deliveries are taken."""
        with self.progress:
            if not self.progress.wait_for(lambda: len(self.taken) >= taken, timeout=120):
                raise Wrong(f"After two minutes only {len(self.taken)} deliveries of {taken} were taken.")

    async def run(self) -> None:
        """Deliver everything, and acknowledge meanwhile."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self.url, connector=connector, trust_env=False) as session:
            people = asyncio.create_task(self._acknowledge(session))
            queues = [iter(self.plan.deliveries[number::ALERTMANAGERS]) for number in range(ALERTMANAGERS)]
            await asyncio.gather(*(self._deliver(session, queue) for queue in queues for _ in range(AT_ONCE)))
            people.cancel()
            await asyncio.gather(people, return_exceptions=True)
            # After a kill the database may commit what nobody waits for any more; the memory follows within a second.
            for _ in range(50):
                async with session.get("/open") as answer:
                    self.open = sorted(fingerprint for _, fingerprint in await answer.json())
                if self.open == self.plan.open:
                    break
                await asyncio.sleep(0.1)

    async def _deliver(self, session: aiohttp.ClientSession, queue: Iterable[Sequence[Report]]) -> None:
        for reports in queue:
            body = delivery(*reports)
            while await self._post(session, "/webhook", body) is None:
                await asyncio.sleep(BACKOFF)
            with self.progress:
                self.taken.append(reports)
                self.progress.notify_all()

    async def _acknowledge(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(0.005)
            try:
                async with session.get("/open") as answer:
                    open_ = await answer.json()
            except aiohttp.ClientError:
                continue
            if not open_:
                continue
            id_, actor = self.chance.choice(open_)[0], self.chance.choice(["ada", "bob", "eve"])
            told = await self._post(session, f"/acknowledge/{id_}?actor={actor}", b"")
            if told is None:
                continue
            by = told["acknowledged_by"]
            if self.acknowledged.setdefault(id_, by) != by:
                self.wrong.append(f"{id_} was acknowledged by {self.acknowledged[id_]}, and then by {by}.")

    async def _post(self, session: aiohttp.ClientSession, path: str, body: bytes) -> Mapping[str, Any] | None:
        """Return what is answered with 200; None for anything else."""
        self.attempts += 1
        try:
            async with session.post(path, data=body) as answer:
                if answer.status != 200:
                    return None
                return await answer.json() if answer.content_type == "application/json" else {}
        except aiohttp.ClientError:
            return None


@dataclass(frozen=True)
class Held:
    """What the store holds."""

    facts: Mapping[tuple[str, float], float | None]
    episodes: Sequence[Row]
    acknowledged: Mapping[str, str]
    events: Counter[str]
    audited: set[str]


def look(place: Place) -> Held:
    """Read the store from beside, while no process has it."""

    async def read() -> Held:
        store = place.open()

        async def rows(sql: str, *parameters: Any) -> list[Row]:
            return await store.read(lambda transaction: transaction.execute(sql, parameters))

        try:
            facts = await rows("SELECT fingerprint, starts, ends FROM firings")
            episodes = await rows("SELECT fingerprint, started_at, ended_at FROM episodes")
            acknowledged = await rows("SELECT id, acknowledged_by FROM episodes WHERE acknowledged_at IS NOT NULL")
            events = await rows("SELECT episode FROM events WHERE kind = ?", EventKind.ACKNOWLEDGED.value)
            audited = await rows("SELECT subject FROM audit WHERE action = ?", "alert.acknowledge")
        finally:
            await store.close()
        return Held(
            facts={(name, seconds(starts)): None if ends is None else seconds(ends) for name, starts, ends in facts},
            episodes=[(name, seconds(began), None if end is None else seconds(end)) for name, began, end in episodes],
            acknowledged=dict(acknowledged),
            events=Counter(episode for (episode,) in events),
            audited={subject for (subject,) in audited},
        )

    return asyncio.run(read())


def check(held: Held, taken: Iterable[Sequence[Report]], acknowledged: Mapping[str, str]) -> None:
    """Raise Wrong where something that was answered is not there."""
    for told in itertools.chain.from_iterable(taken):
        key = (told.fingerprint, seconds(told.starts))
        ends = None if told.ends is None else seconds(told.ends)
        if key not in held.facts or (ends is not None and held.facts[key] != ends):
            raise Wrong(f"{key} with the end {ends} was taken, but the store has {held.facts.get(key, 'nothing')}.")
    for id_, by in acknowledged.items():
        if held.acknowledged.get(id_) != by or id_ not in held.audited:
            raise Wrong(f"{id_} was acknowledged by {by}, but the store says {held.acknowledged.get(id_)}.")
    if twice := [id_ for id_ in held.acknowledged if held.events[id_] != 1]:
        raise Wrong(f"{len(twice)} acknowledgements are not in the history exactly once, such as that of {twice[0]}.")


def compare(held: Held, senders: Senders) -> None:
    """Raise Wrong where the history is not exactly what happened."""
    shown, real = Counter(held.episodes), Counter(senders.plan.firings)
    if shown != real:
        raise Wrong(f"The history misses {list(real - shown)[:5]} and has {list(shown - real)[:5]} instead.")
    if senders.open != senders.plan.open:
        raise Wrong(f"What is open in memory is not what fires: {senders.open[:5]}.")
    if senders.wrong or len(senders.taken) != len(senders.plan.deliveries):
        raise Wrong(f"{len(senders.taken)} deliveries were taken. {senders.wrong[:5]}")


@dataclass(frozen=True)
class Outcome:
    """What was counted."""

    deliveries: int
    attempts: int
    firings: int
    acknowledged: int
    kills: int
    took: float


def run(place: Place, folder: Path, *, deliveries: int, kills: int, seed: int) -> Outcome:
    """Let it all happen. Raises Wrong, which names the seed."""
    began = time.monotonic()
    chance = random.Random(seed)  # noqa: S311  # reproducible, not secret
    plan = Plan.make(chance, deliveries)
    port = free_port()
    command = [sys.executable, "-m", "tests.soak.exactly_once_server", place.url, str(place.folder), str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "exporter"), str(ROOT)])}
    server = HTTPServer("server", command, folder / "server.log", url=f"http://127.0.0.1:{port}", env=environment)
    senders = Senders(server.url, plan, random.Random(seed + 1))  # noqa: S311
    thread = threading.Thread(target=lambda: asyncio.run(senders.run()), daemon=True)
    try:
        server.start()
        thread.start()
        for moment in sorted(chance.sample(range(len(plan.deliveries)), kills)):
            senders.wait_for(moment)
            time.sleep(chance.uniform(0, 0.02))  # somewhere in the middle of what it does
            server.kill()
            # Whatever was answered was answered before the kill, and therefore committed.
            check(look(place), list(senders.taken), dict(senders.acknowledged))
            server.start()
        thread.join(timeout=120)
        server.kill()
        held = look(place)
        check(held, senders.taken, senders.acknowledged)
        compare(held, senders)
    except Wrong as problem:
        raise Wrong(f"{problem} (seed {seed}){server.log_tail()}") from None
    finally:
        server.stop()
    return Outcome(
        deliveries=len(plan.deliveries),
        attempts=senders.attempts,
        firings=len(plan.firings),
        acknowledged=len(senders.acknowledged),
        kills=kills + 1,
        took=time.monotonic() - began,
    )
