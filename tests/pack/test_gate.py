"""No alert without proof: each has cases that fire, stay silent, lose their data, reset and resolve."""

from typing import Any

import pytest

from tests.pack.files import RULES, alert_names, load
from tests.pack.gate import KINDS, missing

FIRING = {"exp_labels": {"severity": "warning"}, "exp_annotations": {"summary": "It happened"}}
SILENT = {"alertname": "A", "eval_time": "1m", "exp_alerts": []}
SEEN = {"alertname": "A", "eval_time": "2m", "exp_alerts": [FIRING]}


def document(**changed: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a promtool document that proves alert A, with the checks of some kinds (by underscores) changed."""
    checks = {kind: [SILENT, SEEN] if kind == "fires" else [SILENT] for kind in KINDS}
    checks |= {kind.replace("_", " "): value for kind, value in changed.items()}
    return {"tests": [{"name": f"{kind}, somehow", "alert_rule_test": value} for kind, value in checks.items()]}


@pytest.mark.parametrize("name", alert_names())
def test_an_alert_is_proved(name: str) -> None:
    """Its file has all kinds of cases, and they assert what their names promise."""
    assert list(missing(name, load(RULES / f"tests/{name}.yml"))) == []


def test_a_document_with_all_kinds_passes() -> None:
    """The gate asks for nothing that is not needed."""
    assert list(missing("A", document())) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_needed(kind: str) -> None:
    """A document without one of the kinds is refused, and told which."""
    whole = document()
    whole["tests"] = [case for case in whole["tests"] if not case["name"].startswith(kind)]
    assert f"A has no case whose name begins with {kind!r}." in list(missing("A", whole))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"no_data": [{**SILENT, "alertname": "B"}]}, "A has no case 'no data' that asserts anything about it."),
        ({"boundary": [SEEN]}, "A is not asserted silent in any case 'boundary'."),
        ({"resolves": [SEEN]}, "A is not asserted silent in any case 'resolves'."),
        (
            {"fires": [SEEN]},
            "A is in no case 'fires' asserted with labels and annotations, and silent just before.",
        ),
        (
            {"fires": [SILENT, {**SEEN, "exp_alerts": [{"exp_labels": {"severity": "warning"}}]}]},
            "A is in no case 'fires' asserted with labels and annotations, and silent just before.",
        ),
    ],
)
def test_a_case_must_assert_what_it_promises(changed: dict[str, list[dict[str, Any]]], sentence: str) -> None:
    """Names alone prove nothing."""
    assert list(missing("A", document(**changed))) == [sentence]


@pytest.mark.parametrize(
    ("samples", "silent"),
    [([{"labels": "{}", "value": 0}], True), ([], True), ([{"labels": "{}", "value": 1}], False)],
)
def test_silence_may_be_counted(samples: list[dict[str, Any]], silent: bool) -> None:
    """An expression that counts the alert's firing sees silence when the count is 0, or nothing."""
    whole = document(boundary=[SEEN])
    boundary = next(case for case in whole["tests"] if case["name"].startswith("boundary"))
    boundary["promql_expr_test"] = [{"expr": 'count(ALERTS{alertname="A"})', "exp_samples": samples}]
    assert (list(missing("A", whole)) == []) is silent
