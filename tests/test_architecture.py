"""The house stays as it is drawn: imports go downwards, and each library has its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exporter" / "auraconnect_exporter"

# From the ground up: a room may import what stands before it, and within a folder whatever makes no circle.
FLOORS = [
    {"__init__"},
    {"model", "records", "strict_yaml", "logs", "blocking", "negotiation"},
    {"exposition", "targets", "health", "maintenance", "response_times", "episodes", "escalation"},
    {"endpoints"},
    {"store"},
    {"ledger", "clients"},
    {"figures", "reconciliation", "muting", "history"},
    {"alerts"},
    {"schema"},
    {"config"},
    {"auth", "limits"},
    {"tokens", "web_config"},
    {"probes"},
    {"monitor", "alert_metrics", "database_step"},
    {"error_log", "request_log"},
    {"request_metrics"},
    {"metrics"},
    {"errors", "notices", "housekeeping"},
    {"dashboard"},
    {"web"},
    {"pack"},
    {"app", "commands"},
    {"cli"},
    {"__main__"},
]

# Rooms that two floors hold but that have nothing to say to each other.
STRANGERS = {("metrics", "monitor"), ("metrics", "probes"), ("web", "probes"), ("web", "config"), ("probes", "config")}

LIBRARIES = {
    "prometheus_client": {"exposition", "metrics", "alert_metrics", "request_metrics", "pack"},
    "aiohttp": {"web", "app", "clients"},
    "psycopg": {"probes", "database_step", "store"},
    "sqlite3": {"store"},
    "redis": {"probes"},
    "h11": {"probes"},
    "psutil": {"probes"},
    "yaml": {"strict_yaml", "pack"},
    "jwt": {"auth"},
    "bcrypt": {"web_config"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path: Path) -> set[str]:
    own = (name.split(".") for name in imports(path) if name.startswith("auraconnect_exporter."))
    return {parts[1] for parts in own} & {room(module) for module in modules()}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    """A module imports only from floors below its own, or from its own folder."""
    level = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    here = room(path)
    above = {other for other in rooms_imported(path) - {here} if level[other] >= level[here]}
    strangers = {other for other in rooms_imported(path) if (here, other) in STRANGERS}
    assert (above, strangers) == (set(), set())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_its_place(path: Path) -> None:
    """Drivers stay in their probes, Prometheus in metrics, the web framework in web, app and clients."""
    used = {name.split(".")[0] for name in imports(path)} & set(LIBRARIES)
    assert {library for library in used if room(path) not in LIBRARIES[library]} == set()


def test_no_module_is_named_after_a_library() -> None:
    """``import redis`` must mean the library, whoever reads it."""
    libraries = {*LIBRARIES, "celery", "arq", "asyncio", "logging", "prometheus_client", "http", "json"}
    assert {path.stem for path in modules()} & libraries == set()
