"""Find the server programs: on PATH, in the cache folder, or fetched into it (see `packages`).

`release` names a version, the same wherever the tests run: "distribution" (PATH, or this distribution's
suite), "oldest" and "newest" (of the versions we support), or a suite of the distribution.

Standard library only.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.packages import ServerUnavailable, cache_folder, fetch, install
from tools.sources import os_release


@dataclass(frozen=True)
class _Program:
    package: str
    names: tuple[str, ...]
    folders: tuple[str, ...] = ("usr/bin", "usr/sbin")


_POSTGRESQL = ("usr/lib/postgresql/*/bin",)
PROGRAMS = {
    "prometheus": _Program("prometheus", ("prometheus",)),
    "promtool": _Program("prometheus", ("promtool",)),
    "alertmanager": _Program("prometheus-alertmanager", ("alertmanager", "prometheus-alertmanager")),
    "amtool": _Program("prometheus-alertmanager", ("amtool",)),
    "postgres": _Program("postgresql", ("postgres",), _POSTGRESQL),
    "initdb": _Program("postgresql", ("initdb",), _POSTGRESQL),
    "psql": _Program("postgresql", ("psql",), _POSTGRESQL),
    "redis-server": _Program("redis-server", ("redis-server",)),
    "redis-cli": _Program("redis-server", ("redis-cli",)),
    "valkey-server": _Program("valkey-server", ("valkey-server",)),
    "pgbouncer": _Program("pgbouncer", ("pgbouncer",)),
    "chromium": _Program("chromium", ("chromium",), ("usr/lib/chromium",)),
    "openssl": _Program("openssl", ("openssl",)),
    "wrk": _Program("wrk", ("wrk",)),
    "postgres-exporter": _Program("prometheus-postgres-exporter", ("prometheus-postgres-exporter",)),
    "redis-exporter": _Program("prometheus-redis-exporter", ("prometheus-redis-exporter",)),
    "blackbox-exporter": _Program("prometheus-blackbox-exporter", ("prometheus-blackbox-exporter",)),
    "node-exporter": _Program("prometheus-node-exporter", ("prometheus-node-exporter",)),
}

# Debian 12 and Ubuntu 24.04 can do without it: they have Redis.
_IN_NEWER_SUITES = {"valkey-server"}

# Prometheus 2.42 and Alertmanager 0.25 are in Debian 12; Ubuntu's first that has both is 24.04. PostgreSQL 13 is in
# Debian 11; Ubuntu's 22.04 has 14.
_SUITES = {
    "debian": {"oldest": "bookworm", "newest": "forky"},
    "ubuntu": {"oldest": "noble", "newest": "devel"},
}
_OLDEST_POSTGRESQL = {"debian": "bullseye", "ubuntu": "jammy"}


def program(name: str, release: str = "distribution") -> Path:
    """Return the path of a server program, fetched if need be. Raises ServerUnavailable.

    Of PostgreSQL, the programs of one version lie side by side: `program("postgres").with_name("initdb")`.
    """
    if name not in PROGRAMS:
        raise ServerUnavailable(f"There is no server program {name}; known are {', '.join(PROGRAMS)}.")
    wanted = PROGRAMS[name]
    distribution, codename = os_release()
    if release == "distribution":
        installed = _on_path(wanted)
        if installed:
            return installed
        release = codename
    suite = _SUITES[distribution].get(release, release)
    if release == "oldest" and wanted.folders is _POSTGRESQL:
        suite = _OLDEST_POSTGRESQL[distribution]
    try:
        tree = fetch(suite, [wanted.package], cache_folder())
    except ServerUnavailable:
        if suite != _OLDEST_POSTGRESQL[distribution]:
            raise
        return program(name)  # that suite has left the mirrors: this distribution's is the oldest there is
    found = _in_folders(wanted, tree)
    if not found:
        raise ServerUnavailable(f"The package {wanted.package} of {suite} has no program {name}; put it on PATH.")
    return found


def _on_path(wanted: _Program) -> Path | None:
    for name in wanted.names:
        found = shutil.which(name)
        if found and wanted.folders is not _POSTGRESQL:
            return Path(found)
        # Beside a link in /usr/local/bin the other programs of the version are missing. And one to Debian's pg_wrapper
        # is no program of PostgreSQL's: it starts psql of a cluster of its choice.
        if found and (real := Path(found).resolve()).name == name:
            return real
    # Distributions keep PostgreSQL's programs off PATH.
    return _in_folders(wanted, Path("/")) if wanted.folders is _POSTGRESQL else None


def _in_folders(wanted: _Program, root: Path) -> Path | None:
    found = [path for folder in wanted.folders for name in wanted.names for path in root.glob(f"{folder}/{name}")]
    return max(found, default=None)


def prepare() -> None:
    """Get every server that the tests start. As root, install the distribution's. Raises ServerUnavailable."""
    distributed = [name for name in PROGRAMS if name not in _IN_NEWER_SUITES]
    if os.geteuid() == 0:
        missing = sorted({PROGRAMS[name].package for name in distributed if not _on_path(PROGRAMS[name])})
        if missing:
            install(missing)
    for name in distributed:
        program(name)
    for name in ("prometheus", "alertmanager", "postgres"):
        program(name, "oldest")
    for name in ("prometheus", "alertmanager", "postgres", "redis-server", "valkey-server"):
        program(name, "newest")
