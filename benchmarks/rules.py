"""Measure what it costs Prometheus to evaluate the whole pack over a large system.

    python -m benchmarks.rules [--services 100] [--endpoints 5000] [--targets 200] [--minutes 12] [--release newest]

A real Prometheus with the repository's intervals scrapes made-up metrics: an exporter's, of so many targets, and those
of APIs with so many endpoints among them (each with its counters by status and the histograms that
prometheus-fastapi-instrumentator has). Once the windows of the page alerts are full, and another hour's would only
hold more of the same, it reads how long the last evaluations of each group took (averaged over two minutes of
prometheus_rule_group_last_duration_seconds) and prints each as a share of its interval. Exit status 1 when they add up
to more than 1% of one core.
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

from tests.e2e.stack import get
from tests.pack.files import RULES
from tools.servers import Prometheus, free_port

BAR = 0.01
"""Of one core, for all groups together."""

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


def configuration(folder: Path, address: str, own_port: int) -> Path:
    """Write Prometheus' configuration: intervals and rules as in the repository, the made-up targets and itself."""

    def job(name: str, path: str, address: str = address) -> dict[str, object]:
        return {
            "job_name": name,
            "metrics_path": path,
            "honor_labels": True,  # the services' own
            "static_configs": [{"targets": [address]}],
        }

    path = folder / "prometheus.yml"
    config = {
        "global": {"scrape_interval": f"{_SCRAPE:g}s", "scrape_timeout": "4s", "evaluation_interval": "5s"},
        "rule_files": [str(RULES / "*.yml"), str(RULES / "alerts/*.yml")],
        "scrape_configs": [
            job("auraconnect-exporter", "/exporter"),
            job("auraconnect-api", "/api"),
            job("prometheus", "/metrics", f"127.0.0.1:{own_port}"),
        ],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def costs(prometheus: Prometheus) -> list[Cost]:
    """Return the cost of each group of rules, over the last two minutes."""
    found = []
    duration = "avg_over_time(prometheus_rule_group_last_duration_seconds[2m])"
    seconds = _query(prometheus, duration)
    intervals = _query(prometheus, "prometheus_rule_group_interval_seconds")
    for group, cost in seconds.items():
        found.append(Cost(group.rpartition(";")[2], cost, intervals[group]))
    return sorted(found, key=lambda cost: cost.share, reverse=True)


def _query(prometheus: Prometheus, expression: str) -> dict[str, float]:
    answer = json.loads(get(f"{prometheus.url}/api/v1/query?{urlencode({'query': expression})}", timeout=30))
    return {series["metric"]["rule_group"]: float(series["value"][1]) for series in answer["data"]["result"]}


def report(found: Sequence[Cost], size: Size, series: int) -> str:
    """Return the result as Markdown."""
    lines = ["| group | interval, s | evaluation, ms | of one core |", "|---|---|---|---|"]
    lines += [f"| {each.group} | {each.interval:g} | {each.seconds * 1000:.1f} | {each.share:.3%} |" for each in found]
    total = sum(each.share for each in found)
    about = f"{size.services} services, {size.endpoints} endpoints, {size.targets} targets, {series} series"
    return "\n".join([*lines, f"| all | | | {total:.3%} |", "", f"Over {about}."])


def main(arguments: Sequence[str]) -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description="What the rules cost Prometheus.")
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=5000, help="of all services together")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=12, help="to run before measuring (default: %(default)s)")
    parser.add_argument("--release", default="newest", help="of Prometheus (default: %(default)s)")
    options = parser.parse_args(arguments)
    size = Size(options.services, options.endpoints, options.targets)
    with tempfile.TemporaryDirectory(prefix="bench-rules-") as name, Metrics(size) as metrics:
        folder, port = Path(name), free_port()
        config = configuration(folder, metrics.address, port)
        with Prometheus(folder, config, port=port, release=options.release) as prometheus:
            time.sleep(options.minutes * 60)
            found = costs(prometheus)
            status = json.loads(get(f"{prometheus.url}/api/v1/status/tsdb", timeout=30))
    print(report(found, size, status["data"]["headStats"]["numSeries"]))
    return 0 if sum(each.share for each in found) < BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
