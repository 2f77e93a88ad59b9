"""Prometheus, 2.42 and newer, and what speaks like it: Thanos, Mimir, VictoriaMetrics.

Source: Prometheus's documentation, "HTTP API". Expressions are posted, so that they may be long. Warnings are ignored:
a part of the answer is better than none. Numbers are Prometheus's floats, NaN and infinities too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from auraconnect_exporter.clients.json_client import JsonClient, Refused, decode, one_line
from auraconnect_exporter.clients.server import Server
from auraconnect_exporter.records import SECOND, Moment, moment

T = TypeVar("T")

LabelSet = frozenset[tuple[str, str]]
"""Names and values of labels."""

_FAR: Final = 1e12
"""Unix seconds that no clock shows."""

FIRING: Final = 'ALERTS{alertstate="firing"}'


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at the moment that was asked for; ``labels`` with ``__name__`` where it has a name."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series' values over a range, oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[Moment, float], ...]


class Prometheus:
    """The HTTP API of one Prometheus. Every call raises ClientError when it fails, with Prometheus's own words."""

    def __init__(self, server: Server) -> None:
        self._client = JsonClient(server, "Prometheus")
        # What we no longer wait for, it need not work on.
        self._limit = {"timeout": f"{server.timeout:g}"}

    async def query(self, expression: str, at: Moment | None = None) -> list[Sample]:
        """Return an expression's values at a moment, or now. A scalar is one sample without labels."""
        form = {"query": expression} if at is None else {"query": expression, "time": _seconds(at)}
        data = await self._ask("/api/v1/query", form)
        if data.kind == "scalar":
            return [Sample({}, self._number(self._decode(data.result, _Point)))]
        if data.kind != "vector":
            raise self._client.failed(f"answers with a {data.kind}, not with values of one moment")
        found = self._decode(data.result, list[_Instant])
        return [Sample(one.metric, self._number(one.value)) for one in found if one.value is not None]

    async def query_range(self, expression: str, start: Moment, end: Moment, step: float) -> list[Series]:
        """Return an expression's values from start to end, each ``step`` seconds."""
        form = {"query": expression, "start": _seconds(start), "end": _seconds(end), "step": f"{step:g}"}
        data = await self._ask("/api/v1/query_range", form)
        if data.kind != "matrix":
            raise self._client.failed(f"answers with a {data.kind}, not with values over a time")
        return [
            Series(one.metric, tuple((moment(point.at), self._number(point)) for point in one.values))
            for one in self._decode(data.result, list[_Range])
        ]

    async def firing(self) -> set[LabelSet]:
        """Return the labels of every alert that its rules fire.

        Those that Prometheus only adds on the way to Alertmanager (external labels, relabelling) are not among them.
        """
        added = {"__name__", "alertstate"}
        samples = await self.query(FIRING)
        return {frozenset((name, value) for name, value in one.labels.items() if name not in added) for one in samples}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(self, path: str, form: Mapping[str, str]) -> _Data:
        try:
            answer = await self._client.post_form(path, {**form, **self._limit}, _Answer)
        except Refused as refused:
            try:
                answer = decode(refused.body, _Answer)
            except ValueError:
                raise refused from None  # from a proxy before it, perhaps
        if answer.status == "error" or answer.data is None:
            raise self._client.failed(f"refuses: {one_line(answer.error_type)}: {one_line(answer.error)}")
        return answer.data

    def _decode(self, result: msgspec.Raw, kind: type[T]) -> T:
        return self._client.decode(bytes(result), kind)

    def _number(self, point: _Point) -> float:
        try:
            return float(point.value)
        except ValueError:
            raise self._client.failed("answers with a value that is no number") from None


def _seconds(at: Moment) -> str:
    return f"{at // SECOND}.{at % SECOND:06d}"


class _Point(msgspec.Struct, array_like=True):
    at: Annotated[float, msgspec.Meta(ge=-_FAR, le=_FAR)]
    value: str


class _Instant(msgspec.Struct):
    """A value; a native histogram has none."""

    metric: dict[str, str]
    value: _Point | None = None


class _Range(msgspec.Struct):
    metric: dict[str, str]
    values: list[_Point] = []


class _Data(msgspec.Struct):
    kind: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Answer(msgspec.Struct, rename="camel"):
    status: Literal["success", "error"]
    data: _Data | None = None
    error_type: str = ""
    error: str = ""
