"""Channels that fail, secrets that are missing, storms, an Alertmanager that dies: what must arrive arrives, once."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter import reconciliation
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.clients.alertmanager import Alertmanager as AlertmanagerClient
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.records import SECOND, Report
from auraconnect_exporter.store import episodes as table
from auraconnect_exporter.store import open_store
from tests.e2e import derivation
from tests.e2e.channels import channels
from tests.e2e.stack import wait_until
from tests.pack.live import (
    BASE,
    NOTICE,
    PAGE,
    TOKEN,
    Config,
    Live,
    alert,
    ask,
    live,
    quick,
    routes,
    silenced,
)
from tests.standins.incident_log import IncidentLog
from tools.servers import Alertmanager, HTTPServer, free_port

GIVES_UP_SECONDS = 10.0
"""After so long Alertmanager gives a notification up, and begins anew at the group's next turn."""


def counts(running: Live, about: str) -> list[int]:
    """Return how many messages about something came through PagerDuty, SMS, Slack and email."""
    messages = running.messages(about)
    return [len(messages[channel]) for channel in PAGE]


def test_a_pagerduty_that_fails_for_long_holds_nobody_up_and_is_tried_again(release: str, tmp_path: Path) -> None:
    """Refusing, busy, or broken: the other channels have the page at once, and PagerDuty as soon as it takes it."""
    alerts = {status: alert("SystemDown", "critical", "api", f"pagerduty-{status}") for status in (400, 429, 500)}
    with live(tmp_path, release, quick) as running:
        pagerduty = running.channels.pagerduty

        def tried_for(status: int) -> float:
            times = [request.at for request, answer in pagerduty.requests if answer.status == status]
            return times[-1] - times[0] if times else 0.0

        with ExitStack() as outage:
            for status, labels in alerts.items():
                outage.enter_context(pagerduty.failing(status, about=labels["target"].encode()))
            begun = time.monotonic()
            running.fire(*alerts.values())
            for labels in alerts.values():
                running.wait(labels["target"], ["SMS", "Slack", "email"])
            assert time.monotonic() - begun < 2.0
            pagerduty.wait_for(lambda: all(tried_for(status) > GIVES_UP_SECONDS for status in alerts), 60)
            assert [counts(running, labels["target"]) for labels in alerts.values()] == [[0, 1, 1, 1]] * 3
        for labels in alerts.values():
            running.wait(labels["target"], ["PagerDuty"])
        running.end(*alerts.values())
        for labels in alerts.values():
            running.wait(labels["target"], PAGE, 2)
            assert counts(running, labels["target"]) == [2, 2, 2, 2]
        assert [one["status"] for one in pagerduty.incidents] == ["resolved"] * 3


def test_without_the_incident_logs_token_every_page_arrives(release: str, tmp_path: Path) -> None:
    """A team that has not made one yet gets each page at once on each channel; only our webhook gets nothing."""

    def without_token(config: Config) -> None:
        quick(config)
        for receiver in config["receivers"]:
            for webhook in receiver.get("webhook_configs", []):
                authorization = webhook["http_config"]["authorization"]
                if "incident-log" in authorization["credentials_file"]:
                    authorization["credentials_file"] = str(tmp_path / "not-made-yet")

    page, notice = alert("SystemDown", "critical", "api", "page"), alert("MemoryUsageHigh", "warning", "host", "notice")
    with live(tmp_path, release, without_token) as running:
        begun = time.monotonic()
        running.fire(page, notice)
        running.wait("page", PAGE)
        assert time.monotonic() - begun < 2.0
        running.wait("notice", NOTICE)
        running.end(notice)
        running.wait("notice", NOTICE, 2)
        assert counts(running, "/page") == [1, 1, 1, 1]
        assert counts(running, "/notice") == [0, 0, 2, 2]
        assert running.log.requests == []


def test_an_exporter_that_refuses_costs_no_page_and_is_told_later(release: str, tmp_path: Path) -> None:
    """While our webhook answers 503 the pages go out; then it is told of all that it has missed."""
    page = alert("SystemDown", "critical", "api", "page")
    with live(tmp_path, release, quick) as running:
        with running.log.failing(503):
            running.fire(page)
            running.wait("page", PAGE)
        running.wait_for_log("page", timeout=30)
        assert counts(running, "page") == [1, 1, 1, 1]


def recorded(running: Live) -> set[tuple[str, ...]]:
    """Return the alerts that the incident log was told of."""
    of_log = [delivery for delivery in running.log.deliveries if delivery.receiver == "incident-log"]
    return {tuple(sorted(one.labels.values())) for delivery in of_log for one in delivery.alerts}


def test_a_storm_is_one_message_a_group(release: str, tmp_path: Path) -> None:
    """2,000 warnings of 20 kinds are 20 messages, not one more, and 100 criticals about one target are one incident."""

    def unhurried(config: Config) -> None:
        quick(config)
        for route in routes(config["route"]):
            if route["group_wait"] == "1s":
                route["group_wait"] = "5s"  # on a busy machine, all of them must be there by then

    kinds = [f"Kind{number:02}" for number in range(20)]
    warnings = [alert(kind, "warning", "host", f"host{number}") for kind in kinds for number in range(100)]
    criticals = [alert("SystemDown", "critical", "api", "the-api", pod=str(number)) for number in range(100)]
    with live(tmp_path, release, unhurried) as running:
        to = running.channels
        running.fire(*warnings, *criticals)
        to.slack.wait_for(lambda: sum("(100 alerts)" in message.text for message in to.slack.messages) >= 21, 60)
        to.mail.wait_for(lambda: sum("(100 alerts)" in mail.subject for mail in to.mail.mails) >= 21, 60)
        assert sorted(mail.subject for mail in to.mail.mails if "WARNING" in mail.subject) == [
            f"[WARNING] host: {kind} fires (100 alerts)" for kind in kinds
        ]
        assert sum("[WARNING]" in message.text for message in to.slack.messages) == 20
        # A page waits for nothing: the first of its group goes out by itself, and the rest follows with the next.
        assert sum("[CRITICAL]" in message.text for message in to.slack.messages) <= 2
        assert len(to.pagerduty.incidents) == 1
        running.log.wait_for(lambda: len(recorded(running)) == 2100, 30)
        assert {answer.status for _, answer in to.pagerduty.requests} == {202}
        assert {answer.status for _, answer in to.slack.requests} == {200}


def test_all_incidents_are_resolved_in_the_end(release: str, tmp_path: Path) -> None:
    """Also those whose cause went away while something else fired: the same thing, its escalation, or a lesser one."""
    cause = alert("DatabaseConnectionLost", "critical", "database", "primary")
    other = alert("DatabaseConnectionLost", "critical", "database", "replica")
    twin = {**cause, "instance": "another"}
    warning = {**cause, "alertname": "ComponentDegraded", "severity": "warning"}
    level = {
        **cause,
        "alertname": "EscalatedToSecondary",
        "escalation": "secondary",
        "source_alert": cause["alertname"],
    }
    with live(tmp_path, release, quick) as running:
        pagerduty = running.channels.pagerduty

        def statuses() -> list[str]:
            return [incident["status"] for incident in pagerduty.incidents]

        running.fire(cause, twin, other, warning, level)
        pagerduty.wait_for(lambda: len(pagerduty.incidents) == 3, 20)
        running.end(cause)
        running.wait_for_log("primary", "resolved")
        assert statuses() == ["triggered"] * 3
        running.end(level)
        pagerduty.wait_for(lambda: statuses().count("resolved") == 1, 20)
        running.end(twin)
        pagerduty.wait_for(lambda: statuses().count("resolved") == 2, 20)
        running.end(other, warning)
        pagerduty.wait_for(lambda: statuses() == ["resolved"] * 3, 20)
        assert len(pagerduty.resolves) == 3


def test_an_end_that_was_muted_is_told_once_the_mute_is_over(release: str, tmp_path: Path) -> None:
    """As Prometheus tells it again for a quarter of an hour; until then PagerDuty's incident stays open."""
    lost = alert("DatabaseConnectionLost", "critical", "database", "primary")
    window = {**alert("MaintenanceActive", "none", "database", "", "maintenance"), "mute_critical": "true"}
    beside = alert("SystemDown", "critical", "api", "beside")
    muted = alert("ConnectionsNearLimit", "warning", "database", "muted", "saturation")
    with live(tmp_path, release, quick) as running:

        def mutes() -> bool:
            return any(
                one["labels"]["alertname"] == muted["alertname"] and one["status"]["state"] == "suppressed"
                for one in json.loads(ask(running.alertmanager, "/api/v2/alerts"))
            )

        incidents = running.channels.pagerduty.incidents
        running.fire(lost)
        running.wait("primary", PAGE)
        running.fire(window, muted)
        wait_until(mutes, 10, "the window to mute")
        running.end(lost)
        # A page that begins and ends after it shows that its turn has come, and that nothing was told.
        running.fire(beside)
        running.wait("beside", PAGE)
        running.end(beside)
        running.wait("beside", PAGE, 2)
        assert [one["status"] for one in incidents] == ["triggered", "resolved"]
        running.end(window)
        wait_until(lambda: not mutes(), 10, "the end of the mute")
        running.end(lost)
        running.wait("primary", PAGE, 2)
        assert [one["status"] for one in incidents] == ["resolved", "resolved"]


@contextmanager
def muting(running: Live) -> Iterator[None]:
    """Mute by a silence of one target, and by a window for the database, until the block ends."""
    window = {**alert("MaintenanceActive", "none", "database", "", "maintenance"), "mute_critical": "true"}
    marker = alert("ConnectionsNearLimit", "warning", "database", "marker", "saturation")

    def mutes() -> bool:
        alerts = json.loads(ask(running.alertmanager, "/api/v2/alerts"))
        return any(one["labels"].get("target") == "marker" and one["status"]["inhibitedBy"] for one in alerts)

    with silenced(running.alertmanager, "the-api"):
        running.fire(window, marker)
        wait_until(mutes, 10, "the window to mute")
        yield
        running.end(window, marker)


async def test_pagerduty_hears_of_what_ended_long_before_the_mute_did(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silenced or in a window, alert or escalation: nobody tells the end again but the exporter, and each is one."""
    monkeypatch.setattr(reconciliation, "SETTLED", 0)
    monkeypatch.setattr(reconciliation, "ABSENT", SECOND // 2)
    lost = alert("DatabaseConnectionLost", "critical", "database", "primary")
    down = alert("SystemDown", "critical", "api", "the-api")
    level = {**down, "alertname": "EscalatedToSecondary", "escalation": "secondary", "source_alert": "SystemDown"}
    beside = alert("SystemDown", "critical", "api", "beside")
    async with AsyncExitStack() as ending:
        running = ending.enter_context(live(tmp_path, release, quick))
        pagerduty, log = running.channels.pagerduty, running.log
        store = open_store("", tmp_path / "data")
        ending.push_async_callback(store.close)
        client = AlertmanagerClient(Server(base(running.alertmanager.url)))
        ending.push_async_callback(client.close)
        exporter = Alerts(store, time, {"alertmanager": client}, None, BASE)
        await exporter.start()
        ending.push_async_callback(exporter.close)
        heard, unended = 0, list[Report]()

        async def until(predicate: Callable[[], bool]) -> None:
            """Hand on what Alertmanager tells, and let the exporter look at its list, until something is so."""
            nonlocal heard, unended
            async with asyncio.timeout(30):
                while not predicate():
                    for request, _ in log.requests[heard:]:
                        heard += 1
                        await exporter.receive(request.body)
                    await exporter.reconcile()
                    unended = await store.read(lambda transaction: table.open_pages(transaction, 0))
                    await asyncio.sleep(0.1)

        def resolved() -> int:
            return sum(one["status"] == "resolved" for one in pagerduty.incidents)

        running.fire(lost, down, level, beside)
        await until(lambda: len(pagerduty.triggers) == 4 and len(exporter.open) == 3)
        with muting(running):
            running.end(lost, down, level, beside)
            told = received(running)
            await until(lambda: received(running) >= told + 6 and resolved() == 1)
            assert resolved() == 1
        await until(lambda: resolved() == 4 and unended == [] and not exporter.open)
        running.wait("primary", PAGE, 2)
        assert counts(running, "primary") == [2, 2, 2, 2]


def received(running: Live) -> float:
    """Return how many ends of alerts an Alertmanager was told of."""
    families = text_string_to_metric_families(ask(running.alertmanager, "/metrics"))
    samples = (sample for family in families for sample in family.samples)
    return sum(
        sample.value
        for sample in samples
        if sample.name == "alertmanager_alerts_received_total" and sample.labels["status"] == "resolved"
    )


class Member(Alertmanager):
    """One of a cluster: listens for its peers on a port, and knows where others do."""

    def __init__(self, folder: Path, config: Path, release: str, port: int, peers: list[int]) -> None:
        self.arguments = (
            f"--cluster.listen-address=127.0.0.1:{port}",
            *(f"--cluster.peer=127.0.0.1:{peer}" for peer in peers),
            # How long the second waits for the first to tell that it has delivered: 15 s, if it is not said.
            "--cluster.peer-timeout=2s",
            "--cluster.gossip-interval=50ms",  # begins to deliver once nothing has changed for thirty of these
        )
        environment = {**os.environ, **derivation.environment(folder.parent)}
        super().__init__(folder, config, release=release, env=environment)


@contextmanager
def cluster(folder: Path, release: str) -> Iterator[tuple[Live, Live]]:
    """Run two Alertmanagers that know each other, and the same channels behind both."""
    with ExitStack() as running:
        receiving = running.enter_context(channels(folder))
        log = running.enter_context(IncidentLog(TOKEN))
        config = derivation.alertmanager(folder, receiving, {BASE: log.base_url}, TOKEN)
        path = derivation.write(folder / "alertmanager.yml", config)
        ports = [free_port(), free_port()]
        members = []
        for number, port in enumerate(ports):
            own = folder / f"member{number}"
            own.mkdir()
            others = [other for other in ports if other != port]
            members.append(running.enter_context(Member(own, path, release, port, others)))
        wait_until(lambda: all(_peers(member) == 2 for member in members), 20, "two members that know each other")
        first, second = (Live(member, receiving, log) for member in members)
        yield first, second


def _peers(member: HTTPServer) -> int:
    return len(json.loads(ask(member, "/api/v2/status"))["cluster"].get("peers", []))


def _asked(member: HTTPServer) -> float:
    """Return how often a member has looked up what has been told already: once a channel and turn of a group."""
    families = text_string_to_metric_families(ask(member, "/metrics"))
    samples = (sample for family in families for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == "alertmanager_nflog_queries_total")


def test_two_alertmanagers_deliver_once_and_one_is_enough(release: str, tmp_path: Path) -> None:
    """Both are told of an alert, as Prometheus does, and one message arrives; of the next one too, with one killed."""
    first_alert, second_alert = (alert("SystemDown", "critical", "api", target) for target in ("both", "survivor"))
    with cluster(tmp_path, release) as (first, second):
        for member in (first, second):
            member.fire(first_alert)
        first.wait("both", PAGE)
        # Five channels of the page, and the incident log: each member has been about to tell them all.
        both = (first.alertmanager, second.alertmanager)
        wait_until(lambda: all(_asked(member) >= 6 for member in both), 20, "both members to decide")
        assert counts(first, "both") == [1, 1, 1, 1]
        first.alertmanager.kill()
        second.fire(second_alert)
        second.wait("survivor", PAGE)
        assert counts(second, "survivor") == [1, 1, 1, 1]
