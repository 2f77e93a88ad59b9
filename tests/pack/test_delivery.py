"""Each cell of the escalation matrix and each special route, delivered for real.

By the oldest and the newest Alertmanager, with the pack's configuration, to services that check what comes as the real
ones do.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import yaml

from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.clients.alertmanager import Alertmanager
from auraconnect_exporter.clients.server import Server, base
from auraconnect_exporter.store import open_store
from tests.pack.live import ALWAYS, BASE, NEVER, NOTICE, PAGE, Config, Labels, Live, alert, live, quick

SNS = "arn:aws:sns:us-east-1:000000000000:auraconnect"


def escalation(level: str, source: Labels) -> Labels:
    """Return the labels of an escalation, as the rules make it of its source."""
    name = {"secondary": "EscalatedToSecondary", "manager": "EscalatedToManager"}[level]
    return {**source, "alertname": name, "escalation": level, "source_alert": source["alertname"]}


def source(severity: str, target: str) -> Labels:
    return alert("ComponentDown", severity, "redis", target)


# Each cell has a target of its own, by which its messages are known; no target is part of another's.
CELLS: dict[tuple[str, str], tuple[Labels, str]] = {
    ("critical", "primary"): (source("critical", "c-first"), "oncall-engineer"),
    ("critical", "secondary"): (escalation("secondary", source("critical", "c-second")), "lead-engineer"),
    ("critical", "manager"): (escalation("manager", source("critical", "c-third")), "cto"),
    ("warning", "primary"): (source("warning", "w-first"), "oncall-engineer"),
    ("warning", "secondary"): (escalation("secondary", source("warning", "w-second")), "senior-engineer"),
    ("warning", "manager"): (escalation("manager", source("warning", "w-third")), "engineering-manager"),
    ("info", "primary"): (source("info", "i-first"), "support-team"),
    ("info", "secondary"): (escalation("secondary", source("info", "i-second")), "oncall-engineer"),
    ("info", "manager"): (escalation("manager", source("info", "i-third")), "team-lead"),
}
STRANGE = {
    "a misspelt severity": source("catastrophic", "x-severity"),
    "an unknown level": {**source("critical", "x-level"), "escalation": "nobody"},
    "no severity": {"alertname": "PostedBySomebody", "target": "x-bare"},
}
MUTE = alert("MaintenanceActive", "none", "other", "m-mute", "maintenance")
BEAT = {"alertname": "Watchdog", "severity": "none", "component": "monitoring", "symptom": "monitoring"}


@pytest.fixture(scope="module", params=["oldest", "newest"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Run an Alertmanager that all cells share and that has been told of all of them at once."""
    with live(tmp_path_factory.mktemp("delivery"), request.param, quick) as running:
        running.fire(MUTE, BEAT, *(labels for labels, _ in CELLS.values()), *STRANGE.values())
        yield running


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_a_cell_of_the_matrix_is_told_and_gets_the_end(cell: tuple[str, str], told: Live) -> None:
    """A role is told once through each of its channels, at its own addresses alone, and once that it is over."""
    labels, role = CELLS[cell]
    target = labels["target"]
    through = PAGE if cell[0] == "critical" else NOTICE
    addresses = {
        "PagerDuty": f"pagerduty-{role}",
        "SMS": f"{SNS}-{role}",
        "Slack": "#incidents",
        "email": f"incidents@auraconnect.ai, {role}@auraconnect.ai",
    }
    told.wait(target, through)
    told.end(labels)
    messages = told.wait(target, through, 2)
    assert {channel: [message.to for message in found] for channel, found in messages.items()} == {
        channel: [addresses[channel]] * 2 if channel in through else [] for channel in PAGE
    }
    word = "ACKNOWLEDGED, OR OVER" if cell[1] != "primary" else "RESOLVED"
    for channel, (first, last) in ((channel, messages[channel]) for channel in through if channel != "PagerDuty"):
        assert cell[0].upper() in first.text, channel
        assert word in last.text, channel
    incidents = [one for one in told.channels.pagerduty.incidents if one["dedup_key"] in keys(told, target)]
    assert [one["status"] for one in incidents] == ["resolved"] * (cell[0] == "critical")


def keys(running: Live, target: str) -> set[str]:
    """Return what PagerDuty calls the groups of a target's alerts: the SHA-256 of Alertmanager's key of the group."""
    return {
        hashlib.sha256(delivery.group_key.encode()).hexdigest()
        for delivery in running.log.deliveries
        if delivery.receiver.endswith("-page") and any(one.labels.get("target") == target for one in delivery.alerts)
    }


def keys_are_known(running: Live, target: str) -> bool:
    return bool(keys(running, target))


@pytest.mark.parametrize("case", STRANGE)
def test_what_no_route_names_is_told_to_the_on_call_engineer(case: str, told: Live) -> None:
    """A label that nobody expected costs no message: Slack and email, and nobody is woken."""
    messages = told.wait(STRANGE[case].get("target", ""), NOTICE)
    assert [message.to for message in messages["email"]] == ["incidents@auraconnect.ai, oncall-engineer@auraconnect.ai"]
    assert (messages["PagerDuty"], messages["SMS"]) == ([], [])


def test_the_incident_log_gets_every_alert_by_itself(told: Live) -> None:
    """Each alert is one delivery, with its beginning, and its end a second later; not the mute, nor the beat."""
    labels = alert("IncidentLogged", "warning", "redis", "l-logged")
    told.fire(labels)
    told.wait_for_log("l-logged")
    told.end(labels)
    told.wait_for_log("l-logged", "resolved")
    of_log = [one for one in told.log.deliveries if one.receiver == "incident-log"]
    assert {len(delivery.alerts) for delivery in of_log} == {1}
    targets = [(one.alerts[0].labels.get("target"), one.status) for one in of_log]
    assert [status for target, status in targets if target == "l-logged"] == ["firing", "resolved"]
    everyone = {labels["target"] for labels, _ in CELLS.values()} | {one["target"] for one in STRANGE.values()}
    assert {target for target, _ in targets} == everyone | {"l-logged"}


def test_the_webhook_learns_which_alerts_a_page_is_about(told: Live) -> None:
    """Its group's key hashes to PagerDuty's, so that acknowledging there acknowledges these alerts."""
    for (severity, _), (labels, _) in CELLS.items():
        target = labels["target"]
        told.wait(target, PAGE if severity == "critical" else NOTICE)
        if severity == "critical":
            told.log.wait_for(partial(keys_are_known, told, target), 10)
            assert keys(told, target) <= {event.dedup_key for event in told.channels.pagerduty.triggers}
            assert told.wait(target, ["PagerDuty"])["PagerDuty"]


def test_the_heartbeat_beats_and_is_no_message(told: Live) -> None:
    """The service outside hears of it with its token; no person does, nor of the mute."""
    told.channels.heartbeat.wait_for(lambda: len(told.channels.heartbeat.beats) >= 1, 10)
    for labels, _ in CELLS.values():  # whatever was posted with it has been told by now
        told.wait(labels["target"], NOTICE)
    for unseen in ("Watchdog", "m-mute"):
        assert told.messages(unseen) == {channel: [] for channel in PAGE}
    assert {answer.status for _, answer in told.channels.heartbeat.requests} == {200}


def test_no_service_refused_anything(told: Live) -> None:
    """PagerDuty, Slack, SNS and our webhook took every single request."""
    for labels, _ in CELLS.values():
        told.wait(labels["target"], NOTICE)
    to = told.channels
    assert {answer.status for _, answer in to.pagerduty.requests} == {202}
    for service in (to.slack, to.sns, told.log):
        assert {answer.status for _, answer in service.requests} == {200}


def test_infos_wait_for_office_hours_at_every_level(release: str, tmp_path: Path) -> None:
    """Out of hours nobody hears of an info nor of its escalations, but the incident log does; in hours they all do."""

    def closed(config: Config) -> None:
        quick(config)
        config["time_intervals"][0]["time_intervals"] = NEVER

    infos = [CELLS["info", level][0] for level in ("primary", "secondary", "manager")]
    with live(tmp_path, release, closed) as running:
        running.fire(*infos)
        for labels in infos:
            running.wait_for_log(labels["target"])
        # Told a moment later, with as long a wait: once it is out, the infos' time has come and gone.
        running.fire(CELLS["warning", "primary"][0])
        running.wait("w-first", NOTICE)
        assert [running.messages(labels["target"]) for labels in infos] == [{channel: [] for channel in PAGE}] * 3


async def test_the_exporter_knows_what_the_hours_mute(release: str, tmp_path: Path) -> None:
    """Out of hours an info is suppressed, so its ladder waits, and no warning; with other hours it is seen."""
    info, warning = CELLS["info", "primary"][0], CELLS["warning", "primary"][0]

    def closed(config: Config) -> None:
        quick(config)
        config["time_intervals"][0]["time_intervals"] = NEVER

    async with AsyncExitStack() as ending:
        running = ending.enter_context(live(tmp_path, release, closed))
        store = open_store("", tmp_path / "data")
        ending.push_async_callback(store.close)
        client = Alertmanager(Server(base(running.alertmanager.url)))
        ending.push_async_callback(client.close)
        exporter = Alerts(store, time, {"alertmanager": client}, None, BASE)
        await exporter.start()
        ending.push_async_callback(exporter.close)

        async def suppressed(*severities: str) -> None:
            async with asyncio.timeout(20):
                while severities != tuple(
                    episode.identity.severity for episode in exporter.open if episode.id in exporter.suppressed
                ):
                    await exporter.reconcile()
                    await asyncio.sleep(0.1)

        running.fire(info, warning)
        await suppressed("info")
        assert len(exporter.open) == 2
        path = tmp_path / "alertmanager.yml"
        config = yaml.safe_load(path.read_text())
        config["time_intervals"][0]["time_intervals"] = ALWAYS
        path.write_text(yaml.safe_dump(config))
        running.reload()
        await suppressed()
        assert len(exporter.open) == 2


def test_a_critical_page_is_delivered_within_two_seconds(release: str, tmp_path: Path) -> None:
    """With the configuration's own times, from the alert's arrival in Alertmanager to all four channels."""
    with live(tmp_path, release) as running:
        begun = time.monotonic()
        running.fire(CELLS["critical", "primary"][0])
        running.wait("c-first", PAGE)
        to = running.channels
        arrivals = [to.pagerduty.triggers[0].at, to.sns.published[0].at, to.slack.messages[0].at, to.mail.mails[0].at]
        assert max(arrivals) - begun < 2.0
