"""A stand-in for a service on the network: answers as the service would, and remembers every request.

    with PagerDuty(routing_key) as pagerduty:
        pagerduty.url
        pagerduty.wait_for(lambda: len(pagerduty.triggers) == 1, 30)
        pagerduty.requests

Listens on a free port of 127.0.0.1, in a thread of its own.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Request:
    """What a client sent. `at` is when it arrived (time.monotonic); the names of `headers` are in lower case."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Answer:
    """What the service said to a request."""

    status: int
    body: str
    content_type: str = "text/plain"


class Memory:
    """What has happened so far, for threads that wait for something to happen."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold off the others while the block changes something, and wake those who wait."""
        with self._changed:
            yield
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> None:
        """Wait until `predicate` holds, looking again after each change. Raises TimeoutError after `timeout` s."""
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                raise TimeoutError(f"{self} has not seen what was waited for within {timeout:g} s.")


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # as many clients as come in a storm can wait to be let in


class StandIn(Memory):
    """A service that speaks HTTP. A subclass says how it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[Request, Answer]] = []
        self._failures: list[tuple[Answer, bytes]] = []
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def answer(self, request: Request) -> Answer:
        """Return the service's answer, and change its state accordingly."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def failing(self, status: int, body: str = "", *, about: bytes = b"") -> Iterator[None]:
        """Answer requests that have `about` in them with an error of the service's own (429, 503) in the block."""
        failure = Answer(status, body), about
        self._failures.append(failure)
        try:
            yield
        finally:
            self._failures.remove(failure)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __str__(self) -> str:
        lines = [f"{type(self).__name__} with {len(self.requests)} requests"]
        lines += [f"  {request.body.decode(errors='replace')} → {answer.status}" for request, answer in self.requests]
        return "\n".join(lines)

    def _take(self, request: Request) -> Answer:
        with self.change():
            failures = [failure for failure, about in self._failures if about in request.body]
            answer = failures[0] if failures else self.answer(request)
            self.requests.append((request, answer))
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = time.monotonic()
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = take(Request(at, self.command, self.path, headers, body))
                content = answer.body.encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep the terminal for the tests."""

        return Handler
