"""What inhibits what, and what never does: each pair both ways round, whichever comes first."""

from pathlib import Path

import pytest

from tests.pack.inhibition import Labels, await_inhibited, fire, muting

SAME = {"component": "redis", "target": "cache", "symptom": "latency"}
ESCALATED = {"escalation": "secondary", "source_alert": "X"}

# Of each pair: the first, the second, and whether the first inhibits the second. The second never inhibits the first.
PAIRS: dict[str, tuple[Labels, Labels, bool]] = {
    "critical and warning": ({"severity": "critical", **SAME}, {"severity": "warning", **SAME}, True),
    "critical and info": ({"severity": "critical", **SAME}, {"severity": "info", **SAME}, True),
    "warning and info": ({"severity": "warning", **SAME}, {"severity": "info", **SAME}, True),
    "no target on either": (
        {"severity": "critical", **SAME, "target": ""},
        {"severity": "warning", **SAME, "target": ""},
        True,
    ),
    "the same severity": ({"severity": "warning", **SAME}, {"severity": "warning", **SAME}, False),
    "another component": ({"severity": "critical", **SAME}, {"severity": "warning", **SAME, "component": "x"}, False),
    "another target": ({"severity": "critical", **SAME}, {"severity": "warning", **SAME, "target": "x"}, False),
    "another symptom": ({"severity": "critical", **SAME}, {"severity": "warning", **SAME, "symptom": "x"}, False),
    "a target on one": ({"severity": "critical", **SAME}, {"severity": "warning", **SAME, "target": ""}, False),
    "an escalated warning": (
        {"severity": "critical", **SAME},
        {"severity": "warning", **SAME, **ESCALATED},
        False,
    ),
    "an escalated info": ({"severity": "warning", **SAME}, {"severity": "info", **SAME, **ESCALATED}, False),
    "an escalated critical": (
        {"severity": "critical", **SAME, **ESCALATED},
        {"severity": "warning", **SAME},
        False,
    ),
    "two escalations": (
        {"severity": "critical", **SAME, **ESCALATED},
        {"severity": "warning", **SAME, **ESCALATED},
        False,
    ),
    "labels that both lack": ({"severity": "critical"}, {"severity": "warning"}, False),
    "a symptom that both lack": (
        {"severity": "critical", "component": "redis"},
        {"severity": "info", "component": "redis"},
        False,
    ),
    "an unknown severity": ({"severity": "critical", **SAME}, {"severity": "notice", **SAME}, False),
}


def placed(labels: Labels, name: str, number: int) -> Labels:
    """Return an alert of the pair with this number, in a place of its own so that no pair meddles with another."""
    there = next((label for label in ("target", "component") if labels.get(label)), "")
    named = {label: f"{number}-{value}" if label == there else value for label, value in labels.items() if value}
    return {**named, "alertname": name}


@pytest.mark.parametrize("first", [0, 1], ids=["the first first", "the second first"])
def test_a_pair(first: int, release: str, tmp_path: Path) -> None:
    """Only the lower severity of the very same thing is inhibited; an escalation never is, nor does it inhibit."""
    pairs = [*PAIRS.values(), PAIRS["critical and warning"]]
    batches = [
        (placed(one, f"first-{number}", number), placed(other, f"second-{number}", number))
        for number, (one, other, _) in enumerate(pairs)
    ]
    inhibited = {f"second-{number}" for number, pair in enumerate(pairs) if pair[2]}
    *early, late = batches
    with muting(tmp_path, release) as alertmanager:
        fire(alertmanager, *(pair[first] for pair in early))
        fire(alertmanager, *(pair[1 - first] for pair in early))
        await_inhibited(alertmanager, 2 * len(early), inhibited - {f"second-{len(PAIRS)}"})
        # Once it has gone over one more pair it has gone over all of these, and nothing has changed.
        fire(alertmanager, *late)
        await_inhibited(alertmanager, 2 * len(early) + 2, inhibited)
