"""The command line: what is said, and the exit status."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from auraconnect_exporter import __version__, cli
from auraconnect_exporter.app import Address


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "API_URL", "WORKER_QUEUES"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def test_a_good_configuration_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check-config says how much would be watched, and exits with 0."""
    path = tmp_path / "exporter.yml"
    path.write_text("redis: [{name: a, url: 'redis://r'}]", encoding="utf-8")
    assert cli.main([f"--config.file={path}", "--check-config"]) == 0
    assert capsys.readouterr().out == "The configuration is valid: 2 targets.\n"


@pytest.mark.parametrize("check", [["--check-config"], []])
def test_a_broken_configuration_is_one_sentence_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: list[str]
) -> None:
    """Neither the check nor a start goes on with a broken file."""
    path = tmp_path / "exporter.yml"
    path.write_text("redis: 5", encoding="utf-8")
    assert cli.main([f"--config.file={path}", *check]) == 2
    assert capsys.readouterr().err == f"{path}:1: redis: expected a list, got a whole number\n"


def test_an_address_in_use_is_one_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A second exporter on the same port says why it can't be."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main([f"--web.listen-address={address}", "--log.level=error"]) == 1
    assert capsys.readouterr().err == f"can't listen on {address}: another program listens there\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9850", Address("", 9850)),
        ("127.0.0.1:1", Address("127.0.0.1", 1)),
        ("[::1]:9850", Address("::1", 9850)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_listen_addresses_are_those_of_prometheus(text: str, address: Address) -> None:
    """An empty host means every interface."""
    assert cli.parse_address(text) == address


@pytest.mark.parametrize(
    "arguments",
    [
        ["--web.listen-address=9850"],
        ["--web.listen-address=:0"],
        ["--web.listen-address=:65536"],
        ["--web.listen-address=::1:9850"],
        ["--web.external-url=monitoring.example.com"],
        ["--web.external-url=https://u:p@h/"],
        ["--log.level=loud"],
        ["--config.fil=x"],
    ],
)
def test_wrong_usage_exits_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What can't be meant is refused before anything starts."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """--version says which exporter this is."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"auraconnect-exporter {__version__}\n"
