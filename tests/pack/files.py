"""The pack's files, parsed, for the tests to look into."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "rules"
RULE_FILES = sorted([*RULES.glob("*.yml"), *RULES.glob("alerts/*.yml")])
RULE_TESTS = sorted(RULES.glob("tests/*.yml"))
RUNBOOKS = sorted((ROOT / "runbooks").glob("*.md"))
PROMETHEUS = ROOT / "prometheus/prometheus.yml"
ALERTMANAGER = ROOT / "alertmanager/alertmanager.yml"


def load(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text())


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule of the pack, recorded series and alerts, as it stands in its file."""
    for path in RULE_FILES:
        for group in load(path)["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    """Return every alerting rule of the pack."""
    return [rule for rule in rules() if "alert" in rule]


def alert_names() -> list[str]:
    """Return the name of every alert, once."""
    return sorted({alert["alert"] for alert in alerts()})


def alert_id(alert: dict[str, Any]) -> str:
    """Return what tells an alerting rule from the others: its name, and its severity unless it takes its source's."""
    return "-".join(filter(None, [alert["alert"], alert["labels"].get("severity")]))
