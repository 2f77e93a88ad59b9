"""What a real Alertmanager inhibits: one with the pack's routes and inhibitions, which tells nobody."""

import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.pack.files import ALERTMANAGER, load
from tests.pack.live import post
from tools.servers import Alertmanager, HTTPServer

Labels = Mapping[str, str]


@contextmanager
def muting(folder: Path, release: str) -> Iterator[Alertmanager]:
    """Run it, its data in `folder`."""
    config = load(ALERTMANAGER)
    config.pop("global")
    config.pop("templates")
    config["receivers"] = [{"name": receiver["name"]} for receiver in config["receivers"]]
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    with Alertmanager(folder, path, release=release) as server:
        yield server


def fire(alertmanager: HTTPServer, *alerts: Labels) -> None:
    """Post alerts that fire for the next hour."""
    now = time.time()
    post(alertmanager, *({"labels": labels, "startsAt": iso(now), "endsAt": iso(now + 3600)} for labels in alerts))


def iso(moment: float) -> str:
    """Return a moment (Unix seconds) as Alertmanager reads it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def await_inhibited(alertmanager: HTTPServer, count: int, expected: set[str]) -> None:
    """Wait until Alertmanager has so many alerts and inhibits the expected ones alone; fail after ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"{alertmanager.url}/api/v2/alerts", timeout=5) as answer:
            alerts = json.load(answer)
        inhibited = {entry["labels"]["alertname"] for entry in alerts if entry["status"]["inhibitedBy"]}
        if (len(alerts), inhibited) == (count, expected):
            return
        if time.monotonic() > deadline:
            assert (len(alerts), inhibited) == (count, expected)
        time.sleep(0.05)
