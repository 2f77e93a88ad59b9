"""The incident store: what people did, and the history of alerts and errors, in SQLite or PostgreSQL.

store = open_store("", Path("/var/lib/auraconnect"))
await store.ready()
episode = await store.write(lambda transaction: episodes.find(transaction, "…"))
await store.close()
"""

from __future__ import annotations

from pathlib import Path

from auraconnect_exporter import endpoints
from auraconnect_exporter.store.driver import Driver
from auraconnect_exporter.store.engine import DEADLINE, WAITING, Store
from auraconnect_exporter.store.postgresql import PostgreSQL
from auraconnect_exporter.store.problems import StoreBusy, StoreError, StoreTooNew, StoreUnavailable
from auraconnect_exporter.store.sqlite import SQLite
from auraconnect_exporter.store.transaction import Transaction

__all__ = [
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreTooNew",
    "StoreUnavailable",
    "Transaction",
    "open_store",
]

DEFAULT_FILE = "incidents.sqlite3"
"""The file in the data folder."""


def open_store(url: str, data_folder: Path, *, deadline: float = DEADLINE, waiting: int = WAITING) -> Store:
    """Return the store that ``url`` names; no connection is made before the first act or ``ready()``.

    ``url`` is empty for a file in the data folder, or ``sqlite:///path``, or ``postgresql://…``. Raises StoreError.
    """
    return Store(driver_for(url, data_folder), deadline=deadline, waiting=waiting)


def driver_for(url: str, data_folder: Path, *, guarded: bool = True) -> Driver:
    """Return the database that ``url`` names, as ``open_store`` does; ``guarded`` is SQLite's."""
    if not url:
        return SQLite(data_folder / DEFAULT_FILE, guarded=guarded)
    if url.startswith("sqlite://"):
        path = url.removeprefix("sqlite://")
        if not path.startswith("/") or path == "/":
            raise StoreError(
                "The store's URL must hold the path of a file, such as sqlite:///var/lib/incidents.sqlite3."
            )
        return SQLite(Path(path), guarded=guarded)
    try:
        return PostgreSQL(endpoints.postgres(url))
    except endpoints.EndpointProblem as problem:
        raise StoreError(f"The store's URL {problem}.") from None
