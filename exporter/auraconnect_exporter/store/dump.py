"""The file of a backup: gzip, and in it lines of JSON, the same whichever database the rows come from or go to.

The first line is the header, then each row is a list of its table's name and its values, and the last line is the
checksum of all before it. Rows that the database numbers itself come in the order of their numbers, without them.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auraconnect_exporter.store.problems import StoreError
from auraconnect_exporter.store.transaction import Row

FORMAT: Final = "auraconnect-exporter store 1"
LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself: the version of the tables, their columns, and how many rows each has."""

    version: int
    columns: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, int]


Lines = Iterator[tuple[str, Row]]
"""Rows, each with the name of its table."""


def write(path: Path, header: Header, rows: Iterable[tuple[str, Row]]) -> None:
    """Write a backup for nobody else to read; under its name it is complete, or not there. Raises StoreError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "xb", opener=_private) as file:  # Path.open takes no opener
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
                _write(packed, header, rows)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"The backup {path} can't be written: {error.strerror}.") from None
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[tuple[Header, Lines]]:
    """Read a backup. Raises StoreError where it is damaged, at the latest after the last row."""
    with _readable(path):
        packed = gzip.open(path, "rb")  # noqa: SIM115  # closed below; failures in between are not the file's
    with contextlib.closing(packed):
        lines = _checked(packed)
        with _readable(path):
            first = next(lines, None)
            if not isinstance(first, dict) or first.get("format") != FORMAT:
                raise StoreError(f"{path} is no backup of the store, or one that only a newer exporter can read.")
            header = Header(
                version=int(first["version"]),
                columns={table: tuple(columns) for table, columns in first["columns"].items()},
                rows=dict(first["rows"]),
            )
        yield header, _rows(path, lines)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(path) from None
    except OSError as error:
        raise StoreError(f"The backup {path} can't be read: {error.strerror}.") from None


def damaged(path: Path) -> StoreError:
    """Return what to raise where a backup is not as it was written."""
    return StoreError(f"The backup {path} is damaged; nothing was restored.")


def _rows(path: Path, lines: Iterator[Any]) -> Lines:
    while True:
        with _readable(path):
            line = next(lines, None)
            if line is None:
                return
            table, *values = line
            row = tuple(_decoded(value) for value in values)
        yield table, row


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(packed: gzip.GzipFile, header: Header, rows: Iterable[tuple[str, Row]]) -> None:
    digest = hashlib.sha256()

    def put(line: Any) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        digest.update(text)
        packed.write(text)

    put({"format": FORMAT, "version": header.version, "columns": header.columns, "rows": header.rows})
    for table, row in rows:
        put([table, *map(_encoded, row)])
    put({"sha256": digest.hexdigest()})


def _checked(packed: Iterable[bytes]) -> Iterator[Any]:
    """Yield all lines but the last, which must be the checksum of the others. Raises ValueError."""
    digest = hashlib.sha256()
    before = None
    for line in packed:
        if before is not None:
            digest.update(before)
            yield json.loads(before)
        before = line
    if before is None or json.loads(before) != {"sha256": digest.hexdigest()}:
        raise ValueError("the checksum is another one")


def _encoded(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _decoded(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value
