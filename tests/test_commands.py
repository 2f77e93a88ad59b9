"""The commands beside serving, as a person runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from auraconnect_exporter import cli, ledger
from auraconnect_exporter.store import open_store
from tests.incidents import ADA, NOON, draft


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty data folder, with nothing else configured."""
    for name in ("STORE_URL", "STORE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def run(folder: Path, *arguments: str) -> int:
    return cli.main([f"--data.path={folder}", *arguments])


async def post_an_alert(folder: Path) -> str:
    store = open_store("", folder)
    try:
        episode = await store.write(lambda transaction: ledger.post(transaction, draft(), ADA, NOON))
    finally:
        await store.close()
    return episode.id


def test_a_token_is_made_listed_and_revoked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown once, when it is made; the list has its name and roles only."""
    assert run(folder, "token", "create", "prometheus", "--role", "metrics", "--expires-in", "90d") == 0
    token = capsys.readouterr().out.strip()
    assert token.startswith("auc_")
    assert run(folder, "token", "list") == 0
    listed = capsys.readouterr().out
    assert "prometheus" in listed
    assert "metrics" in listed
    assert token not in listed
    assert run(folder, "token", "revoke", "prometheus") == 0
    assert run(folder, "token", "revoke", "prometheus") == 1
    assert capsys.readouterr().err == "token revoke: there is no token 'prometheus'\n"


async def test_a_backup_brings_back_what_was_lost(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is backed up is restored into an empty store, and verifies as sound."""
    await post_an_alert(folder)
    backup = tmp_path / "backup.gz"
    assert run(folder, "store", "backup", str(backup)) == 0
    empty = tmp_path / "empty"
    assert run(empty, "store", "restore", str(backup)) == 0
    assert run(empty, "store", "verify") == 0
    assert "- episodes: 1" in capsys.readouterr().out


async def test_a_full_store_is_replaced_by_force_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A restore without --force says what stands in its way, and changes nothing."""
    await post_an_alert(folder)
    backup = tmp_path / "backup.gz"
    assert run(folder, "store", "backup", str(backup)) == 0
    assert run(folder, "store", "restore", str(backup)) == 1
    assert "--force" in capsys.readouterr().err
    assert run(folder, "store", "restore", "--force", str(backup)) == 0


@pytest.mark.parametrize(
    "arguments", [("store",), ("token", "create", "x"), ("token", "create", "x", "--role", "king"), ("nonsense",)]
)
def test_wrong_usage_ends_with_status_2(folder: Path, arguments: tuple[str, ...]) -> None:
    """What is not a command is refused before anything happens."""
    with pytest.raises(SystemExit) as ended:
        run(folder, *arguments)
    assert ended.value.code == 2
    assert not folder.exists()


def test_the_store_url_may_stand_in_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """STORE_URL_FILE names a file; both at once are refused."""
    (tmp_path / "url").write_text("nonsense://user:hunter2@x/y\n")
    monkeypatch.setenv("STORE_URL_FILE", str(tmp_path / "url"))
    assert run(folder, "store", "verify") == 1
    assert "hunter2" not in capsys.readouterr().err
    monkeypatch.setenv("STORE_URL", "sqlite:///x")
    assert run(folder, "store", "verify") == 2
    assert capsys.readouterr().err == "STORE_URL: stands beside STORE_URL_FILE, use one of them\n"
