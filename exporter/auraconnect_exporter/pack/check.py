"""Is Alertmanager's configuration fit for the night: what would fail when it is needed is said now, a line a fault.

``amtool check-config`` takes a secret that is not there, and a template that nobody defines, for good; both drop a page
without a word.
"""

from __future__ import annotations

import configparser
import json
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from auraconnect_exporter.muting import LOG
from auraconnect_exporter.pack.routing import MATRIX, Routing, channels, last_line

WebhookCheck = Callable[[str, str], str]
"""Tells a webhook's URL, with a bearer token, of nothing; returns what is wrong, or nothing."""

PAGING: Final = ("PagerDuty", "SMS", "Slack", "email")
TELLING: Final = ("Slack", "email")

_USED: Final = re.compile(r'\{\{-?[^}]*?template\s+"([^"]+)"')
_DEFINED: Final = re.compile(r'\{\{-?\s*define\s+"([^"]+)"')
_BUILT_IN: Final = "__"
"""How the names of Alertmanager's own templates begin."""

_LABELS: Final = {
    "alertname": "DatabaseConnectionLost",
    "severity": "critical",
    "component": "database",
    "target": "primary",
    "symptom": "availability",
}
_ANNOTATIONS: Final = {
    "summary": "A critical database does not answer",
    "description": "Database primary failed.",
    "runbook_url": "https://monitoring.example.com/runbooks/DatabaseConnectionLost",
    "dashboard_url": "https://monitoring.example.com/dashboard",
}


def faults(routing: Routing, environ: Mapping[str, str], ask_webhook: WebhookCheck | None) -> Iterator[str]:
    """Yield what is wrong, a sentence each. Raises PackProblem where nothing can be said."""
    refused = routing.run("check-config", routing.path.name)
    if refused.returncode:
        yield f"{routing.path}: amtool refuses it: {_reason(refused.stdout + refused.stderr)}"
        return
    yield from _secrets(routing, environ)
    yield from _templates(routing)
    yield from _roles(routing)
    if ask_webhook is not None:
        yield from _webhook(routing, ask_webhook)


def _reason(said: str) -> str:
    """Return why amtool refuses a configuration: its last line only says that it does."""
    failed = [line.partition("FAILED:")[2].strip() for line in said.splitlines() if "FAILED:" in line]
    return failed[0] if failed else last_line(said)


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _secrets(routing: Routing, environ: Mapping[str, str]) -> Iterator[str]:
    folder = routing.path.parent
    for name in dict.fromkeys(_files(routing.config)):
        yield from secret_faults(folder / name, name)
    profiles = [
        str(entry.get("sigv4", {}).get("profile", "default"))
        for receiver in routing.config["receivers"]
        for entry in receiver.get("sns_configs") or ()
        if "access_key" not in entry.get("sigv4", {})
    ]
    if not profiles:
        return
    name = environ.get("AWS_SHARED_CREDENTIALS_FILE", "secrets/aws-credentials")
    found = list(secret_faults(folder / name, name))
    yield from found
    if not found:
        known = configparser.ConfigParser(interpolation=None)
        try:
            known.read_string((folder / name).read_text(encoding="utf-8"))
        except (configparser.Error, UnicodeDecodeError):
            yield f"{name}: is no file of AWS profiles"
            return
        for profile in sorted(set(profiles) - set(known.sections())):
            yield f"{name}: has no profile {profile}, with which SMS are sent"


def secret_faults(path: Path, name: str) -> Iterator[str]:
    """Yield what is wrong with a secret's file, which is called ``name``."""
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        yield f"{name}: can't be read: {error.strerror}"
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield f"{name}: everybody on this machine can read it; chmod 600"
    if not content.strip():
        yield f"{name}: is empty"


def _files(node: Any) -> Iterator[str]:
    """Yield the names of all files of secrets, in the order of the configuration."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key.endswith("_file") and isinstance(value, str):
                yield value
            else:
                yield from _files(value)
    elif isinstance(node, list):
        for item in node:
            yield from _files(item)


# ── Templates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _templates(routing: Routing) -> Iterator[str]:
    folder = routing.path.parent
    patterns = [str(pattern) for pattern in routing.config.get("templates") or ()]
    files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    defined = {name for text in texts.values() for name in _DEFINED.findall(text)}
    own = list(dict.fromkeys(text for text in _texts(routing.config["receivers"]) if "{{" in text))
    used = dict.fromkeys(name for text in (*own, *texts.values()) for name in _USED.findall(text))
    missing = [name for name in used if name not in defined and not name.startswith(_BUILT_IN)]
    for name in missing:
        yield f"template {name}: is used, but not defined in {', '.join(patterns) or 'any file'}"
    if not missing:
        for text in own:
            yield from _rendering_faults(routing, patterns, text)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)


def _rendering_faults(routing: Routing, patterns: Sequence[str], text: str) -> Iterator[str]:
    for what, data in samples().items():
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            done = routing.run(
                "template",
                "render",
                *(f"--template.glob={pattern}" for pattern in patterns),
                f"--template.text={text}",
                f"--template.data={file.name}",
            )
        if done.returncode:
            yield f"template {shortened(text)} can't be rendered for {what}: {last_line(done.stderr)}"
            return


def shortened(text: str) -> str:
    """Return a template's text in one short line."""
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"  # noqa: PLR2004  # a line's width


def samples() -> dict[str, dict[str, Any]]:
    """Return notifications of all kinds, by what they are."""
    escalated = {**_LABELS, "alertname": "EscalatedToManager", "escalation": "manager", "source_alert": "SystemDown"}
    return {
        "an alert": _notification([_LABELS], _ANNOTATIONS),
        "an alert that is over": _notification([_LABELS], _ANNOTATIONS, status="resolved"),
        "an escalation": _notification([escalated], _ANNOTATIONS),
        "two alerts": _notification([_LABELS, {**_LABELS, "target": "replica"}], _ANNOTATIONS),
        "an alert without labels": _notification([{}], {}),
    }


def _notification(
    alerts: Sequence[Mapping[str, str]], annotations: Mapping[str, str], *, status: str = "firing"
) -> dict[str, Any]:
    """Return the data that Alertmanager hands to a template."""
    common = {name: value for name, value in alerts[0].items() if all(each.get(name) == value for each in alerts)}
    return {
        "receiver": "check",
        "status": status,
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": "2026-01-02T03:04:05Z",
                "endsAt": "2026-01-02T03:14:08Z",
                "generatorURL": "",
                "fingerprint": "0123456789abcdef",
            }
            for labels in alerts
        ],
        "groupLabels": common,
        "commonLabels": common,
        "commonAnnotations": annotations,
        "externalURL": "https://alertmanager.example.com",
    }


# ── Roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _roles(routing: Routing) -> Iterator[str]:
    known = routing.receivers()
    for (severity, level), receiver in MATRIX.items():
        cell = f"{severity}, {level or 'primary'}"
        told = routing.receivers_of({"alertname": "Check", "severity": severity, "escalation": level})
        if receiver not in told:
            yield f"{cell}: {', '.join(told) or 'nobody'} is told, not {receiver}"
        if LOG not in told:
            yield f"{cell}: {LOG} is not told, so nobody could acknowledge"
    for receiver in sorted(set(MATRIX.values())):
        wanted = PAGING if receiver.endswith("-page") else TELLING
        missing = [channel for channel in wanted if channel not in channels(known.get(receiver, {}))]
        if missing:
            yield f"receiver {receiver}: has no {', '.join(missing)}"
    for receiver in sorted(known.keys() - routing.routed()):
        yield f"receiver {receiver}: no route leads to it"


# ── Webhook ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _webhook(routing: Routing, ask: WebhookCheck) -> Iterator[str]:
    for entry in routing.receivers().get(LOG, {}).get("webhook_configs") or ():
        authorization = (entry.get("http_config") or {}).get("authorization") or {}
        name = authorization.get("credentials_file")
        path = routing.path.parent / str(name)
        token = path.read_text(encoding="utf-8").strip() if name and path.is_file() else ""
        wrong = ask(str(entry.get("url", "")), token)
        if wrong:
            yield f"receiver {LOG}: {entry.get('url')} {wrong}"
