"""The command line: arguments, logging, exit status (0 done, 1 can't serve, 2 wrong usage or configuration)."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from auraconnect_exporter import __version__, logs
from auraconnect_exporter.app import Address, ListenError, Settings, serve
from auraconnect_exporter.config import Config, ConfigError, load
from auraconnect_exporter.blocking import ExporterLoop

DEFAULT_ADDRESS = "127.0.0.1:9850"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter, or check its configuration; returns the exit status."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level, options.log_format)

    def read() -> Config:
        return load(options.config_file, os.environ, socket.gethostname())

    try:
        config = read()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.check_config:
        sys.stdout.write(f"The configuration is valid: {len(config.targets)} targets.\n")
        return 0
    settings = Settings(options.listen_address, options.external_url or "")
    try:
        with asyncio.Runner(loop_factory=ExporterLoop) as runner:
            runner.run(serve(read, config, settings, time))
    except ListenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="auraconnect-exporter",
        description="Watches AuraConnect and serves what it sees to Prometheus and to people.",
        epilog="DATABASE_URL, REDIS_URL, REDIS_PASSWORD, API_URL and WORKER_QUEUES (each also as …_FILE but the last) "
        "name targets where the configuration file has no such section.",
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
    parser.add_argument("--log.level", dest="log_level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt")
    parser.add_argument(
        "--check-config", dest="check_config", action="store_true", help="check the configuration and exit"
    )
    parser.add_argument("--version", action="version", version=f"auraconnect-exporter {__version__}")
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
