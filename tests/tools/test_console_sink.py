"""The console sink: one readable block a page, one line in its log, and no answer to nonsense."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tools.console_sink import Alert, ConsoleSink, Page, address, parse, render

FIRING = Alert(
    status="firing",
    name="DatabaseConnectionLost",
    severity="critical",
    component="database",
    target="primary",
    summary="The database does not answer",
    runbook="http://localhost:9850/runbooks/DatabaseConnectionLost",
    at="2025-01-02T03:04:05Z",
)


def webhook(*alerts: dict[str, Any]) -> bytes:
    """Write a body as Alertmanager's webhook does (version 4), with the fields that matter here."""
    return json.dumps({"version": "4", "status": "firing", "receiver": "page", "alerts": alerts}).encode()


def alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "DatabaseConnectionLost", "severity": "critical", "component": "database"} | labels,
        "annotations": {"summary": "The database does not answer", "runbook_url": FIRING.runbook},
        "startsAt": "2025-01-02T03:04:05Z",
        "endsAt": "2025-01-02T03:10:00Z",
    }


def post(url: str, body: bytes) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("POST", f"{parts.path}?{parts.query}", body)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_page_is_one_block_that_says_who_what_where_and_the_way_on() -> None:
    """The text has receiver, channels, state, severity, name, place, summary, time and runbook."""
    resolved = Alert("resolved", "ProbeStale", "warning", "redis", "", "", "", "2025-01-02T03:10:00Z")
    page = Page("oncall-engineer-page", ("PagerDuty", "Slack #incidents"), (FIRING, resolved))
    rule = "─" * 72
    assert render(page) == (
        f"{rule}\n"
        "oncall-engineer-page gets, through PagerDuty, Slack #incidents:\n"
        "\n"
        "  FIRING    critical  DatabaseConnectionLost  database/primary\n"
        "            The database does not answer\n"
        "            since 2025-01-02T03:04:05Z\n"
        "            http://localhost:9850/runbooks/DatabaseConnectionLost\n"
        "\n"
        "  RESOLVED  warning  ProbeStale  redis\n"
        "            ended 2025-01-02T03:10:00Z\n"
        f"{rule}"
    )


def test_the_address_tells_receiver_and_channels() -> None:
    """What goes into the URL comes out of it, signs of their own meaning included."""
    url = address("127.0.0.1:4000", "oncall-engineer-page", ["Slack #a&b", "email x@y.example"])
    page = parse(url.removeprefix("http://127.0.0.1:4000"), webhook(alert(target="primary")))
    assert page == Page("oncall-engineer-page", ("Slack #a&b", "email x@y.example"), (FIRING,))


def test_a_resolved_alert_tells_when_it_ended() -> None:
    """Its time is the end, not the beginning."""
    assert parse("/page", webhook(alert("resolved"))).alerts[0].at == "2025-01-02T03:10:00Z"


def test_pages_are_shown_and_kept(tmp_path: Path) -> None:
    """Each notification appears once and is one JSON object in the log."""
    shown: list[str] = []
    log = tmp_path / "pages.log"
    with ConsoleSink(log, shown.append) as sink:
        url = address(sink.place, "page", ["SMS"])
        assert post(url, webhook(alert(target="primary"), alert(target="replica"))) == 200
        assert post(url, webhook(alert("resolved", target="primary"))) == 200
    assert [text.count("DatabaseConnectionLost  database/") for text in shown] == [2, 1]
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(page["receiver"], page["channels"], len(page["alerts"])) for page in kept] == [
        ("page", ["SMS"], 2),
        ("page", ["SMS"], 1),
    ]


def test_the_heartbeat_is_no_page(tmp_path: Path) -> None:
    """Nobody wants to read every minute that all is well."""
    shown: list[str] = []
    with ConsoleSink(tmp_path / "pages.log", shown.append) as sink:
        assert post(address(sink.place, "watchdog", ["webhook"]), webhook(alert(severity="none"))) == 200
    assert shown == []
    assert not (tmp_path / "pages.log").exists()


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"alerts": 5}', b'{"alerts": [{"status": "firing"}]}'])
def test_nonsense_is_refused_and_not_kept(tmp_path: Path, body: bytes) -> None:
    """A body that is no webhook gets 400 and leaves no page."""
    shown: list[str] = []
    with ConsoleSink(tmp_path / "pages.log", shown.append) as sink:
        assert post(address(sink.place, "page", ["SMS"]), body) == 400
    assert shown == []
    assert not (tmp_path / "pages.log").exists()
