"""Removing what is older than it should be kept; never what is open, nor what others have still to be told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auraconnect_exporter.records import SECOND, Moment
from auraconnect_exporter.store.engine import Store
from auraconnect_exporter.store.errors import HOUR, start_of
from auraconnect_exporter.store.transaction import Transaction

BATCH: Final = 500
"""Rows that one transaction removes, so that writes of others wait for milliseconds."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many of each were removed."""

    episodes: int
    errors: int
    audit: int
    set_aside: int
    notices: int


async def remove_older(store: Store, before: Moment) -> Removed:
    """Remove what was over before a moment; errors by whole hours, as they are counted. Raises StoreError."""
    hour = start_of(HOUR, before)
    # The counts of an hour go before its errors: what is counted is there at any moment.
    await _repeat(store, lambda transaction: _remove_counts(transaction, hour))
    errors = [
        await _repeat(store, functools.partial(_remove_errors, before=hour, resolved=resolved)) for resolved in (0, 1)
    ]
    return Removed(
        episodes=await _repeat(store, lambda transaction: _remove_episodes(transaction, before)),
        errors=sum(errors),
        audit=await _repeat(store, lambda transaction: _remove_audit(transaction, before)),
        set_aside=await _repeat(store, lambda transaction: _remove_set_aside(transaction, before)),
        notices=await store.write(lambda transaction: _remove_notices(transaction, before)),
    )


async def _repeat(store: Store, step: Callable[[Transaction], int]) -> int:
    """Take a step, each time in a transaction of its own, until it finds nothing; return how much it removed."""
    total = 0
    while removed := await store.write(step):
        total += removed
    return total


def _remove_episodes(transaction: Transaction, before: Moment) -> int:
    """Remove episodes; their facts and events go with them."""
    rows = transaction.execute(
        "DELETE FROM episodes WHERE id IN "
        "(SELECT id FROM episodes WHERE ended_at < ? AND told = 1 ORDER BY ended_at LIMIT ?) RETURNING 1",
        (before, BATCH),
    )
    return len(rows)


def _remove_counts(transaction: Transaction, before: Moment) -> int:
    """Remove the counts of the oldest hour, and of its minutes."""
    ((oldest,),) = transaction.execute("SELECT MIN(start) FROM error_counts WHERE width = ?", (HOUR,))
    if oldest is None or oldest >= before:
        return 0
    rows = transaction.execute(
        "DELETE FROM error_counts WHERE start < ? AND width IN (60, 3600) RETURNING 1", (oldest + HOUR * SECOND,)
    )
    return len(rows)


def _remove_errors(transaction: Transaction, before: Moment, resolved: int) -> int:
    rows = transaction.execute(
        "DELETE FROM errors WHERE id IN "
        "(SELECT id FROM errors WHERE resolved = ? AND created_at < ? ORDER BY created_at LIMIT ?) RETURNING 1",
        (resolved, before, BATCH),
    )
    return len(rows)


def _remove_audit(transaction: Transaction, before: Moment) -> int:
    rows = transaction.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?) RETURNING 1",
        (before, BATCH),
    )
    return len(rows)


def _remove_set_aside(transaction: Transaction, before: Moment) -> int:
    return len(transaction.execute("DELETE FROM set_aside WHERE at < ? RETURNING 1", (before,)))


def _remove_notices(transaction: Transaction, before: Moment) -> int:
    """Remove what the public was told of what is over; a person wrote each, so there are never many."""
    return len(transaction.execute("DELETE FROM notices WHERE over < ? RETURNING 1", (before,)))
