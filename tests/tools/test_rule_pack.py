"""The pack's version: what it must say, and what is packed under it."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.pack.files import RULE_FILES, RULE_TESTS, RULES
from tools.rule_pack import RulePack, main
from tools.servers import program

RULE_FILE = """groups:
  - name: limits
    rules:
      - {{record: 'auraconnect:load:threshold', labels: {{severity: warning}}, expr: vector({limit})}}
      - {{record: 'auraconnect:rule_pack:info', labels: {{version: {version}}}, expr: vector(1)}}
  - name: alerts
    rules:
      - {{alert: Loaded, expr: 'load > on () group_left () auraconnect:load:threshold', for: {wait}}}
"""
LIMIT = 'auraconnect:load:threshold{severity="warning"}'


def write(folder: Path, *, version: str, limit: int = 5, wait: str = "5m", changelog: str | None = None) -> RulePack:
    """Write a small pack and return it as it stands now."""
    (folder / "rules.yml").write_text(RULE_FILE.format(version=version, limit=limit, wait=wait))
    if changelog is not None:
        (folder / "CHANGELOG.md").write_text(changelog)
    return RulePack(folder)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Return the folder of a pack whose version 1.0.0 is recorded and released."""
    pack = write(tmp_path, version="1.0.0", changelog=f"# Log\n\n## [1.0.0] - 2026-01-02\n\n- `{LIMIT}` is 5.\n")
    pack.write_record()
    return tmp_path


def test_the_packs_version_tells_the_truth() -> None:
    """The rules are those recorded for their version, and the changelog names every threshold that changed."""
    assert list(RulePack(RULES).problems()) == []


def test_a_released_pack_has_no_problem(released: Path) -> None:
    """What was recorded and described is right, and the check says so."""
    assert main(["check", "--rules", str(released)]) == 0


def test_a_changed_rule_needs_a_new_version(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed `for` under a released version fails the check, and cannot be recorded as if nothing were."""
    write(released, version="1.0.0", wait="6m")
    assert main(["check", "--rules", str(released)]) == 1
    assert "no longer those of version 1.0.0; raise the version" in capsys.readouterr().err
    before = (released / "versions.json").read_text()
    assert main(["record", "--rules", str(released)]) == 1
    assert (released / "versions.json").read_text() == before


def test_a_comment_needs_no_new_version(released: Path) -> None:
    """Comments and layout mean nothing to Prometheus."""
    path = released / "rules.yml"
    path.write_text("# Why this is so.\n" + path.read_text())
    assert list(RulePack(released).problems()) == []


def test_a_changed_threshold_must_be_named(released: Path) -> None:
    """A new version that changes a limit is refused until its own section of the changelog names it."""
    old = (released / "CHANGELOG.md").read_text()
    pack = write(released, version="1.1.0", limit=6, changelog=f"{old}\n## [1.1.0] - unreleased\n\n- Other things.\n")
    pack.write_record()
    assert list(pack.problems()) == [f"rules/CHANGELOG.md does not name `{LIMIT}`, which version 1.1.0 changed."]
    pack = write(released, version="1.1.0", limit=6, changelog=f"{old}\n## [1.1.0] - unreleased\n\n- `{LIMIT}`: 6.\n")
    assert list(pack.problems()) == []


def test_a_new_version_must_be_recorded_and_described(released: Path) -> None:
    """A raised number alone is not a version."""
    assert list(write(released, version="1.1.0").problems()) == [
        "rules/CHANGELOG.md has no section for the version 1.1.0; write it.",
        "The version 1.1.0 is not recorded; run `python -m tools.rule_pack record`.",
    ]


def test_an_older_version_is_refused(released: Path) -> None:
    """Going back behind what is recorded is no version either; 1.9 is older than 1.10."""
    records = json.loads((released / "versions.json").read_text())
    record = records["1.0.0"]
    (released / "versions.json").write_text(json.dumps({"1.10.0": record, "1.9.0": record}))
    pack = write(released, version="1.9.0", changelog="## [1.9.0] - 2026-01-02\n")
    assert list(pack.problems()) == ["The version 1.9.0 is older than 1.10.0, which is recorded; raise it."]


def test_what_is_not_released_may_be_recorded_again(released: Path) -> None:
    """While a version has no date its rules may go on changing."""
    log = "## [1.1.0] - unreleased\n"
    write(released, version="1.1.0", wait="6m", changelog=log).write_record()
    pack = write(released, version="1.1.0", wait="7m")
    assert [problem for problem in pack.problems() if "no longer" in problem]
    pack.write_record()
    assert list(pack.problems()) == []


def test_the_archive_holds_every_rule_and_is_the_same_each_time() -> None:
    """All rules, tests and the changelog, below one folder with the version; time and owner are nobody's."""
    pack = RulePack(RULES)
    first, second = pack.archive(), RulePack(RULES).archive()
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        members = tar.getmembers()
        expected = {path.relative_to(RULES).as_posix() for path in [*RULE_FILES, *RULE_TESTS]} | {"CHANGELOG.md"}
        assert {member.name for member in members} == {f"auraconnect-rules-{pack.version}/{name}" for name in expected}
        assert {(member.mtime, member.uid, member.mode) for member in members} == {(0, 0, 0o644)}


def test_the_operators_manifest_holds_the_same_groups(tmp_path: Path) -> None:
    """One PrometheusRule, whose groups Prometheus itself accepts, without anchors, and with text for labels."""
    assert main(["package", "--output", str(tmp_path)]) in {0, 1}  # whether it is released is another test's question
    [manifest] = tmp_path.glob("*.yaml")
    [document] = yaml.safe_load_all(manifest.read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert document["spec"]["groups"] == RulePack(RULES).groups
    assert "&id" not in manifest.read_text()
    every = [rule for group in document["spec"]["groups"] for rule in group["rules"]]
    assert all(isinstance(value, str) for rule in every for value in rule.get("labels", {}).values())
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(document["spec"]))
    done = subprocess.run([program("promtool"), "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(every)} rules found" in done.stdout
