"""Failed sign-ins, counted in the log of a real server, and in logs as no test server writes them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import psycopg
import pytest

from auraconnect_exporter.probes.postgres_log import MOST_BYTES, AuthenticationLog, failures
from auraconnect_exporter.targets import Postgres
from tests.builders import problems
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, database, value
from tools.servers import PostgreSQL

FAILED = b'2026-01-02 03:04:05.678 UTC [17] app@shop FATAL:  password authentication failed for user "app"\n'
NOISE = b"2026-01-02 03:04:05.678 UTC [17] app@shop LOG:  checkpoint starting: time\n"
METRIC = "postgres_authentication_failures_total"


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        (FAILED, True),
        (b'[unknown] FATAL:  SCRAM authentication failed for user "x"\n', True),
        (b'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "x", database "y", no encryption\n', True),
        (b'FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "x", database "y", no encryption\n', True),
        (b'FATAL:  role "nobody" does not exist\n', True),
        (b'FATAL:  role "x" is not permitted to log in\n', True),
        (b'{"user":"x","error_severity":"FATAL","state_code":"28P01","message":"password ..."}\n', True),
        (b'{"user":"x","error_severity":"FATAL","state_code":"53300","message":"too many"}\n', False),
        (b"FATAL:  sorry, too many clients already\n", False),
        (b"FATAL:  terminating connection due to administrator command\n", False),
        (NOISE, False),
        # What a client can have written there.
        (b"LOG:  statement: SELECT 'FATAL:  password authentication failed for user'\n", False),
        (b'\tFATAL:  password authentication failed for user "x"\'\n', False),
        (b'{"statement":"\\"error_severity\\":\\"FATAL\\",\\"state_code\\":\\"28P01\\""}\n', False),
    ],
)
def test_a_line_counts_by_what_the_server_says(line: bytes, counts: bool) -> None:
    """Not by what it quotes."""
    assert failures(line) == counts


async def test_failed_sign_ins_are_counted_from_when_one_looks(
    postgres: PostgreSQL, tmp_path: Path, watch: Watch
) -> None:
    """A wrong password and an unknown role on a real server; what was in the log before is not news."""

    def knock(user: str) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(postgres.dsn.replace("//postgres:", f"//{user}:").replace(PASSWORD, "wrong")).close()

    knock("postgres")
    log = tmp_path / "postgres.log"
    watched = watch(Postgres(database(postgres).server, slow=60.0, statements=False, log_file=str(log)))
    assert value(await watched.attempt(), METRIC) == 0
    knock("postgres")
    knock("nobody")
    attempt = await watched.attempt()
    while value(attempt, METRIC) < 2:
        await asyncio.sleep(0.01)
        attempt = await watched.attempt()
    assert value(attempt, METRIC) == 2
    assert problems(attempt) == {}
    log.unlink()
    attempt = await watched.attempt()
    assert (attempt.ok, value(attempt, METRIC)) == (True, 2)
    assert problems(attempt) == {"log": "the log can't be read: No such file or directory"}


def test_a_log_is_followed_when_it_is_rotated_or_cut_off(tmp_path: Path) -> None:
    """Each line counts once: half a line waits, a new file begins at its start, as does one that became shorter."""
    path = tmp_path / "postgres.log"
    path.write_bytes(FAILED * 2)
    log = AuthenticationLog(str(path))
    counted = []

    def read() -> None:
        log.read()
        counted.append(log.failures)

    read()
    with path.open("ab") as stream:
        stream.write(FAILED + FAILED[:70])
        stream.flush()
        read()
        stream.write(FAILED[70:])
    read()
    path.rename(tmp_path / "postgres.log.1")
    path.write_bytes(FAILED + NOISE * 9)
    read()
    path.write_bytes(FAILED)  # copied away and truncated
    read()
    read()
    assert counted == [0, 1, 2, 3, 4, 4]


def test_the_newest_of_several_files_is_read(tmp_path: Path) -> None:
    """A server that names its files by the day of the week."""
    for day in ("Mon", "Tue"):
        (tmp_path / f"postgresql-{day}.log").write_bytes(NOISE)
    log = AuthenticationLog(str(tmp_path / "postgresql-*.log"))
    log.read()
    with (tmp_path / "postgresql-Tue.log").open("ab") as stream:
        stream.write(FAILED)
    log.read()
    assert log.failures == 1
    with pytest.raises(OSError, match="no file fits"):
        AuthenticationLog(str(tmp_path / "other-*.log")).read()


def test_of_too_much_at_once_the_end_is_read(tmp_path: Path) -> None:
    """A check never reads more than a megabyte, and says what it left out; a line without an end is passed over."""
    path = tmp_path / "postgres.log"
    path.touch()
    log = AuthenticationLog(str(path))
    log.read()
    path.write_bytes(FAILED + NOISE * (2 * MOST_BYTES // len(NOISE)) + FAILED)
    size = path.stat().st_size
    assert log.read() == size - MOST_BYTES
    assert log.failures == 1
    with path.open("ab") as stream:
        stream.write(b"x" * MOST_BYTES)
    assert log.read() == 0
    with path.open("ab") as stream:
        stream.write(b"\n" + FAILED)
    assert log.read() == 0
    assert log.failures == 2


async def test_a_log_on_a_file_system_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    """A reading that doesn't end is waited for briefly, and no second one is begun behind it."""
    threads = threading.active_count()
    release = threading.Event()

    class Hanging(AuthenticationLog):
        def read(self) -> int:
            release.wait()
            return super().read()

    log = Hanging(str(tmp_path / "postgres.log"))
    (tmp_path / "postgres.log").touch()
    parts = [await log.part() for _ in range(3)]
    assert [part.problem for part in parts] == ["the log can't be read in time"] * 3
    assert threading.active_count() == threads + 1
    release.set()
    assert (await log.part()).problem == ""
