"""From a lost database to the on-call phone: the whole path, on real servers and the repository's own files."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e import database as faults
from tests.e2e.database import PASSWORD, Database, database
from tests.e2e.stack import Stack, get, metric, stack
from tests.standins.proxy import Proxy
from tools.servers import Redis

PAGE_SECONDS = 40.0
RESOLVE_SECONDS = 120.0
ONE_PAGE = [["trigger"], ["[CRITICAL]"], ["[CRITICAL]"], ["CRITICAL"]]
PAGE_AND_ALL_CLEAR = [["trigger", "resolve"], *[["[CRITICAL]", "[RESOLVED]"]] * 2, ["CRITICAL", "RESOLVED"]]


def watch(redis: Redis, **database_urls: str) -> dict[str, Any]:
    """Return the exporter's configuration: these databases and this Redis, and not the host, which may be full."""
    return {
        "database": [{"name": name, "url": url, "password": PASSWORD} for name, url in database_urls.items()],
        "redis": [{"name": "primary", "url": redis.url}],
        "host": [],
    }


def wait_for_messages(running: Stack, count: int, timeout: float) -> None:
    """Wait until each channel has got so many messages about databases."""
    to = running.channels
    to.pagerduty.wait_for(lambda: len(running.messages()[0]) >= count, timeout)
    to.slack.wait_for(lambda: len(running.messages()[1]) >= count, 5)
    to.mail.wait_for(lambda: len(running.messages()[2]) >= count, 5)
    to.sns.wait_for(lambda: len(running.messages()[3]) >= count, 5)


def test_databases_lost_in_four_ways_page_once_and_resolve_once(redis: Redis, tmp_path: Path) -> None:
    """Killed, frozen, refusing, or with another password: each loss is one page on each channel, and one all-clear."""
    losses = {
        "killed": (faults.killed, "refused"),
        "frozen": (faults.frozen, "timeout"),
        "refusing": (faults.refusing, "refused"),
        "wrong-password": (faults.wrong_password, "auth"),
    }
    with ExitStack() as started:
        databases = {}
        for name in losses:
            (tmp_path / name).mkdir()
            databases[name] = started.enter_context(database(tmp_path / name))
        urls = {name: one.url() for name, one in databases.items()}
        running = started.enter_context(stack(tmp_path, watch(redis, **urls)))
        to = running.channels

        with ExitStack() as outage:
            for name, (fault, _) in losses.items():
                outage.enter_context(fault(databases[name]))
            wait_for_messages(running, len(losses), PAGE_SECONDS)
            running.wait_for_flush(pages=len(losses))
            assert {name: running.messages(name) for name in losses} == dict.fromkeys(losses, ONE_PAGE)
            assert len({page.dedup_key for page in to.pagerduty.triggers}) == len(losses)

        for name, (_, reason) in losses.items():
            failures = {"component": "database", "target": name, "result": reason}
            assert metric(running.exporter, "auraconnect_component_probes_total", **failures) >= 3

        wait_for_messages(running, 2 * len(losses), RESOLVE_SECONDS)
        for name in losses:
            running.tell_that_it_is_over(
                alertname="DatabaseConnectionLost",
                severity="critical",
                component="database",
                target=name,
                symptom="availability",
            )
        running.wait_for_flush(pages=len(losses))
        assert {name: running.messages(name) for name in losses} == dict.fromkeys(losses, PAGE_AND_ALL_CLEAR)
        assert [incident["status"] for incident in to.pagerduty.incidents] == ["resolved"] * len(losses)
        assert {answer.status for _, answer in to.pagerduty.requests} == {202}
        assert {answer.status for _, answer in to.slack.requests} == {200}
        assert {answer.status for _, answer in to.heartbeat.requests} == {200}
        assert [len(of_channel) for of_channel in running.messages()] == [2 * len(losses)] * 4


def test_a_page_says_what_is_lost_and_where_to_read_what_to_do(
    database: Database, redis: Redis, tmp_path: Path
) -> None:
    """Severity, component and a runbook that opens; and a PagerDuty that is busy at first gets it all the same."""
    with stack(tmp_path, watch(redis, primary=database.url())) as running, faults.killed(database):
        to = running.channels
        with to.pagerduty.failing(429):
            to.pagerduty.wait_for(lambda: len(to.pagerduty.requests) > 0, PAGE_SECONDS)
        wait_for_messages(running, 1, 15)

        (page,) = to.pagerduty.triggers
        assert page.payload["summary"] == "[CRITICAL] database/primary: A critical database does not answer"
        assert {key: page.payload[key] for key in ("severity", "component", "group", "class")} == {
            "severity": "critical",
            "component": "database",
            "group": "primary",
            "class": "availability",
        }
        runbook = f"{running.exporter.url}/runbooks/DatabaseConnectionLost"
        assert page.links[0] == runbook
        assert "DatabaseConnectionLost" in get(runbook)

        message, mail, text = to.slack.messages[0], to.mail.mails[0], to.sns.published[0]
        assert message.channel == "#incidents"
        assert runbook in message.text
        assert mail.recipients == ("incidents@auraconnect.ai", "oncall-engineer@auraconnect.ai")
        assert set(mail.texts) == {"text/plain", "text/html"}
        assert all(runbook in content for content in mail.texts.values())
        assert text.topic == "arn:aws:sns:us-east-1:000000000000:auraconnect-oncall-engineer"
        assert text.message.startswith("CRITICAL database/primary: A critical database")
        assert text.message.endswith(runbook)
        assert len(text.message) <= 160


def test_a_restart_of_the_exporter_during_the_outage_tells_nobody(
    database: Database, redis: Redis, tmp_path: Path
) -> None:
    """Stopped or killed while PostgreSQL is gone, and back: neither an all-clear nor a second page.

    On the newest Prometheus and Alertmanager, where the other tests have the distribution's.
    """
    watched = watch(redis, primary=database.url())
    with stack(tmp_path, watched, "newest") as running, faults.killed(database):
        wait_for_messages(running, 1, PAGE_SECONDS)
        for end in (running.exporter.stop, running.exporter.kill):
            end()
            # Away for so long that rules which took its silence for a recovery would have said so.
            running.wait_for_query('up{job="auraconnect-exporter"} == 0')
            running.wait_for_evaluation()
            running.wait_for_flush()
            running.exporter.start()
            # The new process has its own verdict, and Prometheus has read it and evaluated its rules since.
            running.wait_for_query('auraconnect_component_up{component="database"} == 0')
            running.wait_for_evaluation()
        running.wait_for_flush()
        assert running.messages("primary") == ONE_PAGE
        assert [incident["status"] for incident in running.channels.pagerduty.incidents] == ["triggered"]


def test_one_failed_check_among_good_ones_pages_nobody(database: Database, redis: Redis, tmp_path: Path) -> None:
    """Three times a single check fails and the next is good: no message, and the verdict never changes."""
    with Proxy(database.server.port) as proxy:
        watched = watch(redis, primary=database.url(proxy.port))
        with stack(tmp_path, watched) as running:
            for blips in range(1, 4):
                proxy.blip(0.5)
                running.wait_for_failed_checks(blips, component="database", target="primary")
            running.wait_for_query(
                'sum(auraconnect_component_probes_total{component="database",result!="success"}) == 3'
            )
            running.wait_for_evaluation()
            assert running.query('min_over_time(auraconnect_component_up{component="database"}[5m])') == [1.0]
            assert running.query('ALERTS{component="database"}') == []
            assert running.messages() == [[], [], [], []]
            assert running.channels.pagerduty.requests == []
            # Silence means something only on a path that works.
            with faults.killed(database):
                wait_for_messages(running, 1, PAGE_SECONDS)
