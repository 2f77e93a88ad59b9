"""The memory of workers on this machine, from a /proc of the test's and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from auraconnect_exporter.probes.worker_memory import (
    PAUSE_SECONDS,
    Process,
    WorkerMemory,
    arq_memory,
    arq_settings,
    celery_memory,
    running,
)
from auraconnect_exporter.probes.worker_metrics import RESIDENT_MEMORY
from tests.builders import FakeClock

MEBIBYTE = 1024 * 1024


def process(parent: int, mebibytes: int, *command: str, name: str = "python3") -> Process:
    return Process(parent, name, mebibytes * MEBIBYTE, lambda: command)


@pytest.fixture
def table() -> dict[int, Process]:
    """Return two Celery workers, one of them with children, and two arq workers of one kind."""
    return {
        1: process(0, 100, "/sbin/init", name="init"),
        10: process(1, 10, "/venv/bin/python", "-m", "celery", "-A", "app", "worker"),
        11: process(10, 4, "/venv/bin/python", "-m", "celery", "-A", "app", "worker"),
        12: process(11, 2, "/usr/bin/pdftotext", name="pdftotext"),
        20: process(1, 5, "[celeryd: two@web-1:MainProcess] -active- (worker)", name="[celeryd: two@w"),
        30: process(1, 7, "/venv/bin/python", "/venv/bin/arq", "app.workers.Settings", name="arq"),
        31: process(1, 8, "python", "-m", "arq", "app.workers.Settings", "--custom-log-dict", "app.logs.CONFIG"),
        32: process(1, 9, "/venv/bin/python", "-m", "uvicorn", "app.main"),
        33: process(1, 9, name="python3"),  # one that has ended meanwhile
    }


def test_a_celery_worker_s_memory_is_that_of_its_tree(table: dict[int, Process]) -> None:
    """With its pool and what that has started; a process id of another program, or of nobody, is no worker."""
    pids = {"one@web-1": 10, "two@web-1": 20, "stale@web-1": 32, "gone@web-1": 99, "dumb@web-1": 0}
    assert celery_memory(table, pids) == {"one@web-1": 16 * MEBIBYTE, "two@web-1": 5 * MEBIBYTE}


def test_arq_workers_are_added_up_by_their_settings(table: dict[int, Process]) -> None:
    """Two processes of the same settings are one series, which outlives a restart."""
    assert arq_memory(table) == {"app.workers.Settings": 15 * MEBIBYTE}


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
    assert arq_settings(command.split()) == settings


async def test_processes_are_read_once_in_a_while(table: dict[int, Process]) -> None:
    """Half a minute later what has changed is seen; who lives no more is not shown meanwhile."""
    clock = FakeClock()
    memory = WorkerMemory(clock.monotonic, lambda: table, "web-1")
    pids = {"one@web-1": 10, "two@web-1": 20, "three@elsewhere": 10}
    assert await memory.of_celery(pids) == (
        RESIDENT_MEMORY.sample(16 * MEBIBYTE, "one@web-1"),
        RESIDENT_MEMORY.sample(5 * MEBIBYTE, "two@web-1"),
    )
    table[20] = process(1, 50, "celery")
    clock.advance(PAUSE_SECONDS - 1)
    assert await memory.of_celery({"two@web-1": 20}) == (RESIDENT_MEMORY.sample(5 * MEBIBYTE, "two@web-1"),)
    clock.advance(1)
    assert await memory.of_celery({"two@web-1": 20}) == (RESIDENT_MEMORY.sample(50 * MEBIBYTE, "two@web-1"),)


async def test_nothing_is_read_for_workers_elsewhere() -> None:
    """Whatever the processes here are, they are not theirs."""

    def nobody_asks() -> dict[int, Process]:
        raise AssertionError

    memory = WorkerMemory(FakeClock().monotonic, nobody_asks, "web-1")
    assert await memory.of_celery({"one@elsewhere": 10, "two": 11}) == ()


def test_the_real_processes_are_understood() -> None:
    """Our own process and a child of it, with its command; one that has ended has none."""
    command = [sys.executable, "-c", "print(flush=True); input()", "a word"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = running()[child.pid]
        assert (found.parent, list(found.command())[2:]) == (os.getpid(), command[2:])
        assert 2**20 < found.memory < 2**34
        child.communicate(b"\n")
    assert list(found.command()) == []
