"""What Alertmanager's configuration says: who is told of an alert, and by which channels.

Which route an alert takes is for amtool to say, which is Alertmanager's own code; the rest is read from the YAML.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from auraconnect_exporter.muting import LOG

TIMEOUT: Final = 30.0
"""Seconds for one call of amtool."""

CHANNELS: Final = {
    "pagerduty_configs": "PagerDuty",
    "sns_configs": "SMS",
    "slack_configs": "Slack",
    "email_configs": "email",
    "webhook_configs": "webhook",
}
"""What people call the kinds of notification, by their key in a receiver."""

SEVERITIES: Final = ("critical", "warning", "info")
LEVELS: Final = ("", "secondary", "manager")
"""Values of the label `escalation`; the primary contact's alerts have none."""

MATRIX: Final[Mapping[tuple[str, str], str]] = {
    ("critical", ""): "oncall-engineer-page",
    ("critical", "secondary"): "lead-engineer-page",
    ("critical", "manager"): "cto-page",
    ("warning", ""): "oncall-engineer-notify",
    ("warning", "secondary"): "senior-engineer-notify",
    ("warning", "manager"): "engineering-manager-notify",
    ("info", ""): "support-team-notify",
    ("info", "secondary"): "oncall-engineer-notify",
    ("info", "manager"): "team-lead-notify",
}
"""The escalation matrix of the procedure: the receiver of each severity and level."""


class PackProblem(Exception):
    """Alertmanager's configuration can't be looked at: one sentence."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A configuration file, and the amtool that reads it."""

    path: Path
    config: Mapping[str, Any]
    amtool: str

    @classmethod
    def load(cls, path: Path, amtool: str) -> Routing:
        """Read the file. Raises PackProblem."""
        try:
            config = yaml.safe_load(path.read_bytes())
        except OSError as error:
            raise PackProblem(f"{path}: can't be read: {error.strerror}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise PackProblem(f"{path}{f':{mark.line + 1}' if mark else ''}: is not valid YAML") from None
        if not isinstance(config, dict) or not isinstance(config.get("receivers"), list):
            raise PackProblem(f"{path}: is no configuration of Alertmanager: it has no receivers")
        return cls(path, config, amtool)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run amtool in the configuration's folder. Raises PackProblem where it can't be run."""
        try:
            return subprocess.run(  # noqa: S603  # no shell
                [self.amtool, *arguments],
                cwd=self.path.parent,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            raise PackProblem(
                f"{self.amtool} is not there: install Alertmanager's amtool, or name it with --amtool"
            ) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackProblem(f"{self.amtool} can't be run: {error}") from None

    def receivers_of(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return who is told of an alert with these labels, first to last. Raises PackProblem."""
        given = [f"{name}={value}" for name, value in labels.items() if value]
        done = self.run("config", "routes", "test", f"--config.file={self.path.name}", *given)
        if done.returncode:
            raise PackProblem(f"{self.path}: amtool says: {last_line(done.stderr or done.stdout)}")
        return tuple(name for line in done.stdout.splitlines() for name in line.strip().split(",") if name)

    def receivers(self) -> dict[str, Mapping[str, Any]]:
        """Return the receivers by name."""
        return {str(receiver.get("name")): receiver for receiver in self.config["receivers"]}

    def routed(self) -> frozenset[str]:
        """Return the receivers that some route leads to."""

        def below(route: Mapping[str, Any]) -> Iterator[str]:
            if "receiver" in route:
                yield str(route["receiver"])
            for child in route.get("routes") or ():
                yield from below(child)

        return frozenset(below(self.config.get("route") or {}))


def channels(receiver: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a receiver sends by, in the order of ``CHANNELS``; one twice is there twice."""
    return tuple(name for key, name in CHANNELS.items() for _ in receiver.get(key) or ())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def told(routing: Routing, labels: Mapping[str, str]) -> str:
    """Return who is told of an alert with these labels, and how, as text. Raises PackProblem."""
    known = routing.receivers()
    rows = [("RECEIVER", "CHANNELS")]
    rows += [(name, ", ".join(channels(known.get(name, {}))) or "none") for name in routing.receivers_of(labels)]
    return table(rows)


def matrix(routing: Routing) -> str:
    """Return who is told at each severity and level, as text. Raises PackProblem."""
    rows: list[tuple[str, ...]] = [("SEVERITY", "PRIMARY", "SECONDARY", "MANAGER")]
    for severity in SEVERITIES:
        cells = [people(routing.receivers_of({"severity": severity, "escalation": level})) for level in LEVELS]
        rows.append((severity, *cells))
    return table(rows)


def people(receivers: Sequence[str]) -> str:
    """Return receivers without the incident log, which is nobody."""
    return ", ".join(name for name in receivers if name != LOG) or "nobody"


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
