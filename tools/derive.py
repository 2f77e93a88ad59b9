"""Derive the configuration that `./run` starts from the repository's: pure functions on parsed YAML.

The derived files lie in another folder and may listen elsewhere, so paths become absolute and addresses
change. Channels whose secret is missing lead to the console sink; routes stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import console_sink

# What a person calls a channel, and the global setting that holds its secret unless its own entry does.
_CHANNELS = {
    "pagerduty_configs": ("PagerDuty", None),
    "sns_configs": ("SMS", None),
    "slack_configs": ("Slack", "slack_api_url_file"),
    "email_configs": ("email", "smtp_auth_password_file"),
    "webhook_configs": ("webhook", None),
}


def relocate(node: Any, folder: Path, addresses: Mapping[str, str]) -> Any:
    """Return a configuration whose paths, relative to `folder`, are absolute and whose addresses are replaced.

    Paths are what Prometheus and Alertmanager take as such: `…_file`, `files`, `rule_files`, `templates`.
    """
    if isinstance(node, dict):
        return {
            key: _absolute(value, folder)
            if key in {"files", "rule_files", "templates"} or key.endswith("_file")
            else relocate(value, folder, addresses)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [relocate(item, folder, addresses) for item in node]
    return replace_addresses(node, addresses) if isinstance(node, str) else node


def replace_addresses(text: str, addresses: Mapping[str, str]) -> str:
    """Return `text` with each address (`localhost:9850`) replaced by the one used instead."""
    for usual, used in addresses.items():
        text = text.replace(usual, used)
    return text


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    return str(folder / value) if isinstance(value, str) else value


def replace_secret(node: Any, name: str, path: Path) -> Any:
    """Return a configuration in which each secret's file of this name is `path` instead."""
    if isinstance(node, dict):
        return {
            key: str(path)
            if key.endswith("_file") and isinstance(value, str) and Path(value).name == name
            else replace_secret(value, name, path)
            for key, value in node.items()
        }
    return [replace_secret(item, name, path) for item in node] if isinstance(node, list) else node


def add_api(config: Mapping[str, Any], addresses: Sequence[str]) -> dict[str, Any]:
    """Return a Prometheus configuration that also scrapes an API at these addresses."""
    targets = [{"targets": list(addresses), "labels": {"service": "auraconnect-api"}}]
    jobs = [
        {**job, "static_configs": targets} if job["job_name"] == "auraconnect-api" else job
        for job in config["scrape_configs"]
    ]
    return {**config, "scrape_configs": jobs}


def use_sink(
    config: Mapping[str, Any], sink: str, aws_credentials: Path, exists: Callable[[Path], bool]
) -> dict[str, Any]:
    """Return an Alertmanager configuration whose channels without a secret lead to the console sink at `sink`.

    A secret is a file that `exists`; SMS through SNS needs `aws_credentials`. Whatever channels of a receiver
    lack theirs become one webhook together, so that a notification is one page.
    """

    def replaced(receiver: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        missing: list[str] = []
        for key, entries in receiver.items():
            if not key.endswith("_configs"):
                kept[key] = entries
                continue
            for entry in entries:
                needed = list(_secrets(key, entry, config.get("global") or {}, aws_credentials))
                if all(exists(path) for path in needed):
                    kept.setdefault(key, []).append(entry)
                else:
                    missing.append(_channel(key, entry))
        if missing:
            hook = {"url": console_sink.address(sink, receiver["name"], missing), "send_resolved": True}
            kept.setdefault("webhook_configs", []).append(hook)
        return kept

    return {**config, "receivers": [replaced(receiver) for receiver in config["receivers"]]}


def _secrets(kind: str, entry: Mapping[str, Any], shared: Mapping[str, Any], aws_credentials: Path) -> Iterator[Path]:
    own = list(_files(entry))
    yield from own
    _, setting = _CHANNELS.get(kind, ("", None))
    if not own and setting and setting in shared:
        yield Path(shared[setting])
    if kind == "sns_configs":
        yield aws_credentials


def _files(node: Any) -> Iterator[Path]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key.endswith("_file"):
                yield Path(value)
            else:
                yield from _files(value)


def _channel(kind: str, entry: Mapping[str, Any]) -> str:
    name, _ = _CHANNELS.get(kind, (kind.removesuffix("_configs"), None))
    return f"{name} {entry.get('channel') or entry.get('to') or ''}".strip()
