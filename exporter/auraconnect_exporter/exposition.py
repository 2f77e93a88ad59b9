"""Metrics as text: Prometheus's format 0.0.4, and OpenMetrics 1.0 for those who ask for it.

The library's encoder takes four to eight times as long, most of it for labels that are the same at every scrape.
Both formats write a sample in the same way; they differ in a counter's heading, and OpenMetrics has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from prometheus_client import Metric as ClientFamily

from auraconnect_exporter.model import Sample
from auraconnect_exporter.negotiation import weights

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_LABEL_SETS: Final = 50_000
"""Sets of labels that are remembered as text; a series that is not costs a microsecond more."""

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

Labels = Callable[[tuple[str, ...], tuple[str, ...]], str]


def labels_cache() -> Labels:
    """Return ``labels_text`` with a memory."""
    return lru_cache(MAX_LABEL_SETS)(labels_text)


def labels_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return labels as both formats write them, by name; what is no Unicode becomes a question mark."""
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in sorted(zip(names, values, strict=True))]
    return f"{{{','.join(pairs)}}}".encode("utf-8", "replace").decode() if pairs else ""


def number(value: float) -> str:
    """Return a value as both formats write it. Raises TypeError for what is no number."""
    if value - value == 0:  # not so for infinities and NaN
        return repr(value + 0.0)
    if value != value:  # noqa: PLR0124  # the definition of NaN
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


@dataclass(slots=True)
class _Family:
    """One family: its heading, and its samples as lines without their ends."""

    kind: str
    help: str
    lines: list[str] = field(default_factory=list)


class Page:
    """One scrape in the making. Whatever can't be written is left out and named, the rest stays."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._families: dict[str, _Family] = {}
        self._series: set[str] = set()
        self.failures: dict[str, Exception] = {}
        """Why something is missing, by the part that it belongs to."""

    def add(self, part: str, families: Iterable[ClientFamily]) -> None:
        """Add families. One that is broken is left out; what raises instead of yielding ends its part."""
        try:
            for family in families:
                try:
                    self._add_family(family)
                except Exception as error:  # noqa: BLE001  # whatever it is, it must not cost the page
                    self.failures[part] = error
        except Exception as error:  # noqa: BLE001
            self.failures[part] = error

    def add_samples(self, part: str, prefix: str, target: str, samples: Iterable[Sample]) -> bool:
        """Add what a part of a target has measured, all of it or nothing; returns whether it could be written."""
        written: list[tuple[_Family, str]] = []
        try:
            for sample in samples:
                metric = sample.metric
                name = prefix + metric.name
                family = self._family(name, metric.kind, metric.help)
                series = name + self._labels(("target", *metric.labels), (target, *sample.label_values))
                if series not in self._series:  # else Prometheus would keep the first, too
                    written.append((family, f"{series} {number(sample.value)}"))
                    self._series.add(series)
        except Exception as error:  # noqa: BLE001
            self.failures[part] = error
            return False
        for family, line in written:
            family.lines.append(line)
        return True

    def _add_family(self, source: ClientFamily) -> None:
        name = f"{source.name}_total" if source.type == "counter" else source.name
        lines = [
            f"{sample.name}{self._labels(tuple(sample.labels), tuple(sample.labels.values()))} {number(sample.value)}"
            for sample in source.samples
        ]
        self._family(name, source.type, source.documentation).lines.extend(lines)

    def _family(self, name: str, kind: str, text: str) -> _Family:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _Family(kind, text)
        elif family.kind != kind:
            raise ValueError(f"{name} is a {family.kind} already, not a {kind}")
        return family

    def body(self, content_type: str) -> bytes:
        """Return the page in one of the two formats."""
        is_open = content_type is OPENMETRICS
        lines: list[str] = []
        for name, family in self._families.items():
            title = name.removesuffix("_total") if is_open and family.kind == "counter" else name
            lines += (f"# HELP {title} {family.help.translate(_HELP_ESCAPES)}", f"# TYPE {title} {family.kind}")
            lines += family.lines
        if is_open:
            lines.append("# EOF")
        lines.append("")
        return "\n".join(lines).encode()


def wanted_type(accept: str) -> str:
    """Return the type that an Accept header prefers; the text format where it has no wish."""
    offered = {"application/openmetrics-text": OPENMETRICS, "text/plain": PLAIN}
    best, found = 0.0, PLAIN
    for kind, weight in weights(accept).items():
        if kind in offered and weight > best:
            best, found = weight, offered[kind]
    return found
