"""The proxy fails exactly as long as it is told to."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.standins.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Give the port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while chunk := connection.recv(1024):
                connection.sendall(chunk)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    listener.close()


def ask(connection: socket.socket) -> bytes:
    """Return the echo of a word, or nothing from a connection that was cut."""
    try:
        connection.sendall(b"hello")
        return connection.recv(1024)
    except OSError:
        return b""


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_it_passes_bytes_both_ways(echo: int) -> None:
    """What one side sends the other gets."""
    with Proxy(echo) as proxy, connect(proxy) as client:
        assert ask(client) == b"hello"
        assert proxy.refused == 0


def test_a_blip_cuts_what_is_open_and_the_next_connection_only(echo: int) -> None:
    """A blip without length ends an open connection and the next one; the one after that works."""
    with Proxy(echo) as proxy, connect(proxy) as open_one:
        assert ask(open_one) == b"hello"
        proxy.blip(0.0)
        assert ask(open_one) == b""
        proxy.blip(60.0)
        with connect(proxy) as refused:
            assert ask(refused) == b""
        assert proxy.refused == 1
        proxy.blip(0.0)
        with connect(proxy) as first, connect(proxy) as second:
            assert (ask(first), ask(second)) == (b"", b"hello")
