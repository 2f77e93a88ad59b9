"""A stand-in for channels that have no secret yet: shows each page in the terminal and keeps it in a log.

Alertmanager posts its webhook (version 4) to `http://127.0.0.1:<port>/<receiver>?channel=…&channel=…`, once a
receiver and notification. `render` is the text that a person sees; the log has one JSON object a line.
"""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

_RULE = "─" * 72


@dataclass(frozen=True)
class Alert:
    """One alert of a page. `at` is when it began or, once resolved, ended (RFC 3339)."""

    status: str
    name: str
    severity: str
    component: str
    target: str
    summary: str
    runbook: str
    at: str


@dataclass(frozen=True)
class Page:
    """One notification: who would have got it, through which channels, about which alerts."""

    receiver: str
    channels: tuple[str, ...]
    alerts: tuple[Alert, ...]


def address(place: str, receiver: str, channels: Sequence[str]) -> str:
    """Return the URL at which the sink at a place (host and port) takes a receiver's pages."""
    return f"http://{place}/{receiver}?{urlencode([('channel', channel) for channel in channels])}"


def parse(path: str, body: bytes) -> Page:
    """Return the page that a webhook's path and body describe. Raises ValueError for anything else."""
    url = urlsplit(path)
    try:
        alerts = tuple(_alert(alert) for alert in json.loads(body)["alerts"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an Alertmanager webhook: {error}") from error
    return Page(unquote(url.path.strip("/")), tuple(parse_qs(url.query).get("channel", [])), alerts)


def _alert(alert: dict[str, Any]) -> Alert:
    labels, annotations = alert["labels"], alert.get("annotations", {})
    return Alert(
        status=alert["status"],
        name=labels.get("alertname", ""),
        severity=labels.get("severity", ""),
        component=labels.get("component", ""),
        target=labels.get("target", ""),
        summary=annotations.get("summary", ""),
        runbook=annotations.get("runbook_url", ""),
        at=alert["endsAt" if alert["status"] == "resolved" else "startsAt"],
    )


def render(page: Page) -> str:
    """Return a page as a block of text for the terminal."""
    lines = [_RULE, f"{page.receiver} gets, through {', '.join(page.channels) or 'no channel'}:"]
    for alert in page.alerts:
        place = "/".join(part for part in (alert.component, alert.target) if part)
        lines += [
            "",
            f"  {alert.status.upper():8}  {alert.severity}  {alert.name}  {place}".rstrip(),
            f"            {alert.summary}",
            f"            {'ended' if alert.status == 'resolved' else 'since'} {alert.at}",
            f"            {alert.runbook}",
        ]
    return "\n".join([*(line for line in lines if line.strip() or not line), _RULE])


class ConsoleSink(AbstractContextManager["ConsoleSink"]):
    """The HTTP server, while the block lasts: on a port of its own unless another address is given.

    What would reach a person goes to the log file, and its text to `show`: all but the heartbeat (severity none).
    """

    def __init__(self, log: Path, show: Callable[[str], None], listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        def take(page: Page) -> None:
            if all(alert.severity == "none" for alert in page.alerts):
                return
            with lock, log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(page), ensure_ascii=False) + "\n")
                show(render(page))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                try:
                    take(parse(self.path, body))
                except ValueError as error:
                    self.send_error(HTTPStatus.BAD_REQUEST, str(error))
                    return
                self.send_response(HTTPStatus.OK)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent: the pages themselves are the log."""

        lock = threading.Lock()
        self._server = ThreadingHTTPServer(listen, Handler)
        self.place = f"127.0.0.1:{self._server.server_port}"
        """Where this machine reaches it."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="console-sink", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
