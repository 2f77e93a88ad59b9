"""The open alerts as metrics: what the rules of the escalation read, and how long people take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from auraconnect_exporter.records import SECOND, Episode, Identity, Origin, Severity
from auraconnect_exporter.response_times import BOUNDS, Histogram, ResponseTimes

Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily

_PREFIX: Final = "auraconnect_"
_LABELS: Final = ("alertname", "severity", "component", "target", "symptom", "origin")
_STATES: Final = ("unacknowledged", "acknowledged", "suppressed")


@dataclass(frozen=True, slots=True)
class AlertState:
    """Everything known of alerts at one moment.

    ``open`` is None until the store has told what is open: nothing known is not nothing open. ``peers`` says who of
    those that we ask can be reached, ``deliveries`` what became of Alertmanager's.
    """

    open: tuple[Episode, ...] | None = None
    suppressed: frozenset[str] = frozenset()
    times: ResponseTimes = field(default_factory=ResponseTimes)
    deliveries: Mapping[str, int] = field(default_factory=dict)
    peers: Mapping[str, bool] = field(default_factory=dict)


def families(state: AlertState) -> Iterator[Family]:
    """Yield every family, the alerts themselves only once they are known."""
    if state.open is not None:
        yield from _open(state.open, state.suppressed)
        yield _counted(state.open, state.suppressed)
    yield _histogram(
        "acknowledge", "From the beginning of alerts to their acknowledgement.", state.times.to_acknowledge
    )
    yield _histogram("resolve", "From the beginning of alerts to their end.", state.times.to_resolve)
    deliveries = CounterMetricFamily(
        f"{_PREFIX}webhook_deliveries_total", "Deliveries of Alertmanager by what became of them.", labels=("result",)
    )
    for result, count in state.deliveries.items():
        deliveries.add_metric((result,), count)
    yield deliveries
    peers = GaugeMetricFamily(f"{_PREFIX}peer_up", "Whether who we ask or tell could be reached.", labels=("peer",))
    for peer, reached in state.peers.items():
        peers.add_metric((peer,), float(reached))
    yield peers


def _open(episodes: tuple[Episode, ...], suppressed: frozenset[str]) -> Iterator[Family]:
    """Yield the open alerts. Several fingerprints of one alert are as old as the oldest, acknowledged when all are."""

    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{_PREFIX}alert_{name}", text, labels=_LABELS)

    since = gauge("active_since_timestamp_seconds", "When the alert began to fire.")
    acknowledged = gauge("acknowledged", "Whether somebody takes care of the alert.")
    hidden = gauge("suppressed", "Whether Alertmanager keeps the alert from people: silenced, inhibited or muted.")
    alerts: dict[tuple[Identity, str, Origin], list[Episode]] = {}
    for episode in episodes:
        alerts.setdefault((episode.identity, episode.symptom, episode.origin), []).append(episode)
    for (identity, symptom, origin), same in alerts.items():
        labels = (identity.alertname, identity.severity, identity.component, identity.target, symptom, origin.value)
        since.add_metric(labels, min(episode.started_at for episode in same) / SECOND)
        acknowledged.add_metric(labels, float(all(episode.acknowledged_at is not None for episode in same)))
        hidden.add_metric(labels, float(all(episode.id in suppressed for episode in same)))
    yield from (since, acknowledged, hidden)


def _counted(episodes: tuple[Episode, ...], suppressed: frozenset[str]) -> Family:
    family = GaugeMetricFamily(f"{_PREFIX}alerts", "Open alerts.", labels=("severity", "state"))
    counts = Counter((episode.identity.severity, _state(episode, suppressed)) for episode in episodes)
    for severity in Severity:
        for state in _STATES:
            family.add_metric((severity.value, state), counts[severity.value, state])
    return family


def _state(episode: Episode, suppressed: frozenset[str]) -> str:
    if episode.id in suppressed:
        return "suppressed"
    return "unacknowledged" if episode.acknowledged_at is None else "acknowledged"


def _histogram(what: str, text: str, histograms: Mapping[str, Histogram]) -> Family:
    family = HistogramMetricFamily(f"{_PREFIX}alert_time_to_{what}_seconds", text, labels=("severity",))
    for severity, histogram in histograms.items():
        below, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family.add_metric((severity,), buckets, histogram.total)
    return family
