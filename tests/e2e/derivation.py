"""Derive the configuration that a test starts from the repository's own: the same, but for addresses and secrets.

Routes, timings, receivers, rules and texts stay as they are, for they are what the tests make claims about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.channels import Channels
from tools.derive import relocate, replace_addresses

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Derived:
    """The files that Prometheus and Alertmanager start with, and what Alertmanager's environment needs."""

    prometheus: Path
    alertmanager: Path
    alertmanager_environment: Mapping[str, str]


def derive(folder: Path, ports: Mapping[str, int], channels: Channels) -> Derived:
    """Write the derived configuration into `folder`.

    `ports` says where the exporter, Prometheus and Alertmanager listen on 127.0.0.1, by the ports that the
    repository's files name: 9850, 9090 and 9093.
    """
    addresses = {f"localhost:{usual}": f"127.0.0.1:{port}" for usual, port in ports.items()}
    return Derived(
        _prometheus(folder, addresses),
        _alertmanager(folder, channels),
        {"AWS_SHARED_CREDENTIALS_FILE": str(_aws_credentials(folder))},
    )


def _prometheus(folder: Path, addresses: Mapping[str, str]) -> Path:
    source = ROOT / "prometheus/prometheus.yml"
    config = relocate(yaml.safe_load(source.read_text()), source.parent, addresses)
    rules = [path for pattern in config["rule_files"] for path in Path(pattern).parent.glob(Path(pattern).name)]
    config["rule_files"] = []
    for path in rules:
        # Not into one folder, where files of the same name would meet.
        copy = folder / "rules" / str(len(config["rule_files"])) / path.name
        copy.parent.mkdir(parents=True)
        copy.write_text(replace_addresses(path.read_text(), addresses))
        config["rule_files"].append(str(copy))
    return _write(folder / "prometheus.yml", config)


def _alertmanager(folder: Path, channels: Channels) -> Path:
    source = ROOT / "alertmanager/alertmanager.yml"
    config = relocate(yaml.safe_load(source.read_text()), source.parent, {})
    secrets = {
        "routing_key_file": channels.routing_key,
        "slack_api_url_file": channels.slack.url,
        "smtp_auth_password_file": channels.password,
        "credentials_file": channels.token,
    }
    config = _fill_secrets(config, secrets, folder / "secrets")
    config["global"] |= {
        "pagerduty_url": channels.pagerduty.url,
        "smtp_smarthost": f"127.0.0.1:{channels.mail.port}",
        "smtp_require_tls": False,
    }
    for receiver in config["receivers"]:
        for sns in receiver.get("sns_configs", []):
            sns["api_url"] = channels.sns.base_url
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = channels.heartbeat.base_url
    return _write(folder / "alertmanager.yml", config)


def _fill_secrets(node: Any, secrets: Mapping[str, str], folder: Path) -> Any:
    """Return a configuration whose secret files are in `folder`, with the secrets that the channels accept."""
    if isinstance(node, list):
        return [_fill_secrets(item, secrets, folder) for item in node]
    if not isinstance(node, dict):
        return node
    filled = {key: _fill_secrets(value, secrets, folder) for key, value in node.items()}
    for key, value in filled.items():
        if key.endswith("_file"):
            path = folder / Path(value).name
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets[key])
            filled[key] = str(path)
    return filled


def _aws_credentials(folder: Path) -> Path:
    path = folder / "secrets/aws-credentials"
    path.touch(mode=0o600)
    path.write_text("[auraconnect]\naws_access_key_id = test-access-key\naws_secret_access_key = test-secret-key\n")
    return path


def _write(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path
