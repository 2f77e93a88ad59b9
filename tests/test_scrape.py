"""The golden file of a full scrape: it has every metric that is declared, and all that rules and documents speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scrape import ROOT, UNSEEN, declared, golden, masked

HAND_MADE = "after changing a metric: make golden-scrape"
NAME = re.compile(r"(?<![\w:/.-])auraconnect_[a-z0-9_]+(?![\w:./]|\)_)")
"""A metric of ours, whole; what has a colon is recorded by a rule."""
FOLDERS = ("docs", "runbooks", "rules", "alertmanager", "prometheus", "grafana")
# The package, and the store's schema in PostgreSQL.
NO_METRICS = {"auraconnect_exporter", "auraconnect_monitoring"}


def files() -> list[Path]:
    """Return what may name metrics: documents, runbooks, rules, dashboards."""
    found = [ROOT / "README.md", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    return [path for path in found if path.suffix in {".md", ".yml", ".json", ".tmpl"}]


def named(text: str) -> set[str]:
    """Return the metrics that a text names, those of a histogram by its name, and beginnings of names as they are."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAME.findall(text)} - NO_METRICS


def test_every_declared_metric_is_in_the_golden_file_as_it_is_declared() -> None:
    """Type, help and labels; a metric that one machine can't show is excused by a reason."""
    seen, ours = golden(), declared()
    for name in ours.keys() - UNSEEN.keys():
        kind, text, labels = ours[name]
        assert name in seen, HAND_MADE
        assert seen[name][:2] == (kind, text), HAND_MADE
        assert labels is None or seen[name][2] == labels, HAND_MADE


def test_nothing_is_in_the_golden_file_that_is_not_declared() -> None:
    """A metric that is gone leaves the file, and an excuse that is none any more leaves its list."""
    seen, ours = golden(), declared()
    strangers = {name for name in seen.keys() - ours.keys() if not name.startswith(("process_", "python_"))}
    assert strangers == set(), HAND_MADE
    assert {name for name in UNSEEN if name in seen and seen[name][2] is not None} == set()
    assert UNSEEN.keys() <= ours.keys()


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_is_spoken_of_exists(path: Path) -> None:
    """Rules, dashboards, runbooks and documents name what a scrape has; ``…_`` stands for all that begin so."""
    known = golden().keys() | UNSEEN.keys()
    unknown = named(path.read_text(encoding="utf-8")) - known
    assert {
        name for name in unknown if not (name.endswith("_") and any(one.startswith(name) for one in known))
    } == set()


def test_values_are_masked_and_each_kind_of_series_stands_once() -> None:
    """Names of labels stay, whatever stands in their values."""
    b = '# HELP b B.\n# TYPE b gauge\nb{x="1",y="a=\\"b\\"} 2"} 3.0\nb{x="2",y=""} 4.0\n'
    page = f"{b}# HELP a A.\n# TYPE a gauge\na 1.0\n"
    assert masked(page) == ["# HELP a A.", "# TYPE a gauge", "a", "# HELP b B.", "# TYPE b gauge", "b{x,y}"]
