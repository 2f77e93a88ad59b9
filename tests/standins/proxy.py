"""A TCP proxy that can fail for one moment, in front of a server that does not."""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

from tests.standins.service import Memory


class Proxy(Memory):
    """Passes bytes to and from a port of 127.0.0.1, from a free port of its own.

    `blip` cuts its connections, and new ones too until `seconds` after the first of those. With less than the
    time between two checks, that is one failed check among good ones.
    """

    def __init__(self, to_port: int) -> None:
        super().__init__()
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._pumps: list[threading.Thread] = []
        self._broken_for: float | None = None
        self._broken_until = 0.0
        self.refused = 0
        """How many connections it has cut at once."""

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def blip(self, seconds: float) -> None:
        """Fail once; see the class. Returns at once."""
        with self.change():
            self._broken_for = seconds
            for pair in self._pairs:
                _cut(*pair)
            self._pairs.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for pair in self._pairs:
            _cut(*pair)
        for pump in self._pumps:
            pump.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self.change():
                if self._is_broken():
                    self.refused += 1
                    _cut(client)
                else:
                    self._connect(client)

    def _is_broken(self) -> bool:
        if self._broken_for is None:
            return time.monotonic() < self._broken_until
        self._broken_until, self._broken_for = time.monotonic() + self._broken_for, None
        return True

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._to_port))
        except OSError:
            _cut(client)
            return
        self._pairs.append((client, server))
        for source, sink in ((client, server), (server, client)):
            pump = threading.Thread(target=_pump, args=(source, sink))
            self._pumps.append(pump)
            pump.start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _cut(*connections: socket.socket) -> None:
    for connection in connections:
        with suppress(OSError):
            # Wakes the thread that reads from it, which closing alone would leave asleep.
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
