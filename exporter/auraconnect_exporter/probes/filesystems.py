"""Asks file systems how full they are. One that hangs (a lost network mount) is set aside until it answers.

Source: statvfs(3), which may block for ever and can't be interrupted.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from auraconnect_exporter.blocking import in_daemon_thread

TOGETHER_SECONDS: Final = 0.2
"""How long all file systems together may take before each is asked in a thread of its own."""

StatVfs = Callable[[str], os.statvfs_result]


@dataclass(frozen=True, slots=True)
class Space:
    """A file system's room in bytes, and its inodes: all, and those that an unprivileged user can still use."""

    size: int
    available: int
    files: int
    files_available: int


Answer = Space | OSError


class FileSystems:
    """Knows which file systems hang. ``patience`` is how long one may take, in seconds."""

    def __init__(self, patience: float, statvfs: StatVfs = os.statvfs) -> None:
        self._patience = patience
        self._statvfs = statvfs
        self._hanging: dict[str, asyncio.Task[None]] = {}

    async def ask(self, paths: Iterable[str]) -> dict[str, Answer]:
        """Return what the file systems say; those that hang are missing. Takes at most ``patience``."""
        self._hanging = {path: asked for path, asked in self._hanging.items() if not asked.done()}
        waiting = [path for path in paths if path not in self._hanging]
        if not waiting:
            return {}
        answers: dict[str, Answer] = {}
        slow = threading.Event()
        together = asyncio.create_task(in_daemon_thread(partial(self._ask_all, waiting, answers, slow)))
        first_patience = min(TOGETHER_SECONDS, self._patience / 2)
        await asyncio.wait({together}, timeout=first_patience)
        if together.done():
            return answers
        slow.set()
        current, *rest = [path for path in waiting if path not in answers] or [waiting[-1]]
        alone = {path: asyncio.create_task(in_daemon_thread(partial(self._ask_all, [path], answers))) for path in rest}
        asked = {current: together, **alone}
        self._hanging |= asked
        await asyncio.wait(asked.values(), timeout=self._patience - first_patience)
        return dict(answers)

    def close(self) -> None:
        """Forget the questions that nobody answered; their threads end when the answer comes."""
        for asked in self._hanging.values():
            asked.cancel()
        self._hanging.clear()

    def _ask_all(self, paths: Sequence[str], answers: dict[str, Answer], slow: threading.Event | None = None) -> None:
        """Ask one after the other, until all have answered or one was ``slow``; runs in a thread."""
        for path in paths:
            try:
                stat = self._statvfs(path)
                answers[path] = Space(
                    stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize, stat.f_files, stat.f_favail
                )
            except OSError as error:
                answers[path] = error
            if slow is not None and slow.is_set():
                return
