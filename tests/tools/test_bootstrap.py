"""The virtual environment: made from nothing, made again only when it must be, and never half."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools.bootstrap import BootstrapFailed, bootstrap


def lock(folder: Path, text: str = "") -> Path:
    path = folder / "requirements.lock"
    path.write_text(text)
    return path


def sources(folder: Path) -> Path:
    path = folder / "sources"
    path.mkdir()
    (path / "sample_module.py").write_text("print('found')\n")
    return path


def test_makes_an_environment_that_finds_the_sources(tmp_path: Path) -> None:
    """From nothing to a Python that imports the project's modules."""
    python = bootstrap(lock(tmp_path), tmp_path / "venv", sources(tmp_path))
    ran = subprocess.run([python, "-m", "sample_module"], check=True, capture_output=True, text=True)
    assert ran.stdout == "found\n"


def test_does_nothing_the_second_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment that fits is left alone; another lock means another installation into the same one."""
    arguments = (tmp_path / "venv", sources(tmp_path))
    bootstrap(lock(tmp_path), *arguments)
    capsys.readouterr()
    bootstrap(lock(tmp_path), *arguments)
    assert capsys.readouterr().out == ""
    bootstrap(lock(tmp_path, "# another\n"), *arguments)
    assert capsys.readouterr().out == "Installing the packages of requirements.lock …\n"


def test_replaces_an_environment_whose_python_is_gone(tmp_path: Path) -> None:
    """After an upgrade of the system's Python the old environment's link leads nowhere."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(tmp_path / "gone")
    python = bootstrap(lock(tmp_path), tmp_path / "venv", sources(tmp_path))
    assert subprocess.run([python, "-c", ""], check=False).returncode == 0


def test_installs_nothing_without_its_hash(tmp_path: Path) -> None:
    """A package whose content is not pinned fails the whole, in a sentence; the next try starts over."""
    arguments = (tmp_path / "venv", sources(tmp_path))
    for _ in range(2):
        with pytest.raises(BootstrapFailed, match=r"could not install the packages of requirements.lock and says “"):
            bootstrap(lock(tmp_path, "six==1.17.0\n"), *arguments)


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.lock", []), ("requirements-demo.lock", ["demo"]), ("requirements-test.lock", ["test"])],
)
def test_the_locks_hold_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    """Each dependency of pyproject.toml is pinned with hashes, and no lock holds an address."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    text = Path(name).read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==\S+.* \\$", text, re.MULTILINE))
    assert {re.split(r"[^\w-]", one)[0].lower() for one in asked} - pinned == set()
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-demo.lock"])
def test_what_is_tested_is_what_runs(name: str) -> None:
    """Every version in what runs is that of the test lock."""
    ours, tests = (
        set(re.findall(r"^[a-z0-9-]+==\S+", Path(lock).read_text(encoding="utf-8"), re.MULTILINE))
        for lock in (name, "requirements-test.lock")
    )
    assert ours
    assert ours - tests == set()
