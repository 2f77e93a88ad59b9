"""API: rate, errors and duration, as a whole and by endpoint; what the checks from outside see."""

from typing import Final

from tools.boards.model import Bars, Board, Graph, Query, Row, Variable
from tools.boards.queries import limit, of_either_source, state, targets_of
from tools.boards.requests import error_ratio, request_rate, response_time

_CHOSEN: Final = 'service=~"$service"'
_OWN: Final = f'{_CHOSEN}, handler!="/metrics"'
_EXPIRY: Final = 'min by (target) (auraconnect_api_{}_expiry_timestamp_seconds{{target=~"$target"}})'
_ENDPOINT: Final = "handler, method"


def _rate(counter: str, labels: str, more: str = "") -> str:
    """Return a rate of one of the API's counters by labels, of either source."""
    ours = f"rate(auraconnect_{counter}{{{_CHOSEN}{more}}}[$__rate_interval])"
    return of_either_source(
        f"rate({counter}{{{_OWN}{more}}}[$__rate_interval])", f"sum by (service, instance, {labels}) ({ours})", labels
    )


_REQUESTS: Final = _rate("http_requests_total", _ENDPOINT)
_FAILURES: Final = _rate("http_requests_total", _ENDPOINT, ', status=~"5.."')
_SPENT: Final = _rate("http_request_duration_seconds_sum", _ENDPOINT)
_ANSWERED: Final = _rate("http_request_duration_seconds_count", _ENDPOINT)

SLOW: Final = Graph(
    title="Slow requests",
    description="The share of requests that took longer than the rules allow, over two minutes: what the alerts "
    "about response times compare.",
    unit="percentunit",
    runbooks=("ResponseTimeCritical", "ResponseTimeWarning"),
    queries=(
        Query(f"service_seconds:http_requests_slow:ratio_rate2m{{{_CHOSEN}}}", "{{service}}: over {{seconds}} s"),
        limit("auraconnect:slow_requests_ratio:threshold", "warning", "limit for both"),
    ),
)

TREND: Final = Graph(
    title="Slower than usual?",
    description="The mean response time of the last hour, and what it was at this time in the weeks before. It takes "
    "a week until there is anything usual.",
    unit="s",
    runbooks=("PerformanceDegradationTrend",),
    queries=(
        Query(f"service:http_request_duration_seconds:mean1h{{{_CHOSEN}}}", "{{service}}, last hour"),
        Query(f"service:http_request_duration_seconds:usual1h{{{_CHOSEN}}}", "{{service}}, usual"),
        Query(
            f"service:http_request_duration_seconds:usual1h{{{_CHOSEN}}}"
            ' * on () group_left () auraconnect:response_time_growth_ratio:threshold{severity="info"}',
            "{{service}}, clearly slower",
            limit="info",
        ),
    ),
)

STATUSES: Final = Graph(
    title="Answers by status",
    description="Requests per second by the status of the answer. 5xx is what the error rate counts.",
    unit="reqps",
    stacked=True,
    queries=(Query(_rate("http_requests_total", "status"), "{{service}} {{status}}"),),
)

REFUSED: Final = Graph(
    title="Refused requests (401, 403)",
    description="Requests per second that were refused for want of sign-in or rights, against what is usual. Many "
    "more than usual are a sign of an attack, or of a client whose key has expired.",
    unit="reqps",
    runbooks=("SecuritySignal",),
    width=12,
    queries=(
        Query(f"service:http_unauthorized:rate2m{{{_CHOSEN}}}", "{{service}}"),
        Query(f"service:http_unauthorized_rate2m:usual{{{_CHOSEN}}}", "{{service}}, usual"),
        limit("auraconnect:unauthorized_requests_per_second:threshold", "warning", "fewer are not worth a word"),
    ),
)

ERRORS_BY_TYPE: Final = Graph(
    title="Errors by type",
    description="What AuraConnect has written into its error log, per second, by type. The ten most frequent.",
    unit="cps",
    width=12,
    queries=(
        Query(
            "topk(10, max by (error_type) (sum by (instance, error_type)"
            " (rate(auraconnect_errors_total[$__rate_interval]))))",
            "{{error_type}}",
        ),
    ),
)

BY_ENDPOINT: Final = (
    Graph(
        title="Requests by endpoint",
        description="Requests per second of the ten busiest endpoints.",
        unit="reqps",
        width=12,
        height=9,
        queries=(Query(f"topk(10, {_REQUESTS})", "{{method}} {{handler}}"),),
    ),
    Graph(
        title="Failures by endpoint",
        description="Requests per second that were answered with 5xx, of the ten endpoints that fail most. No line: "
        "none has ever failed.",
        unit="reqps",
        width=12,
        height=9,
        queries=(Query(f"topk(10, {_FAILURES})", "{{method}} {{handler}}"),),
    ),
    Graph(
        title="Mean response time by endpoint",
        description="How long the ten slowest endpoints take on average.",
        unit="s",
        width=12,
        height=9,
        queries=(Query(f"topk(10, {_SPENT} / ({_ANSWERED} > 0))", "{{method}} {{handler}}"),),
    ),
    Bars(
        title="Where the time goes",
        description="The share of all time spent on requests, in the range that is shown, by endpoint: slow and "
        "seldom can cost less than quick and often. The ten most costly.",
        unit="percentunit",
        width=12,
        height=9,
        queries=(
            Query(
                f"topk(10, {_SPENT} / on () group_left () sum({_SPENT}))".replace("$__rate_interval", "$__range"),
                "{{method}} {{handler}}",
            ),
        ),
    ),
)

CHECKS: Final = (
    Graph(
        title="The exporter's own request",
        description="Where the time of the exporter's own request goes: finding the address, connecting, TLS, "
        "waiting for the first byte, and the rest of the answer; and the status that it was answered with.",
        unit="s",
        width=12,
        queries=(
            Query(
                'max by (target, phase) (auraconnect_api_probe_phase_seconds{target=~"$target"})',
                "{{target}} {{phase}}",
            ),
            Query(
                'max by (target) (auraconnect_api_probe_status_code{target=~"$target"})',
                "{{target}}: status",
                unit="none",
            ),
        ),
    ),
    Graph(
        title="Certificates: time left",
        description="How long the API's certificate is still valid, and the one of its chain that expires first. The "
        "lines of the limits are when to renew it, and when somebody is woken for it.",
        unit="s",
        runbooks=("CertificateExpiring",),
        signed=True,
        width=12,
        queries=(
            Query(f"{_EXPIRY.format('certificate')} - time()", "{{target}}"),
            Query(f"{_EXPIRY.format('certificate_chain')} - time()", "{{target}}, chain"),
            limit("auraconnect:certificate_remaining_seconds:threshold", "critical"),
            limit("auraconnect:certificate_remaining_seconds:threshold", "warning"),
        ),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-api",
    title="AuraConnect · API",
    description="Requests: how many, how many fail, how long they take; which endpoint it is; and whether it answers "
    "at all.",
    variables=(
        Variable(
            "service",
            "Service",
            'label_values({__name__=~"http_requests_total|auraconnect_http_requests_total"}, service)',
        ),
        targets_of("api"),
    ),
    rows=(
        Row("Does it answer?", state("api")),
        Row(
            "Requests, errors, duration", (error_ratio("$service"), response_time("$service"), request_rate("$service"))
        ),
        Row("More closely", (SLOW, TREND, STATUSES)),
        Row("Which endpoint?", BY_ENDPOINT),
        Row("Checks from outside", CHECKS),
        Row("Errors and refusals", (ERRORS_BY_TYPE, REFUSED)),
    ),
)
