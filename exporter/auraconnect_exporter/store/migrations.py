"""The tables, as numbered steps from nothing to what this version of the program uses.

A step that was released is never changed; the next one changes what it made. ``{id}`` and ``{blob}`` are the
database's own words for a number that counts rows and for bytes. Truth is 0 or 1, JSON is text, moments are
microseconds since 1970, on every database alike.
"""

from __future__ import annotations

from typing import Final

from auraconnect_exporter.store import meta
from auraconnect_exporter.store.driver import Connection, Driver
from auraconnect_exporter.store.problems import StoreError

_FIRST: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO meta (key, value) VALUES ('version', 0), ('revision', 0)",
    # told: 0 while a posted alert's end has not reached every Alertmanager.
    """CREATE TABLE episodes (
        id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL,
        alertname TEXT NOT NULL, severity TEXT NOT NULL, component TEXT NOT NULL, target TEXT NOT NULL,
        symptom TEXT NOT NULL, origin TEXT NOT NULL, alert_type TEXT NOT NULL,
        title TEXT NOT NULL, description TEXT NOT NULL, labels TEXT NOT NULL, annotations TEXT NOT NULL,
        started_at BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
        ended_at BIGINT, ended_by TEXT NOT NULL DEFAULT '', forced INTEGER NOT NULL DEFAULT 0,
        acknowledged_at BIGINT, acknowledged_by TEXT NOT NULL DEFAULT '',
        threshold_value DOUBLE PRECISION, actual_value DOUBLE PRECISION,
        metadata TEXT NOT NULL DEFAULT '{{}}', told INTEGER NOT NULL DEFAULT 1)""",
    "CREATE UNIQUE INDEX episodes_open ON episodes (fingerprint) WHERE ended_at IS NULL",
    "CREATE INDEX episodes_identity ON episodes (alertname, severity, component, target, ended_at)",
    "CREATE INDEX episodes_started ON episodes (started_at)",
    "CREATE INDEX episodes_ended ON episodes (ended_at)",
    "CREATE INDEX episodes_severity ON episodes (severity, started_at)",
    """CREATE TABLE firings (
        fingerprint TEXT NOT NULL, starts BIGINT NOT NULL, ends BIGINT, sequence BIGINT NOT NULL,
        episode TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
        PRIMARY KEY (fingerprint, starts))""",
    "CREATE INDEX firings_episode ON firings (episode)",
    """CREATE TABLE events (
        id {id}, episode TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
        at BIGINT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, detail TEXT NOT NULL)""",
    "CREATE INDEX events_episode ON events (episode, id)",
    # Which episodes a page in PagerDuty was about: an acknowledgement there names its key only.
    """CREATE TABLE pages (
        dedup_key TEXT NOT NULL, episode TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
        PRIMARY KEY (dedup_key, episode))""",
    "CREATE INDEX pages_episode ON pages (episode)",
    # How far what is copied from elsewhere has been read.
    "CREATE TABLE cursors (name TEXT PRIMARY KEY, position TEXT NOT NULL)",
    "CREATE TABLE set_aside (id {id}, at BIGINT NOT NULL, reason TEXT NOT NULL, body {blob} NOT NULL)",
    """CREATE TABLE audit (
        id {id}, at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
        address TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL)""",
    "CREATE INDEX audit_at ON audit (at)",
    """CREATE TABLE errors (
        id TEXT PRIMARY KEY, error_type TEXT NOT NULL, error_message TEXT NOT NULL, created_at BIGINT NOT NULL,
        stack_trace TEXT, endpoint TEXT, method TEXT, status_code BIGINT,
        user_id TEXT, restaurant_id TEXT, request_id TEXT, tags TEXT,
        resolved INTEGER NOT NULL, resolved_at BIGINT, source TEXT UNIQUE, created_by TEXT NOT NULL)""",
    # One index for each set of filters that GET /errors takes; without `resolved`, both its values are read.
    "CREATE INDEX errors_all ON errors (resolved, created_at, id)",
    "CREATE INDEX errors_type ON errors (error_type, resolved, created_at, id)",
    "CREATE INDEX errors_endpoint ON errors (endpoint, resolved, created_at, id)",
    "CREATE INDEX errors_type_endpoint ON errors (error_type, endpoint, resolved, created_at, id)",
    # types and endpoints: JSON objects of how many errors each had.
    """CREATE TABLE error_counts (
        width INTEGER NOT NULL, start BIGINT NOT NULL, total BIGINT NOT NULL, types TEXT NOT NULL,
        endpoints TEXT NOT NULL, PRIMARY KEY (width, start))""",
)

_OPEN_PAGES: Final = (
    # Of each page in PagerDuty the alerts of which it has heard no end; heard: when it was last told that they fire.
    """CREATE TABLE open_pages (
        dedup_key TEXT NOT NULL, fingerprint TEXT NOT NULL, labels TEXT NOT NULL, annotations TEXT NOT NULL,
        starts BIGINT NOT NULL, heard BIGINT NOT NULL, PRIMARY KEY (dedup_key, fingerprint))""",
)

_NOTICES: Final = (
    # What the public is told: components is a JSON list; over: when the last update said that it is resolved.
    """CREATE TABLE notices (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, components TEXT NOT NULL, started_at BIGINT NOT NULL, over BIGINT)""",
    "CREATE INDEX notices_started ON notices (started_at)",
    """CREATE TABLE notice_updates (
        id {id}, notice TEXT NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
        at BIGINT NOT NULL, state TEXT NOT NULL, text TEXT NOT NULL, actor TEXT NOT NULL)""",
    "CREATE INDEX notice_updates_notice ON notice_updates (notice, id)",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _OPEN_PAGES, _NOTICES)

VERSION: Final = len(MIGRATIONS)
"""The number of the last step: the version of the tables that this program uses."""


def migrate(connection: Connection, driver: Driver) -> None:
    """Take the steps that are missing, each with its number in one transaction; several exporters take turns.

    Raises StoreTooNew where a newer program has been here, StoreError where the tables are nobody's that we know.
    """
    while True:
        connection.begin(None)
        try:
            connection.make_place()
            done = _version(connection)
            take_steps(connection, driver, done, min(done + 1, VERSION))
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        if done >= VERSION - 1:
            return


def take_steps(connection: Connection, driver: Driver, done: int, to: int) -> None:
    """Take the steps after ``done`` up to number ``to``, in the transaction that is open."""
    for number in range(done, to):
        for statement in MIGRATIONS[number]:
            connection.execute(statement.format_map(driver.types))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (number + 1,))


def is_current(connection: Connection) -> bool:
    """Return whether the tables are those of this program. Raises as ``migrate`` does."""
    return _version(connection) == VERSION


def _version(connection: Connection) -> int:
    tables = connection.tables()
    if not tables:
        return 0
    if "meta" not in tables:
        raise StoreError(
            "The store's database has tables but not ours: it belongs to another program; name a database of its own."
        )
    found = meta.version(connection)
    meta.refuse_newer(found, VERSION)
    return found
