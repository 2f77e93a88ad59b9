"""The open alerts as metrics: what the rules of the escalation read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from auraconnect_exporter.alert_metrics import AlertState, families
from auraconnect_exporter.records import SECOND, AlertType, Episode, Identity, Origin
from auraconnect_exporter.response_times import ResponseTimes
from tests.incidents import NOON, at

EPISODE = Episode(
    id="e1",
    fingerprint="f1",
    identity=Identity("DiskUsageHigh", "warning", "host", "host1:/var"),
    symptom="saturation",
    origin=Origin.RULE,
    alert_type=AlertType.RESOURCE,
    title="A disk is nearly full",
    description="",
    labels={},
    annotations={},
    started_at=NOON,
    recorded_at=NOON,
)


class Alone(Collector):
    """Exposes the metrics of alerts, and nothing else."""

    def __init__(self, state: AlertState) -> None:
        self._state = state

    def collect(self) -> Any:
        return families(self._state)


def exposed(state: AlertState, prefix: str) -> list[str]:
    """Return the lines of the exposition that begin so, without the prefix of all of them."""
    registry = CollectorRegistry()
    registry.register(Alone(state))
    lines = generate_latest(registry).decode().splitlines()
    return [line.removeprefix("auraconnect_") for line in lines if line.startswith(f"auraconnect_{prefix}")]


def values(*episodes: Episode, suppressed: frozenset[str] = frozenset()) -> dict[str, list[float]]:
    """Return the values of the three metrics of an alert."""
    state = AlertState(episodes, suppressed)
    names = ("alert_active_since_timestamp_seconds", "alert_acknowledged", "alert_suppressed")
    return {name: [float(line.rsplit(" ", 1)[1]) for line in exposed(state, f"{name}{{")] for name in names}


def test_an_alert_has_three_metrics_with_its_labels() -> None:
    """Since when, whether somebody takes care, whether it is kept from people; the labels are its identity."""
    labels = (
        '{alertname="DiskUsageHigh",component="host",origin="rule",severity="warning",symptom="saturation",'
        'target="host1:/var"}'
    )
    state = AlertState((EPISODE,))
    assert exposed(state, "alert_active_since") == [f"alert_active_since_timestamp_seconds{labels} 1.78e+09"]
    assert exposed(state, "alert_acknowledged") == [f"alert_acknowledged{labels} 0.0"]
    assert exposed(state, "alert_suppressed") == [f"alert_suppressed{labels} 0.0"]


def test_acknowledged_and_suppressed_show() -> None:
    """Each is 1 for the alert that it is true of."""
    acknowledged = replace(EPISODE, acknowledged_at=at(5), acknowledged_by="ada")
    found = values(acknowledged, suppressed=frozenset({"e1"}))
    assert (found["alert_acknowledged"], found["alert_suppressed"]) == ([1.0], [1.0])


def test_several_fingerprints_of_one_alert_are_one_series() -> None:
    """As old as the oldest; acknowledged, and suppressed, only when all of them are."""
    other = replace(EPISODE, id="e2", fingerprint="f2", started_at=at(-60), acknowledged_at=at(5))
    found = values(EPISODE, other, suppressed=frozenset({"e1"}))
    assert found == {
        "alert_active_since_timestamp_seconds": [1_779_999_940.0],
        "alert_acknowledged": [0.0],
        "alert_suppressed": [0.0],
    }
    both = replace(EPISODE, acknowledged_at=at(9))
    found = values(both, other, suppressed=frozenset({"e1", "e2"}))
    assert (found["alert_acknowledged"], found["alert_suppressed"]) == ([1.0], [1.0])


def test_alerts_of_two_targets_are_two_series() -> None:
    """Taking care of one leaves the other climbing."""
    other = replace(EPISODE, id="e2", identity=replace(EPISODE.identity, target="host1:/srv"), acknowledged_at=at(5))
    assert values(EPISODE, other)["alert_acknowledged"] == [0.0, 1.0]


def test_nothing_known_is_not_nothing_open() -> None:
    """Until the store has told, there is no series at all; once it has, the counts are there and 0."""
    assert exposed(AlertState(), "alert_a") == exposed(AlertState(), "alerts") == []
    counts = exposed(AlertState(()), "alerts")
    assert len(counts) == 9
    assert {line[-4:] for line in counts} == {" 0.0"}


def test_open_alerts_are_counted_by_severity_and_state() -> None:
    """Each counts once: suppressed before acknowledged before the rest."""
    episodes = (
        EPISODE,
        replace(EPISODE, id="e2", acknowledged_at=at(1)),
        replace(EPISODE, id="e3", acknowledged_at=at(1)),
        replace(EPISODE, id="e4", identity=replace(EPISODE.identity, severity="critical")),
    )
    found = exposed(AlertState(episodes, frozenset({"e3"})), "alerts")
    assert [line for line in found if not line.endswith(" 0.0")] == [
        'alerts{severity="critical",state="unacknowledged"} 1.0',
        'alerts{severity="warning",state="unacknowledged"} 1.0',
        'alerts{severity="warning",state="acknowledged"} 1.0',
        'alerts{severity="warning",state="suppressed"} 1.0',
    ]


def test_response_times_are_histograms() -> None:
    """Buckets hold those before them, the last one all, and the sum is in seconds."""
    times = ResponseTimes()
    times.acknowledged("critical", 60 * SECOND)
    times.acknowledged("critical", 61 * SECOND)
    times.acknowledged("critical", 2 * 86400 * SECOND)
    times.resolved("critical", 30 * SECOND)
    found = exposed(AlertState(times=times), 'alert_time_to_acknowledge_seconds_bucket{le="')
    critical = [line.rsplit(" ", 1)[1] for line in found if 'severity="critical"' in line]
    assert critical == ["1.0", "2.0", "2.0", "2.0", "2.0", "2.0", "2.0", "2.0", "3.0"]
    sums = exposed(AlertState(times=times), "alert_time_to_acknowledge_seconds_sum")
    assert 'alert_time_to_acknowledge_seconds_sum{severity="critical"} 172921.0' in sums
    resolved = exposed(AlertState(times=times), "alert_time_to_resolve_seconds_count")
    assert 'alert_time_to_resolve_seconds_count{severity="critical"} 1.0' in resolved


def test_deliveries_and_peers() -> None:
    """What became of deliveries is counted; who can't be reached is 0."""
    state = AlertState(deliveries={"accepted": 3, "refused": 1}, peers={"store": True, "alertmanager": False})
    assert exposed(state, "webhook_deliveries_total") == [
        'webhook_deliveries_total{result="accepted"} 3.0',
        'webhook_deliveries_total{result="refused"} 1.0',
    ]
    assert exposed(state, "peer_up") == ['peer_up{peer="store"} 1.0', 'peer_up{peer="alertmanager"} 0.0']


def test_labels_of_strangers_stay_labels() -> None:
    """A title with quotes, line ends and braces is one label's value."""
    strange = replace(EPISODE, identity=Identity('a"}\n\\x 1', "warning", "other", ""), origin=Origin.API)
    (line,) = exposed(AlertState((strange,)), "alert_acknowledged{")
    assert line.startswith('alert_acknowledged{alertname="a\\"}\\n\\\\x 1",')
