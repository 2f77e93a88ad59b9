"""Since when jobs wait in Celery's lists, though a message bears no date.

A message that was seen in a list, and is still in it, has waited since: as long as one of those that we remember is
there, the oldest job is at least as old. kombu puts new messages at the head (``LPUSH``) and takes them from the tail
(``BRPOP``), so one far from the tail stays for long, and says most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redis.asyncio.connection import AbstractConnection

from auraconnect_exporter.probes.redis_connection import ask

MAX_SCAN: Final = 10_000
"""How far from a list's tail a message is remembered and looked for: what ``LPOS`` costs Redis, well under 1 ms."""

MARK_SECONDS: Final = 15.0
MAX_MARKS: Final = 16

MAX_MESSAGE_BYTES: Final = 256 * 1024
"""A larger message is not remembered: to look for it would mean to send it with each check."""


class Marks:
    """Messages of one list that were seen waiting, with the time of each sight, the oldest sight first."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._marks)

    @property
    def oldest(self) -> bytes:
        """The message to look for."""
        return self._marks[0][1]

    def drop_oldest(self) -> None:
        """Forget the message that is not there any more."""
        del self._marks[0]

    def age(self, now: float) -> float:
        """Return for how long, in seconds, some job has waited at least."""
        return now - self._marks[0][0] if self._marks else 0.0

    def wants_another(self, now: float) -> bool:
        """Whether it is time for another mark: the older the oldest, the farther apart they may stand."""
        return not self._marks or now - self._marks[-1][0] >= max(MARK_SECONDS, self.age(now) / (MAX_MARKS / 2))

    def add(self, now: float, message: bytes) -> None:
        """Remember a message that waits now."""
        if len(message) > MAX_MESSAGE_BYTES:
            return
        self._marks.append((now, message))
        if len(self._marks) > MAX_MARKS:
            del self._marks[1::2]


class WaitingSince:
    """Remembers messages of many lists from check to check, also over checks that failed."""

    def __init__(self) -> None:
        self._lists: dict[str, Marks] = {}

    def age(self, key: str, now: float) -> float:
        """Return for how long, in seconds, the oldest job of a list has waited at least."""
        return self._lists[key].age(now) if key in self._lists else 0.0

    async def look(self, connection: AbstractConnection, lengths: Mapping[str, int], now: float) -> None:
        """Look for the remembered messages in the lists of these lengths, and remember others.

        Mostly one round trip. Raises RedisError.
        """
        self._lists = {key: self._lists.get(key) or Marks() for key, length in lengths.items() if length}
        pending = [key for key, marks in self._lists.items() if marks]
        while pending:  # once more for each mark that is gone
            questions = [("LPOS", key, self._lists[key].oldest, "RANK", -1, "MAXLEN", MAX_SCAN) for key in pending]
            places = await ask(connection, questions)
            gone = [key for key, place in zip(pending, places, strict=True) if place is None]
            for key in gone:
                self._lists[key].drop_oldest()
            pending = [key for key in gone if self._lists[key]]
        wanted = [key for key, marks in self._lists.items() if marks.wants_another(now)]
        messages = await ask(connection, [("LINDEX", key, -min(lengths[key], MAX_SCAN)) for key in wanted])
        for key, message in zip(wanted, messages, strict=True):
            if message is not None:  # taken in the meantime
                self._lists[key].add(now, message)
