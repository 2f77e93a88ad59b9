"""Denied commands and logins of a Redis that has no counters for them, from its ACL LOG. Pure.

Source: Redis's ``acl.c``. The log holds the newest denials, 128 unless set otherwise. A denial that is like one of less
than a minute ago (the same reason, context, object and user) makes no entry of its own: that entry's count rises and
its age starts over. So the log is no counter, but what has come to it since it was last read can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

REASONS: Final = {"auth": "auth", "command": "cmd", "key": "key", "channel": "channel"}
"""The log's words, and those of INFO's counters in Redis 7.2 and newer."""

SAME_SECONDS: Final = 30.0
"""Two entries alike whose last denials lie this near to each other are one: alike ones are a minute apart. A server
that is busy tells its own time a little late."""

Key = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Denials:
    """One entry: what was denied to whom, how many times, and when last, in Unix seconds of the server's clock."""

    key: Key
    reason: str
    count: int
    last: float


def parse_log(entries: Any, now: float) -> list[Denials]:
    """Return the entries of an answer to ACL LOG, newest first; ``now`` is the server's time. Raises ValueError."""
    try:
        parsed = [_parse_entry(entry, now) for entry in entries]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError("an entry is not as ACL LOG has them") from error
    return [entry for entry in parsed if entry.reason in REASONS.values()]


def _parse_entry(entry: Any, now: float) -> Denials:
    """Take an entry, a list of names and values in turn, apart."""
    fields = dict(zip(entry[::2], entry[1::2], strict=True))
    key = tuple(fields[name] for name in (b"reason", b"context", b"object", b"username"))
    reason = fields[b"reason"].decode()
    return Denials(key, REASONS.get(reason, reason), int(fields[b"count"]), now - float(fields[b"age-seconds"]))


class DenialCounter:
    """Counts from what the log holds at first, and then whatever comes to it; no denial twice.

    What a log forgets between two readings (ACL LOG RESET, or more entries than it holds) is not counted.
    """

    def __init__(self) -> None:
        self.totals = dict.fromkeys(REASONS.values(), 0)
        self._newest: dict[Key, Denials] = {}

    def take(self, log: Iterable[Denials]) -> None:
        """Count what is new in the log as it is now, newest first."""
        alike: dict[Key, list[Denials]] = {}
        for entry in log:
            alike.setdefault(entry.key, []).append(entry)
        for key, entries in alike.items():
            self.totals[entries[0].reason] += _risen(entries, self._newest.get(key))
        self._newest = {key: entries[0] for key, entries in alike.items()}


def _risen(entries: Sequence[Denials], known: Denials | None) -> int:
    """Return how many denials entries alike, newest first, tell of beyond the newest one that is known."""
    if known is None:
        return sum(entry.count for entry in entries)
    fresh = [entry for entry in entries if entry.last >= known.last + SAME_SECONDS]
    rest = entries[len(fresh) :]
    risen = sum(entry.count for entry in fresh)
    if rest and abs(rest[0].last - known.last) < SAME_SECONDS:  # the known one, where it was or a little later
        more = rest[0].count - known.count
        return risen + (more if more >= 0 else rest[0].count)  # one with fewer is another, after a RESET
    if fresh and fresh[-1].count > known.count:  # the known one is not there any more: it has become this one
        return risen - known.count
    return risen
