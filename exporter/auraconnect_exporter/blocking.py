"""Calls that may never return, kept out of the way: each has a daemon thread, which no exit waits for.

The event loop's own executor is no place for them: ``asyncio.run`` and the interpreter wait for its threads, so one
hanging name server would hold up the shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MAX_LOOKUPS = 64
"""Name look-ups that may hang at a time; more are refused, so that threads can't pile up."""


async def in_daemon_thread(call: Callable[[], T]) -> T:
    """Return or raise what ``call()`` does. Cancelling abandons the thread, which ends whenever its call does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def work() -> None:
        try:
            outcome: tuple[T | None, Exception | None] = (call(), None)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the one who awaits
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody awaits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True, name="blocking call").start()
    return await future


def share_memory() -> None:
    """Let all threads take memory from one place.

    glibc gives each thread an arena of its own, so that they don't wait for each other; ours rarely run at the same
    time, and what they leave behind in each arena was measured at a megabyte. Elsewhere this does nothing.
    """
    arena_max = -8  # M_ARENA_MAX of malloc.h
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(arena_max, 1)


class ExporterLoop(asyncio.SelectorEventLoop):
    """An event loop that looks names up in daemon threads, for every library that runs on it."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups = threading.BoundedSemaphore(MAX_LOOKUPS)

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Look a name up as ``socket.getaddrinfo`` does. Raises gaierror."""
        if not self._lookups.acquire(blocking=False):
            raise socket.gaierror(socket.EAI_AGAIN, "too many name look-ups are waiting for an answer")

        def look_up() -> Any:
            try:
                return socket.getaddrinfo(*args, **kwargs)
            except UnicodeError:  # the host can't be a name at all: it has an empty or too long part
                raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
            finally:
                self._lookups.release()  # here, not in the coroutine: a cancelled look-up still has its thread

        return await in_daemon_thread(look_up)
