"""Rules in which time runs faster: what is shorter there, and what is not."""

from pathlib import Path

import pytest
import yaml

from tools.shorten import main, shorten, shorten_expression

RULES = """groups:
  - name: rules
    interval: 1m
    rules:
      - {record: 'auraconnect:escalation_delay:seconds', labels: {severity: info}, expr: vector(3600)}
      - {record: 'auraconnect:response_time_seconds:threshold', labels: {severity: critical}, expr: vector(5)}
      - {record: 'auraconnect:load:threshold', expr: vector(0.9)}
      - {alert: A, expr: 'rate(a[5m] offset 1h) > 120', for: 5m, keep_firing_for: 1m}
"""
CRITICAL = 'auraconnect:response_time_seconds:threshold{severity="critical"}'


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Return a folder with one file of rules."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/rules.yml").write_text(RULES)
    return tmp_path / "rules"


def test_lengths_of_time_are_divided_and_nothing_else_is(rules: Path) -> None:
    """Intervals, `for`, windows and delays; neither other numbers nor how long a request may take."""
    [path] = shorten(rules, rules.parent / "short", 20, {})
    [group] = yaml.safe_load(path.read_text())["groups"]
    assert group["interval"] == "3000ms"
    delay, response, load, alert = group["rules"]
    assert [delay["expr"], response["expr"], load["expr"]] == ["vector(180)", "vector(5)", "vector(0.9)"]
    assert alert == {
        "alert": "A",
        "expr": "rate(a[15000ms] offset 180000ms) > 120",
        "for": "15000ms",
        "keep_firing_for": "3000ms",
    }


def test_a_subquery_is_shorter_in_both_parts() -> None:
    """Its range and its step; durations in strings are text."""
    assert shorten_expression('f(a{b="5m"}[1h:5m])', 60) == 'f(a{b="5m"}[60000ms:5000ms])'


def test_a_limit_can_be_set(rules: Path) -> None:
    """The value that is given is not divided."""
    assert main([str(rules), str(rules.parent / "short"), f"--set={CRITICAL}=1"]) == 0
    [group] = yaml.safe_load((rules.parent / "short/rules.yml").read_text())["groups"]
    assert group["rules"][1]["expr"] == "vector(1.0)"


def test_a_limit_that_is_not_there_is_refused(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no rule records is a mistake, and is told."""
    assert main([str(rules), str(rules.parent / "short"), "--set=a{}=1"]) == 1
    assert "record no a{}." in capsys.readouterr().err
