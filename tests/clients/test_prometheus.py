"""The client of Prometheus on real ones, the oldest that we support and the newest, and on what answers otherwise."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.clients.prometheus import LabelSet, Prometheus, Sample, Series
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.records import SECOND
from tests.probes.support import Handler, say_nothing, serving
from tools import servers

RULES = {
    "groups": [
        {
            "name": "test",
            "interval": "100ms",
            "rules": [
                {
                    "alert": "DatabaseConnectionLost",
                    "expr": 'label_replace(vector(1), "target", "Übung \\"1\\"", "", "")',
                    "labels": {"severity": "critical"},
                },
                {"alert": "Pending", "expr": "vector(1)", "for": "1h"},
                {"alert": "Silent", "expr": "vector(1) < 0"},
            ],
        }
    ]
}


@pytest.fixture(params=["oldest", "newest"])
def release(request: pytest.FixtureRequest) -> str:
    """Return each release in turn."""
    return str(request.param)


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[Prometheus]:
    """Yield a client, closed at the end of the block."""
    client = Prometheus(server)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def running(folder: Path, release: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus with the rules; yield a client of it."""
    (folder / "rules.yml").write_text(yaml.safe_dump(RULES))
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"]}))
    with servers.Prometheus(folder, folder / "prometheus.yml", release=release) as server:
        async with asking(Server(base(server.url))) as client:
            yield client


async def test_values_come_with_their_labels_whatever_numbers_they_are(tmp_path: Path, release: str) -> None:
    """Vectors, scalars, infinities and NaN, at the moment that is asked for; nothing is an empty list."""
    labelled = 'label_replace(vector(1.5), "ziel", "ü \\\\ \\" \\n", "", "")'
    async with running(tmp_path, release) as client:
        assert await client.query(labelled) == [Sample({"ziel": 'ü \\ " \n'}, 1.5)]
        assert await client.query("3") == [Sample({}, 3.0)]
        assert await client.query("vector(1) / 0 or vector(2)") == [Sample({}, math.inf)]
        assert await client.query("-vector(1) / 0") == [Sample({}, -math.inf)]
        (nan,) = await client.query("vector(0) / 0")
        assert math.isnan(nan.value)
        assert await client.query("nothing_of_this_name") == []
        assert await client.query("time()", 1_700_000_000_123_456) == [Sample({}, 1_700_000_000.123)]
        assert (await client.query("time()"))[0].value == pytest.approx(time.time(), abs=30)


async def test_an_expression_may_be_longer_than_an_address(tmp_path: Path, release: str) -> None:
    """A hundred kilobytes are posted; of an address, proxies take eight."""
    async with running(tmp_path, release) as client:
        assert await client.query(f"1 # {'long ' * 20_000}") == [Sample({}, 1.0)]


async def test_a_range_is_read_from_start_to_end(tmp_path: Path, release: str) -> None:
    """Both ends and each step between, at their moments."""
    start = 1_700_000_000 * SECOND
    async with running(tmp_path, release) as client:
        found = await client.query_range("vector(time())", start, start + 60 * SECOND, 30)
        points = tuple((start + after * SECOND, 1_700_000_000.0 + after) for after in (0, 30, 60))
        assert found == [Series({}, points)]
        assert await client.query_range("nothing", start, start + SECOND, 0.5) == []


async def test_what_fires_is_told_by_its_labels(tmp_path: Path, release: str) -> None:
    """Neither what is pending nor what is silent; the labels are the alert's, without Prometheus's own."""
    async with running(tmp_path, release) as client:
        found: set[LabelSet] = set()
        for _ in range(200):
            found = await client.firing()
            if found:
                break
            await asyncio.sleep(0.05)
        pending = await client.query('ALERTS{alertstate="pending"}')
    expected = {"alertname": "DatabaseConnectionLost", "severity": "critical", "target": 'Übung "1"'}
    assert found == {frozenset(expected.items())}
    assert [sample.labels["alertname"] for sample in pending] == ["Pending"]


REFUSED = {
    "up{": "refuses: bad_data: .*parse error: unexpected end of input",
    "": "refuses: bad_data: .*no expression found in input",
    "sum(vector(1)) * on () up{} / 'x'": "refuses: bad_data",
    "'text'": "answers with a string, not with values of one moment",
    "vector(1)[5m:1m]": "answers with a matrix, not with values of one moment",
}


async def test_what_prometheus_refuses_is_told_with_its_own_words(tmp_path: Path, release: str) -> None:
    """An expression that can't be read, and answers of another kind than was asked for."""
    async with running(tmp_path, release) as client:
        for expression, words in REFUSED.items():
            with pytest.raises(ClientError, match=words):
                await client.query(expression)


def answering(answer: Any, status: str = "200 OK", requests: list[bytes] | None = None) -> Handler:
    """Answer each request, which is noted, with some JSON, or these bytes."""
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        body = await reader.readexactly(length)
        if requests is not None:
            requests.append(head + body)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        await reader.read()

    return handle


def vector(*results: Any) -> dict[str, Any]:
    """Return a good answer with these results."""
    return {"status": "success", "data": {"resultType": "vector", "result": list(results)}}


async def test_mimir_is_asked_below_its_prefix_for_its_tenant() -> None:
    """And told for how long we wait, so that it does not go on for nobody; warnings and statistics are ignored."""
    requests: list[bytes] = []
    answer = vector({"metric": {"a": "b"}, "value": [1.5, "2"]}) | {"warnings": ["partial"], "infos": ["hm"]}
    answer["data"]["stats"] = {"seriesFetched": "1"}
    async with serving(answering(answer, requests=requests)) as port:
        tenant = (("X-Scope-OrgID", "auraconnect"),)
        async with asking(Server(base(f"http://127.0.0.1:{port}/prometheus"), headers=tenant, timeout=2.5)) as client:
            assert await client.query("up") == [Sample({"a": "b"}, 2.0)]
    assert requests[0].startswith(b"POST /prometheus/api/v1/query HTTP/1.1\r\n")
    assert b"\r\nX-Scope-OrgID: auraconnect\r\n" in requests[0]
    assert requests[0].endswith(b"\r\n\r\nquery=up&timeout=2.5")


async def test_a_native_histogram_is_passed_over() -> None:
    """It has no value; the others beside it have."""
    histogram = {"metric": {}, "histogram": [1.5, {"count": "1", "sum": "2", "buckets": []}]}
    answer = vector(histogram, {"metric": {}, "value": [1, "3"]})
    async with serving(answering(answer)) as port, asking(Server(base(f"http://127.0.0.1:{port}"))) as client:
        assert await client.query("x") == [Sample({}, 3.0)]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            "503 Unavailable",
            {"status": "error", "errorType": "timeout", "error": "query timed out\nin\x1b[0m"},
            "refuses: timeout: query timed out in?[0m",
        ),
        ("200 OK", {"status": "error", "errorType": "e", "error": "x" * 999}, f"refuses: e: {'x' * 199}…"),
        ("200 OK", {"status": "success"}, "refuses: : "),
        ("422 No", {"status": "error"}, "refuses: : "),
        ("401 No", b"no org id\n", "answers with status 401 and says: no org id"),
        ("502 Bad Gateway", b"<html>", "answers with status 502"),
        ("200 OK", b"<html>", "answers what can't be read: JSON is malformed: invalid character (byte 0)"),
        ("200 OK", vector(1), "answers what can't be read: Expected `object`, got `int` - at `$[0]`"),
        ("200 OK", vector({"metric": {}, "value": [1, "much"]}), "answers with a value that is no number"),
        ("200 OK", vector({"metric": {}, "value": [1e300, "1"]}), "answers what can't be read: Expected `float` <="),
        ("200 OK", vector({"metric": {"a": 1}, "value": [1, "1"]}), "answers what can't be read: Expected `str`"),
        ("200 OK", vector({"metric": {}, "value": ["1"]}), "answers what can't be read"),
        ("200 OK", b'{"status": "success", "data": ' + b"[" * 200_000, "answers what can't be read"),
    ],
)
async def test_what_makes_no_sense_is_an_error(status: str, answer: Any, words: str) -> None:
    """Errors as Prometheus tells them, proxies in between, and answers that are none."""
    async with serving(answering(answer, status)) as port, asking(Server(base(f"http://127.0.0.1:{port}"))) as client:
        with pytest.raises(ClientError) as failed:
            await client.query("x")
    assert str(failed.value).startswith(f"Prometheus at http://127.0.0.1:{port} {words}")
    assert failed.value.__suppress_context__ or failed.value.__context__ is None


async def test_a_range_of_another_kind_is_an_error() -> None:
    """A vector is no range."""
    async with serving(answering(vector())) as port, asking(Server(base(f"http://127.0.0.1:{port}"))) as client:
        with pytest.raises(ClientError, match="answers with a vector, not with values over a time"):
            await client.query_range("x", 0, SECOND, 1)


async def test_a_frozen_prometheus_holds_nobody() -> None:
    """A call ends at its deadline."""
    begun = time.monotonic()
    async with serving(say_nothing) as port, asking(Server(base(f"http://127.0.0.1:{port}"), timeout=0.3)) as client:
        with pytest.raises(ClientError, match=r"does not answer within 0\.3 s"):
            await client.firing()
    assert time.monotonic() - begun < 2.5
