"""The contract of the health API, call by call, over real HTTP on a real store: what AuraConnect's clients rely on."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from auraconnect_exporter import __version__
from auraconnect_exporter.auth import Role
from auraconnect_exporter.limits import CALLS_A_MINUTE, FAILURES_A_MINUTE
from auraconnect_exporter.model import Health
from auraconnect_exporter.web.health_api import DASHBOARD_ALERTS
from tests.store.support import PASSWORD, Place
from tests.web.world import World, firing, world
from tools.servers import PostgreSQL, Prometheus, program

NOON: Final = "2026-05-28T20:26:40Z"
"""Where the clock of these tests begins."""

Check = Callable[[Any], bool]


def nullable(check: Check) -> Check:
    return lambda value: value is None or check(value)


def text(value: Any) -> bool:
    return isinstance(value, str)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def instant(value: Any) -> bool:
    return re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", value) is not None


def status(value: Any) -> bool:
    return value in {"healthy", "degraded", "unhealthy"}


def anything(_: Any) -> bool:
    return True


def list_of(shape: Mapping[str, Check]) -> Check:
    return lambda value: isinstance(value, list) and all(unlike(shape, each) == {} for each in value)


def unlike(shape: Mapping[str, Check], answer: Any) -> dict[str, Any]:
    """Return the fields of an answer that are missing or not as they should be; more fields than known are fine."""
    missing = object()
    found = {name: answer.get(name, missing) for name in shape}
    return {name: value for name, value in found.items() if value is missing or not shape[name](value)}


COMPONENT: Final[Mapping[str, Check]] = {
    "name": lambda value: value in {"database", "redis", "api", "workers", "host"},
    "status": status,
    "response_time_ms": nullable(number),
    "details": lambda value: isinstance(value, dict),
    "last_checked": nullable(instant),
    "message": text,
}
BASIC: Final[Mapping[str, Check]] = {
    "status": status,
    "timestamp": instant,
    "version": text,
    "uptime_seconds": number,
    "components": lambda value: isinstance(value, list),
    "checks_passed": count,
    "checks_failed": count,
}
DETAILED: Final[Mapping[str, Check]] = {**BASIC, "components": list_of(COMPONENT)}
FIGURES: Final = (
    *("cpu_usage_percent", "memory_usage_mb", "memory_total_mb", "disk_usage_percent", "disk_free_gb"),
    *("active_connections", "request_rate_per_second", "error_rate_per_second", "average_response_time_ms"),
)
METRICS: Final[Mapping[str, Check]] = dict.fromkeys(FIGURES, nullable(number))
ERROR: Final[Mapping[str, Check]] = {
    "id": text,
    "error_type": text,
    "error_message": text,
    **dict.fromkeys(("stack_trace", "endpoint", "method"), nullable(text)),
    "status_code": nullable(count),
    **dict.fromkeys(("user_id", "restaurant_id", "request_id"), nullable(text)),
    "tags": anything,
    "created_at": instant,
    "resolved": flag,
    "resolved_at": nullable(instant),
}
SUMMARY: Final[Mapping[str, Check]] = {
    "total_errors": count,
    "unique_errors": count,
    "error_rate_per_hour": number,
    "top_errors": list_of({"error_type": text, "count": count}),
    "affected_endpoints": list_of({"endpoint": text, "error_count": count}),
    "time_window_hours": count,
}
ALERT: Final[Mapping[str, Check]] = {
    "id": text,
    "alert_type": lambda value: value in {"error_rate", "performance", "availability", "resource", "security"},
    "severity": lambda value: value in {"critical", "warning", "info"},
    **dict.fromkeys(("component", "title", "description"), text),
    **dict.fromkeys(("threshold_value", "actual_value"), nullable(number)),
    "metadata": lambda value: isinstance(value, dict),
    "triggered_at": instant,
    "acknowledged": flag,
    "acknowledged_at": nullable(instant),
    "acknowledged_by": nullable(text),
    "resolved": flag,
    "resolved_at": nullable(instant),
}
PERFORMANCE: Final[Mapping[str, Check]] = {
    "endpoint": text,
    "method": text,
    **dict.fromkeys(
        (*("avg_response_time_ms", "p50_response_time_ms"), *("p95_response_time_ms", "p99_response_time_ms")),
        nullable(number),
    ),
    "request_count": count,
    "error_count": count,
    "error_rate": number,
    "time_window_minutes": count,
}
DASHBOARD: Final[Mapping[str, Check]] = {
    "health": lambda value: unlike(DETAILED, value) == {},
    "system_metrics": lambda value: unlike(METRICS, value) == {},
    "performance": list_of(PERFORMANCE),
    "recent_errors": list_of(ERROR),
    "active_alerts": list_of(ALERT),
    "error_summary": nullable(lambda value: unlike(SUMMARY, value) == {}),
}
PROBLEM: Final[Mapping[str, Check]] = {"type": text, "title": text, "status": count, "detail": text}

VARY: Final = "Accept, Accept-Encoding, Authorization, Cookie"
PUBLIC: Final = {
    ("GET", ""),
    ("POST", "/alerts/pagerduty"),
    ("POST", "/session"),
    ("DELETE", "/session"),
    ("GET", "/status"),
}
CALLS: Final = [
    ("GET", "/detailed", Role.SYSTEM_ADMIN),
    ("GET", "/metrics", Role.SYSTEM_ADMIN),
    ("GET", "/performance", Role.SYSTEM_ADMIN),
    ("GET", "/errors", Role.SYSTEM_ADMIN),
    ("GET", "/errors/summary", Role.SYSTEM_ADMIN),
    ("POST", "/errors/log", Role.INGEST),
    ("GET", "/alerts", Role.SYSTEM_ADMIN),
    ("POST", "/alerts", Role.SYSTEM_ADMIN),
    ("GET", "/alerts/x", Role.SYSTEM_ADMIN),
    ("PUT", "/alerts/x/acknowledge", Role.SYSTEM_ADMIN),
    ("PUT", "/alerts/x/resolve", Role.SYSTEM_ADMIN),
    ("POST", "/alerts/x/notes", Role.SYSTEM_ADMIN),
    ("POST", "/alerts/webhook", Role.ALERTMANAGER),
    ("GET", "/dashboard", Role.SYSTEM_ADMIN),
    ("GET", "/audit", Role.SYSTEM_ADMIN),
    ("GET", "/board", Role.SYSTEM_ADMIN),
    ("POST", "/notices", Role.SYSTEM_ADMIN),
    ("POST", "/notices/x/updates", Role.SYSTEM_ADMIN),
    ("GET", "/session", Role.SYSTEM_ADMIN),
]
"""Every call that is not for everybody, and the role that it needs."""


@pytest.fixture
async def api(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    """Return the API on each engine; at the end, nothing that was logged may hold a secret."""
    caplog.set_level("DEBUG")
    async with world(place, tmp_path) as made:
        yield made
        secrets = [secret for secret in (*made.secrets(), PASSWORD) if secret in caplog.text]
        assert secrets == []


@pytest.fixture
async def light(tmp_path: Path) -> AsyncIterator[World]:
    """Return the API on SQLite alone, for what has nothing to do with the store."""
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


# ── Who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "path", "role"), CALLS)
async def test_a_call_wants_a_credential_and_enough_of_a_role(light: World, method: str, path: str, role: Role) -> None:
    """Without a token 401, with a wrong one too, with any role but the right one 403; each says what is needed."""
    nobody = await light.call(method, path, as_="none")
    assert (nobody.status, unlike(PROBLEM, nobody.said)) == (401, {})
    assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="auraconnect"'
    assert nobody.media_type == "application/problem+json"
    stranger = await light.call(method, path, as_="auc_" + "0" * 64)
    assert (stranger.status, 'error="invalid_token"' in stranger.headers["WWW-Authenticate"]) == (401, True)
    for other in set(Role) - {role, Role.SYSTEM_ADMIN}:
        refused = await light.call(method, path, as_=other)
        assert (refused.status, refused.said["detail"]) == (403, f"this needs the role {role}")
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    for enough in (role, Role.SYSTEM_ADMIN):
        assert (await light.call(method, path, as_=enough)).status not in {401, 403}


async def test_the_public_call_is_the_only_public_one(light: World) -> None:
    """Every other operation of the document is in the list above, or checks a signature: none is forgotten."""
    async with await light.send("GET", "/openapi.json", as_="none") as response:
        paths = (await response.json())["paths"]
    described = {
        (method.upper(), path.removeprefix("/api/v1/health").replace("{id}", "x"))
        for path, operations in paths.items()
        for method in operations
    }
    assert described == {(method, path) for method, path, _ in CALLS} | PUBLIC


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, 200),
        ({"roles": ["system_admin"]}, 200),
        ({"roles": ["manager", "staff"]}, 403),
        ({"roles": []}, 403),
        ({"type": "refresh"}, 401),
        ({"aud": "somebody-else"}, 401),
        ({"iss": "somebody-else"}, 401),
        ({"exp": 1_780_000_000 - 60}, 401),
    ],
)
async def test_access_tokens_of_auraconnect_count(light: World, claims: Mapping[str, Any], expected: int) -> None:
    """Administrators are let in as they are; too little role is 403; refresh, foreign and expired tokens are 401."""
    assert (await light.call("GET", "/detailed", as_=light.access_token(**claims))).status == expected


async def test_forged_and_unsigned_tokens_are_refused(light: World) -> None:
    """A token with another signature, or with ``alg: none``, is no token, and the log says no word of it."""
    header, claims, _ = light.access_token().split(".")
    unsigned = "eyJhbGciOiJub25lIn0." + claims + "."
    for forged in (f"{header}.{claims}.{'A' * 43}", unsigned):
        assert (await light.call("GET", "/detailed", as_=forged)).status == 401


async def test_who_acknowledges_by_an_access_token_is_its_username(light: World) -> None:
    """The person that AuraConnect knows is the one that the alert names."""
    posted = await light.post_alert()
    answer = await light.call("PUT", f"/alerts/{posted['id']}/acknowledge", as_=light.access_token())
    assert answer.said["acknowledged_by"] == "grace"


async def test_too_many_failed_sign_ins_wait_but_valid_ones_do_not(light: World) -> None:
    """After thirty failures an address gets 429 with Retry-After, while a valid token from it still works."""
    here = {"X-Forwarded-For": "198.51.100.7"}
    wrong = "auc_" + "0" * 64
    failures = [(await light.call("GET", "/detailed", as_=wrong, headers=here)).status for _ in range(31)]
    assert failures == [401] * FAILURES_A_MINUTE + [429]
    limited = await light.call("GET", "/detailed", as_=wrong, headers=here)
    assert (limited.status, int(limited.headers["Retry-After"]) >= 1, unlike(PROBLEM, limited.said)) == (429, True, {})
    assert (await light.call("GET", "/detailed", headers=here)).status == 200
    assert (await light.call("GET", "/detailed", as_=wrong, headers={"X-Forwarded-For": "198.51.100.8"})).status == 401
    light.clock.advance(60)
    assert (await light.call("GET", "/detailed", as_=wrong, headers=here)).status == 401


async def test_the_public_call_is_limited_by_address(light: World) -> None:
    """Six hundred calls in a minute are answered, the next waits; other addresses and the proxy itself do not."""
    here = {"X-Forwarded-For": "198.51.100.7"}
    allowed = [(await light.call("GET", "", as_="none", headers=here)).status for _ in range(CALLS_A_MINUTE)]
    assert set(allowed) == {200}
    limited = await light.call("GET", "", as_="none", headers=here)
    assert (limited.status, limited.headers["Retry-After"]) == (429, "1")
    assert (await light.call("GET", "", as_="none")).status == 200


# ── Health ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "/"])
async def test_health(light: World, path: str) -> None:
    """The public call has the state, the version, how long we run, and the components' states, nothing more."""
    answer = await light.call("GET", path, as_="none")
    assert (answer.status, answer.media_type) == (200, "application/json")
    assert answer.said == {
        "status": "healthy",
        "timestamp": NOON,
        "version": __version__,
        "uptime_seconds": 1000.0,
        "components": [{"name": "database", "status": "healthy"}, {"name": "host", "status": "healthy"}],
        "checks_passed": 2,
        "checks_failed": 0,
    }
    assert unlike(BASIC, answer.said) == {}


async def test_detailed(light: World) -> None:
    """Each component has its time, its targets, when it was checked, and a sentence."""
    answer = await light.call("GET", "/detailed")
    assert (answer.status, unlike(DETAILED, answer.said)) == (200, {})
    target = {"status": "healthy", "response_time_ms": 250.0, "last_checked": NOON, "message": "all is well"}
    database = target | {"name": "primary", "critical": True}
    assert answer.said["components"][0] == target | {"name": "database", "details": {"targets": [database]}}


@pytest.mark.parametrize("path", ["", "/", "/detailed"])
async def test_unhealthy_is_503_with_the_same_shape(light: World, path: str) -> None:
    """A load balancer reads the status, a person the body; a second later it may be well again."""
    light.set_health(Health.UNHEALTHY)
    answer = await light.call("GET", path)
    shape = DETAILED if path == "/detailed" else BASIC
    assert (answer.status, answer.said["status"], unlike(shape, answer.said)) == (503, "unhealthy", {})
    assert (answer.said["checks_passed"], answer.said["checks_failed"]) == (1, 1)
    assert answer.media_type == "application/json"
    light.set_health(Health.HEALTHY)
    light.clock.advance(1)
    assert (await light.call("GET", path)).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/errors", "/errors/summary", "/alerts", "/dashboard", "/audit"])
async def test_nothing_else_is_503_for_being_unhealthy(light: World, path: str) -> None:
    """Whoever looks at an incident gets answers while it lasts."""
    light.set_health(Health.UNHEALTHY)
    await light.incidents.background.read()
    assert (await light.call("GET", path)).status == 200


async def test_metrics_are_of_the_host_the_database_and_prometheus(light: World) -> None:
    """Figures have the units of their names, of disks the fullest counts; without Prometheus its figures are null."""
    await light.incidents.background.read()
    answer = await light.call("GET", "/metrics")
    assert (answer.status, unlike(METRICS, answer.said)) == (200, {})
    assert answer.said == {
        "cpu_usage_percent": 25.0,
        "memory_usage_mb": 2048.0,
        "memory_total_mb": 8192.0,
        "disk_usage_percent": 90.0,
        "disk_free_gb": 1.0,
        "active_connections": 7,
        "request_rate_per_second": None,
        "error_rate_per_second": None,
        "average_response_time_ms": None,
        "unavailable": {"prometheus": "no Prometheus is configured"},
    }


async def test_performance_without_prometheus_says_so(light: World) -> None:
    """What only Prometheus knows is 503, in a sentence."""
    answer = await light.call("GET", "/performance")
    assert (answer.status, answer.media_type) == (503, "application/problem+json")
    assert answer.said["detail"] == "no Prometheus is configured, which would know the response times"


def history(now: float) -> str:
    """Return what an exporter has counted, in OpenMetrics: of two endpoints, 2 requests/s and 1, a tenth of which fail.

    It goes on for half an hour from now, so that a slow machine finds the same.
    """
    lines = []
    moments = range(int(now) - 1200, int(now) + 1800, 15)
    labels = 'job="auraconnect-exporter",instance="a",service="auraconnect-api",method="GET"'
    lines.append("# TYPE auraconnect_http_requests counter")
    for handler, status, rate in (("/orders/{id}", "200", 1.8), ("/orders/{id}", "500", 0.2), ("/menu", "200", 1.0)):
        name = f'auraconnect_http_requests_total{{{labels},handler="{handler}",status="{status}"}}'
        lines += [f"{name} {rate * (at - moments[0])} {at}" for at in moments]
    lines.append("# TYPE auraconnect_http_request_duration_seconds histogram")
    for handler, rate in (("/orders/{id}", 2.0), ("/menu", 1.0)):
        for bound, share in (("0.1", 0.5), ("0.5", 1.0), ("+Inf", 1.0)):
            name = f'auraconnect_http_request_duration_seconds_bucket{{{labels},handler="{handler}",le="{bound}"}}'
            lines += [f"{name} {rate * share * (at - moments[0])} {at}" for at in moments]
        name = f'auraconnect_http_request_duration_seconds_sum{{{labels},handler="{handler}"}}'
        lines += [f"{name} {rate * 0.2 * (at - moments[0])} {at}" for at in moments]
    return "\n".join([*lines, "# EOF", ""])


async def test_performance_is_prometheus_s_and_so_are_its_absences(tmp_path: Path) -> None:
    """With a real one: a line for each endpoint, and figures. Killed: 503, nulls and a reason, and all else answers."""
    (tmp_path / "history.om").write_text(history(time.time()))
    (tmp_path / "prometheus.yml").write_text("{}")
    promtool = (program("promtool"), "tsdb", "create-blocks-from", "openmetrics")
    made = (*promtool, tmp_path / "history.om", tmp_path / "prometheus")
    await asyncio.to_thread(subprocess.run, made, check=True, capture_output=True)
    with Prometheus(tmp_path, tmp_path / "prometheus.yml") as prometheus:
        async with world(Place("", tmp_path / "data"), tmp_path, prometheus=prometheus.url) as api:
            answer = await api.call("GET", "/performance?time_window_minutes=10")
            assert (answer.status, list_of(PERFORMANCE)(answer.said)) == (200, True)
            busy, quiet = answer.said
            assert (busy["endpoint"], quiet["endpoint"], busy["time_window_minutes"]) == ("/orders/{id}", "/menu", 10)
            assert (busy["request_count"], busy["error_count"]) == (
                pytest.approx(1200, abs=60),
                pytest.approx(120, abs=6),
            )
            assert (busy["error_rate"], quiet["error_rate"]) == (10.0, 0.0)
            assert (busy["avg_response_time_ms"], busy["p95_response_time_ms"]) == (200.0, 460.0)
            (one,) = (await api.call("GET", "/performance?endpoint=/menu")).said
            assert one["endpoint"] == "/menu"
            assert (await api.call("GET", "/performance?endpoint=/nothing")).said == []
            await api.incidents.background.read()
            figures = (await api.call("GET", "/metrics")).said
            assert figures["request_rate_per_second"] == pytest.approx(3.0, abs=0.2)
            assert figures["error_rate_per_second"] == pytest.approx(0.2, abs=0.02)
            assert (figures["average_response_time_ms"], figures["unavailable"]) == (pytest.approx(200.0), {})
            assert len((await api.call("GET", "/dashboard")).said["performance"]) == 2
            prometheus.kill()
            api.clock.advance(5)
            gone = await api.call("GET", "/performance")
            assert (gone.status, unlike(PROBLEM, gone.said), gone.headers["Retry-After"]) == (503, {}, "5")
            assert "connection refused" in gone.said["detail"]
            await api.incidents.background.read()
            figures = (await api.call("GET", "/metrics")).said
            assert {figures[name] for name in FIGURES[6:]} == {None}
            assert (figures["cpu_usage_percent"], "refused" in figures["unavailable"]["prometheus"]) == (25.0, True)
            dashboard = await api.call("GET", "/dashboard")
            assert (dashboard.status, unlike(DASHBOARD, dashboard.said)) == (200, {})
            assert "refused" in dashboard.said["unavailable"]["prometheus"]


# ── Parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "name", "least", "most"),
    [
        ("/errors", "hours", 1, 168),
        ("/errors", "limit", 1, 500),
        ("/errors/summary", "hours", 1, 168),
        ("/alerts", "limit", 1, 100),
        ("/audit", "hours", 1, 720),
        ("/audit", "limit", 1, 1000),
    ],
)
async def test_limits_have_edges(light: World, path: str, name: str, least: int, most: int) -> None:
    """The edge itself is allowed, one more or less is 422 and named, and so is what is no number."""
    for value in (least, most):
        assert (await light.call("GET", f"{path}?{name}={value}")).status == 200
    for wrong in (least - 1, most + 1, "x", "1.5", "1e9", "9" * 400):
        answer = await light.call("GET", f"{path}?{name}={wrong}")
        assert (answer.status, answer.said["detail"].partition(":")[0], unlike(PROBLEM, answer.said)) == (422, name, {})


@pytest.mark.parametrize(("minutes", "expected"), [(0, 422), (1, 503), (60, 503), (61, 422), ("", 503)])
async def test_the_window_of_performance_has_edges(light: World, minutes: object, expected: int) -> None:
    """From 1 to 60 minutes; what is too large is told before Prometheus is missed, and empty is the default."""
    assert (await light.call("GET", f"/performance?time_window_minutes={minutes}")).status == expected


@pytest.mark.parametrize(
    "query", ["resolved=maybe", "severity=fatal", "resolved=2", "severity=Critical", "limit=1&limit=x"]
)
async def test_other_parameters_are_checked(light: World, query: str) -> None:
    """A misspelt filter is an error, not an empty list that reassures."""
    assert (await light.call("GET", f"/alerts?{query}")).status == 422


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/alerts"), ("GET", "/errors"), ("GET", "/errors/summary"), ("GET", "/dashboard")]
)
async def test_a_slash_at_the_end_is_optional(light: World, method: str, path: str) -> None:
    """Both spellings answer the same, without a redirect that would lose the token."""
    plain, slashed = [await light.call(method, path + end, allow_redirects=False) for end in ("", "/")]
    assert (plain.status, slashed.status, slashed.said) == (200, 200, plain.said)


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def log_error(api: World, **fields: Any) -> Any:
    answer = await api.call(
        "POST", "/errors/log", as_="ingest", json={"error_type": "E", "error_message": "m"} | fields
    )
    assert answer.status == 201, answer
    return answer.said


async def test_an_error_is_logged_and_listed(api: World) -> None:
    """All fields come back as they were sent, with an id, the time, and unresolved."""
    sent = {
        "error_type": "ValueError",
        "error_message": "no such order, ünïcode ✓",
        "stack_trace": "Traceback …",
        "endpoint": "/orders/17",
        "method": "POST",
        "status_code": 500,
        "user_id": "42",
        "restaurant_id": "r-7",
        "request_id": "q1",
        "tags": {"a": [1, None, 2.5, {"b": "c"}]},
    }
    logged = await log_error(api, **sent)
    assert unlike(ERROR, logged) == {}
    assert logged == sent | {"id": logged["id"], "created_at": NOON, "resolved": False, "resolved_at": None}
    assert (await api.call("GET", "/errors")).said == [logged]


async def test_ids_of_auraconnect_may_be_numbers(api: World) -> None:
    """AuraConnect's ids are numbers in one table and UUIDs in another; here they are text."""
    logged = await log_error(api, user_id=42, restaurant_id=2**53)
    assert (logged["user_id"], logged["restaurant_id"]) == ("42", str(2**53))


async def test_errors_are_filtered_and_limited_newest_first(api: World) -> None:
    """By type, by endpoint, by hours, by whether they are resolved; the newest stands first."""
    first = await log_error(api, error_type="A", endpoint="/a")
    api.clock.advance(2 * 3600)
    second = await log_error(api, error_type="B", endpoint="/a")
    api.clock.advance(60)
    third = await log_error(api, error_type="B", endpoint="/b")

    async def ids(query: str) -> list[str]:
        return [error["id"] for error in (await api.call("GET", f"/errors?{query}")).said]

    assert await ids("") == [third["id"], second["id"], first["id"]]
    assert await ids("hours=1") == [third["id"], second["id"]]
    assert await ids("limit=1") == [third["id"]]
    assert await ids("error_type=A") == [first["id"]]
    assert await ids("endpoint=/a&error_type=B") == [second["id"]]
    assert await ids("resolved=true") == []
    assert len(await ids("resolved=false")) == 3


async def test_the_summary_counts(api: World) -> None:
    """Totals, rate by hour, types and endpoints with the most first."""
    for number_ in range(3):
        await log_error(api, error_type="A", endpoint="/a" if number_ else "/b")
    await log_error(api, error_type="B")
    answer = await api.call("GET", "/errors/summary?hours=2")
    assert (answer.status, unlike(SUMMARY, answer.said)) == (200, {})
    assert answer.said == {
        "total_errors": 4,
        "unique_errors": 2,
        "error_rate_per_hour": 2.0,
        "top_errors": [{"error_type": "A", "count": 3}, {"error_type": "B", "count": 1}],
        "affected_endpoints": [{"endpoint": "/a", "error_count": 2}, {"endpoint": "/b", "error_count": 1}],
        "time_window_hours": 2,
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "body: object missing required field `error_type`"),
        ({"error_type": "E"}, "body: object missing required field `error_message`"),
        ({"error_type": "", "error_message": "m"}, "error_type: expected `str` of length >= 1"),
        ({"error_type": "E", "error_message": 5}, "error_message: expected `str`, got `int`"),
        ({"error_type": "E", "error_message": "m", "status_code": 99}, "status_code: expected `int` >= 100"),
        ([], "body: expected `object`, got `array`"),
    ],
)
async def test_an_error_that_is_none_is_refused(light: World, body: Any, detail: str) -> None:
    """422 names the field and what is wrong with it."""
    answer = await light.call("POST", "/errors/log", as_="ingest", json=body)
    assert (answer.status, answer.said["detail"]) == (422, detail)


# ── Alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_alert_is_posted_and_listed(api: World) -> None:
    """200 with the alert as the clients know it; the list shows the same."""
    sent: dict[str, Any] = {
        "alert_type": "resource",
        "severity": "critical",
        "component": "kitchen-printer",
        "title": "No paper",
        "description": "Refill it.",
        "threshold_value": 10.5,
        "actual_value": 0,
        "metadata": {"tray": [1, 2]},
    }
    alert = await api.post_alert(**sent)
    assert unlike(ALERT, alert) == {}
    assert sent.items() <= alert.items()
    assert alert["triggered_at"] == NOON
    assert (alert["acknowledged"], alert["resolved"], alert["origin"]) == (False, False, "api")
    assert (alert["acknowledged_at"], alert["acknowledged_by"], alert["resolved_at"]) == (None, None, None)
    assert (await api.call("GET", "/alerts")).said == [alert]


async def test_what_may_be_left_out_of_an_alert_may_be(api: World) -> None:
    """Type, severity, component and title are enough."""
    alert = await api.post_alert()
    assert (alert["description"], alert["metadata"], alert["threshold_value"], alert["actual_value"]) == (
        *("", {}),
        *(None, None),
    )


async def test_alerts_are_filtered_and_limited(api: World) -> None:
    """By severity, by whether they are resolved, the last begun first."""
    ids = {}
    for severity in ("critical", "warning", "info"):
        ids[severity] = (await api.post_alert(severity=severity, title=severity))["id"]
        api.clock.advance(1)
    assert (await api.call("PUT", f"/alerts/{ids['info']}/resolve")).status == 200

    async def found(query: str) -> list[str]:
        return [alert["severity"] for alert in (await api.call("GET", f"/alerts?{query}")).said]

    assert await found("") == ["info", "warning", "critical"]
    assert await found("limit=2") == ["info", "warning"]
    assert await found("resolved=false") == ["warning", "critical"]
    assert await found("resolved=true") == ["info"]
    assert await found("severity=critical") == ["critical"]
    assert await found("resolved=&severity=") == ["info", "warning", "critical"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"alert_type": "weather"},
        {"severity": "fatal"},
        {"title": ""},
        {"title": "x" * 201},
        {"component": None},
        {"threshold_value": "10"},
        {"metadata": []},
        {"colour": "red"},
    ],
)
async def test_an_alert_that_is_none_is_refused(light: World, wrong: Mapping[str, Any]) -> None:
    """422, and nothing is opened."""
    body = {"alert_type": "performance", "severity": "info", "component": "api", "title": "t", **wrong}
    assert (await light.call("POST", "/alerts", json=body)).status == 422
    assert (await light.call("GET", "/alerts")).said == []


async def test_an_acknowledgement_keeps_the_first_person(api: World) -> None:
    """A second one is fine, and changes nothing but the audit log."""
    id_ = (await api.post_alert())["id"]
    api.clock.advance(30)
    first = await api.call("PUT", f"/alerts/{id_}/acknowledge", as_="ada")
    assert (first.status, first.said["acknowledged"], first.said["acknowledged_by"]) == (200, True, "ada")
    assert (first.said["acknowledged_at"], unlike(ALERT, first.said)) == ("2026-05-28T20:27:10Z", {})
    api.clock.advance(30)
    second = await api.call("PUT", f"/alerts/{id_}/acknowledge", as_="bob")
    assert (second.status, second.said) == (200, first.said)


async def test_two_people_acknowledge_at_once(api: World) -> None:
    """Both are answered with the same alert, which names one of them; one event says so, two acts are in the log."""
    id_ = (await api.post_alert())["id"]
    people = ["ada", "bob"] * 10
    answers = await asyncio.gather(*(api.call("PUT", f"/alerts/{id_}/acknowledge/", as_=person) for person in people))
    assert {answer.status for answer in answers} == {200}
    (first,) = {answer.said["acknowledged_by"] for answer in answers}
    told = (await api.call("GET", f"/alerts/{id_}")).said["events"]
    assert [event["actor"] for event in told if event["kind"] == "acknowledged"] == [first]
    acts = [act for act in (await api.call("GET", "/audit")).said if act["action"] == "alert.acknowledge"]
    assert sorted(act["outcome"] for act in acts) == [f"already by {first}"] * 19 + ["done"]


async def test_an_acknowledgement_is_in_metrics_at_once(api: World) -> None:
    """The next scrape after the answer shows it, so that the alert climbs no further."""
    id_ = (await api.post_alert())["id"]
    assert [line[-3:] for line in await api.metrics("auraconnect_alert_acknowledged{")] == ["0.0"]
    await api.call("PUT", f"/alerts/{id_}/acknowledge")
    (line,) = await api.metrics("auraconnect_alert_acknowledged{")
    assert line.endswith(" 1.0")
    assert 'alertname="Orders wait"' in line


async def test_another_exporter_shows_it_within_a_second(shared_place: Place, tmp_path: Path) -> None:
    """Two exporters on one PostgreSQL: what one acknowledges the other's metrics show."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with world(shared_place, tmp_path / "one") as one, world(shared_place, tmp_path / "two") as two:
        id_ = (await one.post_alert())["id"]
        await one.call("PUT", f"/alerts/{id_}/acknowledge")
        answered = time.monotonic()
        while not (await two.metrics("auraconnect_alert_acknowledged{") or ["0.0"])[0].endswith("1.0"):
            assert time.monotonic() - answered < 5, "not shown at all"
            await asyncio.sleep(0.02)
        assert (await two.call("GET", f"/alerts/{id_}")).said["alert"]["acknowledged_by"] == "ada"


async def test_two_mountpoints_of_one_host_one_acknowledged(api: World) -> None:
    """Each is an alert of its own, in the list and in the metrics: taking care of one leaves the other climbing."""
    delivered = await api.deliver(
        firing(target="host1:/var", fingerprint="00000000000000aa"),
        firing(target="host1:/srv", fingerprint="00000000000000bb"),
    )
    assert (delivered.status, delivered.said) == (200, {"status": "stored"})
    found = {alert["target"]: alert for alert in (await api.call("GET", "/alerts")).said}
    assert {unlike(ALERT, alert) == {} for alert in found.values()} == {True}
    await api.call("PUT", f"/alerts/{found['host1:/var']['id']}/acknowledge")
    shown = {
        target: line.rsplit(" ", 1)[1]
        for line in await api.metrics("auraconnect_alert_acknowledged{")
        for target in re.findall(r'target="([^"]+)"', line)
    }
    assert shown == {"host1:/var": "1.0", "host1:/srv": "0.0"}


async def test_resolving_what_was_posted_ends_it(api: World) -> None:
    """200, with who and when; again is fine and changes nothing."""
    id_ = (await api.post_alert())["id"]
    api.clock.advance(60)
    first = await api.call("PUT", f"/alerts/{id_}/resolve")
    assert (first.status, first.said["resolved"], first.said["resolved_by"]) == (200, True, "ada")
    assert first.said["resolved_at"] == "2026-05-28T20:27:40Z"
    again = await api.call("PUT", f"/alerts/{id_}/resolve", as_="bob")
    assert (again.status, again.said) == (200, first.said)
    assert await api.metrics("auraconnect_alert_acknowledged{") == []


async def test_resolving_what_still_fires_says_so(api: World) -> None:
    """409, unless forced; the next firing opens it again, and the timeline tells all of it."""
    await api.deliver(firing())
    (alert,) = (await api.call("GET", "/alerts")).said
    refused = await api.call("PUT", f"/alerts/{alert['id']}/resolve")
    assert (refused.status, unlike(PROBLEM, refused.said)) == (409, {})
    assert "?force=true" in refused.said["detail"]
    assert (await api.call("PUT", f"/alerts/{alert['id']}/resolve?force=false")).status == 409
    forced = await api.call("PUT", f"/alerts/{alert['id']}/resolve?force=true")
    assert (forced.status, forced.said["resolved"], forced.said["resolved_by"]) == (200, True, "ada")
    await api.deliver(firing())
    told = (await api.call("GET", f"/alerts/{alert['id']}")).said
    assert (told["alert"]["resolved"], [event["kind"] for event in told["events"]]) == (
        False,
        ["fired", "resolved", "reopened"],
    )


@pytest.mark.parametrize("act", ["/acknowledge", "/resolve", "/notes", ""])
@pytest.mark.parametrize("id_", ["nothing", "00000000-0000-4000-8000-000000000000", "%00", "%F0%9F%94%A5", "x" * 2000])
async def test_an_unknown_alert_is_404(api: World, act: str, id_: str) -> None:
    """Whatever stands for the id."""
    method = {"/notes": "POST", "": "GET"}.get(act, "PUT")
    answer = await api.call(method, f"/alerts/{id_}{act}", json={"text": "x"} if act == "/notes" else None)
    assert (answer.status, unlike(PROBLEM, answer.said)) == (404, {})


async def test_notes_and_timeline(api: World) -> None:
    """What happened stands in order, with who did it."""
    id_ = (await api.post_alert())["id"]
    api.clock.advance(1)
    note = await api.call("POST", f"/alerts/{id_}/notes", json={"text": "the printer is on fire 🔥"})
    said = {"at": "2026-05-28T20:26:41Z", "kind": "note", "actor": "ada", "detail": "the printer is on fire 🔥"}
    assert (note.status, note.said) == (201, said)
    api.clock.advance(1)
    await api.call("PUT", f"/alerts/{id_}/acknowledge", as_="bob")
    told = (await api.call("GET", f"/alerts/{id_}/")).said
    assert told["alert"]["id"] == id_
    assert [(event["kind"], event["actor"]) for event in told["events"]] == [
        ("fired", "ada"),
        ("note", "ada"),
        ("acknowledged", "bob"),
    ]


async def test_at_most_two_hundred_posted_alerts_are_open(light: World) -> None:
    """The next one is 429 with Retry-After, until one is resolved."""
    posted = [await light.post_alert(title=f"t{index}") for index in range(200)]
    body = {"alert_type": "performance", "severity": "info", "component": "api", "title": "t"}
    refused = await light.call("POST", "/alerts", json=body)
    assert (refused.status, refused.headers["Retry-After"], unlike(PROBLEM, refused.said)) == (429, "60", {})
    await light.call("PUT", f"/alerts/{posted[0]['id']}/resolve")
    assert (await light.call("POST", "/alerts", json=body)).status == 200


async def test_a_delivery_that_can_not_be_used_is_taken_all_the_same(api: World) -> None:
    """Alertmanager would send it for ever; it is put aside and counted."""
    answer = await api.call("POST", "/alerts/webhook", as_="alertmanager", data=b'{"alerts": 5')
    assert (answer.status, answer.said) == (200, {"status": "stored"})
    assert 'auraconnect_webhook_deliveries_total{result="unusable"} 1.0' in await api.metrics(
        "auraconnect_webhook_deliveries_total"
    )


async def test_every_act_is_in_the_audit_log(api: World) -> None:
    """Who, what, to what, from where and with which outcome; readers leave no trace, and nor do refused ones."""
    here = {"X-Forwarded-For": "198.51.100.7"}
    id_ = (await api.post_alert())["id"]
    await api.call("PUT", f"/alerts/{id_}/acknowledge", as_="bob", headers=here)
    await api.call("POST", f"/alerts/{id_}/notes", json={"text": "x"})
    await api.call("PUT", f"/alerts/{id_}/acknowledge", as_="metrics")
    await api.call("GET", "/alerts")
    await api.call("PUT", f"/alerts/{id_}/resolve")
    answer = await api.call("GET", "/audit")
    told = [(act["actor"], act["action"], act["subject"], act["address"], act["outcome"]) for act in answer.said]
    assert told == [
        ("ada", "alert.resolve", id_, "127.0.0.1", "done"),
        ("ada", "alert.note", id_, "127.0.0.1", "done"),
        ("bob", "alert.acknowledge", id_, "198.51.100.7", "done"),
        ("ada", "alert.post", id_, "127.0.0.1", "done"),
    ]
    assert {instant(act["at"]) for act in answer.said} == {True}
    assert len((await api.call("GET", "/audit?limit=1")).said) == 1


# ── Dashboard ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_dashboard_has_all_parts(api: World) -> None:
    """Health, figures, the newest five errors, the ten most urgent alerts and the summary, in one answer."""
    for index in range(7):
        await log_error(api, error_type=f"E{index}")
        api.clock.advance(1)
    for index in range(DASHBOARD_ALERTS + 2):
        await api.post_alert(title=f"t{index}", severity="critical" if index == 11 else "info")
    await api.incidents.background.read()
    answer = await api.call("GET", "/dashboard")
    assert (answer.status, unlike(DASHBOARD, answer.said)) == (200, {})
    assert [error["error_type"] for error in answer.said["recent_errors"]] == ["E6", "E5", "E4", "E3", "E2"]
    shown = [alert["title"] for alert in answer.said["active_alerts"]]
    assert (shown[0], len(shown), answer.said["active_alerts_total"]) == ("t11", 10, 12)
    assert answer.said["error_summary"]["total_errors"] == 7
    assert answer.said["unavailable"] == {"prometheus": "no Prometheus is configured"}


async def test_the_dashboard_is_not_sent_twice(light: World) -> None:
    """With its ETag the answer is 304 without content until there is news, which is at most a second late."""
    await light.incidents.background.read()
    first = await light.call("GET", "/dashboard")
    etag = first.headers["ETag"]
    assert re.fullmatch(r'"[^"]+"', etag)
    assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("private, no-cache", VARY)
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        light.clock.advance(5)
        same = await light.call("GET", "/dashboard", headers={"If-None-Match": known})
        assert (same.status, same.said, same.headers["ETag"]) == (304, None, etag)
    other = await light.call("GET", "/dashboard", headers={"If-None-Match": '"other"'})
    assert (other.status, other.said) == (200, first.said)
    await light.post_alert()
    light.clock.advance(1)
    news = await light.call("GET", "/dashboard", headers={"If-None-Match": etag})
    assert (news.status, len(news.said["active_alerts"]), news.headers["ETag"] != etag) == (200, 1, True)


# ── While others are away ────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_in_memory_is_answered_while_the_store_hangs(tmp_path: Path) -> None:
    """A frozen PostgreSQL costs the calls that write or list (503, Retry-After), and nobody else a moment."""
    with PostgreSQL(tmp_path, password=PASSWORD) as server:
        async with world(Place(server.dsn, tmp_path / "data"), tmp_path, deadline=0.3) as api:
            id_ = (await api.post_alert())["id"]
            await log_error(api)
            await api.incidents.background.read()
            server.freeze()
            try:
                for path in ("/alerts", "/errors", "/errors/summary", "/audit", f"/alerts/{id_}"):
                    await refused(api, "GET", path)
                await refused(api, "PUT", f"/alerts/{id_}/acknowledge")
                await refused(api, "POST", "/errors/log", json={"error_type": "E", "error_message": "m"})
                await refused(api, "POST", "/alerts/webhook", data=b"{}")
                await api.incidents.background.read()
                api.clock.advance(1)
                begun = time.monotonic()
                for path in ("", "/detailed", "/metrics", "/dashboard"):
                    assert (await api.call("GET", path)).status == 200
                assert len(await api.metrics("auraconnect_alert_acknowledged{")) == 1
                assert time.monotonic() - begun < 0.3
                dashboard = (await api.call("GET", "/dashboard")).said
                assert [alert["id"] for alert in dashboard["active_alerts"]] == [id_]
                assert dashboard["unavailable"]["store"] == "the incident store can't be used at the moment"
            finally:
                server.thaw()


async def refused(api: World, method: str, path: str, **options: Any) -> None:
    answer = await api.call(method, path, **options)
    assert (answer.status, answer.headers["Retry-After"], unlike(PROBLEM, answer.said)) == (503, "5", {})


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "/detailed", "/dashboard", "/alerts", "/openapi.json"])
async def test_head_answers_as_get_without_a_body(light: World, path: str) -> None:
    """Monitors ask with HEAD."""
    get, head = [await light.call(method, path) for method in ("GET", "HEAD")]
    assert (head.status, head.said, head.media_type) == (get.status, None, "application/json")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_no_other_site_is_let_in(light: World) -> None:
    """CORS allows nothing: a page of another site gets neither an answer it may read nor a yes to its preflight."""
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    for method in ("GET", "OPTIONS"):
        answer = await light.call(method, "/alerts", headers=origin)
        assert [name for name in answer.headers if name.lower().startswith("access-control")] == []
    assert (await light.call("OPTIONS", "/alerts", headers=origin)).status == 405


@pytest.mark.parametrize("path", ["", "/detailed", "/nothing", "/alerts?limit=0"])
async def test_every_answer_tells_browsers_to_keep_out(light: World, path: str) -> None:
    """No sniffing, no framing, no referrer, nothing kept in caches, good answers and errors alike."""
    headers = (await light.call("GET", path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


async def test_no_secret_is_logged_or_answered(light: World, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens, good and bad ones, the signing key, and what a caller sent in the wrong place: none is repeated."""
    caplog.set_level(logging.DEBUG)
    wrong = "auc_" + "5" * 64
    secrets = [*light.secrets(), wrong, light.access_token()]
    said = []
    for token in (*secrets, "none"):
        for method, path in (("GET", "/detailed"), ("GET", "/nothing"), ("PUT", "/alerts/x/acknowledge")):
            answer = await light.call(method, path, as_=token)
            said.append(json.dumps([answer.said, dict(answer.headers)]))
    assert [secret for secret in secrets if secret in caplog.text or any(secret in each for each in said)] == []
