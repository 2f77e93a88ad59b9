"""`check` and `routes`: what would fail at night is said by day, on Alertmanager's own tool."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from auraconnect_exporter import cli
from tests.pack.files import ALERTMANAGER
from tools.servers import free_port, program


class Copy:
    """A copy of the configuration with every secret in place, and the commands on it."""

    def __init__(self, folder: Path, release: str, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(ALERTMANAGER.parent, folder)
        for example in folder.glob("secrets/*.example"):
            secret = example.with_suffix("")
            shutil.copy(example, secret)
            secret.chmod(0o600)
        self.folder = folder
        self.path = folder / ALERTMANAGER.name
        self._amtool = str(program("amtool", release))
        self._capsys = capsys

    def run(self, command: str, *arguments: str) -> tuple[int, list[str]]:
        """Run a command; returns its status and the lines that it printed."""
        named = [f"--alertmanager.config={self.path}", f"--amtool={self._amtool}"]
        status = cli.main([command, *named, *arguments])
        printed = self._capsys.readouterr()
        return status, (printed.out + printed.err).splitlines()

    def change(self, old: str, new: str) -> None:
        """Replace the first such text of the configuration, which must be there."""
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new, 1))


@pytest.fixture
def copy(tmp_path: Path, release: str, capsys: pytest.CaptureFixture[str]) -> Copy:
    return Copy(tmp_path / "alertmanager", release, capsys)


@pytest.fixture
def newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Copy:
    """Return a copy for tests of what has nothing to do with amtool's version."""
    return Copy(tmp_path / "alertmanager", "newest", capsys)


def secrets() -> list[str]:
    return sorted(path.stem for path in ALERTMANAGER.parent.glob("secrets/*.example"))


def defined() -> list[str]:
    """Return the templates that the configuration or another template uses."""
    texts = [path.read_text() for path in sorted(ALERTMANAGER.parent.glob("templates/*.tmpl"))]
    used = set(re.findall(r'template "([\w.]+)"', "".join([*texts, ALERTMANAGER.read_text()])))
    return sorted(used & set(re.findall(r'define "([\w.]+)"', "".join(texts))))


def test_the_configuration_as_it_comes_is_sound(copy: Copy) -> None:
    """With every secret in place there is nothing to say."""
    assert copy.run("check", "--offline") == (0, ["Alertmanager's configuration is sound."])


@pytest.mark.parametrize("secret", secrets())
def test_a_secret_that_is_missing_is_named(newest: Copy, secret: str) -> None:
    """One line says which file, and the status is 2."""
    (newest.folder / "secrets" / secret).unlink()
    expected = f"secrets/{secret}: can't be read: No such file or directory"
    assert newest.run("check", "--offline") == (2, [expected])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.chmod(0o644), "everybody on this machine can read it; chmod 600"),
        (lambda path: path.write_text(" \n"), "is empty"),
    ],
    ids=["readable by all", "empty"],
)
def test_a_secret_that_is_none_is_named(copy: Copy, spoil: Callable[[Path], object], complaint: str) -> None:
    """What all can read is no secret, and an empty file opens nothing."""
    spoil(copy.folder / "secrets/slack-webhook-url")
    assert copy.run("check", "--offline") == (2, [f"secrets/slack-webhook-url: {complaint}"])


def test_a_profile_of_aws_that_is_missing_is_named(copy: Copy) -> None:
    """The file is there, but not the profile that the configuration signs with."""
    path = copy.folder / "secrets/aws-credentials"
    path.write_text(path.read_text().replace("[auraconnect]", "[other]"))
    expected = "secrets/aws-credentials: has no profile auraconnect, with which SMS are sent"
    assert copy.run("check", "--offline") == (2, [expected])


@pytest.mark.parametrize("name", defined())
def test_a_template_that_is_missing_is_named(newest: Copy, name: str) -> None:
    """Alertmanager itself would drop the page without a word."""
    for path in newest.folder.glob("templates/*.tmpl"):
        path.write_text(path.read_text().replace(f'define "{name}"', f'define "{name}.gone"'))
    status, lines = newest.run("check", "--offline")
    assert (status, [line for line in lines if f"template {name}:" in line]) == (
        2,
        [f"template {name}: is used, but not defined in templates/*.tmpl"],
    )


def test_a_template_that_cannot_be_rendered_is_named(copy: Copy) -> None:
    """It parses, and fails on an alert: that is told with what it failed on."""
    for path in copy.folder.glob("templates/*.tmpl"):
        text = path.read_text()
        path.write_text(
            text.replace('{{ define "auraconnect.title" -}}', '{{ define "auraconnect.title" -}}{{ .Nothing }}')
        )
    status, lines = copy.run("check", "--offline")
    assert status == 2
    assert any("auraconnect.title" in line and "can't be rendered for an alert" in line for line in lines)


@pytest.mark.parametrize(
    "receiver",
    ["cto-page", "lead-engineer-page", "senior-engineer-notify", "engineering-manager-notify", "team-lead-notify"],
)
def test_a_role_that_nobody_tells_is_named(copy: Copy, receiver: str) -> None:
    """A route that leads elsewhere leaves a cell of the matrix, and a receiver, without each other."""
    copy.change(f"receiver: {receiver}\n", "receiver: nobody\n")
    status, lines = copy.run("check", "--offline")
    assert status == 2
    assert any(f"not {receiver}" in line for line in lines)
    assert f"receiver {receiver}: no route leads to it" in lines


def test_a_receiver_that_is_not_there_is_named(copy: Copy) -> None:
    """What amtool itself has to say, in one line."""
    copy.change("- name: cto-page", "- name: cto-pages")
    status, lines = copy.run("check", "--offline")
    assert (status, len(lines)) == (2, 1)
    assert "cto-page" in lines[0]


def test_a_webhook_that_does_not_answer_is_named(copy: Copy) -> None:
    """Without the incident log nobody could acknowledge."""
    address = f"http://127.0.0.1:{free_port()}/api/v1/health/alerts/webhook"
    copy.change("http://localhost:9850/api/v1/health/alerts/webhook", address)
    expected = f"receiver incident-log: {address} can't be asked: [Errno 111] Connection refused"
    assert copy.run("check") == (2, [expected])


def test_a_configuration_that_is_none_is_refused(copy: Copy) -> None:
    """One sentence with the place."""
    copy.path.write_text("receivers: [\n")
    assert copy.run("check") == (2, [f"{copy.path}:2: is not valid YAML"])
    copy.path.unlink()
    assert copy.run("routes") == (2, [f"{copy.path}: can't be read: No such file or directory"])


def test_the_matrix_is_printed_as_the_procedure_has_it(copy: Copy) -> None:
    """Seven roles, three severities, three levels."""
    status, lines = copy.run("routes")
    assert (status, [line.split() for line in lines]) == (
        0,
        [
            ["SEVERITY", "PRIMARY", "SECONDARY", "MANAGER"],
            ["critical", "oncall-engineer-page", "lead-engineer-page", "cto-page"],
            ["warning", "oncall-engineer-notify", "senior-engineer-notify", "engineering-manager-notify"],
            ["info", "support-team-notify", "oncall-engineer-notify", "team-lead-notify"],
        ],
    )


def test_who_is_told_of_given_labels_is_printed_with_the_channels(copy: Copy) -> None:
    """The incident log first, then people."""
    status, lines = copy.run("routes", "severity=warning", "component=host")
    assert (status, [line.split(maxsplit=1) for line in lines]) == (
        0,
        [["RECEIVER", "CHANNELS"], ["incident-log", "webhook"], ["oncall-engineer-notify", "Slack, email"]],
    )


def test_without_amtool_it_says_so(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    """The tool that is missing is named, with what to do."""
    assert cli.main(["check", f"--alertmanager.config={copy.path}", "--amtool=/nowhere/amtool"]) == 2
    assert capsys.readouterr().err.startswith("/nowhere/amtool is not there: install Alertmanager's amtool")
