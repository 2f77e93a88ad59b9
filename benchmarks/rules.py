"""Measure what it costs Prometheus to evaluate the whole pack over a large system.

    python -m benchmarks.rules [--services 100] [--endpoints 5000] [--targets 200] [--release newest]
                               [--warm-up 12] [--measure 6] [--short]

A real Prometheus with the repository's intervals scrapes made-up metrics: an exporter's, of so many targets, and those
of APIs with so many endpoints among them (each with its counters by status and the histograms that
prometheus-fastapi-instrumentator has). Another one beside it does the same, but has no rules. Once the windows of the
page alerts are full, it reads over some minutes

- how much more processor time the first one took than the second one: all that the rules cost, with storing what they
  record and clearing up behind them, and however long they waited for a processor that others used;
- how long the evaluations of each group took, in the mean, as a share of its interval
  (prometheus_rule_group_last_duration_seconds): this names the costly groups, and waiting counts.

`--short` takes three minutes instead of eighteen, to see what a change brings. It flatters the rules by a third: series
are read chunk by chunk, and the chunks are not full yet.

Exit status 1 when the first of them is 1% of one core or more.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import yaml

from tests.e2e.stack import get, metric
from tests.pack.files import RULES
from tools.servers import Prometheus, free_port

BAR = 0.01
"""Of one core, for all rules together."""

_SCRAPE = 5.0
_COMPONENTS = ("database", "redis", "api", "workers", "host")
# The instrumentator's: without labels, and by endpoint.
_HIGHR = (
    *("0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5"),
    *("4.0", "4.5", "5.0", "7.5", "10.0", "30.0", "60.0", "+Inf"),
)
_LABELLED = ("0.1", "0.5", "1.0", "+Inf")


@dataclass(frozen=True)
class Size:
    """How large the watched system is."""

    services: int
    endpoints: int
    targets: int


@dataclass(frozen=True)
class Cost:
    """What a group costs: seconds for an evaluation, and between two."""

    group: str
    seconds: float
    interval: float

    @property
    def share(self) -> float:
        """Of one core."""
        return self.seconds / self.interval


def exporter_metrics(size: Size, moment: float) -> Iterator[str]:
    """Yield an exporter's metrics as text, at a moment in Unix seconds; all is well."""
    for number in range(size.targets):
        component = _COMPONENTS[number % len(_COMPONENTS)]
        labels = f'component="{component}",target="t{number}"'
        yield f"auraconnect_component_up{{{labels}}} 1"
        yield f"auraconnect_component_critical{{{labels}}} {number % 2}"
        for state in ("healthy", "degraded", "unhealthy", "unknown"):
            yield f'auraconnect_component_health{{{labels},state="{state}"}} {int(state == "healthy")}'
        yield f"auraconnect_component_probe_duration_seconds{{{labels}}} 0.01"
        yield f"auraconnect_component_probe_lateness_seconds{{{labels}}} 0.002"
        for collector in ("first", "second", "third"):
            yield f'auraconnect_collector_success{{{labels},collector="{collector}"}} 1'
        for name in ("run", "success"):
            yield f"auraconnect_component_probe_last_{name}_timestamp_seconds{{{labels}}} {moment:.0f}"
        for result, count in (("success", moment % 1e6), ("timeout", 3), ("refused", 3)):
            yield f'auraconnect_component_probes_total{{{labels},result="{result}"}} {count:.0f}'
        yield from _target_metrics(component, f"t{number}", moment)


def _target_metrics(component: str, target: str, moment: float) -> Iterator[str]:
    label = f'target="{target}"'
    match component:
        case "database":
            for state in ("active", "idle"):
                yield f'auraconnect_postgres_connections{{{label},state="{state}"}} 10'
            yield f"auraconnect_postgres_max_connections{{{label}}} 100"
            yield f"auraconnect_postgres_replication_lag_seconds{{{label}}} 1"
            yield f"auraconnect_postgres_replication_connected{{{label}}} 1"
            yield f"auraconnect_postgres_xid_age{{{label}}} 1e8"
            yield f"auraconnect_postgres_backup_last_success_timestamp_seconds{{{label}}} {moment - 3600:.0f}"
            yield f"auraconnect_postgres_archive_last_success_timestamp_seconds{{{label}}} {moment - 60:.0f}"
            yield f"auraconnect_postgres_archive_failures_total{{{label}}} 0"
            yield f"auraconnect_postgres_authentication_failures_total{{{label}}} 7"
            yield f"auraconnect_postgres_role_changes_total{{{label}}} 2"
        case "redis":
            yield f"auraconnect_redis_memory_used_bytes{{{label}}} 5e8"
            yield f"auraconnect_redis_memory_max_bytes{{{label}}} 1e9"
            yield f"auraconnect_redis_evicted_keys_total{{{label}}} 10"
            yield f"auraconnect_redis_rejected_connections_total{{{label}}} 0"
            yield f"auraconnect_redis_replication_connected{{{label}}} 1"
            yield f'auraconnect_redis_access_denied_total{{{label},reason="auth"}} 3'
        case "api":
            yield f"auraconnect_api_certificate_expiry_timestamp_seconds{{{label}}} {moment + 5e6:.0f}"
        case "workers":
            yield f"auraconnect_worker_online{{{label}}} 3"
            for queue in range(6):
                yield f'auraconnect_worker_queue_depth{{{label},queue="q{queue}"}} {5 + moment % 7:.0f}'
                yield f'auraconnect_worker_queue_oldest_job_age_seconds{{{label},queue="q{queue}"}} 2'
        case "host":
            yield f"auraconnect_host_memory_total_bytes{{{label}}} 1.6e10"
            yield f"auraconnect_host_memory_available_bytes{{{label}}} 8e9"
            for mountpoint in ("/", "/var", "/srv"):
                labels = f'{label},mountpoint="{mountpoint}",fstype="ext4"'
                yield f"auraconnect_host_filesystem_size_bytes{{{labels}}} 1e12"
                yield f"auraconnect_host_filesystem_avail_bytes{{{labels}}} 5e11"


def api_metrics(size: Size, moment: float) -> Iterator[str]:
    """Yield the metrics of all APIs as text: each endpoint is asked once in two seconds, a hundredth fails."""
    count = int(moment % 1e7) // 2
    each = size.endpoints // size.services
    for service in range(size.services):
        for bound in _HIGHR:
            labels = f'service="s{service}",le="{bound}"'
            yield f"http_request_duration_highr_seconds_bucket{{{labels}}} {count * each}"
        yield f'http_request_duration_highr_seconds_count{{service="s{service}"}} {count * each}'
        yield f'http_request_duration_highr_seconds_sum{{service="s{service}"}} {count * each * 0.1}'
        for endpoint in range(each):
            labels = f'service="s{service}",handler="/e{endpoint}",method="GET"'
            for status, share in (("2xx", 0.98), ("4xx", 0.01), ("5xx", 0.01)):
                yield f'http_requests_total{{{labels},status="{status}"}} {int(count * share)}'
            for bound in _LABELLED:
                yield f'http_request_duration_seconds_bucket{{{labels},le="{bound}"}} {count}'
            yield f"http_request_duration_seconds_count{{{labels}}} {count}"
            yield f"http_request_duration_seconds_sum{{{labels}}} {count * 0.1}"


class Metrics:
    """Serves both kinds of metrics on a free port of 127.0.0.1, in a thread of its own."""

    def __init__(self, size: Size) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                make = api_metrics if self.path == "/api" else exporter_metrics
                content = ("\n".join(make(size, time.time())) + "\n").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep the terminal for the report."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def configuration(folder: Path, address: str, own_port: int, rule_files: Sequence[Path]) -> Path:
    """Write Prometheus' configuration: the repository's intervals, these rules, the made-up targets and itself."""

    def job(name: str, path: str, address: str = address) -> dict[str, object]:
        return {
            "job_name": name,
            "metrics_path": path,
            "honor_labels": True,  # the services' own
            "static_configs": [{"targets": [address]}],
        }

    folder.mkdir()
    path = folder / "prometheus.yml"
    config = {
        "global": {"scrape_interval": f"{_SCRAPE:g}s", "scrape_timeout": "4s", "evaluation_interval": "5s"},
        "rule_files": [str(path) for path in rule_files],
        "scrape_configs": [
            job("auraconnect-exporter", "/exporter"),
            job("auraconnect-api", "/api"),
            job("prometheus", "/metrics", f"127.0.0.1:{own_port}"),
        ],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def costs(prometheus: Prometheus, minutes: float) -> list[Cost]:
    """Return the cost of each group of rules, the costliest first, over the last so many minutes."""
    duration = f"avg_over_time(prometheus_rule_group_last_duration_seconds[{round(minutes * 60)}s])"
    seconds = _query(prometheus, duration)
    intervals = _query(prometheus, "prometheus_rule_group_interval_seconds")
    found = [Cost(group.rpartition(";")[2], cost, intervals[group]) for group, cost in seconds.items()]
    return sorted(found, key=lambda cost: cost.share, reverse=True)


def _query(prometheus: Prometheus, expression: str) -> dict[str, float]:
    answer = json.loads(get(f"{prometheus.url}/api/v1/query?{urlencode({'query': expression})}", timeout=30))
    return {series["metric"]["rule_group"]: float(series["value"][1]) for series in answer["data"]["result"]}


@dataclass(frozen=True)
class Usage:
    """The processor time that a Prometheus with the rules and one without used in the same time, all in seconds."""

    with_rules: float
    without: float
    elapsed: float

    @property
    def share(self) -> float:
        """What the rules cost, of one core."""
        return (self.with_rules - self.without) / self.elapsed


def usage(with_rules: Prometheus, without: Prometheus, minutes: float) -> Usage:
    """Watch both for so many minutes."""

    def used() -> tuple[float, float, float]:
        name = "process_cpu_seconds_total"
        return metric(with_rules, name), metric(without, name), time.monotonic()

    before = used()
    time.sleep(minutes * 60)
    return Usage(*(later - earlier for later, earlier in zip(used(), before, strict=True)))


def report(used: Usage, found: Sequence[Cost], size: Size, series: int) -> str:
    """Return the result as Markdown."""
    about = f"{size.services} services, {size.endpoints} endpoints, {size.targets} targets, {series} series"
    both = f"{used.with_rules / used.elapsed:.2%} with the rules, {used.without / used.elapsed:.2%} without"
    lines = [f"**{used.share:.2%} of one core** in processor time ({both}), over {about}.", ""]
    lines += ["| group | interval, s | evaluation, ms | of one core |", "|---|---|---|---|"]
    lines += [f"| {each.group} | {each.interval:g} | {each.seconds * 1000:.1f} | {each.share:.3%} |" for each in found]
    return "\n".join([*lines, f"| all | | | {sum(each.share for each in found):.3%} |"])


def main(arguments: Sequence[str]) -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description="What the rules cost Prometheus.")
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=5000, help="of all services together")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--release", default="newest", help="of Prometheus (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=12, help="minutes before measuring (default: %(default)s)")
    parser.add_argument("--measure", type=float, default=6, help="minutes of measuring (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="warm up for one minute, measure for two")
    options = parser.parse_args(arguments)
    warm_up, measure = (1.0, 2.0) if options.short else (options.warm_up, options.measure)
    size = Size(options.services, options.endpoints, options.targets)

    def prometheus(folder: Path, metrics: Metrics, *rule_files: Path) -> Prometheus:
        port = free_port()
        config = configuration(folder, metrics.address, port, rule_files)
        return Prometheus(folder, config, port=port, release=options.release)

    with tempfile.TemporaryDirectory(prefix="bench-rules-") as name, Metrics(size) as metrics:
        rule_files = (RULES / "*.yml", RULES / "alerts/*.yml")
        with (
            prometheus(Path(name) / "with", metrics, *rule_files) as with_rules,
            prometheus(Path(name) / "without", metrics) as without,
        ):
            time.sleep(warm_up * 60)
            used = usage(with_rules, without, measure)
            found = costs(with_rules, measure)
            status = json.loads(get(f"{with_rules.url}/api/v1/status/tsdb", timeout=30))
    print(report(used, found, size, status["data"]["headStats"]["numSeries"]))
    return 0 if used.share < BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
