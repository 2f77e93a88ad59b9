"""What people read in a page, rendered by amtool."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.pack.files import ALERTMANAGER
from tools.servers import program

LABELS = {
    "alertname": "DatabaseConnectionLost",
    "severity": "critical",
    "component": "database",
    "target": "primary",
    "symptom": "availability",
}
ANNOTATIONS = {
    "summary": "A critical database does not answer",
    "description": "Database primary failed.",
    "runbook_url": "http://localhost:9850/runbooks/DatabaseConnectionLost",
    "dashboard_url": "http://localhost:9850/dashboard",
}
SLACK_LINKS = (
    "<http://localhost:9850/runbooks/DatabaseConnectionLost|Runbook> · "
    "<http://localhost:9850/dashboard|Dashboard> · <http://localhost:9093|Alertmanager>"
)


def notification(labels: dict[str, str], annotations: dict[str, str], *, resolved: bool = False) -> dict[str, Any]:
    """Return the data of a notification about one alert, as Alertmanager hands it to a template."""
    status = "resolved" if resolved else "firing"
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": "2026-01-02T03:04:05.5Z",
        "endsAt": "2026-01-02T03:14:08.7Z",
    }
    return {
        "status": status,
        "alerts": [alert],
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://localhost:9093",
    }


@pytest.mark.parametrize(
    ("template", "data", "expected"),
    [
        (
            "title",
            notification(LABELS, ANNOTATIONS),
            "[CRITICAL] database/primary: A critical database does not answer",
        ),
        (
            "title",
            notification(LABELS, ANNOTATIONS, resolved=True),
            "[RESOLVED] database/primary: A critical database does not answer",
        ),
        ("title", notification({"alertname": "Posted"}, {}), "[ALERT] AuraConnect: Posted"),
        ("title", notification({}, {}), "[ALERT] AuraConnect: 1 alerts"),
        ("pagerduty.severity", notification(LABELS, ANNOTATIONS), "critical"),
        ("pagerduty.severity", notification({**LABELS, "severity": "info"}, ANNOTATIONS), "info"),
        ("pagerduty.severity", notification({**LABELS, "severity": "page"}, ANNOTATIONS), "critical"),
        ("runbook", notification(LABELS, ANNOTATIONS), "http://localhost:9850/runbooks/DatabaseConnectionLost"),
        ("runbook", notification(LABELS, {}), "http://localhost:9093"),
        ("dashboard", notification(LABELS, {}), "http://localhost:9093"),
        (
            "descriptions",
            notification(LABELS, ANNOTATIONS),
            "Database primary failed. (since 2026-01-02 03:04:05 UTC)",
        ),
        (
            "descriptions",
            notification(LABELS, ANNOTATIONS, resolved=True),
            "Database primary failed. (since 2026-01-02 03:04:05 UTC, over after 10m3s)",
        ),
        (
            "sms",
            notification(LABELS, ANNOTATIONS),
            f"[CRITICAL] database/primary: A critical database does not answer {ANNOTATIONS['runbook_url']}",
        ),
        ("sms.subject", notification(LABELS, ANNOTATIONS), "AuraConnect CRITICAL: DatabaseConnectionLost"),
        ("slack.color", notification(LABELS, ANNOTATIONS), "danger"),
        ("slack.color", notification({**LABELS, "severity": "warning"}, ANNOTATIONS), "warning"),
        ("slack.color", notification(LABELS, ANNOTATIONS, resolved=True), "good"),
        (
            "slack.title",
            notification({**LABELS, "target": "<b>"}, {"summary": "a <!channel> & b"}),
            "[CRITICAL] database/&lt;b&gt;: a &lt;!channel&gt; &amp; b",
        ),
        (
            "slack.text",
            notification(LABELS, {**ANNOTATIONS, "description": "see <!here> & now"}),
            f"see &lt;!here&gt; &amp; now _since 2026-01-02 03:04:05 UTC_\n{SLACK_LINKS}",
        ),
    ],
)
def test_a_text_reads_as_written(
    template: str, data: dict[str, Any], expected: str, release: str, tmp_path: Path
) -> None:
    """Each text says what is wrong, where and since when, and text of others cannot act in Slack."""
    assert rendered(f"auraconnect.{template}", data, release, tmp_path) == expected


def test_an_email_shows_foreign_text_as_text(release: str, tmp_path: Path) -> None:
    """Markup in an alert's text is shown, not obeyed; the links are there."""
    data = notification(LABELS, {**ANNOTATIONS, "description": "<script>alert(1)</script>"})
    html = rendered("auraconnect.email.html", data, release, tmp_path, kind="html")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert 'href="http://localhost:9850/runbooks/DatabaseConnectionLost"' in html


def rendered(template: str, data: dict[str, Any], release: str, folder: Path, kind: str = "text") -> str:
    """Return what a template makes of a notification."""
    (folder / "data.json").write_text(json.dumps(data))
    done = subprocess.run(
        [
            program("amtool", release),
            "template",
            "render",
            f"--template.glob={ALERTMANAGER.parent / 'templates/*.tmpl'}",
            f'--template.text={{{{ template "{template}" . }}}}',
            f"--template.type={kind}",
            f"--template.data={folder / 'data.json'}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
