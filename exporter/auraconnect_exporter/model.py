"""The frozen data that every other module speaks: what a probe saw, what we conclude, what is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol


class Component(StrEnum):
    """The parts of AuraConnect, as labels and the health API name them."""

    DATABASE = "database"
    REDIS = "redis"
    API = "api"
    WORKERS = "workers"
    HOST = "host"


class Health(StrEnum):
    """What we conclude about a target, a component or the system."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why an attempt failed: a fixed list, since it becomes a label."""

    DNS = "dns"
    REFUSED = "refused"
    TLS = "tls"
    AUTH = "auth"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    QUERY = "query"
    ERROR = "error"


class Secret:
    """Text that must not appear in logs, messages or ``repr``; ``reveal()`` at the point of use only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Clock(Protocol):
    """Time as an argument: ``time()`` in Unix seconds (may be stepped), ``monotonic()`` for durations."""

    def time(self) -> float:
        """Return the wall clock, in Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, never going back."""


@dataclass(frozen=True, slots=True)
class StatusPage:
    """What the public page calls us and our components; one without a name is not shown."""

    title: str = "AuraConnect"
    components: Mapping[Component, str] = field(
        default_factory=lambda: {
            Component.API: "Application",
            Component.DATABASE: "Data",
            Component.WORKERS: "Background jobs",
        }
    )


@dataclass(frozen=True, slots=True)
class Link:
    """A place where people look further, such as logs or traces; ``url`` is http or https, without credentials."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class TargetId:
    """A component's instance as the configuration names it; unique, and the labels of its series."""

    component: Component
    name: str

    def __str__(self) -> str:
        return f"{self.component}/{self.name}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that a probe measures, named without the ``auraconnect_`` prefix.

    Declared beside the code that reads it. A counter's name ends in ``_total``. Every series carries the label
    ``target`` first; ``labels`` are those that come on top.
    """

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()

    def sample(self, value: float, *label_values: str) -> Sample:
        """Return one measured value; ``label_values`` in the order of ``labels``."""
        if len(label_values) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, got {label_values}")
        return Sample(self, float(value), label_values)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric, of the target whose attempt holds it."""

    metric: Metric
    value: float
    label_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one collector has read: the part of a probe that can fail without the others.

    ``degraded`` names, in words, each thing that is wrong though the system answers. ``problem`` says why nothing, or
    not all, could be read; empty when all was. ``absent`` says why there is nothing to read here, such as an extension
    that is not installed, which is nobody's fault. ``dropped`` counts the samples that were beyond the budget.
    """

    collector: str
    samples: tuple[Sample, ...] = ()
    degraded: tuple[str, ...] = ()
    problem: str = ""
    absent: str = ""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a probe returns when its system answered, a part a collector."""

    parts: tuple[Part, ...] = ()

    @property
    def samples(self) -> Iterator[Sample]:
        """Yield the samples of all parts."""
        return (sample for part in self.parts for sample in part.samples)

    @property
    def degraded(self) -> tuple[str, ...]:
        """Return what is wrong in any part, in words."""
        return tuple(finding for part in self.parts for finding in part.degraded)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One bounded attempt at a target: what it read, or the reason why it failed."""

    started: float
    """Wall clock at the start, Unix seconds."""
    ended: float
    """Monotonic clock at the end, seconds."""
    duration: float
    """Seconds from start to end."""
    reading: Reading = Reading()
    reason: Reason | None = None
    message: str = ""
    """For people: why it failed; no credentials."""
    lateness: float = 0.0
    """Seconds from when it was due to its start."""

    @property
    def ok(self) -> bool:
        """True when the system answered."""
        return self.reason is None

    @property
    def result(self) -> str:
        """``success`` or the reason, as the counter's label says it."""
        return "success" if self.reason is None else str(self.reason)


@dataclass(frozen=True, slots=True)
class TargetState:
    """All that is remembered of one target from attempt to attempt."""

    verdict: Health = Health.UNKNOWN
    """Confirmed health, before staleness is taken into account."""
    suspected: Health = Health.UNKNOWN
    """What the last attempt alone would say."""
    streak: int = 0
    """How many attempts in a row have said it."""
    last: Attempt | None = None
    last_success: Attempt | None = None
    results: Mapping[str, int] = field(default_factory=dict)
    """Attempts so far by result."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Samples beyond the budget so far, by collector."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """One target at the moment of a snapshot."""

    id: TargetId
    critical: bool
    health: Health
    state: TargetState
    backoff: float = 0.0
    """Seconds between checks while a target that stays down is asked less often; 0 at the usual rhythm."""
    cause: str = ""
    """In words, what else is to blame for its state; empty when nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known at one moment; what pages, metrics and the API are made from."""

    time: float
    """Wall clock, Unix seconds."""
    system: Health
    components: Mapping[Component, Health]
    targets: tuple[TargetView, ...]


@dataclass(frozen=True, slots=True)
class Reload:
    """The last reading of the configuration: whether it succeeded, and when the one in use was read (Unix seconds)."""

    successful: bool
    timestamp: float
