"""The rules as promtool sees them: valid, without lint, and doing what their own tests say."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.pack.files import PROMETHEUS, RULE_FILES, RULE_TESTS
from tools.servers import program


def promtool(release: str, *arguments: str | Path) -> str:
    """Run promtool; return all that it printed, fail with it unless it succeeds."""
    command: Sequence[str | Path] = [program("promtool", release), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_rules_are_valid_and_without_lint(release: str) -> None:
    """Every rule file passes all of promtool's lint."""
    promtool(release, "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)


def test_prometheus_configuration_is_valid_and_loads_every_rule_file(release: str) -> None:
    """Prometheus takes its configuration without a warning, and its globs miss no rule file."""
    output = promtool(release, "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS)
    assert f"{len(RULE_FILES)} rule files found" in output
    assert "WARNING" not in output


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Path, release: str) -> None:
    """Each alert fires, stays silent and resolves when its file in rules/tests says so."""
    promtool(release, "test", "rules", path)
