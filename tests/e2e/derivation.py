"""Derive the configuration that a test starts from the repository's own: the same, but for addresses and secrets.

Routes, timings, receivers, rules and texts stay as they are, for they are what the tests make claims about.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from auraconnect_exporter import tokens
from tests.e2e.channels import Channels
from tools.derive import relocate, replace_addresses, replace_secret
from tools.shorten import shorten

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Derived:
    """The files that Prometheus and Alertmanager start with, and what Alertmanager's environment needs."""

    prometheus: Path
    alertmanager: Path
    alertmanager_environment: Mapping[str, str]


def derive(folder: Path, ports: Mapping[str, int], channels: Channels, factor: float = 1) -> Derived:
    """Write the derived configuration into `folder`. For the rules, time runs faster by a factor.

    `ports` says where the exporter, Prometheus and Alertmanager listen on 127.0.0.1, by the ports that the
    repository's files name: 9850, 9090 and 9093. The exporter's data is in `folder`/data, where Alertmanager gets a
    token.
    """
    addresses = {f"localhost:{usual}": f"127.0.0.1:{port}" for usual, port in ports.items()}
    token = tokens.create(folder / "data", "alertmanager", ["alertmanager"], None, time.time()).reveal()
    secrets = folder / "secrets"
    secrets.mkdir()
    routing = write(folder / "alertmanager.yml", alertmanager(secrets, channels, addresses, token))
    return Derived(_prometheus(folder, addresses, factor), routing, environment(secrets))


def _prometheus(folder: Path, addresses: Mapping[str, str], factor: float) -> Path:
    source = ROOT / "prometheus/prometheus.yml"
    config = relocate(yaml.safe_load(source.read_text()), source.parent, addresses)
    rules = [path for pattern in config["rule_files"] for path in Path(pattern).parent.glob(Path(pattern).name)]
    if factor != 1:
        rules = shorten(ROOT / "rules", folder / "shortened", factor, {})
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    # APIs that a test names while Prometheus runs: it watches the folder.
    (folder / "targets").mkdir()
    for job in config["scrape_configs"]:
        for discovery in job.get("file_sd_configs", []):
            discovery["files"] = [str(folder / "targets" / Path(pattern).name) for pattern in discovery["files"]]
    config["rule_files"] = []
    for path in rules:
        # Not into one folder, where files of the same name would meet.
        copy = folder / "rules" / str(len(config["rule_files"])) / path.name
        copy.parent.mkdir(parents=True)
        copy.write_text(replace_addresses(path.read_text(), addresses))
        config["rule_files"].append(str(copy))
    return write(folder / "prometheus.yml", config)


def alertmanager(folder: Path, channels: Channels, addresses: Mapping[str, str], token: str) -> dict[str, Any]:
    """Return Alertmanager's configuration with the channels' addresses, its secrets as files in `folder`.

    `token` is what the exporter accepts at its webhook; `addresses` has where it listens.
    """
    source = ROOT / "alertmanager/alertmanager.yml"
    config: dict[str, Any] = relocate(yaml.safe_load(source.read_text()), source.parent, addresses)
    for name, secret in {**channels.secrets, "incident-log-token": token}.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(secret)
        config = replace_secret(config, name, path)
    config["global"] |= {"pagerduty_url": channels.pagerduty.url, "smtp_smarthost": f"localhost:{channels.mail.port}"}
    for receiver in config["receivers"]:
        for sns in receiver.get("sns_configs", []):
            sns["api_url"] = channels.sns.base_url
        for email in receiver.get("email_configs", []):
            email["tls_config"] = {"ca_file": str(channels.authority)}
        if receiver["name"] == "watchdog":
            for webhook in receiver["webhook_configs"]:
                webhook["url"] = channels.heartbeat.base_url
    return config


def environment(folder: Path) -> dict[str, str]:
    """Return what Alertmanager's environment needs beside ours; `folder` has its secrets."""
    return {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials")}


def write(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a configuration; returns its path."""
    path.write_text(yaml.safe_dump(config))
    return path
