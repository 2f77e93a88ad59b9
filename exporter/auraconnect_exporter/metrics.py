"""Render a snapshot as Prometheus metrics. Families are built afresh each time, so stale labels vanish."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from auraconnect_exporter import __version__, alert_metrics, request_metrics
from auraconnect_exporter.alert_metrics import AlertState, Family
from auraconnect_exporter.exposition import Page, labels_cache, wanted_type
from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Health, Reload, Snapshot, TargetId, TargetView
from auraconnect_exporter.request_log import NOTHING_COUNTED, RequestLogView

log = logging.getLogger(__name__)

_PREFIX: Final = "auraconnect_"
_TARGET_LABELS: Final = ("component", "target")


class Exposition:
    """Renders snapshots, the counted requests if any are, and the metrics of this process. Any thread may call it."""

    def __init__(self, request_log: Callable[[], RequestLogView | None] = lambda: None) -> None:
        self._request_log = request_log
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._labels = labels_cache()
        self._rendering = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._failing: frozenset[str] = frozenset()

    def render(
        self, snapshot: Snapshot, windows: Iterable[Occurrence], alerts: AlertState, reload: Reload, accept: str
    ) -> tuple[bytes, str]:
        """Return the body and its content type: OpenMetrics where ``accept`` prefers it, else the text format.

        What can't be written is missing, counted in ``exporter_render_failures_total`` and logged when it begins.
        """
        page = Page(self._labels)
        page.add("exporter", _about(snapshot, reload))
        unwritten = _add_readings(page, snapshot.targets)
        page.add("targets", _targets(snapshot.targets, unwritten))
        page.add("maintenance", _maintenance(windows))
        page.add("alerts", alert_metrics.families(alerts))
        if (counted := self._request_log()) is not None:
            page.add("requests", request_metrics.families(counted))
        page.add("process", self._process.collect())
        with self._rendering:
            page.add("failures", [self._counted(page.failures)])
        content_type = wanted_type(accept)
        return page.body(content_type), content_type

    def _counted(self, failures: Mapping[str, Exception]) -> Family:
        for part in failures.keys() - self._failing:
            log.error("metrics can't be written and are missing", extra={"part": part}, exc_info=failures[part])
        self._failing = frozenset(failures)
        self._failures.update(failures.keys())
        return _failures(self._failures)


def families() -> Iterator[Family]:
    """Yield every family that is not a probe's, as a page has it that nothing is known for."""
    yield from _about(Snapshot(0, Health.UNKNOWN, {}, ()), Reload(successful=True, timestamp=0))
    yield from _targets((), frozenset())
    yield from _maintenance(())
    yield from alert_metrics.families(AlertState(open=()))
    yield from request_metrics.families(NOTHING_COUNTED)
    yield _failures({})


def _about(snapshot: Snapshot, reload: Reload) -> Iterator[Family]:
    yield _build_info()
    yield from _configuration(reload)
    yield _states("system_health", "Health of the whole system, 1 at its state.", snapshot.system)


def _targets(targets: tuple[TargetView, ...], unwritten: Container[tuple[TargetId, str]]) -> Iterator[Family]:
    """Yield what is known of every target; ``unwritten`` are the collectors whose samples are missing."""
    yield from _verdicts(targets)
    yield from _attempts(targets, unwritten)


def _failures(counts: Mapping[str, int]) -> Family:
    family = CounterMetricFamily(
        f"{_PREFIX}exporter_render_failures_total",
        "Scrapes from which metrics are missing, since they could not be written.",
        labels=("part",),
    )
    for part, count in sorted(counts.items()):
        family.add_metric((part,), count)
    return family


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


def _attempts(targets: tuple[TargetView, ...], unwritten: Container[tuple[TargetId, str]]) -> Iterator[Family]:
    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(_PREFIX + name, text, labels=(*_TARGET_LABELS, *labels))

    duration = gauge("component_probe_duration_seconds", "Duration of the last attempt.")
    run = gauge("component_probe_last_run_timestamp_seconds", "When the last attempt began.")
    success = gauge("component_probe_last_success_timestamp_seconds", "When the last good attempt began.")
    late = gauge("component_probe_lateness_seconds", "How long after it was due the last attempt began.")
    circuit = gauge("component_circuit_open", "Whether the target has been down for so long that it is asked less.")
    backoff = gauge("component_probe_backoff_seconds", "Time between checks while the circuit is open; else 0.")
    collector = gauge("collector_success", "Whether this part of the target could be read.", "collector")
    absent = gauge(
        "collector_absent", "That this part of the target is not there, as an extension may be.", "collector"
    )
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
                if part.absent:
                    absent.add_metric((*labels, part.collector), 1)
                    continue
                read = not part.problem and (view.id, part.collector) not in unwritten
                collector.add_metric((*labels, part.collector), float(read))
        circuit.add_metric(labels, float(view.backoff > 0))
        backoff.add_metric(labels, view.backoff)
        for name, count in state.dropped.items():
            dropped.add_metric((*labels, name), count)
        if state.last_success is not None:
            success.add_metric(labels, state.last_success.started)
        for result, count in sorted(state.results.items()):
            probes.add_metric((*labels, result), count)
    yield from (duration, run, success, late, circuit, backoff, probes, collector, absent, dropped)


def _add_readings(page: Page, targets: tuple[TargetView, ...]) -> frozenset[tuple[TargetId, str]]:
    """Add what the targets' last attempts have measured; returns the collectors for which that failed."""
    unwritten = set()
    for view in targets:
        if view.state.last is None or view.health is Health.UNKNOWN:
            continue  # what was measured too long ago is not what is
        for part in view.state.last.reading.parts:
            if not page.add_samples(part.collector, _PREFIX, view.id.name, part.samples):
                unwritten.add((view.id, part.collector))
    return frozenset(unwritten)


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
