"""What each channel says in each case, as amtool renders it with the receivers' own settings; kept in `golden/`.

`python -m tests.pack.golden` (`make golden`) writes the files anew; read the difference before you commit it.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.pack.files import ALERTMANAGER, load
from tools.servers import program

FOLDER = Path(__file__).parent / "golden"
RECEIVER = "oncall-engineer-page"
CHANNELS = ("pagerduty", "sms", "slack", "email-text", "email-html")

Labels = Mapping[str, str]
Data = dict[str, Any]

_SEPARATOR = "\n--- 8< ---\n"
LABELS = {
    "alertname": "DatabaseConnectionLost",
    "severity": "critical",
    "component": "database",
    "target": "primary",
    "symptom": "availability",
}
ANNOTATIONS = {
    "summary": "A critical database does not answer",
    "description": "Database primary failed at least 3 checks in a row (up is 0 instead of 1).",
    "runbook_url": "https://api.auraconnect.ai/api/v1/health/runbooks/DatabaseConnectionLost",
    "dashboard_url": "https://api.auraconnect.ai/api/v1/health/dashboard",
}
MEASURED = {
    "alertname": "ErrorRateCritical",
    "severity": "critical",
    "component": "api",
    "target": "auraconnect-api",
    "symptom": "errors",
}
MEASURED_ANNOTATIONS = {
    "summary": "More than a tenth of the requests fail",
    "description": "auraconnect-api answers 12.5% of its requests with 5xx; the limit is 10%. "
    "Above it since 2026-01-02 03:04:05 +0000 UTC.",
    "runbook_url": "https://api.auraconnect.ai/api/v1/health/runbooks/ErrorRateCritical",
    "dashboard_url": "https://api.auraconnect.ai/api/v1/health/dashboard",
}
ESCALATION = {
    **LABELS,
    "alertname": "EscalatedToSecondary",
    "escalation": "secondary",
    "source_alert": "DatabaseConnectionLost",
}
ESCALATION_ANNOTATIONS = {
    "summary": "Nobody has acknowledged an alert in time, the secondary contact is told",
    "description": "DatabaseConnectionLost of database primary (critical) has been firing for 5m 0s without "
    "acknowledgement. Told now: the lead engineer. Resolved means: acknowledged, or over.",
    "runbook_url": "https://api.auraconnect.ai/api/v1/health/runbooks/EscalatedToSecondary",
    "dashboard_url": "https://api.auraconnect.ai/api/v1/health/dashboard",
}
WARNING = {
    "alertname": "MemoryUsageHigh",
    "severity": "warning",
    "component": "host",
    "target": "host1",
    "symptom": "saturation",
}
HOSTILE = {
    "alertname": '<!channel> *Datenbank* 数据库\nis "down" & `out`' + " of everything" * 20,
    "severity": "critical",
    "component": "<script>alert(1)</script>",
    "target": "a-very-long-name-of-a-host.in-a-long-domain.example.com:/var/lib/postgresql/données",
    "symptom": "[]{}|^~\\",
}
HOSTILE_ANNOTATIONS = {
    "summary": "5 > 3 & <https://evil.example|click here> {{ .Labels }} 😀" + " and so on" * 30,
    "description": "<b>bold</b> $(rm -rf /) `id` ü €" + " on and on" * 200,
    "runbook_url": "javascript:alert(1)",
    "dashboard_url": "https://evil.example/$(id)/dashboard",
}


def notification(
    alerts: Sequence[tuple[Labels, Labels, str]], external_url: str = "https://alertmanager.auraconnect.ai"
) -> Data:
    """Return what Alertmanager hands to a template; each alert is labels, annotations and status."""
    return {
        "receiver": RECEIVER,
        "status": "firing" if any(status == "firing" for _, _, status in alerts) else "resolved",
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": f"2026-01-02T03:04:{number % 60:02}.5Z",
                "endsAt": "2026-01-02T03:14:08.7Z" if status == "resolved" else "0001-01-01T00:00:00Z",
                "fingerprint": "0123456789abcdef",
            }
            for number, (labels, annotations, status) in enumerate(alerts)
        ],
        "groupLabels": {},
        "commonLabels": _common([labels for labels, _, _ in alerts]),
        "commonAnnotations": _common([annotations for _, annotations, _ in alerts]),
        "externalURL": external_url,
    }


def _common(maps: Sequence[Labels]) -> dict[str, str]:
    return {name: value for name, value in maps[0].items() if all(each.get(name) == value for each in maps)}


def several(count: int, status: str) -> Data:
    """Return a notification about so many hosts."""
    common = {"summary": "Memory usage above the limit", "dashboard_url": ANNOTATIONS["dashboard_url"]}
    return notification(
        [
            (
                {**WARNING, "target": f"host{number}"},
                {
                    **common,
                    "description": f"host{number} uses {85 + number % 10}.5% of its memory; the limit is 85%.",
                    "runbook_url": "https://api.auraconnect.ai/api/v1/health/runbooks/MemoryUsageHigh",
                },
                status,
            )
            for number in range(1, count + 1)
        ]
    )


def cases() -> dict[str, Data]:
    """Return the cases by name."""
    manager = {**ESCALATION, "alertname": "EscalatedToManager", "escalation": "manager"}
    lost, told = (LABELS, ANNOTATIONS), (ESCALATION, ESCALATION_ANNOTATIONS)
    return {
        "one-firing": notification([(*lost, "firing")]),
        "one-resolved": notification([(*lost, "resolved")]),
        **{
            f"{name}-{status}": several(count, status)
            for name, count in (("two", 2), ("fifty", 50))
            for status in ("firing", "resolved")
        },
        "measured-firing": notification([(MEASURED, MEASURED_ANNOTATIONS, "firing")]),
        "one-of-two-resolved": notification(
            [(*lost, "resolved"), ({**LABELS, "target": "replica"}, ANNOTATIONS, "firing")]
        ),
        "secondary-firing": notification([(*told, "firing")]),
        "secondary-resolved": notification([(*told, "resolved")]),
        "manager-firing": notification([(manager, ESCALATION_ANNOTATIONS, "firing")]),
        "bare-firing": notification([({}, {}, "firing")]),
        "bare-resolved": notification([({}, {}, "resolved")]),
        "named-firing": notification([({"alertname": "PostedBySomebody"}, {}, "firing")]),
        "hostile-firing": notification([(HOSTILE, HOSTILE_ANNOTATIONS, "firing")]),
    }


def settings() -> dict[str, list[tuple[str, str]]]:
    """Return the texts that the receiver's channels are told to send: for each channel, setting and template."""
    (receiver,) = [one for one in load(ALERTMANAGER)["receivers"] if one["name"] == RECEIVER]
    email = receiver["email_configs"][0]
    return {
        "pagerduty": list(_templates(receiver["pagerduty_configs"][0])),
        "sms": list(_templates(receiver["sns_configs"][0])),
        "slack": list(_templates(receiver["slack_configs"][0])),
        "email-text": [("Subject", email["headers"]["Subject"]), ("text", email["text"])],
        "email-html": [("html", email["html"])],
    }


def _templates(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _templates(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _templates(value, f"{path}[{index}]")
    elif isinstance(node, str) and "{{" in node:
        yield path, node


def said(data: Data, release: str) -> dict[str, dict[str, str]]:
    """Return what each channel says, by setting, rendered by one version of amtool."""
    found: dict[str, dict[str, str]] = {}
    for kind in ("text", "html"):
        wanted = [
            (channel, name, text)
            for channel, templates in settings().items()
            for name, text in templates
            if (name == "html") == (kind == "html")
        ]
        texts = rendered(_SEPARATOR.join(text for _, _, text in wanted), data, release, kind).split(_SEPARATOR)
        for (channel, name, _), text in zip(wanted, texts, strict=True):
            found.setdefault(channel, {})[name] = text
    return found


def rendered(text: str, data: Data, release: str, kind: str = "text") -> str:
    """Return what a template makes of a notification."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        done = subprocess.run(
            [
                program("amtool", release),
                "template",
                "render",
                f"--template.glob={ALERTMANAGER.parent / 'templates/*.tmpl'}",
                f"--template.text={text}",
                f"--template.type={kind}",
                f"--template.data={file.name}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout.removesuffix("\n")


def document(texts: Mapping[str, str]) -> str:
    """Return what a channel says as a page to read: each setting, and below it its text."""
    return "\n".join(f"# {name}\n{text}\n" for name, text in texts.items())


def main() -> None:
    """Write the files anew, with the newest version."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for case, data in cases().items():
        for channel, texts in said(data, "newest").items():
            (FOLDER / f"{channel}-{case}.txt").write_text(document(texts))


if __name__ == "__main__":
    main()
