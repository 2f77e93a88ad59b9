"""Make the project's virtual environment with nothing but Python: `python3 -m tools.bootstrap LOCK`.

The environment is `.venv` in the project. It gets exactly the packages of a lock file, checked by their
hashes, and a path file that leads to the exporter's sources. Where the distribution keeps pip in a package
of its own that is not installed (Debian's python3-venv), pip comes out of that package, unpacked.

Standard library only. A marker in the environment holds the lock's digest, so the next call does nothing.
"""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tools.packages import ServerUnavailable, cache_folder, fetch
from tools.sources import os_release

ROOT = Path(__file__).resolve().parent.parent
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


class BootstrapFailed(Exception):
    """The environment can't be made; the text is one sentence that says why and what to do."""


def bootstrap(lock: Path, environment: Path, sources: Path) -> Path:
    """Make `environment` hold the packages of `lock` and find modules in `sources`; return its Python.

    Raises BootstrapFailed. Two calls at once are safe: the second waits.
    """
    python = environment / "bin/python"
    marker = environment / f"{lock.stem}.installed"
    with lock.open("rb") as content:
        fcntl.flock(content, fcntl.LOCK_EX)
        wanted = hashlib.sha256(content.read() + os.fsencode(sources)).hexdigest()
        if not _runs(python):
            print(f"Making the virtual environment {environment} …", flush=True)
            _make(environment)
        elif marker.is_file() and marker.read_text() == wanted:
            return python
        print(f"Installing the packages of {lock.name} …", flush=True)
        _install(python, lock)
        (_site_packages(python) / "auraconnect.pth").write_text(f"{sources}\n")
        marker.write_text(wanted)
    return python


def _runs(python: Path) -> bool:
    """Return whether an environment's Python is there, works (its base may be gone) and is new enough."""
    try:
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        return subprocess.run([python, "-c", check], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _make(environment: Path) -> None:
    try:
        venv.EnvBuilder(clear=True, symlinks=True).create(environment)
    except OSError as error:
        raise BootstrapFailed(f"Can't make the virtual environment {environment}: {error.strerror}.") from error


def _install(python: Path, lock: Path) -> None:
    if not _can_import(python, "pip"):
        _give_pip(python)
    options = ["--require-hashes", "--disable-pip-version-check", "--no-input", "--quiet"]
    done = subprocess.run(
        [python, "-m", "pip", "install", *options, "--requirement", lock], check=False, text=True, capture_output=True
    )
    if done.returncode:
        broken = re.search(r"connection broken by '(.*)'", done.stderr)
        said = broken[1] if broken else (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise BootstrapFailed(
            f"pip could not install the packages of {lock.name} and says “{said}”; check the network, or set a "
            "proxy, mirror or certificate in pip's own configuration, and try again."
        )


def _give_pip(python: Path) -> None:
    if _can_import(python, "ensurepip"):
        subprocess.run([python, "-m", "ensurepip"], check=True, capture_output=True)
        return
    wheel = next(_unpacked("python3-pip-whl").glob("usr/share/python-wheels/pip-*.whl"))
    site_packages = _site_packages(python)
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site_packages)
    if not _AUTHORITIES.exists():
        # The distribution's pip trusts whom the system trusts; the smallest systems have no such file.
        bundle = site_packages / "certificate-authorities.pem"
        certificates = sorted(_unpacked("ca-certificates").glob("usr/share/ca-certificates/mozilla/*.crt"))
        bundle.write_text("".join(path.read_text(encoding="utf-8") for path in certificates), encoding="utf-8")
        where = site_packages / "pip/_vendor/certifi/core.py"
        where.write_text(where.read_text().replace(str(_AUTHORITIES), str(bundle)))


def _can_import(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0


def _unpacked(package: str) -> Path:
    try:
        return fetch(os_release()[1], [package], cache_folder())
    except ServerUnavailable as error:
        raise BootstrapFailed(
            f"This Python has no pip and the package {package} can't be had; install python3-venv. {error}"
        ) from error


def _site_packages(python: Path) -> Path:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", ask], check=True, text=True, capture_output=True).stdout.strip())


def main(arguments: Sequence[str]) -> int:
    """Make the project's environment after the lock file that is named."""
    try:
        bootstrap(ROOT / arguments[0], ROOT / ".venv", ROOT / "exporter")
    except BootstrapFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
