"""What the containers of docker-compose.yml need beside their images.

`configure` writes what Prometheus and Alertmanager read; `pages` shows what a channel without a secret would have got.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools import derive
from tools.console_sink import ConsoleSink

PACK = Path("/pack")
"""Where the repository's files are, in every container that reads them."""

CONFIG = Path("/config")
DATA = Path("/var/lib/auraconnect")
PAGES_PORT = 8080

# The addresses in the repository's files, and the ones between containers.
ADDRESSES = {
    "localhost:9850": "exporter:9850",
    "localhost:9090": "prometheus:9090",
    "localhost:9093": "alertmanager:9093",
}
_TOKEN = "alertmanager"  # noqa: S105  # a token's name


def configure(pack: Path, config: Path, token: Path, api: Sequence[str]) -> None:
    """Write `prometheus.yml` and `alertmanager.yml` into `config`; `token` is Alertmanager's for the exporter.

    `api` are the addresses of an API that exposes metrics of its own.
    """
    prometheus = derive.relocate(_load(pack / "prometheus/prometheus.yml"), pack / "prometheus", ADDRESSES)
    if api:
        prometheus = derive.add_api(prometheus, api)
    source = pack / "alertmanager/alertmanager.yml"
    secrets = source.parent / "secrets"
    alertmanager = derive.relocate(_load(source), source.parent, ADDRESSES)
    alertmanager = derive.replace_secret(alertmanager, "incident-log-token", token)
    alertmanager = derive.use_sink(
        alertmanager, f"pages:{PAGES_PORT}", secrets / "aws-credentials", lambda path: os.access(path, os.R_OK)
    )
    for name, content in (("prometheus.yml", prometheus), ("alertmanager.yml", alertmanager)):
        (config / name).write_text("# Derived at every start; change the original.\n" + yaml.safe_dump(content))


def make_token(path: Path) -> None:
    """Make Alertmanager's token for the exporter, for its group to read, unless it is there."""
    if path.exists():
        return
    command = [sys.executable, "-m", "auraconnect_exporter", f"--data.path={DATA}", "token"]
    # A token whose file is gone is of no use to anybody.
    subprocess.run([*command, "revoke", _TOKEN], check=False, capture_output=True)
    made = subprocess.run(
        [*command, "create", _TOKEN, "--role", "alertmanager"], check=True, capture_output=True, text=True
    )
    half_written = path.with_suffix(".new")
    half_written.touch(mode=0o640)
    half_written.write_text(made.stdout)
    half_written.rename(path)


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the first argument says."""
    if arguments == ["configure"]:
        token = CONFIG / "incident-log-token"
        make_token(token)
        configure(PACK, CONFIG, token, environ.get("API_TARGETS", "").split())
        return 0
    if arguments == ["pages"]:
        log = Path("/tmp/pages.log")  # noqa: S108  # a folder of the container's own
        with ConsoleSink(log, lambda text: print(text, flush=True), ("0.0.0.0", PAGES_PORT)):  # noqa: S104
            threading.Event().wait()
    print("takes configure or pages", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
