"""Logging: one event a line, as logfmt or JSON, with the fields that ``extra=`` carries."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, Literal

Format = Literal["logfmt", "json"]

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Formats a record as one line: ``ts``, ``level``, ``msg``, then its own fields."""

    def __init__(self, style: Format) -> None:
        super().__init__()
        self._line = _logfmt if style == "logfmt" else json.dumps

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **{key: str(value) for key, value in record.__dict__.items() if key not in _STANDARD and value != ""},
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._line(fields)


def _logfmt(fields: dict[str, str]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: str) -> str:
    """Return a value that is one word as it is, anything else as a JSON string, which has no line end in it."""
    return value if re.fullmatch(r"[A-Za-z0-9_./:@+-]+", value) else json.dumps(value, ensure_ascii=False)


def configure(level: str, style: Format) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(style))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Drivers log what they do, and sometimes with which parameters; their warnings are enough.
    for driver in ("psycopg", "redis", "asyncio", "aiohttp"):
        logging.getLogger(driver).setLevel(logging.WARNING)
