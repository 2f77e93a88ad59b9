"""The three panels of requests (rate, errors, response time) that both the overview and the API's board have."""

from tools.boards.model import Graph, Query
from tools.boards.queries import limit, of_either_source

_FLOOR = "Where fewer requests come than the rules ask for, there is no line: one failure of two says nothing."


def request_rate(service: str) -> Graph:
    """Return the requests per second of services, as the rules count them."""
    rate = f'source_service:http_requests:rate2m{{service=~"{service}", source="%s"}}'
    return Graph(
        title="Requests",
        description="Requests per second, over two minutes: counted by the API itself, or else from its table of "
        "requests.",
        unit="reqps",
        queries=(
            Query(f"sum by (service) ({rate % 'api'} or on (service) {rate % 'exporter'})", "{{service}}"),
            limit("auraconnect:requests_per_second:threshold", "warning", "fewer are too few to judge"),
        ),
    )


def error_ratio(service: str) -> Graph:
    """Return the share of requests that fail, against its limits."""
    series = "auraconnect:error_ratio:threshold"
    return Graph(
        title="Errors",
        description="The share of requests that were answered with 5xx, over two minutes, as the alerts see it. "
        f"{_FLOOR}",
        unit="percentunit",
        runbooks=("ErrorRateCritical", "ErrorRateWarning", "ErrorRateElevated", "ErrorsInLowTraffic"),
        queries=(
            Query(f'service:http_errors:ratio_rate2m{{service=~"{service}"}}', "{{service}}"),
            limit(series, "critical"),
            limit(series, "warning"),
            limit(series, "info"),
        ),
    )


def response_time(service: str) -> Graph:
    """Return the 95th percentile of response times, against its limits."""
    chosen = f'service=~"{service}"'
    exported = f"rate(auraconnect_http_request_duration_seconds_bucket{{{chosen}}}[$__rate_interval])"
    buckets = of_either_source(
        f"rate(http_request_duration_highr_seconds_bucket{{{chosen}}}[$__rate_interval])",
        f"sum by (service, instance, le) ({exported})",
        "le",
    )
    series = "auraconnect:response_time_seconds:threshold"
    return Graph(
        title="Response time (95th percentile)",
        description="Of 100 requests 95 are answered within this time. It can't exceed the last bucket of the "
        "histogram; the alerts compare the share of slow requests instead.",
        unit="s",
        runbooks=("ResponseTimeCritical", "ResponseTimeWarning"),
        queries=(
            Query(f"histogram_quantile(0.95, {buckets})", "{{service}}"),
            limit(series, "critical"),
            limit(series, "warning"),
        ),
    )
