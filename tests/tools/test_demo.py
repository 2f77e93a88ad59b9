"""`./run demo` as a newcomer plays it: something breaks, a page comes, it is mended, the all-clear comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.faults import FAULTS, Faults
from tools.bootstrap import ROOT


class Played:
    """The demo's terminal: what it has said so far, and a way to wait for more."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.said += line
                self._more.notify_all()

    def until(self, pattern: str, seconds: float = 90.0) -> str:
        """Return what was said once this was."""
        with self._more:
            found = self._more.wait_for(lambda: re.search(pattern, self.said, re.DOTALL), seconds)
        assert found, self.said
        return self.said

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        self._reader.join()
        return status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of what the demo needs of the repository, so that two can run at a time."""
    for name in ("rules", "alertmanager", "prometheus", "runbooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def command(folder: Path, *arguments: str) -> list[str]:
    program = f"import sys; from pathlib import Path; from tools import demo; demo.ROOT = Path({str(folder)!r}); "
    return [sys.executable, "-c", f"{program}sys.exit(demo.main(sys.argv[1:]))", *arguments]


ENVIRON = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'exporter'}", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def played(folder: Path) -> Iterator[Played]:
    with subprocess.Popen(
        command(folder, "demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRON
    ) as process:
        demo = Played(process)
        try:
            yield demo
        finally:
            if process.poll() is None:
                demo.end()


@pytest.mark.timeout(300)
def test_a_killed_database_pages_and_a_mended_one_ends_it(folder: Path, played: Played) -> None:
    """From the two commands to the page, and from the third to the all-clear; Ctrl-C ends it all."""
    played.until("Pages without a channel appear here")
    assert subprocess.run(command(folder, "break", "database"), env=ENVIRON, check=False).returncode == 0
    played.until(r"oncall-engineer-page gets.*FIRING    critical  DatabaseConnectionLost  database/primary")
    assert subprocess.run(command(folder, "mend", "database"), env=ENVIRON, check=False).returncode == 0
    said = played.until(r"RESOLVED  critical  DatabaseConnectionLost  database/primary")
    order = [said.index(text) for text in ("Broken: PostgreSQL is killed.", "FIRING    critical", "Mended: database")]
    assert order == sorted(order)
    assert played.end() == 0
    assert played.said.rstrip().endswith("Stopped.")


@pytest.mark.parametrize("arguments", [["break"], ["mend", "everything"], ["break", "database", "../x"]])
def test_what_is_no_fault_is_said_and_breaks_nothing(folder: Path, arguments: list[str]) -> None:
    """One sentence with the names that there are, and status 2."""
    done = subprocess.run(command(folder, *arguments), env=ENVIRON, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert all(name in done.stdout for name in FAULTS)
    assert Faults(folder / "build/demo/faults").broken() == set()
