"""What the promtool file of an alert must hold, so that the alert counts as tested."""

from collections.abc import Iterator
from typing import Any, Final

KINDS: Final = ("fires", "silent just below", "boundary", "no data", "reset", "resolves")
"""First words of the names of cases; a file has at least one case of each kind."""

SILENT_KINDS: Final = frozenset(("silent just below", "boundary", "resolves"))
"""Kinds of which at least one case must see the alert not firing."""

ALWAYS_FIRING: Final = frozenset(("Watchdog",))
"""Alerts for which there is no such moment."""

Case = dict[str, Any]


def missing(alert: str, document: dict[str, Any]) -> Iterator[str]:
    """Yield, a sentence each, what the promtool document of an alert lacks."""
    cases: dict[str, list[Case]] = {kind: [] for kind in KINDS}
    for case in document.get("tests", []):
        for kind in KINDS:
            if case.get("name", "").startswith(kind):
                cases[kind].append(case)
    for kind, found in cases.items():
        if not found:
            yield f"{alert} has no case whose name begins with {kind!r}."
        elif not any(_checks(alert, case) for case in found):
            yield f"{alert} has no case {kind!r} that asserts anything about it."
        elif kind in SILENT_KINDS and alert not in ALWAYS_FIRING and not any(_sees_silence(alert, c) for c in found):
            yield f"{alert} is not asserted silent in any case {kind!r}."
    if not any(_fires_in_time(alert, case) for case in cases["fires"]):
        yield f"{alert} is in no case 'fires' asserted with labels and annotations, and silent just before."


def _alert_checks(alert: str, case: Case) -> list[dict[str, Any]]:
    return [check for check in case.get("alert_rule_test", []) if check["alertname"] == alert]


def _expressions(alert: str, case: Case) -> list[dict[str, Any]]:
    """Return the checks of expressions that speak of the alert, or of all alerts."""
    return [check for check in case.get("promql_expr_test", []) if alert in check["expr"] or "ALERTS{" in check["expr"]]


def _checks(alert: str, case: Case) -> bool:
    return bool(_alert_checks(alert, case) or _expressions(alert, case))


def _sees_silence(alert: str, case: Case) -> bool:
    if any(not check.get("exp_alerts") for check in _alert_checks(alert, case)):
        return True
    return any(
        all(sample["value"] == 0 or alert not in str(sample["labels"]) != "{}" for sample in check["exp_samples"] or [])
        for check in _expressions(alert, case)
    )


def _fires_in_time(alert: str, case: Case) -> bool:
    """Return whether a full firing alert is expected, and none at an earlier look (but for one that always fires)."""
    full = [
        check
        for check in _alert_checks(alert, case)
        if any(seen.get("exp_labels") and seen.get("exp_annotations") for seen in check.get("exp_alerts", []))
    ]
    return bool(full) and (alert in ALWAYS_FIRING or _sees_silence(alert, case))
