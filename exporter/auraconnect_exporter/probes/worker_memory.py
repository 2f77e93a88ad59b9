"""Memory of the workers that run on this machine, with all their child processes.

Source: psutil. A Celery worker says its process id and its machine; arq's say nothing, so they are known by their
command line, ``arq <settings>``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import psutil

from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.model import Sample
from auraconnect_exporter.probes.worker_metrics import MAX_NAME, MAX_WORKERS, RESIDENT_MEMORY

PAUSE_SECONDS: Final = 30.0
"""From one look at all processes to the next."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its parent, its program's name, its resident memory in bytes, and how to ask for its command."""

    parent: int
    name: str
    memory: int
    command: Callable[[], Sequence[str]]


Processes = Mapping[int, Process]
"""All processes by their id."""


def running() -> dict[int, Process]:
    """Return the processes of this machine."""
    found = {}
    for process in psutil.process_iter(["ppid", "name", "memory_info"]):
        memory = process.info["memory_info"]
        if memory is not None:  # else it is nobody's business of ours, or over
            found[process.pid] = Process(
                process.info["ppid"], process.info["name"], memory.rss, partial(_command, process)
            )
    return found


def _command(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class WorkerMemory:
    """Looks at the processes of this machine once in a while, and only where workers may be among them."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        processes: Callable[[], Processes] = running,
        host: str | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._processes = processes
        self._host = host or socket.gethostname()
        self._samples: tuple[Sample, ...] = ()
        self._next = monotonic()

    async def of_celery(self, pids: Mapping[str, int]) -> tuple[Sample, ...]:
        """Return the memory of those of these workers (``name@host``) that run here."""
        here = {worker: pid for worker, pid in pids.items() if worker.rpartition("@")[2] == self._host}
        if not here:
            return ()
        samples = await self._when_due(lambda: celery_memory(self._processes(), here))
        return tuple(sample for sample in samples if sample.label_values[0] in here)

    async def of_arq(self) -> tuple[Sample, ...]:
        """Return the memory of the arq workers that run here, by their settings."""
        return await self._when_due(lambda: arq_memory(self._processes()))

    async def _when_due(self, read: Callable[[], Mapping[str, int]]) -> tuple[Sample, ...]:
        now = self._monotonic()
        if now >= self._next:
            self._next = now + PAUSE_SECONDS
            memory = await in_daemon_thread(read)
            names = sorted(memory)[:MAX_WORKERS]
            self._samples = tuple(RESIDENT_MEMORY.sample(memory[name], name) for name in names)
        return self._samples


def celery_memory(table: Processes, pids: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of each worker whose process id belongs to a Celery worker here."""
    own = {worker: pid for worker, pid in pids.items() if pid in table}
    return _memory(
        table,
        ((worker, pid) for worker, pid in own.items() if any("celery" in word for word in table[pid].command())),
    )


def arq_memory(table: Processes) -> dict[str, int]:
    """Return the bytes of the arq workers by the settings that they were started with."""
    candidates = (pid for pid, process in table.items() if process.name == "arq" or process.name.startswith("python"))
    named = ((arq_settings(table[pid].command()), pid) for pid in candidates)
    return _memory(table, ((name[:MAX_NAME], pid) for name, pid in named if name))


def arq_settings(command: Sequence[str]) -> str:
    """Return the settings of an arq worker's command line, such as ``app.workers.Settings``; else an empty text."""
    for place, word in enumerate(command[:3]):
        if word == "arq" or word.endswith("/arq"):
            options = command[place + 1 :]
            named = (word for word in options if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", word, re.ASCII))
            return next(named, "") if "--check" not in options else ""
    return ""


def _memory(table: Processes, roots: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up the memory of processes and of all that they have started."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: dict[str, int] = {}
    for name, root in roots:
        family = [root]
        for pid in family:  # which grows meanwhile
            found[name] = found.get(name, 0) + table[pid].memory
            family.extend(children.get(pid, ()))
    return found
