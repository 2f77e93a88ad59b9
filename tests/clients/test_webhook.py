"""Alertmanager's deliveries: what is read from them, and what is refused, whatever is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.clients.alertmanager import (
    MAX_ALERTS,
    MAX_LABELS,
    MAX_NAME,
    MAX_VALUE,
    UnusableWebhook,
    Webhook,
    parse_webhook,
)
from auraconnect_exporter.records import moment_of

# A delivery of Alertmanager 0.25, as it came.
DELIVERY: dict[str, Any] = {
    "receiver": "incident-log",
    "status": "resolved",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "DatabaseConnectionLost", "severity": "critical", "target": "primary"},
            "annotations": {"summary": "A database is lost"},
            "startsAt": "2026-11-25T03:28:00.123956789Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
            "fingerprint": "3fedba85595fcdd4",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "MemoryUsageHigh"},
            "annotations": {},
            "startsAt": "2026-11-25T05:28:00+02:00",
            "endsAt": "2026-11-24T22:58:00.5-05:00",
            "generatorURL": "",
            "fingerprint": "00000000000000ff",
        },
    ],
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "version": "4",
    "groupKey": '{}/{severity="critical"}:{alertname="DatabaseConnectionLost"}',
    "truncatedAlerts": 3,
}


def body(**changes: Any) -> bytes:
    """Return the delivery with other values at its top."""
    return json.dumps(DELIVERY | changes).encode()


def with_alert(**changes: Any) -> bytes:
    """Return a delivery of one firing alert with other values; None takes one away."""
    alert = {key: value for key, value in (DELIVERY["alerts"][0] | changes).items() if value is not None}
    return body(alerts=[alert])


def test_a_delivery_is_read_whole() -> None:
    """Every field, zones of time turned to UTC, cut to milliseconds; an alert that fires has no end."""
    webhook = parse_webhook(body())
    assert (webhook.receiver, webhook.status, webhook.truncated) == ("incident-log", "resolved", 3)
    assert webhook.group_key == DELIVERY["groupKey"]
    assert webhook.external_url == "http://alertmanager:9093"
    firing, resolved = webhook.alerts
    assert firing.firing
    assert firing.ends is None
    assert firing.starts == moment_of(datetime(2026, 11, 25, 3, 28, 0, 123000, UTC))
    assert firing.labels == DELIVERY["alerts"][0]["labels"]
    assert firing.annotations == {"summary": "A database is lost"}
    assert firing.generator_url == "http://prometheus:9090/graph?g0.expr=up"
    assert firing.fingerprint == "3fedba85595fcdd4"
    assert not resolved.firing
    assert resolved.starts == moment_of(datetime(2026, 11, 25, 3, 28, tzinfo=UTC))
    assert resolved.ends == moment_of(datetime(2026, 11, 25, 3, 58, 0, 500000, UTC))


def test_what_newer_versions_add_is_ignored() -> None:
    """Unknown keys at the top and in an alert change nothing."""
    alerts = [alert | {"mutedBy": ["night"], "deep": [[1], {"a": None}]} for alert in DELIVERY["alerts"]]
    assert parse_webhook(body(alerts=alerts, notificationReason="repeat", big=10**400)) == parse_webhook(body())


def test_what_older_versions_leave_out_is_not_needed() -> None:
    """Without truncatedAlerts none were left out; an end of a firing alert means nothing."""
    short = {key: value for key, value in DELIVERY.items() if key not in {"truncatedAlerts", "externalURL"}}
    assert parse_webhook(json.dumps(short).encode()).truncated == 0
    assert parse_webhook(with_alert(endsAt=None)) == parse_webhook(with_alert(endsAt="2027-01-01T00:00:00Z"))


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "Ümläut", "ns/π.x": "日本\n\t\"quoted\" 'x' \\ \u2028 😀"},
        {"a" * MAX_NAME: "v" * MAX_VALUE},
        {f"name{number}": "" for number in range(MAX_LABELS)},
    ],
)
def test_labels_are_any_text(labels: dict[str, str]) -> None:
    """Since Prometheus 3 names are UTF-8 as well; text comes through unchanged, up to the limits."""
    (alert,) = parse_webhook(with_alert(labels=labels, annotations=labels)).alerts
    assert alert.labels == labels
    assert alert.annotations == labels


@pytest.mark.parametrize(
    ("hostile", "problem"),
    [
        (b"", "truncated"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b'{"version": "4"}', "missing"),
        (body()[:-1], "truncated"),
        (body() + b"x", "malformed"),
        (b'{"alerts": ' + b"[" * 200_000, "Expected `object`"),
        (b'{"other": ' + b'{"a":' * 200_000, "nested too deeply"),
        (body().decode().encode("utf-16"), "malformed"),
        (body(receiver="?").replace(b"?", b"\xff"), "UTF-8"),
        (body(receiver="?").replace(b"?", b"\xed\xa0\x80"), "UTF-8"),
        (body(receiver="?").replace(b"?", rb"\ud800"), "no delivery"),
        (body(receiver="a\0"), "receiver has a NUL"),
        (body(receiver="a" * (MAX_NAME + 1)), "more than"),
        (body(groupKey="a\0"), "groupKey has a NUL"),
        (body(groupKey=None), "Expected `str`"),
        (body(externalURL="\0"), "externalURL has a NUL"),
        (body(version="5"), "version"),
        (body(version=4), "Expected `str`"),
        (body(status="perhaps"), "Invalid enum"),
        (body(truncatedAlerts=-1), "truncatedAlerts"),
        (body(truncatedAlerts=2**63), "truncatedAlerts"),
        (body(truncatedAlerts=10**4000), "out of range"),
        (body(truncatedAlerts=1.5), "Expected `int`"),
        (body(alerts={}), "Expected `array`"),
        (body(alerts=[1]), "Expected `object`"),
        (body(alerts=DELIVERY["alerts"][:1] * (MAX_ALERTS + 1)), "more than 10000 alerts"),
        (with_alert(fingerprint=None), "fingerprint"),
        (with_alert(fingerprint=""), "fingerprint"),
        (with_alert(fingerprint="a b"), "fingerprint"),
        (with_alert(fingerprint="a\0"), "fingerprint"),
        (with_alert(fingerprint="a" * (MAX_NAME + 1)), "fingerprint"),
        (with_alert(status="unknown"), "Invalid enum"),
        (with_alert(labels=None), "labels"),
        (with_alert(labels=["a"]), "Expected `object`"),
        (with_alert(labels={"a": 1}), "Expected `str`"),
        (with_alert(labels={"a": None}), "Expected `str`"),
        (with_alert(labels={"": "a"}), "a label has no name"),
        (with_alert(labels={"a\0": "a"}), "the name of a label has a NUL"),
        (with_alert(labels={"a": "\0"}), "a label has a NUL"),
        (with_alert(labels={"a" * (MAX_NAME + 1): "a"}), "the name of a label has more than"),
        (with_alert(labels={"a": "a" * (MAX_VALUE + 1)}), "a label has more than"),
        (with_alert(labels={f"a{number}": "" for number in range(MAX_LABELS + 1)}), "more than 256 labels"),
        (with_alert(annotations={"a": "\0"}), "an annotation has a NUL"),
        (with_alert(generatorURL="\0"), "generatorURL has a NUL"),
        (with_alert(startsAt=None), "startsAt"),
        (with_alert(startsAt=1_795_000_000), "Expected `str`"),
        (with_alert(startsAt="0001-01-01T00:00:00Z"), "startsAt is out of range"),
        (with_alert(startsAt="1969-12-31T23:59:59.9Z"), "startsAt is out of range"),
        (with_alert(startsAt="1970-01-01T00:00:00+00:01"), "startsAt is out of range"),
        (with_alert(startsAt="9999-12-31T23:59:59-14:00"), "startsAt is out of range"),
        (with_alert(startsAt="10000-01-01T00:00:00Z"), "startsAt is not a time"),
        (with_alert(startsAt="2026-02-30T00:00:00Z"), "startsAt is not a time"),
        (with_alert(startsAt="0000-01-01T00:00:00Z"), "startsAt is not a time"),
        (with_alert(startsAt="2026-01-01T24:00:00Z"), "startsAt is not a time"),
        (with_alert(startsAt="2026-01-01T00:00:00"), "startsAt is not a time"),
        (with_alert(startsAt="2026-01-01T00:00:00Z\n"), "startsAt is not a time"),
        (with_alert(startsAt="٢٠٢٦-01-01T00:00:00Z"), "startsAt is not a time"),
        (with_alert(startsAt="2026-01-01T00:00:00." + "1" * 100_000 + "Z"), "startsAt is not a time"),
        (with_alert(status="resolved"), "endsAt is out of range"),
        (with_alert(status="resolved", endsAt=None), "endsAt is not a time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_be_used_is_refused_with_the_reason(hostile: bytes, problem: str) -> None:
    """Alertmanager would send it for ever; the message says what is wrong, and repeats nothing of it."""
    with pytest.raises(UnusableWebhook, match=problem) as refused:
        parse_webhook(hostile)
    assert len(str(refused.value)) < 300
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def read_or_refuse(hostile: bytes) -> Webhook | None:
    """Return a delivery, or None where it is refused; anything else is raised."""
    try:
        return parse_webhook(hostile)
    except UnusableWebhook:
        return None


@given(st.binary())
def test_no_bytes_do_harm(hostile: bytes) -> None:
    """Whatever arrives is a delivery or is refused; no bytes at random are one."""
    assert read_or_refuse(hostile) is None


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    key=st.sampled_from(sorted({*DELIVERY, *DELIVERY["alerts"][0]})),
    value=_values | st.datetimes().map(datetime.isoformat),
)
def test_no_value_does_harm(key: str, value: Any) -> None:
    """Any JSON in the place of any field is used as it is or refused."""
    inside = key in DELIVERY["alerts"][0]
    webhook = read_or_refuse(with_alert(**{key: value}) if inside else body(**{key: value}))
    if webhook is not None:
        for alert in webhook.alerts:
            assert alert.fingerprint
            assert "\0" not in "".join([*alert.labels, *alert.labels.values()])
            assert alert.starts > 0
