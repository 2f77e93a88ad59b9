"""Which archive a machine takes its packages from: apt's configuration, read; pure functions.

Both formats of sources.list(5) are known, one line and deb822. Standard library only.
"""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One repository of apt's configuration: its address, a suite, and its other fields as in deb822."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: Mapping[str, str]


def parse_one_line(text: str) -> list[Source]:
    """Return the binary repositories of a `sources.list` in apt's one-line format (sources.list(5))."""
    sources = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+([^\s#]+)\s*([^#]*)", line)
        if match:
            pairs = [pair.partition("=") for pair in (match[1] or "").split()]
            # The one-line option `signed-by=x` is the deb822 field `Signed-By: x`.
            options = {key.title(): value.replace(",", " ") for key, _, value in pairs}
            sources.append(Source(match[2], match[3], tuple(match[4].split()), options))
    return sources


def parse_deb822(text: str) -> list[Source]:
    """Return the binary repositories of a `*.sources` file in apt's deb822 format (sources.list(5))."""
    sources = []
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text.strip()):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[key] = f"{fields.get(key, '')}\n{line}"
            else:
                key, _, value = line.partition(":")
                key = key.strip().title()
                fields[key] = value.strip()
        kinds, uris, suites, components = (
            fields.pop(name, "").split() for name in ("Types", "Uris", "Suites", "Components")
        )
        if "deb" in kinds and fields.pop("Enabled", "yes").lower() not in {"no", "false", "0"}:
            sources += [Source(uri, suite, tuple(components), fields) for uri in uris for suite in suites]
    return sources


def archive(sources: Sequence[Source], distribution: str, codename: str) -> Source | None:
    """Choose the distribution's main archive among a machine's repositories; None if there is none.

    Third parties use the same suite names, so the distribution's own keyring and address count too.
    """

    def likeness(source: Source) -> tuple[bool, bool, bool]:
        return (
            f"{distribution}-archive" in source.options.get("Signed-By", ""),
            source.uri.rstrip("/").endswith((distribution, f"{distribution}-ports")),
            source.suite == codename,
        )

    candidates = [
        source
        for source in sources
        if "main" in source.components and re.match(r"(https?|mirror(\+\w+)*|tor(\+\w+)*|file):", source.uri)
    ]
    candidates = [source for source in candidates if not re.search(r"[-/]", source.suite)] or candidates
    return max(candidates, key=likeness, default=None)


def stanza(source: Source, suite: str, distribution: str, architecture: str) -> str:
    """Return a deb822 entry for another suite of the same archive, with the machine's trust settings."""
    components = "main universe" if distribution == "ubuntu" else "main"
    kept = {key: value for key, value in source.options.items() if key not in {"Architectures", "Arch"}}
    fields = {
        "Types": "deb",
        "URIs": source.uri,
        "Suites": suite,
        "Components": components,
        "Architectures": architecture,
        **kept,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def os_release() -> tuple[str, str]:
    """Return the distribution (`debian` or `ubuntu`) and its codename, as os-release(5) tells them."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    distribution = release.get("ID", "unknown")
    if distribution not in {"debian", "ubuntu"}:
        distribution = "ubuntu" if "ubuntu" in release.get("ID_LIKE", "") else "debian"
    # Debian's testing has had releases without a codename.
    return distribution, release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME") or "testing"
