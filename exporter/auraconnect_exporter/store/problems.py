"""What can go wrong with the store. Each message is one sentence for people; none holds a credential."""

from __future__ import annotations


class StoreError(Exception):
    """The store can't do it, and trying again would not help."""


class StoreBusy(StoreError):
    """So much waits to be written or read that nothing more is taken; try again later."""


class StoreUnavailable(StoreError):
    """The store did not do it in time or can't be reached; it may have happened; try again later."""


class StoreTooNew(StoreError):
    """A newer program has changed the tables, and this one does not know them."""
