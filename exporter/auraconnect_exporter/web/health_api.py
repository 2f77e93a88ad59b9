"""The public part of AuraConnect's health API, as its clients already call it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from auraconnect_exporter.model import Component, Health, Snapshot

PREFIX = "/api/v1/health"
"""All that the reverse proxy forwards to us."""


class ComponentStatus(msgspec.Struct, frozen=True):
    """A component's state and nothing more: this is public."""

    name: Component
    status: Health


class HealthAnswer(msgspec.Struct, frozen=True):
    """The answer to ``GET /api/v1/health``; times in UTC, ``checks_…`` count targets."""

    status: Health
    timestamp: datetime
    version: str
    uptime_seconds: float
    components: tuple[ComponentStatus, ...]
    checks_passed: int
    checks_failed: int


def basic_health(snapshot: Snapshot, version: str, uptime_seconds: float) -> HealthAnswer:
    """Return the public summary of a snapshot."""
    passed = sum(view.health is Health.HEALTHY for view in snapshot.targets)
    return HealthAnswer(
        status=_public(snapshot.system),
        timestamp=datetime.fromtimestamp(snapshot.time, UTC),
        version=version,
        uptime_seconds=round(uptime_seconds, 3),
        components=tuple(ComponentStatus(name, _public(health)) for name, health in snapshot.components.items()),
        checks_passed=passed,
        checks_failed=len(snapshot.targets) - passed,
    )


def _public(health: Health) -> Health:
    """Return one of the three states that the clients know; what is unknown is not all right."""
    return Health.DEGRADED if health is Health.UNKNOWN else health
