"""What the documents say is true: their configuration loads, their flags exist, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auraconnect_exporter import cli, config

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("alertmanager/secrets/*.md")])


def blocks(document: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "components"),
    [
        ("README.md", ["database", "redis", "api", "workers", "workers", "host"]),
        ("docs/configuration.md", ["database", "database", "redis", "api", "workers", "host"]),
    ],
)
def test_the_configuration_shown_is_one_that_loads(tmp_path: Path, document: str, components: list[str]) -> None:
    """A reader who copies the example gets what it says, for every component."""
    (example,) = blocks(document, "yaml")
    password = tmp_path / "password"
    for secret in (
        password,
        *(tmp_path / name for name in ("api-token", "prometheus-token", "pagerduty-webhook-secret")),
    ):
        secret.write_text("secret", encoding="utf-8")
    path = tmp_path / "exporter.yml"
    path.write_text(example.replace("/etc/auraconnect/postgres-password", str(password)), encoding="utf-8")
    targets = config.load(path, {}, "vm-1").targets
    assert [target.id.component for target in targets] == components


def test_the_environment_shown_is_one_that_loads() -> None:
    """The README's variables name a target of every component."""
    (exports,) = (block for block in blocks("README.md", "sh") if "export DATABASE_URL" in block)
    environ = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines() if "=" in line)
    targets = config.load(None, environ, "vm-1").targets
    assert [str(target.id) for target in targets] == [
        "database/primary",
        "redis/primary",
        "api/auraconnect-api",
        "workers/celery",
        "workers/arq",
        "host/vm-1",
    ]


def test_the_flags_listed_are_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of flags is the parser's, no more and no less."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    offered = set(re.findall(r"--[a-z.-]+", capsys.readouterr().out)) - {"--help", "--version"}
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(--[a-z.-]+)`", text, re.MULTILINE)) == offered


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(document: Path) -> None:
    """``make something`` in a document is a target of the Makefile."""
    named = set(re.findall(r"`?make ([a-z-]+)`", document.read_text(encoding="utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets
