"""How PostgreSQL's and PgBouncer's failures are named."""

from __future__ import annotations

from typing import Final

import psycopg

from auraconnect_exporter.model import Reason
from auraconnect_exporter.probes.base import ProbeError

# Failures to connect carry no SQLSTATE, only text. The first row that fits counts. Whoever answered at all is looked
# for before who did not: a name with two addresses reports both, and the other one is often merely refused.
_CONNECT_FAILURES: Final = (
    (Reason.PROTOCOL, ("received invalid response", "expected authentication")),
    (Reason.TLS, ("root certificate file",)),
    (Reason.AUTH, ("authentication failed", "no password supplied", "pg_hba.conf", "does not exist")),
    (Reason.AUTH, ("not permitted to log in", "permission denied", "no such user", "no such database", "not allowed")),
    (Reason.REFUSED, ("too many clients", "remaining connection slots", "too many connections")),
    (Reason.REFUSED, ("is starting up", "is shutting down", "recovery mode", "accepting connections")),
    (Reason.REFUSED, ("max_client_conn", "server_login_retry", "cannot connect to server")),  # PgBouncer
    (Reason.TLS, ("SSL", "certificate", "TLS")),
    (Reason.DNS, ("failed to resolve", "could not translate host name")),
    (Reason.TIMEOUT, ("timeout expired", "timed out")),
    (Reason.PROTOCOL, ("closed the connection unexpectedly", "Connection reset", "connection is lost")),
    (Reason.REFUSED, ("Connection refused", "No such file or directory")),
)
_SQLSTATE_CLASSES: Final = {"28": Reason.AUTH, "53": Reason.REFUSED, "57": Reason.REFUSED}


def explain_psycopg(error: psycopg.Error) -> ProbeError:
    """Name a failure of psycopg: by SQLSTATE where there is one, else by what libpq and the server say.

    PgBouncer gives all of its own failures the SQLSTATE 08P01, so their text decides as well.
    """
    text = str(error)
    if error.sqlstate == "57014":  # our own statement_timeout
        return ProbeError(Reason.TIMEOUT, text)
    if error.sqlstate is not None and not error.sqlstate.startswith("08"):
        return ProbeError(_SQLSTATE_CLASSES.get(error.sqlstate[:2], Reason.QUERY), text)
    for reason, fragments in _CONNECT_FAILURES:
        if any(fragment in text for fragment in fragments):
            return ProbeError(reason, text)
    return ProbeError(Reason.PROTOCOL if error.sqlstate else Reason.ERROR, text)
