"""The whole path on real servers: exporter, Prometheus and Alertmanager on the repository's files, and all channels."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter.model import Component
from tests.e2e.channels import Channels, channels
from tests.e2e.derivation import ROOT, derive
from tools.servers import Alertmanager, HTTPServer, Prometheus, free_port

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class TalkativeAlertmanager(Alertmanager):
    """Alertmanager whose log tells of each time that it goes over a group of alerts."""

    arguments = (*Alertmanager.arguments, "--log.level=debug")


@dataclass(frozen=True)
class Stack:
    """What runs. `channels` are where its pages arrive."""

    channels: Channels
    exporter: HTTPServer
    prometheus: Prometheus
    alertmanager: Alertmanager

    def messages(self, target: str = "") -> list[list[str]]:
        """Return how each message about a database, or any, begins, by channel: PagerDuty, Slack, email, SMS.

        Not those about the rest of the world, such as a Prometheus that is slow on a busy machine.
        """
        to, where = self.channels, f"database/{target}"
        keys = {event.dedup_key for event in to.pagerduty.triggers if where in event.payload["summary"]}
        return [
            [event.action for event in to.pagerduty.events if event.dedup_key in keys],
            [message.text.split()[0] for message in to.slack.messages if where in message.text],
            [mail.subject.split()[0] for mail in to.mail.mails if where in mail.subject],
            [message.message.split()[0] for message in to.sns.published if where in message.message],
        ]

    def query(self, expression: str) -> list[float]:
        """Return the values of a PromQL expression, now."""
        answer = json.loads(get(f"{self.prometheus.url}/api/v1/query?{urlencode({'query': expression})}"))
        return [float(series["value"][1]) for series in answer["data"]["result"]]

    def wait_for_query(self, expression: str, timeout: float = 30.0) -> None:
        """Wait until Prometheus has an answer to an expression."""
        wait_until(lambda: bool(self.query(expression)), timeout, expression)

    def wait_for_evaluation(self, group: str = "auraconnect-availability", timeout: float = 30.0) -> None:
        """Wait until Prometheus has evaluated a group of rules at a moment later than this one."""
        now = datetime.now(UTC)

        def last() -> datetime:
            groups = json.loads(get(f"{self.prometheus.url}/api/v1/rules"))["data"]["groups"]
            (evaluated,) = (one["lastEvaluation"] for one in groups if one["name"] == group)
            return datetime.fromisoformat(evaluated)

        wait_until(lambda: last() > now, timeout, f"another evaluation of {group}")

    def wait_for_failed_checks(self, count: int, timeout: float = 30.0, **target: str) -> None:
        """Wait until exactly so many of a target's checks have failed and the last one has not. Raises if more."""

        def checks(**labels: str) -> float:
            return metric(self.exporter, "auraconnect_component_probes_total", **target, **labels)

        wait_until(lambda: checks() - checks(result="success") >= count, timeout, f"{count} failed checks")
        good = checks(result="success")
        wait_until(lambda: checks(result="success") > good, timeout, "a good check")
        failed = checks() - checks(result="success")
        if failed != count:
            raise AssertionError(f"{failed:g} checks failed, not {count}.")

    def tell_that_it_is_over(self, **labels: str) -> None:
        """Tell Alertmanager that an alert is resolved, as Prometheus does again and again for 15 minutes."""
        self._tell({"labels": labels, "endsAt": datetime.now(UTC).isoformat()})

    def repeat(self, alertname: str) -> None:
        """Tell Alertmanager of the alerts of this name that Prometheus fires, as that does once a minute."""
        alerts = json.loads(get(f"{self.prometheus.url}/api/v1/alerts"))["data"]["alerts"]
        self._tell(
            *(
                {"labels": alert["labels"], "annotations": alert["annotations"], "startsAt": alert["activeAt"]}
                for alert in alerts
                if alert["labels"]["alertname"] == alertname
            )
        )

    def _tell(self, *alerts: Mapping[str, Any]) -> None:
        url, body = f"{self.alertmanager.url}/api/v2/alerts", json.dumps(alerts).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        _opener.open(request, timeout=5).close()

    def wait_for_flush(self, pages: int = 1, timeout: float = 60.0) -> None:
        """Wait until Alertmanager has gone over the groups of so many pages once more, as every group_interval."""
        enough = self._flushes() + pages
        wait_until(lambda: self._flushes() >= enough, timeout, "another flush by Alertmanager")

    def _flushes(self) -> int:
        """Return how often it has gone over groups of pages, as its log tells."""
        lines = self.alertmanager.log.read_text().splitlines()
        return sum("flushing" in line and r"{escalation=\"\",severity=\"critical\"}" in line for line in lines)


@contextmanager
def stack(
    folder: Path, exporter_config: Mapping[str, Any], release: str = "distribution", factor: float = 1
) -> Iterator[Stack]:
    """Start everything, the exporter with this configuration; it stops at the end of the block.

    For the rules, time runs faster by a factor.

    `release` is the version of Prometheus and Alertmanager. Ready means that Prometheus has seen each target up.
    """
    ports = {name: free_port() for name in ("exporter", "prometheus", "alertmanager")}
    usual = {"9850": ports["exporter"], "9090": ports["prometheus"], "9093": ports["alertmanager"]}
    with channels(folder) as receiving:
        derived = derive(folder, usual, receiving, factor)
        environment = {**os.environ, **derived.alertmanager_environment}
        peers = {
            "prometheus": {"url": f"http://127.0.0.1:{ports['prometheus']}"},
            "alertmanager": [{"url": f"http://127.0.0.1:{ports['alertmanager']}"}],
        }
        with (
            exporter(folder, {**peers, **exporter_config}, ports["exporter"]) as watching,
            TalkativeAlertmanager(
                folder, derived.alertmanager, port=ports["alertmanager"], release=release, env=environment
            ) as routing,
            Prometheus(folder, derived.prometheus, port=ports["prometheus"], release=release) as evaluating,
        ):
            running = Stack(receiving, watching, evaluating, routing)
            # An alert that fires before is lost, and sent again a minute later.
            discovered = "prometheus_notifications_alertmanagers_discovered"
            wait_until(lambda: metric(evaluating, discovered) == 1, 30, "Prometheus to know its Alertmanager")
            targets = sum(len(exporter_config.get(component, ())) for component in Component)
            running.wait_for_query(f"count(component_target:auraconnect_component_up:last5m == 1) == {targets}")
            yield running


def exporter(folder: Path, config: Mapping[str, Any], port: int | None = None) -> HTTPServer:
    """Return the exporter, not started, with a configuration (its sections)."""
    path = folder / "exporter.json"  # which is YAML, too
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    address = f"127.0.0.1:{port or free_port()}"
    command = [
        sys.executable,
        *("-m", "auraconnect_exporter"),
        f"--config.file={path}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}",
        f"--data.path={folder / 'data'}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "exporter")}
    return HTTPServer("exporter", command, folder / "exporter.log", url=f"http://{address}", env=environment)


def get(url: str, timeout: float = 5.0) -> str:
    """Return what a URL answers."""
    with _opener.open(url, timeout=timeout) as response:
        text: str = response.read().decode()
        return text


def metric(server: HTTPServer, name: str, **labels: str) -> float:
    """Return the sum of a server's samples of this name with these labels."""
    return sum(metric_values(server, name, **labels))


def metric_values(server: HTTPServer, name: str, **labels: str) -> list[float]:
    """Return a server's samples of this name with these labels."""
    families = text_string_to_metric_families(get(f"{server.url}/metrics"))
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return [sample.value for sample in samples if labels.items() <= sample.labels.items()]


def wait_until(predicate: Callable[[], bool], timeout: float, what: str) -> None:
    """Ask again and again, since no server tells by itself. Raises TimeoutError that names `what`."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout:g} s in vain for: {what}")
        time.sleep(0.1)
