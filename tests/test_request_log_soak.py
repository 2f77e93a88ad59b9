"""The short form of ``make request-log``: an exporter that is killed again and again counts every request once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.request_log import Plan, Shown, Watcher, Written, Wrong, compare, run
from tools.servers import PostgreSQL


def test_every_request_once(postgresql_server: PostgreSQL, tmp_path: Path) -> None:
    """Rows that come late and out of order, in transactions of all sizes, while the exporter gets SIGKILL twice."""
    plan = Plan(rows=10_000, kills=2, pace=2500, seed=random.SystemRandom().randrange(1_000_000))
    outcome = run(postgresql_server, tmp_path, plan)
    assert outcome.rows >= 10_000
    assert outcome.scrapes > 0


KEY = ("/menu", "GET", "200")
BUCKET = ("/menu", "GET", "0.05")


@pytest.mark.parametrize(
    ("shown", "fallen"),
    [
        (Shown({KEY: 6.0}, {BUCKET: 2.0}, 0.0), []),
        (Shown({KEY: 7.0, ("/x", "GET", "200"): 1.0}, {BUCKET: 2.0}, 0.0), []),
        (Shown({KEY: 7.0}, {BUCKET: 1.0}, 0.0), []),
        (Shown({KEY: 7.0}, {BUCKET: 2.0}, 1.0), []),
        (Shown({KEY: 7.0}, {BUCKET: 2.0}, 0.0), ["/menu"]),
        (None, []),
    ],
    ids=["one less", "one more", "another bucket", "one dropped", "one fell", "nothing"],
)
def test_what_is_wrong_is_noticed(shown: Shown | None, fallen: list[str]) -> None:
    """The comparison passes what was written, and nothing else."""
    written = Written()
    written.requests[KEY] = 7
    written.buckets[BUCKET] = 2
    watcher = Watcher("")
    watcher.shown = Shown({KEY: 7.0}, {BUCKET: 2.0}, 0.0)
    compare(watcher, written)
    watcher.shown, watcher.fallen = shown, fallen
    with pytest.raises(Wrong):
        compare(watcher, written)
