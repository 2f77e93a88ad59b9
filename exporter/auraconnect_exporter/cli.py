"""The command line: arguments, logging, exit status (0 done, 1 can't do it, 2 wrong usage or configuration)."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from auraconnect_exporter import __version__, auth, commands, limits, logs
from auraconnect_exporter.app import Address, Settings, StartError, serve
from auraconnect_exporter.blocking import ExporterLoop, share_memory
from auraconnect_exporter.config import Config, ConfigError, load
from auraconnect_exporter.model import Secret
from auraconnect_exporter.schema import Duration

DEFAULT_ADDRESS = "127.0.0.1:9850"
DEFAULT_RETENTION = "400d"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter, or one of its commands; returns the exit status."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level, options.log_format)
    try:
        if options.command is not None:
            sys.stdout.write(commands.run(options, _store_url(os.environ), time.time()))
            return 0
        return _serve(options)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except commands.CommandProblem as error:
        sys.stderr.write(f"{error}\n")
        return error.status
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _serve(options: argparse.Namespace) -> int:
    def read() -> Config:
        return load(options.config_file, os.environ, socket.gethostname())

    config = read()
    settings = Settings(
        address=options.listen_address,
        external_url=options.external_url or "",
        data_folder=options.data_path,
        store_url=_store_url(os.environ),
        retention=options.retention,
        web_config=options.web_config,
        proxies=options.trusted_proxies,
        closed_metrics=options.closed_metrics,
        access_tokens=auth.access_token_settings(os.environ),
    )
    if options.check_config:
        sys.stdout.write(f"The configuration is valid: {len(config.targets)} targets.\n")
        return 0
    share_memory()
    with asyncio.Runner(loop_factory=ExporterLoop) as runner:
        runner.run(serve(read, config, settings, time))
    return 0


def _store_url(environ: Mapping[str, str]) -> Secret:
    """Return where the incident store is; empty for the data folder. Raises ConfigError."""
    file = environ.get("STORE_URL_FILE")
    if file and environ.get("STORE_URL"):
        raise ConfigError("STORE_URL: stands beside STORE_URL_FILE, use one of them")
    try:
        return Secret(Path(file).read_text(encoding="utf-8").strip() if file else environ.get("STORE_URL", ""))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"STORE_URL_FILE: {file} can't be read: {getattr(error, 'strerror', 'no text')}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="auraconnect-exporter",
        description="Watches AuraConnect and serves what it sees to Prometheus and to people.",
        epilog="DATABASE_URL, REDIS_URL, REDIS_PASSWORD, API_URL, WORKER_QUEUES, PROMETHEUS_URL and ALERTMANAGER_URL "
        "name targets and peers where the configuration file has no such section; STORE_URL the incident store, "
        "JWT_SECRET_KEY the key of AuraConnect's access tokens. Each also as …_FILE, but WORKER_QUEUES.",
        allow_abbrev=False,
    )
    parser.add_argument("--config.file", dest="config_file", type=Path, metavar="PATH", help="YAML configuration")
    parser.add_argument(
        "--web.listen-address",
        dest="listen_address",
        type=parse_address,
        default=DEFAULT_ADDRESS,
        metavar="[HOST]:PORT",
        help="address to serve on; ':9850' means every interface (default: %(default)s)",
    )
    parser.add_argument(
        "--web.external-url",
        dest="external_url",
        type=parse_external_url,
        metavar="URL",
        help="where people reach this exporter, the base of its links; its path may be a proxy's prefix",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="PATH",
        help="TLS, client certificates and passwords, in the format of Prometheus's exporter-toolkit",
    )
    parser.add_argument(
        "--web.trusted-proxies",
        dest="trusted_proxies",
        type=limits.parse_trusted_proxies,
        default=(),
        metavar="NETWORKS",
        help="reverse proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8,127.0.0.1",
    )
    parser.add_argument(
        "--web.closed-metrics",
        dest="closed_metrics",
        action="store_true",
        help="ask for a token with the role metrics on /metrics",
    )
    parser.add_argument(
        "--data.path",
        dest="data_path",
        type=Path,
        default=Path(os.environ.get("STATE_DIRECTORY") or "data"),
        metavar="FOLDER",
        help="folder for tokens and the incident store (default: $STATE_DIRECTORY, or data)",
    )
    parser.add_argument(
        "--store.retention",
        dest="retention",
        type=parse_duration,
        default=parse_duration(DEFAULT_RETENTION),
        metavar="DURATION",
        help=f"how long history is kept; what is open is never removed (default: {DEFAULT_RETENTION})",
    )
    parser.add_argument("--log.level", dest="log_level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt")
    parser.add_argument(
        "--check-config", dest="check_config", action="store_true", help="check the configuration and exit"
    )
    parser.add_argument("--version", action="version", version=f"auraconnect-exporter {__version__}")
    commands.add_to(parser)
    return parser


def parse_address(text: str) -> Address:
    """Return the address in ``host:port``, ``:port`` or ``[::1]:port``. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[2]) <= 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as :9850 or 127.0.0.1:9850")
    return Address(match[1].strip("[]"), int(match[2]))


def parse_external_url(text: str) -> str:
    """Return a base for links, without a slash at its end. Raises ArgumentTypeError."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as https://monitoring.example.com/base")
    return text.rstrip("/")


def parse_duration(text: str) -> float:
    """Return a length of time in seconds, a day at least. Raises ArgumentTypeError."""
    try:
        seconds = float(Duration.parse(text))
    except ValueError:
        seconds = 0.0
    if seconds < 86400:  # noqa: PLR2004  # what is younger is still being looked at
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time of a day or more, such as 90d")
    return seconds
