"""A PostgreSQL server with AuraConnect's database, and the ways to lose it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tools.servers import PostgreSQL

PASSWORD = "the watcher's, at first"


@dataclass(frozen=True)
class Database:
    """The server, which its superuser can still reach when the exporter can't."""

    server: PostgreSQL

    def url(self, port: int | None = None) -> str:
        """Return the address that the exporter gets, through another port if there is a proxy."""
        return f"postgresql://watcher@127.0.0.1:{port or self.server.port}/auraconnect"

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser, in its own database."""
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def cut(self) -> None:
        """End every connection of the exporter's."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watcher'")


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    """Start it, with a database `auraconnect` and a role `watcher` without rights; it stops after the block."""
    with PostgreSQL(folder) as server:
        started = Database(server)
        started.execute("CREATE DATABASE auraconnect", f"CREATE ROLE watcher LOGIN PASSWORD {quoted(PASSWORD)}")
        yield started


@contextmanager
def killed(lost: Database) -> Iterator[None]:
    """Kill all of its processes at once; after the block it starts again."""
    lost.server.kill()
    yield
    lost.server.start()


@contextmanager
def frozen(lost: Database) -> Iterator[None]:
    """Stop its processes: connections are accepted and nothing answers, as on a machine that swaps."""
    lost.server.freeze()
    yield
    lost.server.thaw()


@contextmanager
def refusing(lost: Database) -> Iterator[None]:
    """Let the database take no connections, though the server's port is open."""
    lost.execute("ALTER DATABASE auraconnect ALLOW_CONNECTIONS false")
    lost.cut()
    yield
    lost.execute("ALTER DATABASE auraconnect ALLOW_CONNECTIONS true")


@contextmanager
def wrong_password(lost: Database) -> Iterator[None]:
    """Change the role's password; open connections go on."""
    lost.execute("ALTER ROLE watcher PASSWORD 'another'")
    yield
    lost.execute(f"ALTER ROLE watcher PASSWORD {quoted(PASSWORD)}")


Fault = Callable[[Database], AbstractContextManager[None]]


def quoted(text: str) -> str:
    """Return an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
