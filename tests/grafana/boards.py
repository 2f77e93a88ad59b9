"""The committed boards, as Grafana reads them, for the tests to look into."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana/dashboards"
PROVISIONING = ROOT / "grafana/provisioning"

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One expression of a board, and where it stands."""

    where: str
    expression: str

    def sent(self, values: Mapping[str, str]) -> str:
        """Return the expression as Grafana would send it, with everything chosen where nothing else is given."""
        usual = {"target": ".*", "service": ".*", "__rate_interval": "1m", "__range": "1h"}
        return re.sub(r"\$([a-z_]+)", lambda found: {**usual, **values}[found.group(1)], self.expression)


def boards() -> dict[str, Json]:
    """Return every board by its uid, which is its file's name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> list[Json]:
    """Return the panels of a board, without headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def every_panel() -> Iterator[tuple[str, Json]]:
    """Yield every panel of all boards, with its place in words."""
    for uid, board in boards().items():
        for panel in panels(board):
            yield f"{uid}: {panel['title']}", panel


def questions() -> list[Question]:
    """Return every expression that a board sends: of panels and annotations."""
    found = [
        Question(f"{where} ({target['refId']})", target["expr"])
        for where, panel in every_panel()
        for target in panel["targets"]
    ]
    # Annotations are the same in all.
    marks = {mark["name"]: mark["expr"] for board in boards().values() for mark in board["annotations"]["list"]}
    return found + [Question(f"annotation: {name}", expression) for name, expression in marks.items()]
