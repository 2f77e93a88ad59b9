"""Packages without installing: the mirror comes from the machine's own configuration, a fetch is whole or absent."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.packages import (
    ServerUnavailable,
    Source,
    archive,
    cache_folder,
    fetch,
    os_release,
    parse_deb822,
    parse_one_line,
    services_held,
    stanza,
)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class TestSources:
    def test_reads_the_one_line_format(self) -> None:
        """Binary repositories come with their options; comments and sources do not count."""
        text = """
# deb http://gone.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg trusted=yes] https://mirror.example/debian bookworm main contrib # ours
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
"""
        assert parse_one_line(text) == [
            Source(
                "https://mirror.example/debian",
                "bookworm",
                ("main", "contrib"),
                {"Arch": "amd64 arm64", "Signed-By": "/k.gpg", "Trusted": "yes"},
            ),
            Source("http://mirror.example/debian-security", "bookworm-security", ("main",), {}),
        ]

    def test_reads_the_deb822_format(self) -> None:
        """Each address with each suite is a repository; a disabled stanza and one of sources are none."""
        text = f"""# made by hand
Types: deb deb-src
URIs: http://mirror.example/debian
# a comment within
Suites: trixie trixie-updates
Components: main
Signed-By: {KEYRING}

Types: deb
URIs: http://other.example/debian
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
"""
        options = {"Signed-By": KEYRING}
        assert parse_deb822(text) == [
            Source("http://mirror.example/debian", "trixie", ("main",), options),
            Source("http://mirror.example/debian", "trixie-updates", ("main",), options),
        ]

    def test_keeps_a_key_that_the_stanza_itself_holds(self) -> None:
        """A Signed-By of several lines goes from the machine's stanza into ours as it is."""
        key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJKwYB\n -----END PGP PUBLIC KEY BLOCK-----"
        text = f"Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\nSigned-By:{key}\n"
        (source,) = parse_deb822(text)
        assert f"Signed-By: {key}\n" in stanza(source, "forky", "debian", "amd64")

    def test_chooses_the_distribution_among_third_parties(self) -> None:
        """Neither a vendor that reuses the codename nor the security archive is taken for the main one."""
        ours = Source("http://mirror.example/debian", "bookworm", ("main",), {"Signed-By": KEYRING})
        sources = [
            Source("https://vendor.example/apt", "bookworm", ("main",), {"Signed-By": "/etc/apt/keyrings/vendor.gpg"}),
            Source("http://mirror.example/debian-security", "bookworm-security", ("main",), {"Signed-By": KEYRING}),
            ours,
            Source("https://tools.example/node", "nodistro", ("main",), {}),
        ]
        assert archive(sources, "debian", "bookworm") == ours

    def test_takes_an_archive_without_a_keyring_of_its_own(self) -> None:
        """The one-line entry that installers write has no options; its address tells what it is."""
        ours = Source("http://mirror.example/debian/", "trixie", ("main",), {})
        vendor = Source("https://vendor.example/apt", "trixie", ("main",), {"Signed-By": "/k.gpg"})
        assert archive([vendor, ours], "debian", "trixie") == ours

    def test_says_when_there_is_no_archive(self) -> None:
        """A machine without a mirror gets a sentence that says what to do."""
        with pytest.raises(ServerUnavailable, match=r"names no archive of debian trixie .* install the package"):
            archive([Source("cdrom:[Debian 13]/", "trixie", ("main",), {})], "debian", "trixie")

    def test_another_suite_keeps_address_and_trust(self) -> None:
        """Only suite, components and architecture are ours."""
        source = Source("http://mirror.example/debian", "bookworm", ("main", "contrib"), {"Signed-By": KEYRING})
        assert stanza(source, "forky", "debian", "arm64") == (
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: forky\nComponents: main\n"
            f"Architectures: arm64\nSigned-By: {KEYRING}\n"
        )

    def test_ubuntu_keeps_the_servers_in_universe(self) -> None:
        """Ubuntu's main has no Prometheus."""
        source = Source("http://mirror.example/ubuntu", "noble", ("main",), {})
        assert "Components: main universe\n" in stanza(source, "noble", "ubuntu", "amd64")


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
