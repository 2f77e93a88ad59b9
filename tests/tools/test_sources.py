"""The mirror comes from the machine's own apt configuration, in either format, with its trust."""

from tools.sources import Source, archive, parse_deb822, parse_one_line, stanza

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_reads_the_one_line_format() -> None:
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


def test_reads_the_deb822_format() -> None:
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


def test_keeps_a_key_that_the_stanza_itself_holds() -> None:
    """A Signed-By of several lines goes from the machine's stanza into ours as it is."""
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJKwYB\n -----END PGP PUBLIC KEY BLOCK-----"
    text = f"Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\nSigned-By:{key}\n"
    (source,) = parse_deb822(text)
    assert f"Signed-By: {key}\n" in stanza(source, "forky", "debian", "amd64")


def test_chooses_the_distribution_among_third_parties() -> None:
    """Neither a vendor that reuses the codename nor the security archive is taken for the main one."""
    ours = Source("http://mirror.example/debian", "bookworm", ("main",), {"Signed-By": KEYRING})
    sources = [
        Source("https://vendor.example/apt", "bookworm", ("main",), {"Signed-By": "/etc/apt/keyrings/vendor.gpg"}),
        Source("http://mirror.example/debian-security", "bookworm-security", ("main",), {"Signed-By": KEYRING}),
        ours,
        Source("https://tools.example/node", "nodistro", ("main",), {}),
    ]
    assert archive(sources, "debian", "bookworm") == ours


def test_takes_an_archive_without_a_keyring_of_its_own() -> None:
    """The one-line entry that installers write has no options; its address tells what it is."""
    ours = Source("http://mirror.example/debian/", "trixie", ("main",), {})
    vendor = Source("https://vendor.example/apt", "trixie", ("main",), {"Signed-By": "/k.gpg"})
    assert archive([vendor, ours], "debian", "trixie") == ours


def test_finds_no_archive_where_there_is_none() -> None:
    """A disc is no archive to fetch from."""
    assert archive([Source("cdrom:[Debian 13]/", "trixie", ("main",), {})], "debian", "trixie") is None


def test_another_suite_keeps_address_and_trust() -> None:
    """Only suite, components and architecture are ours."""
    source = Source("http://mirror.example/debian", "bookworm", ("main", "contrib"), {"Signed-By": KEYRING})
    assert stanza(source, "forky", "debian", "arm64") == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: forky\nComponents: main\n"
        f"Architectures: arm64\nSigned-By: {KEYRING}\n"
    )


def test_ubuntu_keeps_the_servers_in_universe() -> None:
    """Ubuntu's main has no Prometheus."""
    source = Source("http://mirror.example/ubuntu", "noble", ("main",), {})
    assert "Components: main universe\n" in stanza(source, "noble", "ubuntu", "amd64")
