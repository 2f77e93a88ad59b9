"""The memory of workers on this machine, from a /proc of the test's and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auraconnect_exporter.probes.worker_memory import (
    PAUSE_SECONDS,
    WorkerMemory,
    arq_memory,
    arq_settings,
    celery_memory,
    read_processes,
)
from auraconnect_exporter.probes.worker_metrics import RESIDENT_MEMORY
from tests.builders import FakeClock

PAGE = os.sysconf("SC_PAGE_SIZE")


def process(proc: Path, pid: int, parent: int, pages: int, *command: str, name: str = "python3") -> None:
    """Write a process as the kernel shows it."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = [str(pid), f"({name})", "S", str(parent), *["0"] * 19, str(pages), *["0"] * 28]
    (folder / "stat").write_text(" ".join(fields))
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc with two Celery workers, one of them with children, and two arq workers of one kind."""
    process(tmp_path, 1, 0, 100, "/sbin/init", name="init) S 99 (")
    process(tmp_path, 10, 1, 10, "/venv/bin/python", "-m", "celery", "-A", "app", "worker")
    process(tmp_path, 11, 10, 4, "/venv/bin/python", "-m", "celery", "-A", "app", "worker")
    process(tmp_path, 12, 11, 2, "/usr/bin/pdftotext", name="pdftotext")
    process(tmp_path, 20, 1, 5, "[celeryd: two@web-1:MainProcess] -active- (worker)", name="[celeryd: two@w")
    process(tmp_path, 30, 1, 7, "/venv/bin/python", "/venv/bin/arq", "app.workers.Settings", name="arq")
    process(tmp_path, 31, 1, 8, "python", "-m", "arq", "app.workers.Settings", "--custom-log-dict", "app.logs.CONFIG")
    process(tmp_path, 32, 1, 9, "/venv/bin/python", "-m", "uvicorn", "app.main")
    (tmp_path / "meminfo").write_text("no process")
    (tmp_path / "40").mkdir()  # one that has ended meanwhile
    return tmp_path


def test_a_celery_worker_s_memory_is_that_of_its_tree(proc: Path) -> None:
    """With its pool and what that has started; a process id of another program, or of nobody, is no worker."""
    pids = {"one@web-1": 10, "two@web-1": 20, "stale@web-1": 32, "gone@web-1": 99, "dumb@web-1": 0}
    assert celery_memory(proc, pids) == {"one@web-1": 16 * PAGE, "two@web-1": 5 * PAGE}


def test_arq_workers_are_added_up_by_their_settings(proc: Path) -> None:
    """Two processes of the same settings are one series, which outlives a restart."""
    assert arq_memory(proc) == {"app.workers.Settings": 15 * PAGE}


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("/venv/bin/arq app.Settings", "app.Settings"),
        ("python /venv/bin/arq --burst app.Settings", "app.Settings"),
        ("python -m arq app.Settings --watch src", "app.Settings"),
        ("python -m arq app.Settings --check", ""),
        ("python -m arq", ""),
        ("tail -n 5 -f /var/log/arq", ""),
        ("python -m app.arq_worker", ""),
        ("python -m arq app/../Settings", ""),
        ("", ""),
    ],
)
def test_settings_are_read_from_a_command_line(command: str, settings: str) -> None:
    """As arq's own command line takes them; a health check is no worker."""
    assert arq_settings(command.encode().split()) == settings


async def test_processes_are_read_once_in_a_while(proc: Path) -> None:
    """Half a minute later what has changed is seen; who lives no more is not shown meanwhile."""
    clock = FakeClock()
    memory = WorkerMemory(clock.monotonic, proc, "web-1")
    pids = {"one@web-1": 10, "two@web-1": 20, "three@elsewhere": 10}
    assert await memory.of_celery(pids) == (
        RESIDENT_MEMORY.sample(16 * PAGE, "one@web-1"),
        RESIDENT_MEMORY.sample(5 * PAGE, "two@web-1"),
    )
    process(proc, 20, 1, 50, "celery")
    clock.advance(PAUSE_SECONDS - 1)
    assert await memory.of_celery({"two@web-1": 20}) == (RESIDENT_MEMORY.sample(5 * PAGE, "two@web-1"),)
    clock.advance(1)
    assert await memory.of_celery({"two@web-1": 20}) == (RESIDENT_MEMORY.sample(50 * PAGE, "two@web-1"),)


async def test_nothing_is_read_for_workers_elsewhere(tmp_path: Path) -> None:
    """Not even /proc, which need not exist here."""
    memory = WorkerMemory(FakeClock().monotonic, tmp_path / "none", "web-1")
    assert await memory.of_celery({"one@elsewhere": 10, "two": 11}) == ()


def test_the_real_proc_is_understood() -> None:
    """Our own process and a child of it, with a name that would confuse a careless reader."""
    with subprocess.Popen(
        [sys.executable, "-c", "open('/proc/self/comm', 'w').write('a) b (c'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        table = read_processes(Path("/proc"))
        child.communicate(b"\n")
    assert (table[child.pid].name, table[child.pid].parent) == (b"a) b (c", os.getpid())
    assert 2**20 < table[os.getpid()].memory < 2**34
