"""Unpack programs of Debian and Ubuntu packages into a cache folder, without root and without installing.

`fetch(suite, packages)` answers the folder of an unpacked tree: the packages and the shared libraries that
they need, down to the C library, so that a program of a newer suite runs on an older system. Its programs
are called like installed ones (`tree / "usr/bin/prometheus"`); each is a small script that starts the real
program with the tree's own libraries.

apt does the work, with folders of its own: it finds dependencies, downloads, and checks signatures with the
machine's keys. The mirror is the one that the machine's own apt configuration names.

Standard library only: this runs before the project's virtual environment exists.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.sources import Source, archive, os_release, parse_deb822, parse_one_line, stanza

__all__ = ["ServerUnavailable", "cache_folder", "fetch", "install", "services_held"]

# A library that no server needs at run time, though a dependency says so: they are three quarters of the
# download (LLVM is PostgreSQL's JIT compiler) and of the disk space.
_NOT_NEEDED = re.compile(r"libjs-|libperl|lib.*-perl$|libllvm|libz3|libc-l10n|libpam-|libsemanage")

# Debian builds Prometheus and Alertmanager to read their pages and templates from this folder. In an
# unpacked program it is replaced by a path of the same length, which leads through a descriptor that the
# starting script opens on the tree's own folder. So neither root nor a user namespace is needed.
_SHARE = b"/usr/share/prometheus"
_DESCRIPTOR = 9
_THROUGH_DESCRIPTOR = f"/proc/self/fd/{_DESCRIPTOR}".encode().ljust(len(_SHARE), b"/")
_LISTS_ARE_FRESH_SECONDS = 3600.0


class ServerUnavailable(Exception):
    """A package can't be had here; the text is one sentence that says why and what to do."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that keeps what was fetched: below `$XDG_CACHE_HOME`, or `~/.cache`.

    Root's is in /var/cache: PostgreSQL does not run as root, and nobody else may enter root's home.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = "/var/cache" if os.geteuid() == 0 else f"{Path.home()}/.cache"
    return Path(base) / "auraconnect-monitoring"


def fetch(suite: str, packages: Sequence[str], cache: Path) -> Path:
    """Return the folder with `packages` and their libraries unpacked, fetched unless it is there already.

    Two processes may ask at once: one fetches, the other waits. Raises ServerUnavailable.
    """
    folder = cache / suite
    tree = folder / "+".join(packages)
    if not tree.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerUnavailable(f"Can't make the cache folder {folder}: {error.strerror}.") from error
        with _locked(folder / "lock"):
            if not tree.is_dir():
                print(f"Fetching {', '.join(packages)} ({suite}) …", file=sys.stderr, flush=True)
                _unpack(suite, packages, folder, tree)
    return tree


def install(packages: Sequence[str]) -> None:
    """As root, install packages of this distribution; their services don't start. Raises ServerUnavailable."""
    print(f"Installing {', '.join(packages)} …", file=sys.stderr, flush=True)
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    with services_held(Path("/usr/sbin/policy-rc.d")):
        _run([*apt, "update"], "update the lists of packages")
        _run([*apt, "install", "--no-install-recommends", *packages], f"install {', '.join(packages)}")


@contextmanager
def services_held(policy: Path) -> Iterator[None]:
    """Forbid packages to start services while the block lasts; then `policy` is as it was before.

    `policy` is the machine's policy-rc.d, which package scripts ask (invoke-rc.d(8)); 101 means forbidden.
    """
    ours = "#!/bin/sh\n# For the time of an installation by ./test.\nexit 101\n"
    aside = policy.with_name(f"{policy.name}.aside")
    left_over = policy.exists() and policy.read_text() == ours  # of an installation that was killed
    if policy.exists() and not left_over:
        policy.rename(aside)
    policy.write_text(ours)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
        if aside.exists():
            aside.rename(policy)


def _unpack(suite: str, packages: Sequence[str], folder: Path, tree: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise ServerUnavailable(f"{packages[0]} comes with apt-get and dpkg, which are not here; install it yourself.")
    apt = _Apt(suite, folder / "apt")
    work = folder / "unfinished"
    shutil.rmtree(work, ignore_errors=True)  # of a fetch that was killed
    work.mkdir()
    for package in apt.download(packages, work):
        _run(["dpkg", "-x", str(package), str(work / "tree")], f"unpack {package.name}")
    _make_runnable(work / "tree", tree)
    (work / "tree").rename(tree)
    shutil.rmtree(work)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Apt:
    """apt-get for one suite, with its own lists, cache and an empty package database.

    The empty database makes a tree whole and the same everywhere, whatever the machine has installed.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        distribution, codename = os_release()
        source = archive(_machine_sources(), distribution, codename)
        if not source:
            raise ServerUnavailable(
                f"apt's configuration names no archive of {distribution} {codename} to fetch from; "
                "install the package yourself."
            )
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "state/status").touch()
        (folder / "suite.sources").write_text(stanza(source, suite, distribution, _architecture()))
        (folder / "apt.conf").write_text(
            f"""
            Dir::State "{folder}/state"; Dir::State::Lists "lists"; Dir::State::status "{folder}/state/status";
            Dir::Cache "{folder}/cache"; Dir::Etc::sourcelist "{folder}/suite.sources";
            Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferences "/dev/null";
            Dir::Etc::preferencesparts "/dev/null"; APT::Default-Release "";
            APT::Install-Recommends "false"; APT::Install-Suggests "false"; APT::Sandbox::User "root";
            APT::Update::Error-Mode "any"; Acquire::Languages "none"; Acquire::http::Timeout "30";
            #clear APT::Update::Pre-Invoke; #clear APT::Update::Post-Invoke;
            #clear APT::Update::Post-Invoke-Success; #clear Acquire::IndexTargets::deb::DEP-11;
            """
        )
        self._suite, self._folder = suite, folder

    def download(self, packages: Sequence[str], folder: Path) -> list[Path]:
        """Download `packages` and the libraries that they need into `folder`; return the files."""
        what = f"fetch {', '.join(packages)} from {self._suite}"
        stamp = self._folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > _LISTS_ARE_FRESH_SECONDS:
            self._get(["update"], what)
            stamp.touch()
        plan = self._get(["--simulate", "install", *packages], what)
        names = re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)
        self._get(["download", *(name for name in names if _is_needed(name, packages))], what, cwd=folder)
        return sorted(folder.glob("*.deb"))

    def _get(self, arguments: Sequence[str], what: str, cwd: Path | None = None) -> str:
        return _run(["apt-get", "-q", "-y", "-c", str(self._folder / "apt.conf"), *arguments], what, cwd)


def _is_needed(name: str, asked: Sequence[str]) -> bool:
    if name in asked:
        return True
    # Metapackages and packages whose programs live in a companion: postgresql → postgresql-15, redis-tools.
    families = ("lib", "zlib", "promtool", "postgresql-1", "postgresql-client-1", "redis-", "valkey-")
    return name.startswith(families) and not _NOT_NEEDED.match(name)


def _run(command: Sequence[str], what: str, cwd: Path | None = None) -> str:
    result = subprocess.run(
        command,
        cwd=cwd,
        check=False,
        text=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if result.returncode:
        complaints = re.findall(r"^(?:E:|Err:|dpkg.*error:) *(.*)", result.stderr + result.stdout, re.MULTILINE)
        said = (complaints or (result.stderr.strip() or "nothing").splitlines())[0]
        raise ServerUnavailable(
            f"Can't {what}: {command[0]} says “{said.rstrip('. ')}”; "
            "check the network and apt's sources, or install the package yourself."
        )
    return result.stdout


def _architecture() -> str:
    return _run(["dpkg", "--print-architecture"], "ask for the machine's architecture").strip()


def _machine_sources() -> list[Source]:
    answer = _run(
        ["apt-config", "shell", "MAIN", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"],
        "read apt's configuration",
    )
    main, parts = (Path(path) for path in re.findall(r"='(.*)'", answer))
    sources = []
    for path in [main, *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        if path.is_file() and os.access(path, os.R_OK):
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            sources += parse(path.read_text(encoding="utf-8", errors="replace"))
    return sources


def _make_runnable(built: Path, final: Path) -> None:
    """Put a script before each program of a tree, which starts it with the tree's own libraries.

    The tree is in the folder `built` and will be in `final`.
    """
    # Before glibc 2.34 the name is a link, beside its file; the one in lib64 may lead out of the tree.
    loaders = (path for path in sorted(built.glob("**/ld-linux*.so.*")) if path.resolve().is_relative_to(built))
    loader = next(loaders, None)
    if loader is None:
        return  # no programs, only data
    # Before glibc 2.33 a loader can't be told what the program is to be called.
    named = '--argv0 "$0" ' if b"--argv0" in loader.read_bytes() else ""
    libraries = {path.parent for path in built.glob("**/lib*.so.*") if not {"gconv", "gdb"} & {*path.parts}}
    search = ":".join(str(final / path.relative_to(built)) for path in sorted(libraries))
    for folder in ("usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin"):
        for program in built.glob(f"{folder}/*"):
            if program.is_symlink() or not program.is_file():
                continue
            content = program.read_bytes()
            if content.startswith(b"\x7fELF"):
                real = program.with_name(f"{program.name}.elf")
                real.write_bytes(content.replace(_SHARE, _THROUGH_DESCRIPTOR))
                start: list[Path | str] = [final / loader.relative_to(built), "--library-path", search]
                share = f"exec {_DESCRIPTOR}<{_quoted(final / 'usr/share/prometheus')}\n"
                program.write_text(
                    f"#!/bin/sh\n{share if _SHARE in content else ''}"
                    f'exec {_quoted(*start)} {named}{_quoted(final / real.relative_to(built))} "$@"\n'
                )
                program.chmod(0o755)
                real.chmod(0o755)


def _quoted(*words: Path | str) -> str:
    return shlex.join(str(word) for word in words)
