"""Failures get their name from whatever stands behind the driver's own error."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError, explain


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name unknown"), Reason.DNS, "the name can't be resolved: Name unknown"),
        (ssl.SSLEOFError(8, "EOF"), Reason.TLS, "TLS failed: EOF"),
        (ConnectionRefusedError(), Reason.REFUSED, "connection refused"),
        (ConnectionResetError(), Reason.PROTOCOL, "the connection was closed by the other side"),
        (EOFError(), Reason.PROTOCOL, "the connection was closed by the other side"),
        (TimeoutError(), Reason.TIMEOUT, "no answer in time"),
        (OSError(errno.EHOSTUNREACH, "No route"), Reason.ERROR, "the operating system failed: No route"),
        (ZeroDivisionError("secret"), Reason.ERROR, "unexpected ZeroDivisionError"),
        (OSError("secret"), Reason.ERROR, "unexpected OSError"),
        (
            OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"),
            Reason.REFUSED,
            "connection refused: Connection refused",
        ),
    ],
)
def test_each_kind_of_error_has_its_reason(error: Exception, reason: Reason, message: str) -> None:
    """Known kinds are told in words; of an unknown one only the type, for its text could hold anything."""
    named = explain(error)
    assert (named.reason, str(named)) == (reason, message)


def test_the_error_behind_a_library_s_own_counts() -> None:
    """However deep it is, and also where the library named none as its cause."""
    outer = RuntimeError("of a library")
    outer.__context__ = OSError("All connection attempts failed")
    outer.__context__.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert explain(outer).reason is Reason.REFUSED


def test_what_a_probe_has_named_keeps_its_name() -> None:
    """Nobody names a failure twice."""
    named = ProbeError(Reason.QUERY, "refused by the server")
    assert explain(named) is named


def test_errors_that_stand_behind_each_other_end() -> None:
    """A circle is walked once."""
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one
    assert explain(one).reason is Reason.ERROR
