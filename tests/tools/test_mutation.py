"""Changing rules on purpose: what is changed, which tests are asked, and what is made of their answers."""

from pathlib import Path

import pytest

from tools.mutation import Mutant, Suite, cases, main, mutants, report

LIMITS = """groups:
  - name: limits
    rules:
      - record: auraconnect:load:threshold
        labels:
          severity: warning
        expr: vector(0.5)
"""
ALERTS = """groups:
  - name: alerts
    rules:
      # Nobody minds load at night.
      - alert: Loaded
        expr: |
          max by (target) (last_over_time(load{job="a"}[5m]))
            > on () group_left () auraconnect:load:threshold{severity="warning"}
            unless on () night
        for: 1m
        labels:
          severity: warning
"""
# Fires at 60 s on 0.6, is silent at 0.5, in the night, and for another job.
TESTED = """rule_files: [../limits.yml, ../alerts.yml]
evaluation_interval: 15s
group_eval_order: [limits, alerts]
tests:
  - interval: 15s
    input_series:
      - {series: 'load{job="a", target="high"}', values: 0.53x10}
      - {series: 'load{job="a", target="limit"}', values: 0.5x10}
      - {series: 'load{job="a", target="low"}', values: 0.47x10}
      - {series: 'load{job="b", target="other"}', values: 1x10}
      - {series: 'load{job="a", target="remembered"}', values: 1 stale}
    alert_rule_test:
      - {alertname: Loaded, eval_time: 45s, exp_alerts: []}
      - alertname: Loaded
        eval_time: 1m
        exp_alerts:
          - exp_labels: {severity: warning, target: high}
          - exp_labels: {severity: warning, target: remembered}
  - interval: 15s
    input_series:
      - {series: 'load{job="a", target="remembered"}', values: 1 stale}
    promql_expr_test:
      - {expr: 'count(ALERTS{alertstate="firing"})', eval_time: 285s, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'count(ALERTS{alertstate="firing"})', eval_time: 315s, exp_samples: []}
  - interval: 15s
    input_series:
      - {series: 'load{job="a", target="high"}', values: 1x10}
      - {series: night, values: 1x10}
    alert_rule_test:
      - {alertname: Loaded, eval_time: 2m, exp_alerts: []}
"""
WEAK = TESTED.replace("0.53x10", "1x10").replace("0.47x10", "0x10").replace("values: 0.5x10", "values: 0x10")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a folder with two files of rules and a test that notices every change."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "limits.yml").write_text(LIMITS)
    (tmp_path / "alerts.yml").write_text(ALERTS)
    (tmp_path / "tests/Loaded.yml").write_text(TESTED)
    return tmp_path


def changes(text: str) -> set[tuple[str, int, str, str]]:
    """Return of each mutant its kind, its line, what was there and what is there now."""
    return {(each.kind, each.line, each.original, each.replacement) for each in mutants("file.yml", text)}


def test_every_part_of_an_alert_is_changed_in_turn() -> None:
    """Comparison, join, window, matchers, `for` and severity, each in its line, and nothing else."""
    lines = ALERTS.splitlines()
    expression = "\n".join(lines[6:9]).strip()
    kept = "\n".join(lines[6:8]).strip()
    assert changes(ALERTS) == {
        ("join", 7, expression, f"({kept})"),
        ("comparison", 8, ">", ">="),
        ("comparison", 8, ">", "<"),
        ("duration", 7, "5m", "600s"),
        ("duration", 7, "5m", "150000ms"),
        ("matcher", 7, "=", "!="),
        ("matcher", 7, '"a"', '"mutated"'),
        ("matcher", 8, "=", "!="),
        ("matcher", 8, '"warning"', '"mutated"'),
        ("for", 10, "1m", "120s"),
        ("for", 10, "1m", "30000ms"),
        ("severity", 12, "warning", "critical"),
    }


def test_a_threshold_is_moved_to_both_sides() -> None:
    """By a tenth, or by one where it is small and whole; its severity is changed, too."""
    assert changes(LIMITS) == {
        ("threshold", 7, "0.5", "0.55"),
        ("threshold", 7, "0.5", "0.45"),
        ("severity", 6, "warning", "critical"),
    }
    whole = {change[3] for change in changes(LIMITS.replace("0.5", "3")) if change[0] == "threshold"}
    assert whole == {"4", "2"}


def test_a_constant_that_is_no_limit_is_left_as_it_is() -> None:
    """Of a rule that says only that it is there the number means nothing; in a longer expression it does."""
    marker = LIMITS.replace("auraconnect:load:threshold", "auraconnect:load:info")
    assert {change[0] for change in changes(marker)} == {"severity"}
    assert {change[0] for change in changes(marker.replace("vector(0.5)", "vector(0.5) + 1"))} == {"severity", "number"}


def test_a_mutant_is_the_file_but_for_one_place() -> None:
    """Comments and layout stay."""
    mutant = next(each for each in mutants("alerts.yml", ALERTS) if each.kind == "for")
    assert mutant.applied(ALERTS) == ALERTS.replace("for: 1m", "for: 120s")
    assert str(mutant) == "alerts.yml:10: Loaded: for: 1m → 120s"


def test_only_tests_that_can_notice_are_asked(pack: Path) -> None:
    """Those of the alerts that read what was changed; others, and those that do not load the file, are not."""
    (pack / "tests/Other.yml").write_text(TESTED)
    (pack / "tests/Unloaded.yml").write_text("rule_files: [../limits.yml]\n")
    limit = next(mutants("limits.yml", LIMITS))
    assert [path.stem for path in Suite(pack).that_notice(limit)] == ["Loaded"]
    (pack / "tests/Other.yml").write_text(TESTED + "# auraconnect:load:threshold\n")
    assert [path.stem for path in Suite(pack).that_notice(limit)] == ["Loaded", "Other"]


def test_good_tests_kill_everything(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pack whose tests notice every change passes with the whole score."""
    assert main(["--rules", str(pack), "--jobs", "2"]) == 0
    assert "Score: 100.0% of 15 (0 more were refused)." in capsys.readouterr().out


def test_a_threshold_that_survives_fails_the_run(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Suite far from the limit do not notice that it moves; the survivor is named with its line."""
    (pack / "tests/Loaded.yml").write_text(WEAK)
    assert main(["--rules", str(pack), "--only", "limits.yml"]) == 1
    printed = capsys.readouterr().out
    assert "Survived: limits.yml:7: auraconnect:load:threshold: threshold: 0.5 → 0.55\n" in printed
    assert "Score: 33.3% of 3" in printed


def test_a_single_line_can_be_tried(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As while the test is written that kills a survivor there."""
    assert main(["--rules", str(pack), "--only", "limits.yml:7", "--only", "alerts.yml:10"]) == 0
    assert "Score: 100.0% of 4 (0 more were refused)." in capsys.readouterr().out


def test_nothing_to_change_is_no_success(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As when a file is misspelt: that is said, where a score of nothing would be a whole one."""
    with pytest.raises(SystemExit, match="2"):
        main(["--rules", str(pack), "--only", "limit.yml"])
    assert "there is nothing to change in ['limit.yml']" in capsys.readouterr().err


def test_tests_that_fail_anyway_prove_nothing(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends before the first mutant when a test fails on the rules as they are."""
    (pack / "tests/Loaded.yml").write_text(TESTED.replace("0.53x10", "0.4x10"))
    assert main(["--rules", str(pack)]) == 2
    assert "Loaded.yml, case 1, fails on the rules as they are" in capsys.readouterr().err


def test_a_case_alone_is_what_it_was_in_its_file() -> None:
    """Numbers stay as they are written, which promtool reads in its own way, and so does what another case defines."""
    text = """rule_files: [../a.yml]
tests:
  - input_series:
      - &up {series: up, values: 0x60}
  - name: second
    input_series: [*up]
"""
    alone = list(cases(text))
    assert ["name: second" in case for case in alone] == [False, True]
    assert all("rule_files: [../a.yml]" in case and "values: 0x60" in case for case in alone)


def test_tests_next_to_the_change_come_first(pack: Path) -> None:
    """A limit's mutant is tried on the alert that reads it before it is tried on one that reads that alert in turn."""
    after = """groups:
  - name: after
    rules:
      - {alert: After, expr: 'ALERTS{alertname="Loaded"}'}
"""
    (pack / "after.yml").write_text(after)
    (pack / "tests/After.yml").write_text(TESTED)
    noticing = Suite(pack).that_notice(next(mutants("limits.yml", LIMITS)))
    assert [(path.stem, distance) for path, distance in noticing.items()] == [("Loaded", 1), ("After", 2)]


def mutant(kind: str) -> Mutant:
    """Return a mutant of a kind."""
    return Mutant("f.yml", "Rule", kind, 1, 0, 1, "a", "b")


@pytest.mark.parametrize(
    ("fates", "good"),
    [
        ([("join", "survived"), *[("join", "killed")] * 19], True),
        ([("join", "survived"), *[("join", "killed")] * 18], False),
        ([("severity", "survived"), *[("join", "killed")] * 99], False),
        ([("severity", "refused"), ("join", "killed")], True),
    ],
)
def test_the_bar_is_95_percent_and_no_threshold_or_severity(fates: list[tuple[str, str]], good: bool) -> None:
    """19 of 20 are enough, 18 of 19 are not, and refused mutants count for nothing."""
    assert report([(mutant(kind), fate) for kind, fate in fates])[1] is good
