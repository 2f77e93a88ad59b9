"""The log: one event a line, whatever the event holds."""

from __future__ import annotations

import json
import logging

from auraconnect_exporter.logs import LineFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelname": "WARNING", "levelno": 30, "created": 1_780_000_000.25})
    made.__dict__.update(fields)
    return made


def test_logfmt_quotes_what_is_more_than_a_word() -> None:
    """Words stand as they are, anything else is quoted."""
    line = LineFormatter("logfmt").format(record("is down", target="primary", detail='said "no"\nlevel=info', empty=""))
    assert line == (
        'ts=2026-05-28T20:26:40.250Z level=warning msg="is down" target=primary detail="said \\"no\\"\\nlevel=info"'
    )


def test_json_is_one_object_a_line() -> None:
    """Every field is there, and a line end in a value stays inside it."""
    line = LineFormatter("json").format(record("is down", detail="a\nb"))
    assert "\n" not in line
    assert json.loads(line) == {
        "ts": "2026-05-28T20:26:40.250Z",
        "level": "warning",
        "msg": "is down",
        "detail": "a\nb",
    }


def test_a_traceback_stays_on_its_line() -> None:
    """An exception is a field, not thirty lines."""
    error = RuntimeError("broken")
    line = LineFormatter("logfmt").format(record("failed", exc_info=(RuntimeError, error, None)))
    assert "\n" not in line
    assert line.endswith('RuntimeError: broken"')
