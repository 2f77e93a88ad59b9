"""Calls that block have threads of their own, which nobody waits for and which can't pile up."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from auraconnect_exporter import blocking
from auraconnect_exporter.blocking import ExporterLoop, in_daemon_thread


async def test_a_call_s_result_and_error_come_back() -> None:
    """As if it had been made here."""
    caller = threading.get_ident()
    assert await in_daemon_thread(threading.get_ident) != caller
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


async def test_a_call_that_is_given_up_ends_in_silence() -> None:
    """Its thread goes on, and what it comes to is nobody's business."""
    released, ended = threading.Event(), threading.Event()

    def call() -> None:
        released.wait()
        ended.set()
        raise OSError

    task = asyncio.create_task(in_daemon_thread(call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended.is_set()
    released.set()
    assert ended.wait(5)


async def test_names_are_looked_up_in_daemon_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own executor, for which an exit waits, is not used."""
    threads: list[threading.Thread] = []
    real = socket.getaddrinfo

    def look_up(*args: object, **kwargs: object) -> object:
        threads.append(threading.current_thread())
        return real(*args, **kwargs)  # type: ignore[arg-type]  # whatever the loop passes

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert ("127.0.0.1", 80) in [address for *_, address in found]
    assert [thread.daemon for thread in threads] == [True]


async def test_what_can_be_no_name_is_not_found() -> None:
    """An empty or too long part of a name fails like a name that nobody knows."""
    for host in ("a..b", "x" * 64 + ".test"):
        with pytest.raises(socket.gaierror):
            await asyncio.get_running_loop().getaddrinfo(host, 80)


def test_look_ups_that_hang_are_limited_and_their_places_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many fails at once; when the others end, look-ups work again."""
    monkeypatch.setattr(blocking, "MAX_LOOKUPS", 3)
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait()
        return []

    async def crowd() -> None:
        loop = asyncio.get_running_loop()
        waiting = [asyncio.create_task(loop.getaddrinfo("slow.test", 80)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(socket.gaierror, match="too many"):
            await loop.getaddrinfo("slow.test", 80)
        waiting.pop().cancel()  # gives its place back only when its thread ends
        await asyncio.sleep(0)
        with pytest.raises(socket.gaierror, match="too many"):
            await loop.getaddrinfo("slow.test", 80)
        released.set()
        assert await asyncio.gather(*waiting) == [[], []]
        while threading.active_count() > 1 + others:
            await asyncio.sleep(0.01)
        assert await loop.getaddrinfo("slow.test", 80) == []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    others = threading.active_count() - 1
    with asyncio.Runner(loop_factory=ExporterLoop) as runner:
        runner.run(crowd())


def test_threads_share_their_memory() -> None:
    """What many threads allocate lies in one arena, where glibc would give each of them its own."""
    program = """
import ctypes, sys, threading
from auraconnect_exporter.blocking import share_memory
if sys.argv[1] == "shared":
    share_memory()
barrier = threading.Barrier(9)
def work():
    kept = [bytes(600) for _ in range(100)]
    barrier.wait()
    barrier.wait()
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
barrier.wait()
ctypes.CDLL(None).malloc_stats()  # a heading for each arena, on standard error
barrier.wait()
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(blocking.__file__).parents[1])}
    arenas = {}
    for how in ("shared", "apart"):
        command = [sys.executable, "-c", program, how]
        done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
        arenas[how] = done.stderr.count("Arena ")
    assert (arenas["shared"], arenas["apart"] > 1) == (1, True)
