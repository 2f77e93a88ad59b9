"""What /metrics says of a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from auraconnect_exporter import metrics
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.model import (
    Component,
    Health,
    Metric,
    Part,
    Reading,
    Reason,
    Reload,
    Sample,
    Snapshot,
    TargetState,
)
from tests.builders import attempt, view

DEPTH = Metric("worker_queue_depth", "gauge", "Jobs that wait.", ("queue",))
HITS = Metric("redis_keyspace_hits_total", "counter", "Look-ups that found their key.")
RELOAD = Reload(successful=True, timestamp=1_780_000_000.0)


def snapshot() -> Snapshot:
    """Return a healthy Redis with readings, a database that is down, and an API of which nothing is known yet."""
    samples = (HITS.sample(12), DEPTH.sample(3, "exports"), DEPTH.sample(0, 'odd"\\\nname'))
    reading = Reading((Part("info", samples),))
    good = attempt(reading=reading)
    bad = attempt(Reason.AUTH, reading=Reading((Part("activity", problem="permission denied"),)))
    targets = (
        view(
            Health.UNHEALTHY,
            state=TargetState(Health.UNHEALTHY, last=bad, last_success=good, results={"success": 4, "auth": 3}),
        ),
        view(
            Health.HEALTHY,
            component=Component.REDIS,
            critical=False,
            state=TargetState(Health.HEALTHY, last=good, last_success=good, results={"success": 7}),
        ),
        view(Health.UNKNOWN, component=Component.API, name="main"),
    )
    return Snapshot(1_780_000_000.0, Health.UNHEALTHY, {}, targets)


def series(now: Snapshot) -> dict[str, float]:
    """Return our own series as Prometheus would read them."""
    body, _ = metrics.Exposition().render(now, (), AlertState(), RELOAD, "")
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
        if sample.name.startswith("auraconnect_")
    }


def test_verdicts_are_published_and_what_is_unknown_is_absent() -> None:
    """``component_up`` speaks only of targets with a verdict; criticality is there for all."""
    said = series(snapshot())
    assert {name: value for name, value in said.items() if name.startswith("auraconnect_component_up")} == {
        "auraconnect_component_up{component=database,target=primary}": 0,
        "auraconnect_component_up{component=redis,target=primary}": 1,
    }
    assert {name: value for name, value in said.items() if name.startswith("auraconnect_component_critical")} == {
        "auraconnect_component_critical{component=database,target=primary}": 1,
        "auraconnect_component_critical{component=redis,target=primary}": 0,
        "auraconnect_component_critical{component=api,target=main}": 1,
    }


def test_each_target_is_in_exactly_one_state() -> None:
    """The states of a target are 1 at the one that holds and 0 at the others."""
    said = series(snapshot())
    states = {
        name: value
        for name, value in said.items()
        if name.startswith("auraconnect_component_health") and "component=api" in name
    }
    assert states == {
        f"auraconnect_component_health{{component=api,state={state},target=main}}": float(state == "unknown")
        for state in ("healthy", "degraded", "unhealthy", "unknown")
    }


def test_attempts_are_counted_by_result_and_timed() -> None:
    """The database's four good and three refused attempts are told apart."""
    said = series(snapshot())
    target = "component=database,target=primary"
    assert said["auraconnect_component_probes_total{component=database,result=auth,target=primary}"] == 3
    assert said["auraconnect_component_probes_total{component=database,result=success,target=primary}"] == 4
    assert said[f"auraconnect_component_probe_duration_seconds{{{target}}}"] == 0.25
    assert said[f"auraconnect_component_probe_last_success_timestamp_seconds{{{target}}}"] == 1_780_000_000
    assert said["auraconnect_collector_success{collector=activity,component=database,target=primary}"] == 0


def test_readings_carry_their_labels_even_odd_ones() -> None:
    """A queue's name reaches Prometheus as it is, whatever it holds."""
    said = series(snapshot())
    assert said["auraconnect_worker_queue_depth{queue=exports,target=primary}"] == 3
    assert said['auraconnect_worker_queue_depth{queue=odd"\\\nname,target=primary}'] == 0
    assert said["auraconnect_redis_keyspace_hits_total{target=primary}"] == 12


def test_a_reading_that_is_too_old_is_not_published() -> None:
    """When a target turns unknown, its numbers go with its verdict."""
    old = TargetState(Health.HEALTHY, last=attempt(reading=Reading((Part("info", (HITS.sample(12),)),))))
    stale = Snapshot(0.0, Health.UNKNOWN, {}, (view(Health.UNKNOWN, component=Component.REDIS, state=old),))
    assert not [name for name in series(stale) if "keyspace" in name]


def test_openmetrics_is_served_to_those_who_ask() -> None:
    """The OpenMetrics answer parses strictly and says the same."""
    body, content_type = metrics.Exposition().render(
        snapshot(), (), AlertState(), RELOAD, "application/openmetrics-text; version=1.0.0"
    )
    families = {family.name: family for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert content_type.startswith("application/openmetrics-text")
    assert [sample.value for sample in families["auraconnect_redis_keyspace_hits"].samples] == [12]


def test_every_family_stands_once_with_its_help() -> None:
    """Prometheus refuses a family that comes twice."""
    body, _ = metrics.Exposition().render(snapshot(), (), AlertState(), RELOAD, "")
    names = [line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(family.documentation for family in parse_text(body.decode()))


def test_a_broken_part_is_missing_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that hands over nonsense loses its own series; the page says so, and the rest stays."""
    parts = (Part("info", (HITS.sample(12),)), Part("queues", (Sample(DEPTH, "many", ("q",)),)))  # type: ignore[arg-type]
    state = TargetState(Health.HEALTHY, last=attempt(reading=Reading(parts)))
    now = Snapshot(0.0, Health.HEALTHY, {}, (view(Health.HEALTHY, component=Component.REDIS, state=state),))
    exposition = metrics.Exposition()
    exposition.render(now, (), AlertState(), RELOAD, "")
    body, _ = exposition.render(now, (), AlertState(), RELOAD, "")
    lines = body.decode().splitlines()
    assert 'auraconnect_redis_keyspace_hits_total{target="primary"} 12.0' in lines
    assert not [line for line in lines if line.startswith("auraconnect_worker_queue_depth{")]
    assert 'auraconnect_collector_success{collector="info",component="redis",target="primary"} 1.0' in lines
    assert 'auraconnect_collector_success{collector="queues",component="redis",target="primary"} 0.0' in lines
    assert 'auraconnect_exporter_render_failures_total{part="queues"} 2.0' in lines
    assert [record.part for record in caplog.records] == ["queues"]  # type: ignore[attr-defined]


def test_a_part_that_breaks_again_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    """After it was whole once, what breaks is news."""
    exposition = metrics.Exposition()
    for alerts in (AlertState(), AlertState(peers={"store": None}), AlertState(), AlertState(peers={"store": None})):  # type: ignore[dict-item]
        body, _ = exposition.render(snapshot(), (), alerts, RELOAD, "")
    assert b'auraconnect_exporter_render_failures_total{part="alerts"} 2.0' in body
    assert [record.part for record in caplog.records] == ["alerts", "alerts"]  # type: ignore[attr-defined]


def test_the_exporters_own_process_is_shown() -> None:
    """Memory and start time of the exporter are part of every scrape."""
    body, _ = metrics.Exposition().render(snapshot(), (), AlertState(), RELOAD, "")
    names = {family.name for family in parse_text(body.decode())}
    assert {"process_resident_memory_bytes", "process_start_time_seconds", "python_info"} <= names


def test_a_sample_needs_all_its_labels() -> None:
    """A forgotten label is a mistake in our code and says so."""
    try:
        DEPTH.sample(1)
    except ValueError as error:
        message = str(error)
    assert message == "worker_queue_depth takes the labels ('queue',), got ()"


def test_what_is_absent_has_neither_failed_nor_succeeded() -> None:
    """An extension that is not installed is told as such, and no alert on what fails sees it."""
    last = attempt(reading=Reading((Part("statements", absent="not installed"), Part("activity"))))
    up = view(Health.HEALTHY, state=TargetState(Health.HEALTHY, last=last))
    said = series(Snapshot(0.0, Health.HEALTHY, {}, (up,)))
    assert {name: value for name, value in said.items() if "_collector_" in name} == {
        "auraconnect_collector_success{collector=activity,component=database,target=primary}": 1,
        "auraconnect_collector_absent{collector=statements,component=database,target=primary}": 1,
    }


def test_an_open_circuit_lateness_and_dropped_series_are_visible() -> None:
    """Who reads the page sees what the exporter itself does not do, or does late."""
    last = replace(attempt(Reason.REFUSED), lateness=0.5)
    state = TargetState(Health.UNHEALTHY, last=last, dropped={"queues": 7})
    down = replace(view(Health.UNHEALTHY, component=Component.WORKERS, state=state), backoff=20.0)
    said = series(Snapshot(0.0, Health.DEGRADED, {}, (down,)))
    target = "component=workers,target=primary"
    assert said[f"auraconnect_component_circuit_open{{{target}}}"] == 1
    assert said[f"auraconnect_component_probe_backoff_seconds{{{target}}}"] == 20
    assert said[f"auraconnect_component_probe_lateness_seconds{{{target}}}"] == 0.5
    assert said["auraconnect_series_dropped_total{collector=queues,component=workers,target=primary}"] == 7
