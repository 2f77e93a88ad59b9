"""What people read in a message, rendered by amtool."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pack.files import RULES, alert_id, alerts, load
from tests.pack.golden import (
    ANNOTATIONS,
    CHANNELS,
    ESCALATION,
    FOLDER,
    HOSTILE,
    LABELS,
    WARNING,
    cases,
    document,
    notification,
    rendered,
    said,
)

GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""GSM 03.38's basic alphabet; its extension table counts twice, all else makes a segment of 70."""


@pytest.mark.parametrize("case", cases())
def test_each_channel_says_what_its_file_says(case: str, release: str) -> None:
    """Every text in every case is the one that somebody has read, on both versions; `make golden` writes them anew."""
    texts = said(cases()[case], release)
    for channel in CHANNELS:
        assert document(texts[channel]) == (FOLDER / f"{channel}-{case}.txt").read_text(), channel


def test_every_file_is_of_a_case() -> None:
    """No file is left of a case or channel that is gone."""
    assert {path.stem for path in FOLDER.iterdir()} == {f"{channel}-{case}" for channel in CHANNELS for case in cases()}


def levels() -> list[tuple[str, str, int]]:
    """Return the delays of the rules: severity, level, seconds."""
    return [
        (rule["labels"]["severity"], rule["labels"]["escalation"], int(re.sub(r"\D", "", rule["expr"])))
        for group in load(RULES / "thresholds.yml")["groups"]
        for rule in group["rules"]
        if rule["record"] == "auraconnect:escalation_delay:seconds"
    ]


ROLES = {
    ("critical", "secondary"): "lead engineer",
    ("critical", "manager"): "CTO",
    ("warning", "secondary"): "senior engineer",
    ("warning", "manager"): "engineering manager",
    ("info", "secondary"): "on-call engineer",
    ("info", "manager"): "team lead",
}


def test_the_delays_that_are_said_are_those_of_the_rules(release: str) -> None:
    """Each message names the next role of the matrix and the time after which the rules tell it."""
    assert len(levels()) == len(ROLES)
    for severity, level, seconds in levels():
        before = {} if level == "secondary" else {"escalation": "secondary"}
        assert next_of({**LABELS, "severity": severity, **before}, release) == (
            f"{ROLES[severity, level]} after {seconds // 60} min without acknowledgement"
        )


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({**LABELS, "escalation": "manager"}, "nobody, this is the last level"),
        ({**LABELS, "severity": "info", "symptom": "maintenance"}, "nobody"),
        ({**LABELS, "severity": "catastrophic"}, "nobody"),
        ({**LABELS, "escalation": "nobody"}, "nobody"),
        ({}, "nobody"),
    ],
)
def test_what_does_not_climb_says_so(labels: dict[str, str], told: str, release: str) -> None:
    """The last level, reminders of maintenance, and what no rule escalates name nobody."""
    assert next_of(labels, release) == told


def next_of(labels: dict[str, str], release: str) -> str:
    return rendered('{{ template "auraconnect.next" .CommonLabels }}', notification([(labels, {}, "firing")]), release)


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_an_escalation_is_never_called_resolved(status: str, release: str) -> None:
    """Its end is somebody's acknowledgement, or its source's end, and each channel calls it that."""
    texts = said(notification([(ESCALATION, ANNOTATIONS, status)]), release)
    for channel, of_channel in texts.items():
        whole = "\n".join(of_channel.values()).lower()
        assert "resolved" not in whole, channel
        assert ("acknowledged, or over" in whole) == (status == "resolved"), channel


MEASURED = "It answers 25% of its requests with 5xx; the limit is 10%. Above it since yesterday."
TITLE = "AuraConnect's long name of a fault that goes on " * 4
TARGETS = ("", "primary", "a" * 200, "données-数据库", "[x]{y}|~^\\€")
LINKS = (
    "http://localhost:9850/runbooks/DatabaseConnectionLost",
    "https://api.auraconnect.ai/api/v1/health/runbooks/NonCriticalServiceInterrupted",
    "https://example.com/" + "x" * 100,
    "https://example.com/" + "x" * 400,
    "https://example.com/~ada/{runbook}",
    "",
)


@pytest.mark.parametrize(
    "labels", [LABELS, ESCALATION, WARNING, HOSTILE, {}], ids=["alert", "level", "warning", "odd", "bare"]
)
@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_a_text_message_is_one_segment(labels: dict[str, str], status: str, release: str) -> None:
    """160 characters that count once each, however long and foreign labels and links are; a link is whole or absent."""
    for target in TARGETS:
        for link in LINKS:
            named = {**labels, "target": target} if target else labels
            annotations = {
                "summary": TITLE + target,
                "runbook_url": link,
                "description": MEASURED * (link in LINKS[1::2]),
            }
            data = notification([(named, annotations, status)])
            text = rendered('{{ template "auraconnect.sms" . }}', data, release)
            assert len(text) <= 160, text
            assert set(text) <= set(GSM_BASIC), text
            assert text.count("http") <= 1
            if "http" in text:
                whole = rendered('{{ template "auraconnect.runbook" . }}', data, release)
                assert text.endswith(f" {whole}")
            # An escalation tells its source's name instead of the title; a value stands for it where there is no room.
            assert ".." in text or labels is ESCALATION or "(limit 10%)" in text, text


MEASURES = {
    "CertificateExpiring": "2d 23h (limit 3d 0h)",
    "ErrorRateCritical": "25% (limit 10%)",
    "NotificationsFailing": "48 (limit 0)",
    "ResponseTimeCritical": "50% (limit 5%)",
    "RuleFailures": "24 (limit 0)",
    "SecurityBreachDetected": "2 (limit 1)",
    "SendingAlertsFailing": "24 (limit 0)",
    "TransactionIdsRunningOut": "1.7G (limit 1.6G)",
}
"""The value and the limit of the first critical alert that the tests of the rules expect; others have no number."""


def first_critical(name: str) -> dict[str, dict[str, str]]:
    """Return the first critical alert of a name that the tests of the rules expect."""
    tests = [test for group in load(RULES / f"tests/{name}.yml")["tests"] for test in group.get("alert_rule_test", [])]
    expected: Iterator[dict[str, dict[str, str]]] = (one for test in tests for one in test["exp_alerts"])
    return next(one for one in expected if one["exp_labels"]["severity"] == "critical")


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in alerts() if "critical" in alert_id(alert)}))
def test_a_text_message_says_how_bad_it_is(name: str, release: str) -> None:
    """The value against the limit, of each critical alert of the rules that has them, as its own description says."""
    expected = first_critical(name)
    labels, annotations = {"alertname": name, **expected["exp_labels"]}, expected["exp_annotations"]
    text = rendered('{{ template "auraconnect.sms" . }}', notification([(labels, annotations, "firing")]), release)
    assert re.findall(r": (\S+(?: \d+h)? \(limit [^)]*\))", text) == ([MEASURES[name]] if name in MEASURES else [])
    assert len(text) <= 160
    assert "; lead engineer after 5 min http" in text


@pytest.mark.parametrize(
    ("description", "measure"),
    [
        ("5 orders wait. The value is 12.5; the limit is 10.", "12.5 (limit 10)"),
        ("Host h3 (rack r4) has -7 degrees; the limit is -5. So since 9.", "-7 (limit -5)"),
        ("No number; the limit is 3.", None),
        ("It uses 5 of 6; nobody knows what is allowed.", None),
        ("It uses " + "9" * 40 + "; the limit is 3.", None),
        ("", None),
    ],
)
def test_a_text_message_takes_only_what_is_a_value_and_a_limit(
    description: str, measure: str | None, release: str
) -> None:
    """From the sentence that has both, and from no other; what others write may have neither, or too much."""
    annotations = {**ANNOTATIONS, "description": description, "runbook_url": "https://a.example/runbooks/X"}
    text = rendered('{{ template "auraconnect.sms" . }}', notification([(LABELS, annotations, "firing")]), release)
    assert text.startswith(f"CRITICAL database/primary: {f'{measure}: ' if measure else ''}A critical")


def test_a_text_message_names_the_next_role_where_it_can(release: str) -> None:
    """With a link of usual length there is room for it; the last level has no next."""
    manager = {**ESCALATION, "escalation": "manager"}
    found = [
        rendered('{{ template "auraconnect.sms" . }}', notification([(labels, ANNOTATIONS, "firing")]), release)
        for labels in (LABELS, ESCALATION, manager)
    ]
    assert [re.findall("; (.*) http", text) for text in found] == [
        ["lead engineer after 5 min"],
        ["CTO after 15 min"],
        [],
    ]


def test_an_email_shows_foreign_text_as_text(release: str) -> None:
    """Markup in an alert's text is shown, not obeyed."""
    html = said(cases()["hostile-firing"], release)["email-html"]["html"]
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "<b>bold" not in html


def test_the_commands_are_nothing_but_addresses(release: str) -> None:
    """What is pasted into a shell never has anything in it that an alert's author could run."""
    for url in ("https://evil.example/$(id)/dashboard", "https://e/;id;/dashboard", "https://e/`id`/dashboard", "x"):
        data = notification([(LABELS, {"dashboard_url": url}, "firing")])
        commands = rendered('{{ template "auraconnect.commands" . }}', data, release)
        assert re.findall(r"https?://[^\s\"]+", commands) == [
            f"https://api.auraconnect.ai/api/v1/health{path}"
            for path in ("", "/detailed", "/errors?hours=1", "/metrics")
        ]


@pytest.mark.parametrize(
    ("dashboard", "base"),
    [
        ("http://localhost:9850/dashboard", "http://localhost:9850"),
        ("https://api.auraconnect.ai/api/v1/health/dashboard", "https://api.auraconnect.ai"),
        ("https://monitoring.example.com/base/dashboard", "https://monitoring.example.com/base"),
    ],
)
def test_the_commands_go_where_the_dashboard_is(dashboard: str, base: str, release: str) -> None:
    """The four first commands of the procedure, at the address that the links have."""
    data = notification([(LABELS, {"dashboard_url": dashboard}, "firing")])
    api, token = f"{base}/api/v1/health", '-H "Authorization: Bearer $TOKEN"'
    assert rendered('{{ template "auraconnect.commands" . }}', data, release).splitlines() == [
        f"curl {api}",
        f"curl {token} {api}/detailed",
        f'curl {token} "{api}/errors?hours=1"',
        f"curl {token} {api}/metrics",
    ]


def test_only_what_is_critical_and_fires_has_commands(release: str) -> None:
    """Nobody is told to run the first commands for a warning, or once it is over."""
    for labels, status in ((WARNING, "firing"), (LABELS, "resolved"), ({}, "firing")):
        texts = said(notification([(labels, ANNOTATIONS, status)]), release)
        assert "curl" not in str(texts)


@pytest.mark.parametrize(
    ("labels", "severity"),
    [(LABELS, "critical"), (WARNING, "warning"), ({**LABELS, "severity": "page"}, "critical"), ({}, "critical")],
)
def test_pagerduty_and_sms_state_the_severity(labels: dict[str, str], severity: str, release: str) -> None:
    """PagerDuty gets one of its four words, the SMS begins with what the alert says."""
    texts = said(notification([(labels, ANNOTATIONS, "firing")]), release)
    assert texts["pagerduty"]["severity"] == severity
    assert texts["sms"]["message"].startswith(labels.get("severity", "alert").upper())


@pytest.mark.parametrize("url", ["", "see the wiki", "javascript:alert(1)", "https://a|b>c", "ftp://x"])
def test_a_link_is_always_one(url: str, release: str) -> None:
    """What is no address would make PagerDuty refuse the page, so Alertmanager's own stands for it."""
    annotations = {"runbook_url": url, "dashboard_url": url}
    data: dict[str, Any] = notification([(LABELS, annotations, "firing")], "https://alertmanager.example.com")
    texts = said(data, release)["pagerduty"]
    assert [texts[name] for name in texts if name.startswith("links")] == ["https://alertmanager.example.com"] * 3


def test_a_long_list_stays_short(release: str) -> None:
    """Of two thousand alerts ten are told in words, and how many more there are; every service would take that."""
    alerts = [({**WARNING, "target": f"host{number}"}, ANNOTATIONS, "firing") for number in range(2000)]
    texts = said(notification(alerts), release)
    assert "and 1990 more" in texts["slack"]["text"]
    assert max(len(text) for of_channel in texts.values() for text in of_channel.values()) < 10_000
