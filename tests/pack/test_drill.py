"""A drill on a real Alertmanager: what was delivered is timed, what was not is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from auraconnect_exporter import cli
from auraconnect_exporter.pack import drill
from auraconnect_exporter.pack.drill import Outcome
from tests.pack.live import PAGE, live
from tools.servers import program

METRICS = """\
# TYPE alertmanager_notifications_total counter
alertmanager_notifications_total{integration="pagerduty"} 5
alertmanager_notifications_total{integration="webhook",receiver_name="a"} 2
alertmanager_notifications_total{integration="webhook",receiver_name="b"} 1
alertmanager_notifications_total{integration="telegram"} 9
# TYPE alertmanager_notifications_failed_total counter
alertmanager_notifications_failed_total{integration="pagerduty",reason="other"} 2
alertmanager_notifications_failed_total{integration="pagerduty",reason="clientError"} 1
"""


def test_notifications_are_counted_by_channel_over_reasons_and_receivers() -> None:
    """Newer Alertmanagers tell why one failed, and whose it was; a channel that we don't have is left out."""
    sent, failed = drill.counts(METRICS)
    assert (sent, failed) == ({"PagerDuty": 5, "webhook": 3}, {"PagerDuty": 3})


def test_a_channel_that_did_not_deliver_is_shown_as_such() -> None:
    """Whoever reads the report sees at once what does not work, and so does the exit status."""
    outcomes = (Outcome("PagerDuty", 0.3, 10.24, 0), Outcome("Slack", None, None, 7))
    assert drill.report("critical", outcomes) == (
        "Drill of severity critical:\n"
        "CHANNEL    ALERT          END            FAILURES\n"
        "PagerDuty  0.3 s          10.2 s         0\n"
        "Slack      NOT DELIVERED  NOT DELIVERED  7\n"
    )
    assert not drill.succeeded(outcomes)
    assert drill.succeeded(outcomes[:1])


def test_a_drill_goes_down_the_whole_path_and_takes_itself_back(
    release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every channel of a page gets a message that says [TEST], and its end; PagerDuty's incident is resolved."""
    with live(tmp_path, release) as running:
        status = cli.main(
            [
                "drill",
                "--severity=critical",
                f"--alertmanager.config={tmp_path / 'alertmanager.yml'}",
                f"--amtool={program('amtool', release)}",
                f"--alertmanager-url={running.alertmanager.url}",
                "--timeout=60s",
            ]
        )
        said = capsys.readouterr().out
        assert status == 0, said
        messages = running.wait("TEST", PAGE, count=2)
        assert {channel: len(each) for channel, each in messages.items()} == {
            "PagerDuty": 2,
            "SMS": 2,
            "Slack": 2,
            "email": 2,
        }
        assert [incident["status"] for incident in running.channels.pagerduty.incidents] == ["resolved"]
        assert [line.split()[0] for line in said.splitlines()[2:]] == ["PagerDuty", "SMS", "Slack", "email", "webhook"]
        assert "NOT DELIVERED" not in said
