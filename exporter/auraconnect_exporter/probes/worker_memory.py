"""Memory of the workers that run on this machine, with all their child processes.

Source: ``/proc/<pid>/stat`` and ``cmdline``, see proc(5). A Celery worker says its process id and its machine; arq's
say nothing, so they are known by their command line, ``arq <settings>``.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.model import Sample
from auraconnect_exporter.probes.worker_metrics import MAX_NAME, MAX_WORKERS, RESIDENT_MEMORY

PAUSE_SECONDS: Final = 30.0
"""From one look at all processes to the next."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its parent, the name of its program (15 bytes at most), its resident memory in bytes."""

    parent: int
    name: bytes
    memory: int


class WorkerMemory:
    """Looks at the processes of this machine once in a while, and only where workers may be among them."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        proc: Path = Path("/proc"),
        host: str | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._proc = proc
        self._host = host or socket.gethostname()
        self._samples: tuple[Sample, ...] = ()
        self._next = monotonic()

    async def of_celery(self, pids: Mapping[str, int]) -> tuple[Sample, ...]:
        """Return the memory of those of these workers (``name@host``) that run here."""
        here = {worker: pid for worker, pid in pids.items() if worker.rpartition("@")[2] == self._host}
        if not here:
            return ()
        samples = await self._when_due(lambda: celery_memory(self._proc, here))
        return tuple(sample for sample in samples if sample.label_values[0] in here)

    async def of_arq(self) -> tuple[Sample, ...]:
        """Return the memory of the arq workers that run here, by their settings."""
        return await self._when_due(lambda: arq_memory(self._proc))

    async def _when_due(self, read: Callable[[], Mapping[str, int]]) -> tuple[Sample, ...]:
        now = self._monotonic()
        if now >= self._next:
            self._next = now + PAUSE_SECONDS
            memory = await in_daemon_thread(read)
            names = sorted(memory)[:MAX_WORKERS]
            self._samples = tuple(RESIDENT_MEMORY.sample(memory[name], name) for name in names)
        return self._samples


def celery_memory(proc: Path, pids: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of each worker whose process id belongs to a Celery worker here."""
    table = read_processes(proc)
    return _memory(
        table,
        ((worker, pid) for worker, pid in pids.items() if any(b"celery" in word for word in _command(proc, pid))),
    )


def arq_memory(proc: Path) -> dict[str, int]:
    """Return the bytes of the arq workers by the settings that they were started with."""
    table = read_processes(proc)
    candidates = (pid for pid, process in table.items() if process.name == b"arq" or process.name.startswith(b"python"))
    named = ((arq_settings(_command(proc, pid)), pid) for pid in candidates)
    return _memory(table, ((name[:MAX_NAME], pid) for name, pid in named if name))


def read_processes(proc: Path) -> dict[int, Process]:
    """Return all processes by their id."""
    page = os.sysconf("SC_PAGE_SIZE")
    found: dict[int, Process] = {}
    for name in os.listdir(proc):  # noqa: PTH208  # a Path for each process is most of the work
        if not name.isdigit():
            continue
        try:
            stat = (proc / name / "stat").read_bytes()
        except OSError:  # it has ended
            continue
        program, _, rest = stat.partition(b"(")[2].rpartition(b") ")  # the name may hold anything
        fields = rest.split()
        found[int(name)] = Process(int(fields[1]), program, int(fields[21]) * page)
    return found


def arq_settings(command: Sequence[bytes]) -> str:
    """Return the settings of an arq worker's command line, such as ``app.workers.Settings``; else an empty text."""
    for place, word in enumerate(command[:3]):
        if word == b"arq" or word.endswith(b"/arq"):
            options = command[place + 1 :]
            named = (word.decode() for word in options if re.fullmatch(rb"[A-Za-z_]\w*(\.\w+)+", word, re.ASCII))
            return next(named, "") if b"--check" not in options else ""
    return ""


def _command(proc: Path, pid: int) -> list[bytes]:
    """Return a process's command line; nothing where it has ended."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _memory(table: Mapping[int, Process], roots: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up the memory of processes and of all that they have started."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: dict[str, int] = {}
    for name, root in roots:
        family = [root] if root in table else []
        for pid in family:  # which grows meanwhile
            found[name] = found.get(name, 0) + table[pid].memory
            family.extend(children.get(pid, ()))
    return found
