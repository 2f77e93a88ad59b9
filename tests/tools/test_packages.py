"""Packages without installing: a fetch is whole or absent, and an installation starts nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.packages import ServerUnavailable, cache_folder, fetch, services_held
from tools.sources import os_release


class TestCacheFolder:
    def test_follows_the_base_directory_specification(self) -> None:
        """An absolute XDG_CACHE_HOME is the base."""
        assert cache_folder({"XDG_CACHE_HOME": "/var/big"}) == Path("/var/big/auraconnect-monitoring")

    def test_ignores_a_relative_base(self) -> None:
        """A relative XDG_CACHE_HOME is invalid by that specification."""
        assert cache_folder({"XDG_CACHE_HOME": "here"}) == cache_folder({})


class TestFetch:
    def test_says_why_a_package_is_not_to_be_had(self, tmp_path: Path) -> None:
        """An unknown package is named with apt's reason, and nothing is left that looks fetched."""
        suite = os_release()[1]
        with pytest.raises(ServerUnavailable, match=f"Can't fetch no-such-package from {suite}: apt-get says “Unable"):
            fetch(suite, ["no-such-package"], tmp_path)
        assert not (tmp_path / suite / "no-such-package").exists()

    def test_takes_no_half_for_a_whole(self, tmp_path: Path) -> None:
        """What a killed fetch left is thrown away, and the package is fetched anew."""
        suite = os_release()[1]
        left = tmp_path / suite / "unfinished/tree/usr/share/left-over"
        left.mkdir(parents=True)
        tree = fetch(suite, ["python3-pip-whl"], tmp_path)
        assert list(tree.glob("usr/share/python-wheels/pip-*.whl"))
        assert not (tree / "usr/share/left-over").exists()
        assert not (tmp_path / suite / "unfinished").exists()

    def test_says_when_there_is_no_package_tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without apt-get the sentence says so and says what to do."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            ServerUnavailable, match="redis-server comes with apt-get and dpkg, which are not here; install it"
        ):
            fetch("bookworm", ["redis-server"], tmp_path)

    def test_two_at_once_fetch_once(self, tmp_path: Path) -> None:
        """Two processes get the same whole tree, and one of them waits for the other's download."""
        code = "import sys, pathlib; from tools.packages import fetch; "
        code += "print(fetch(sys.argv[1], ['redis-server'], pathlib.Path(sys.argv[2])))"
        command = [sys.executable, "-c", code, os_release()[1], str(tmp_path)]
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
            for _ in range(2)
        ]
        answers = [process.communicate() for process in both]
        assert answers[0][0] == answers[1][0] == f"{tmp_path / os_release()[1] / 'redis-server'}\n"
        assert sum(errors.count("Fetching") for _, errors in answers) == 1
        program = Path(answers[0][0].strip()) / "usr/bin/redis-server"
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
        assert version.stdout.startswith("Redis server v=")


class TestServicesHeld:
    def test_forbids_starts_and_leaves_no_trace(self, tmp_path: Path) -> None:
        """On a machine without a policy, ours answers 101 during the block and is gone after it."""
        policy = tmp_path / "policy-rc.d"
        with services_held(policy):
            assert subprocess.run([policy, "redis-server", "start"], check=False).returncode == 101
        assert list(tmp_path.iterdir()) == []

    def test_brings_the_machines_own_policy_back(self, tmp_path: Path) -> None:
        """A policy of the machine's owner is the same file afterwards, even after a failure."""
        policy = tmp_path / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 0\n")
        policy.chmod(0o700)
        before = policy.stat()
        with pytest.raises(ServerUnavailable), services_held(policy):
            raise ServerUnavailable
        after = policy.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        assert list(tmp_path.iterdir()) == [policy]

    def test_repairs_what_a_killed_installation_left(self, tmp_path: Path) -> None:
        """Our policy, left behind with the owner's aside, gives way to the owner's in the end."""
        policy = tmp_path / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 0\n")
        with services_held(policy):
            ours, owners = policy.read_text(), (tmp_path / "policy-rc.d.aside").read_text()
        policy.write_text(ours)
        (tmp_path / "policy-rc.d.aside").write_text(owners)
        with services_held(policy):
            assert policy.read_text() == ours
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
        assert list(tmp_path.iterdir()) == [policy]
