"""Alertmanager, 0.25 and newer: its webhook, which it sends us, and its API (v2), which we ask and tell.

Source: Alertmanager's documentation, "Configuration" (webhook_config) and ``api/v2/openapi.yaml``; what newer versions
add is ignored. The webhook tells times in full, the API lists them cut to whole milliseconds; so that the same
``startsAt`` is the same moment, all are cut to milliseconds here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from auraconnect_exporter.clients.json_client import JsonClient, decode
from auraconnect_exporter.clients.server import Server
from auraconnect_exporter.records import Moment, instant_of, moment_of

log = logging.getLogger(__name__)

MILLISECOND: Final = 1000
"""Microseconds of a millisecond."""

MAX_ALERTS: Final = 10_000
"""Alerts in one delivery."""

MAX_LABELS: Final = 256
"""Labels of an alert, and annotations of it."""

MAX_NAME: Final = 1024
"""Characters of a label's name, a fingerprint, a receiver or an address."""

MAX_VALUE: Final = 65_536
"""Characters of a label's or annotation's value, or of a group's key."""


class UnusableWebhook(Exception):
    """A delivery can't be used, and never will be; the message says what is wrong with it, without its content."""


@dataclass(frozen=True, slots=True)
class WebhookAlert:
    """An alert of a delivery. ``ends`` is there exactly when it is resolved."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: Moment
    ends: Moment | None
    generator_url: str

    @property
    def firing(self) -> bool:
        """Whether it is not resolved."""
        return self.ends is None


@dataclass(frozen=True, slots=True)
class Webhook:
    """One delivery: the alerts of one group, for one receiver.

    ``truncated`` is how many more the group had than its configuration lets through. ``external_url`` is how the
    Alertmanager that sent it calls itself.
    """

    status: Literal["firing", "resolved"]
    receiver: str
    group_key: str
    truncated: int
    external_url: str
    alerts: tuple[WebhookAlert, ...]


@dataclass(frozen=True, slots=True)
class AlertmanagerAlert:
    """An alert that Alertmanager holds, which therefore fires; ``ends_at`` is when it is over unless sent again.

    ``state`` may be a word that is newer than we are. ``receivers`` are those of all routes that it takes. ``muted_by``
    are time intervals; 0.25 does not tell them, and 0.33 has a place for them but leaves it empty in this list.
    """

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: Moment
    ends_at: Moment
    updated_at: Moment
    state: str
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    generator_url: str = ""

    @property
    def suppressed(self) -> bool:
        """Whether it is kept from being notified."""
        return self.state == "suppressed" or bool(self.silenced_by or self.inhibited_by or self.muted_by)


@dataclass(frozen=True, slots=True)
class PostableAlert:
    """An alert to tell Alertmanager of; without ``ends_at`` it is over ``resolve_timeout`` (5 minutes) from now."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    generator_url: str = ""


@dataclass(frozen=True, slots=True)
class AlertmanagerStatus:
    """Who answers, and since when: one that was started a moment ago may not know yet what fires.

    ``config`` is the configuration that it runs with, as YAML, without secrets.
    """

    version: str
    started_at: Moment
    config: str = ""


class Alertmanager:
    """The API of one Alertmanager. Every call raises ClientError when it fails."""

    def __init__(self, server: Server) -> None:
        self._client = JsonClient(server, "Alertmanager")
        self._unusable = 0

    async def alerts(self) -> list[AlertmanagerAlert]:
        """Return what it holds: what fires, suppressed or not.

        Left out are those that ``parse_webhook`` refuses as well, so that one of them hides no other.
        """
        answer = await self._client.get("/api/v2/alerts", list[_ListedAlert])
        found: list[AlertmanagerAlert] = []
        reason = ""
        for listed in answer:
            try:
                found.append(listed.checked())
            except UnusableWebhook as problem:
                reason = str(problem)
        unusable = len(answer) - len(found)
        if unusable > self._unusable:
            log.warning("Alertmanager holds alerts that can't be used", extra={"alerts": unusable, "reason": reason})
        self._unusable = unusable
        return found

    async def post(self, alerts: Iterable[PostableAlert]) -> None:
        """Tell it of alerts, new ones, ones that go on, and ones that are over. Of several, it keeps the good ones."""
        await self._client.post_json("/api/v2/alerts", [_postable(alert) for alert in alerts])

    async def status(self) -> AlertmanagerStatus:
        """Return its version, when it was started, and its configuration."""
        answer = await self._client.get("/api/v2/status", _Status)
        try:
            started = _moment(answer.uptime, "uptime")
            return AlertmanagerStatus(answer.version_info.version, started, answer.config.original)
        except UnusableWebhook as problem:
            raise self._client.failed(f"answers what can't be read: {problem}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def parse_webhook(body: bytes) -> Webhook:
    """Take a delivery (version 4) apart. Raises UnusableWebhook; nothing else, whatever the body is."""
    try:
        payload = decode(body, _Payload)
    except ValueError as error:
        raise UnusableWebhook(f"it is no delivery of Alertmanager: {error}") from None
    if payload.version != "4":
        raise UnusableWebhook("its version is not 4")
    if not 0 <= payload.truncated < 2**63:
        raise UnusableWebhook("truncatedAlerts is out of range")
    if len(payload.alerts) > MAX_ALERTS:
        raise UnusableWebhook(f"it has more than {MAX_ALERTS} alerts")
    return Webhook(
        status=payload.status,
        receiver=_text(payload.receiver, "receiver", MAX_NAME),
        group_key=_text(payload.group_key, "groupKey", MAX_VALUE),
        truncated=payload.truncated,
        external_url=_text(payload.external_url, "externalURL", MAX_VALUE),
        alerts=tuple(alert.checked() for alert in payload.alerts),
    )


class _PayloadAlert(msgspec.Struct, rename="camel"):
    status: Literal["firing", "resolved"]
    fingerprint: str
    labels: dict[str, str]
    starts_at: str
    ends_at: str = ""
    annotations: dict[str, str] = {}
    generator_url: str = msgspec.field(name="generatorURL", default="")

    def checked(self) -> WebhookAlert:
        """Return it, checked. Raises UnusableWebhook."""
        # While it fires, endsAt is the zero of Go's time: year 1.
        ends = _moment(self.ends_at, "endsAt") if self.status == "resolved" else None
        return WebhookAlert(
            fingerprint=_fingerprint(self.fingerprint),
            labels=_labels(self.labels, "a label"),
            annotations=_labels(self.annotations, "an annotation"),
            starts=_moment(self.starts_at, "startsAt"),
            ends=ends,
            generator_url=_text(self.generator_url, "generatorURL", MAX_VALUE),
        )


class _Payload(msgspec.Struct, rename="camel"):
    version: str
    status: Literal["firing", "resolved"]
    group_key: str
    receiver: str
    alerts: list[_PayloadAlert]
    truncated: int = msgspec.field(name="truncatedAlerts", default=0)
    external_url: str = msgspec.field(name="externalURL", default="")


class _ListedStatus(msgspec.Struct, rename="camel"):
    state: str
    silenced_by: list[str] | None = None
    inhibited_by: list[str] | None = None
    muted_by: list[str] | None = None


class _Receiver(msgspec.Struct):
    name: str


class _ListedAlert(msgspec.Struct, rename="camel"):
    fingerprint: str
    labels: dict[str, str]
    starts_at: str
    ends_at: str
    updated_at: str
    status: _ListedStatus
    annotations: dict[str, str] = {}
    receivers: list[_Receiver] = []
    generator_url: str = msgspec.field(name="generatorURL", default="")

    def checked(self) -> AlertmanagerAlert:
        """Return it, checked. Raises UnusableWebhook."""
        return AlertmanagerAlert(
            fingerprint=_fingerprint(self.fingerprint),
            labels=_labels(self.labels, "a label"),
            annotations=_labels(self.annotations, "an annotation"),
            starts_at=_moment(self.starts_at, "startsAt"),
            ends_at=_moment(self.ends_at, "endsAt"),
            updated_at=_moment(self.updated_at, "updatedAt"),
            state=self.status.state,
            silenced_by=tuple(self.status.silenced_by or ()),
            inhibited_by=tuple(self.status.inhibited_by or ()),
            muted_by=tuple(self.status.muted_by or ()),
            receivers=tuple(receiver.name for receiver in self.receivers),
            generator_url=_text(self.generator_url, "generatorURL", MAX_VALUE),
        )


class _VersionInfo(msgspec.Struct):
    version: str


class _Config(msgspec.Struct):
    original: str = ""


class _Status(msgspec.Struct, rename="camel"):
    version_info: _VersionInfo
    uptime: str
    config: _Config = msgspec.field(default_factory=_Config)


def _postable(alert: PostableAlert) -> dict[str, Any]:
    times = {"startsAt": alert.starts_at, "endsAt": alert.ends_at}
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        **{name: instant_of(at) for name, at in times.items() if at is not None},
        **({"generatorURL": alert.generator_url} if alert.generator_url else {}),
    }


def _text(text: str, what: str, most: int) -> str:
    """Return text that the store can keep: PostgreSQL has no NUL. Surrogates are no JSON."""
    if "\0" in text:
        raise UnusableWebhook(f"{what} has a NUL in it")
    if len(text) > most:
        raise UnusableWebhook(f"{what} has more than {most} characters")
    return text


def _fingerprint(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise UnusableWebhook("an alert's fingerprint is empty or not printable")
    return _text(text, "an alert's fingerprint", MAX_NAME)


def _labels(labels: Mapping[str, str], what: str) -> Mapping[str, str]:
    """Return labels or annotations that can be used: since Prometheus 3, any text but none is a name."""
    if len(labels) > MAX_LABELS:
        raise UnusableWebhook(f"an alert has more than {MAX_LABELS} labels or annotations")
    if "" in labels:
        raise UnusableWebhook(f"{what} has no name")
    for name, value in labels.items():
        _text(name, f"the name of {what}", MAX_NAME)
        _text(value, what, MAX_VALUE)
    return labels


_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def _moment(text: str, what: str) -> Moment:
    """Return a time as Go writes it (RFC 3339 with up to nine digits of a second and any zone), in milliseconds."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise UnusableWebhook(f"{what} is not a time")
    *parts, fraction, sign, hours, minutes = found.groups()
    try:
        at = moment_of(datetime(*(int(part) for part in parts), tzinfo=UTC))  # type: ignore[arg-type,misc]  # six of them
    except ValueError:
        raise UnusableWebhook(f"{what} is not a time") from None
    at += int((fraction or "")[:3].ljust(3, "0")) * MILLISECOND
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes)) // timedelta(microseconds=1)
        at += offset if sign == "-" else -offset
    if not 0 <= at < _LAST:
        raise UnusableWebhook(f"{what} is out of range")
    return at


_LAST: Final = moment_of(datetime(9999, 12, 31, tzinfo=UTC))
