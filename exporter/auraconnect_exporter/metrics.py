"""Render a snapshot as Prometheus metrics. Families are built afresh each time, so stale labels vanish."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from auraconnect_exporter import __version__, alert_metrics
from auraconnect_exporter.alert_metrics import AlertState
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Health, Metric, Reload, Sample, Snapshot, TargetView

Family = GaugeMetricFamily | CounterMetricFamily

_PREFIX: Final = "auraconnect_"
_TARGET_LABELS: Final = ("component", "target")


class Exposition:
    """Renders snapshots together with the metrics of this process itself."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(
        self, snapshot: Snapshot, windows: Iterable[Occurrence], alerts: AlertState, reload: Reload, accept: str
    ) -> tuple[bytes, str]:
        """Return the body and its content type: OpenMetrics where ``accept`` asks for it, else the text format."""
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(families(snapshot, windows, reload)))
        registry.register(_Families(alert_metrics.families(alerts)))
        registry.register(_Families(self._process.collect()))
        return encode(registry), content_type


def compress(body: bytes) -> bytes:
    """Compress a body for transfer; level 1, since a scrape is read once on a near network."""
    return gzip.compress(body, compresslevel=1, mtime=0)


class _Families(Collector):
    """Hands families that exist already to a registry."""

    def __init__(self, families: Iterable[object]) -> None:
        self._families = families

    def collect(self) -> Iterator[object]:  # type: ignore[override]  # whatever collects, the encoder takes
        yield from self._families


def families(snapshot: Snapshot, windows: Iterable[Occurrence], reload: Reload) -> Iterator[Family]:
    """Yield every family of a snapshot, those that all targets share first."""
    yield _build_info()
    yield from _configuration(reload)
    yield _states("system_health", "Health of the whole system, 1 at its state.", snapshot.system)
    yield from _verdicts(snapshot.targets)
    yield from _attempts(snapshot.targets)
    yield from _readings(snapshot.targets)
    yield from _maintenance(windows)


def _build_info() -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_PREFIX}exporter_build_info", "Version of the exporter.", labels=("version",))
    family.add_metric((__version__,), 1)
    return family


def _configuration(reload: Reload) -> Iterator[Family]:
    name = f"{_PREFIX}exporter_config_last_reload_success"
    yield GaugeMetricFamily(f"{name}ful", "Whether the last reading of the configuration succeeded.", reload.successful)
    yield GaugeMetricFamily(f"{name}_timestamp_seconds", "When the configuration in use was read.", reload.timestamp)


def _states(name: str, text: str, health: Health) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=("state",))
    for state in Health:
        family.add_metric((state,), float(state is health))
    return family


def _verdicts(targets: tuple[TargetView, ...]) -> Iterator[Family]:
    up = GaugeMetricFamily(
        f"{_PREFIX}component_up",
        "Whether the target answers, confirmed; absent while that is unknown.",
        labels=_TARGET_LABELS,
    )
    critical = GaugeMetricFamily(
        f"{_PREFIX}component_critical",
        "Whether the system is down without the target, from the configuration.",
        labels=_TARGET_LABELS,
    )
    health = GaugeMetricFamily(
        f"{_PREFIX}component_health",
        "Health of the target, 1 at its state.",
        labels=(*_TARGET_LABELS, "state"),
    )
    for view in targets:
        labels = _labels(view)
        critical.add_metric(labels, float(view.critical))
        if view.health is not Health.UNKNOWN:
            up.add_metric(labels, float(view.health is not Health.UNHEALTHY))
        for state in Health:
            health.add_metric((*labels, state), float(state is view.health))
    yield from (up, critical, health)


def _attempts(targets: tuple[TargetView, ...]) -> Iterator[Family]:
    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(_PREFIX + name, text, labels=(*_TARGET_LABELS, *labels))

    duration = gauge("component_probe_duration_seconds", "Duration of the last attempt.")
    run = gauge("component_probe_last_run_timestamp_seconds", "When the last attempt began.")
    success = gauge("component_probe_last_success_timestamp_seconds", "When the last good attempt began.")
    late = gauge("component_probe_lateness_seconds", "How long after it was due the last attempt began.")
    circuit = gauge("component_circuit_open", "Whether the target has been down for so long that it is asked less.")
    backoff = gauge("component_probe_backoff_seconds", "Time between checks while the circuit is open; else 0.")
    collector = gauge("collector_success", "Whether this part of the target could be read.", "collector")
    probes = CounterMetricFamily(
        f"{_PREFIX}component_probes_total",
        "Attempts by result.",
        labels=(*_TARGET_LABELS, "result"),
    )
    dropped = CounterMetricFamily(
        f"{_PREFIX}series_dropped",
        "Samples of a collector beyond its budget of series, which are left out.",
        labels=(*_TARGET_LABELS, "collector"),
    )
    for view in targets:
        labels, state = _labels(view), view.state
        if state.last is not None:
            duration.add_metric(labels, state.last.duration)
            run.add_metric(labels, state.last.started)
            late.add_metric(labels, state.last.lateness)
            for part in state.last.reading.parts:
                collector.add_metric((*labels, part.collector), float(not part.problem))
        circuit.add_metric(labels, float(view.backoff > 0))
        backoff.add_metric(labels, view.backoff)
        for name, count in state.dropped.items():
            dropped.add_metric((*labels, name), count)
        if state.last_success is not None:
            success.add_metric(labels, state.last_success.started)
        for result, count in sorted(state.results.items()):
            probes.add_metric((*labels, result), count)
    yield from (duration, run, success, late, circuit, backoff, probes, collector, dropped)


def _readings(targets: tuple[TargetView, ...]) -> Iterator[Family]:
    """Yield what the targets' last attempts have measured, a family a metric, in the order of first appearance."""
    by_metric: dict[Metric, list[tuple[str, Sample]]] = {}
    for view in targets:
        if view.state.last is None or view.health is Health.UNKNOWN:
            continue  # what was measured too long ago is not what is
        for sample in view.state.last.reading.samples:
            by_metric.setdefault(sample.metric, []).append((view.id.name, sample))
    for metric, samples in by_metric.items():
        build = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = build(_PREFIX + metric.name, metric.help, labels=("target", *metric.labels))
        for target, sample in samples:
            family.add_metric((target, *sample.label_values), sample.value)
        yield family


def _maintenance(windows: Iterable[Occurrence]) -> Iterator[Family]:
    """Yield the windows; one for a whole component has no target, one for everything has neither."""

    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{_PREFIX}maintenance_{name}", text, labels=("maintenance", *_TARGET_LABELS))

    start = gauge("start_timestamp_seconds", "When the window begins that is open or comes next.")
    end = gauge("end_timestamp_seconds", "When that window ends.")
    active = gauge("active", "Whether the window is open now.")
    mutes = gauge("mutes_critical", "Whether the window mutes critical alerts, too.")
    for occurrence in windows:
        window = occurrence.window
        labels = (window.name, window.component or "", window.target or "")
        start.add_metric(labels, occurrence.start)
        end.add_metric(labels, occurrence.end)
        active.add_metric(labels, float(occurrence.active))
        mutes.add_metric(labels, float(window.mute_critical))
    yield from (start, end, active, mutes)


def _labels(view: TargetView) -> tuple[str, str]:
    return view.id.component, view.id.name
