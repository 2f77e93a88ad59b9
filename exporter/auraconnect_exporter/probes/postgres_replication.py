"""PostgreSQL's replication: on a standby its own link to the primary, on any server those of its standbys.

Source: PostgreSQL's documentation, "The Cumulative Statistics System" (pg_stat_wal_receiver, pg_stat_replication),
"pg_replication_slots", "Recovery Information Functions". Physical replication only.

A lag of 0 is said only while the link is up. Once it is cut the lag grows from the last moment at which everything had
arrived. A link that is cut in silence is up until PostgreSQL notices (``wal_receiver_timeout``, ``wal_sender_timeout``;
a minute unless set); a standby that stands still meanwhile is seen from the primary, by what it doesn't confirm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auraconnect_exporter.model import Metric, Part, Sample
from auraconnect_exporter.probes.postgres_collector import Collector, always
from auraconnect_exporter.probes.postgres_connection import Rows

CONNECTED = Metric(
    "postgres_replication_connected",
    "gauge",
    "Whether a standby is connected: this server to its primary, or the named one to this server.",
    ("standby",),
)
LAG = Metric("postgres_replication_lag_seconds", "gauge", "How far a standby is behind.", ("standby",))

ITSELF: Final = ""
"""The label of a standby's own link; an empty one is none for Prometheus."""

MAX_STANDBYS: Final = 50

MISSED_FOR: Final = 3600.0
"""Seconds for which a standby without a slot is missed once it has gone; after that it is taken to be removed."""

REPLICATION_SQL: Final = f"""
SELECT pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() AND pg_has_role('pg_read_all_settings', 'USAGE')
            THEN current_setting('primary_conninfo') <> '' END,
       receiver.status,
       pg_last_wal_replay_lsn() >= greatest(pg_last_wal_receive_lsn(), receiver.latest_end_lsn),
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
       link.*
FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) AS here
LEFT JOIN pg_stat_wal_receiver AS receiver ON true
LEFT JOIN LATERAL (
    SELECT coalesce(slot_name, nullif(application_name, ''), 'unnamed')::text AS name, sender.pid IS NOT NULL,
           sender.state, extract(epoch FROM replay_lag)::float8, replay_lsn::text, replay_lsn < here.lsn
    FROM pg_stat_replication AS sender FULL JOIN pg_replication_slots AS slot ON slot.active_pid = sender.pid
    WHERE coalesce(slot_type, 'physical') = 'physical' AND coalesce(state, '') <> 'backup'
      AND (sender.pid IS NOT NULL
           OR NOT (active OR temporary OR restart_lsn IS NULL OR pg_is_in_recovery()))
    ORDER BY 1 LIMIT {MAX_STANDBYS}
) AS link ON true
"""  # noqa: S608  # of constants
"""A slot that nobody uses belongs to a standby that is missing; those on a standby wait for the day it is promoted."""


@dataclass(slots=True)
class _Standby:
    """What is remembered of a standby, by the monotonic clock."""

    lsn: str | None
    current: float
    """When it last had everything, or at least went on."""
    seen: float


class Replication:
    """The collector of replication, with what has to be remembered from check to check to tell a lag."""

    def __init__(self, most_lag: float, monotonic: Callable[[], float]) -> None:
        self._most_lag = most_lag
        self._monotonic = monotonic
        self._complete: float | None = None
        self._standbys: dict[str, _Standby] = {}
        self._was_standby = False

    def collectors(self) -> tuple[Collector, ...]:
        """Return it."""
        return (Collector("replication", always(REPLICATION_SQL), self.read),)

    def read(self, rows: Rows) -> Part:
        """Turn the rows of REPLICATION_SQL, this server and one of its standbys each, into samples and findings."""
        is_standby, *own = rows[0][:5]
        if is_standby != self._was_standby:  # promoted, or become the standby of another
            self._was_standby = is_standby
            self._complete = None
            self._standbys.clear()
        links = [row[5:] for row in rows if row[5] is not None]
        problem = ""
        if (is_standby and own[0] is None) or any(there and state is None for _, there, state, *_ in links):
            problem = "the links can't be seen without the role pg_monitor"
        found = [*(self._own(own) if is_standby else ()), *self._of_standbys(links)]
        return Part("replication", tuple(_samples(found)), tuple(self._findings(found)), problem)

    def _own(self, own: Sequence[Any]) -> list[tuple[str, bool, float | None]]:
        """Return (label, connected, lag) of this standby's link; nothing where it has none to have."""
        expected, status, complete, age = own
        if not expected:  # it lives on archived pieces of the log, or its role may not know
            return []
        now, connected = self._monotonic(), status == "streaming"
        if connected and complete:
            self._complete = now
            return [(ITSELF, True, 0.0)]
        # Both are the most that it can be behind: an idle primary makes the last transaction old.
        bounds = [] if age is None else [max(0.0, age)]
        bounds += [] if self._complete is None else [now - self._complete]
        return [(ITSELF, connected, min(bounds, default=None))]

    def _of_standbys(self, links: Sequence[Sequence[Any]]) -> list[tuple[str, bool, float | None]]:
        """Return (label, connected, lag) of each standby of this server, of those that have gone as well."""
        now = self._monotonic()
        found: dict[str, tuple[str, bool, float | None]] = {}
        for name, there, state, replay_lag, lsn, behind in links:
            if there and state is None:
                continue
            if not there:
                known = self._standbys.get(name)
                found.setdefault(name, (name, False, now - known.current if known else None))
                if known:
                    known.seen = now
                continue
            known = self._standbys.setdefault(name, _Standby(lsn, now, now))
            if not behind or lsn != known.lsn:
                known.lsn, known.current = lsn, now
            known.seen = now
            lag = max(replay_lag or 0.0, now - known.current) if behind else 0.0
            before = found.get(name)
            found[name] = (name, True, max(lag, before[2] or 0.0) if before else lag)
        for name, known in tuple(self._standbys.items()):
            if now - known.seen > MISSED_FOR:
                del self._standbys[name]
            elif name not in found and len(found) < MAX_STANDBYS:
                found[name] = (name, False, now - known.current)
        return list(found.values())

    def _findings(self, found: Sequence[tuple[str, bool, float | None]]) -> list[str]:
        findings = []
        for name, connected, lag in found:
            if not connected:
                findings.append(f"the standby {name} is not connected" if name else "the link to the primary is down")
            elif lag is not None and lag > self._most_lag:
                findings.append(f"the standby {name} is {lag:.0f} s behind" if name else f"it is {lag:.0f} s behind")
        return findings


def _samples(found: Sequence[tuple[str, bool, float | None]]) -> list[Sample]:
    samples = [CONNECTED.sample(connected, name) for name, connected, _ in found]
    return samples + [LAG.sample(lag, name) for name, _, lag in found if lag is not None]
