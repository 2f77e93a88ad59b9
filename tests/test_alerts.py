"""Open alerts stay true, whoever is away: on SQLite and PostgreSQL, with an Alertmanager and a Prometheus by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auraconnect_exporter import alerts as module
from auraconnect_exporter import ledger
from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.clients import pagerduty
from auraconnect_exporter.clients.alertmanager import AlertmanagerAlert, AlertmanagerStatus, PostableAlert
from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.records import AlertType, EventKind, Moment, Report, Severity, moment
from auraconnect_exporter.response_times import BOUNDS
from auraconnect_exporter.store import Store, StoreError, open_store, set_aside
from auraconnect_exporter.store import episodes as table
from tests.builders import FakeClock
from tests.incidents import ADA, BOB, LABELS, Book, at, delivery, draft, report, report_of, seconds
from tests.store.support import PASSWORD, Place
from tools.servers import PostgreSQL

Labels = Mapping[str, str]


class FakeAlertmanager:
    """Holds what it is told until that ends, as the real one does; ``hold`` is what Prometheus tells it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.started = at(-86_400)
        self.config = ""
        self.away = False
        self.refuses = False
        self.held: dict[str, AlertmanagerAlert] = {}
        self.asked = 0
        self.told: list[dict[str, tuple[float, float]]] = []
        """Of each call: by alertname when it begins and ends."""

    def hold(
        self,
        fingerprint: str = "f1",
        *,
        starts: float = 10,
        silenced: bool = False,
        labels: Labels = LABELS,
        receivers: tuple[str, ...] = ("incident-log", "oncall-engineer-page"),
    ) -> None:
        now = moment(self._clock.time())
        said = report_of(labels, starts, fingerprint=fingerprint)
        self.held[fingerprint] = AlertmanagerAlert(
            fingerprint,
            said.labels,
            said.annotations,
            said.starts,
            ends_at=now + 240_000_000,
            updated_at=now,
            state="suppressed" if silenced else "active",
            silenced_by=("s1",) if silenced else (),
            receivers=receivers,
        )

    def restart_empty(self) -> None:
        self.held.clear()
        self.started = moment(self._clock.time())

    def _answer(self) -> None:
        if self.away:
            raise ClientError("Alertmanager at http://am1.example can't be reached.")

    async def alerts(self) -> list[AlertmanagerAlert]:
        self._answer()
        self.asked += 1
        return [alert for alert in self.held.values() if alert.ends_at > moment(self._clock.time())]

    async def status(self) -> AlertmanagerStatus:
        self._answer()
        return AlertmanagerStatus("0.28.0", self.started, self.config)

    async def post(self, alerts: Iterable[PostableAlert]) -> None:
        self._answer()
        if self.refuses:
            raise ClientError("Alertmanager at http://am1.example refuses: 403.")
        calls = {}
        alerts = list(alerts)
        assert len({frozenset(alert.labels.items()) for alert in alerts}) == len(alerts)
        for alert in alerts:
            assert alert.starts_at is not None
            assert alert.ends_at is not None
            calls[alert.labels["alertname"]] = (seconds(alert.starts_at), seconds(alert.ends_at))
            fingerprint = f"am-{alert.labels.get('alert_id', 'f1')}"
            self.held[fingerprint] = AlertmanagerAlert(
                *(fingerprint, alert.labels, alert.annotations, alert.starts_at, alert.ends_at),
                updated_at=moment(self._clock.time()),
                state="active",
            )
        self.told.append(calls)


class FakePrometheus:
    def __init__(self) -> None:
        self.away = False
        self.fires: list[Labels] = []

    async def firing(self) -> Iterable[Iterable[tuple[str, str]]]:
        if self.away:
            raise ClientError("Prometheus at http://prometheus.example can't be reached.")
        return {frozenset(labels.items()) for labels in self.fires}


class World:
    """One exporter's alerts, those around it, and the clock that they share."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.book = Book(store)
        self.clock = FakeClock()
        self.alertmanager = FakeAlertmanager(self.clock)
        self.second = FakeAlertmanager(self.clock)
        self.prometheus = FakePrometheus()
        self.alerts = self.another(store)
        self._started: list[Alerts] = []

    def another(self, store: Store, *, both: bool = False) -> Alerts:
        """Return another exporter beside the same Alertmanager, or both, and Prometheus."""
        peers = {"am1": self.alertmanager} | ({"am2": self.second} if both else {})
        return Alerts(store, self.clock, peers, self.prometheus, "https://monitoring.example")

    async def start(self, alerts: Alerts) -> Alerts:
        """Start it, until the test ends."""
        self._started.append(alerts)
        await alerts.start()
        return alerts

    async def close(self) -> None:
        for alerts in self._started:
            await alerts.close()

    def now(self) -> Moment:
        return moment(self.clock.time())

    async def pass_time(self, length: float, *, firing: bool = False, alerts: Alerts | None = None) -> None:
        """Let time pass in steps of half a minute, with what the exporter does then."""
        for _ in range(round(length / 30)):
            self.clock.advance(30)
            if firing:
                for alertmanager in (self.alertmanager, self.second):
                    for fingerprint, alert in alertmanager.held.items():
                        alertmanager.held[fingerprint] = replace(
                            alert, updated_at=self.now(), ends_at=self.now() + 240_000_000
                        )
            await (alerts or self.alerts).reconcile()


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    """Return a world in which nothing fires; the alerts are loaded, and their tasks run only where a test does that."""
    made = World(store)
    await made.alerts._follow()
    yield made
    await made.close()


async def until(predicate: Callable[[], bool], within: float = 5.0) -> None:
    """Wait until something is so; the tasks of the exporter tell nobody."""
    async with asyncio.timeout(within):
        while not predicate():
            await asyncio.sleep(0.01)


def open_names(alerts: Alerts) -> list[str]:
    return [episode.identity.target for episode in alerts.open]


# ── The webhook ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_delivery_is_stored_and_open_at_once(world: World) -> None:
    """When the call returns, the store and the memory know of it; so is its end."""
    await world.alerts.receive(delivery(report(10)))
    assert list(world.alerts.open) == [await world.book.only()]
    await world.alerts.receive(delivery(report(10, 70)))
    assert open_names(world.alerts) == []
    assert await world.book.times() == [(10, 70)]
    assert world.alerts.deliveries == {"accepted": 2, "unusable": 0, "refused": 0}


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"[]", b"{}", delivery(report(10)).replace(b'"4"', b'"5"'), b"[" * 100_000, b"1" * 5000],
    ids=["empty", "no text", "a list", "no fields", "another version", "deep", "a huge number"],
)
async def test_what_cant_be_used_is_put_aside(world: World, body: bytes) -> None:
    """It counts as taken, since it would come again for ever, and is kept for a person to look at."""
    await world.alerts.receive(body)
    (kept,) = await world.store.read(lambda transaction: set_aside.newest(transaction, 10))
    assert (kept.body, kept.at) == (body[: set_aside.BODY_BYTES], world.now())
    assert world.alerts.deliveries == {"accepted": 0, "unusable": 1, "refused": 0}
    assert await world.book.episodes() == []


async def test_a_delivery_that_cant_be_stored_comes_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, the sender hears that it was not taken; it counts as refused and nothing else."""
    await world.store.close()
    for body in (delivery(report(10)), b"garbage"):
        with pytest.raises(StoreError):
            await world.alerts.receive(body)
    assert world.alerts.deliveries == {"accepted": 0, "unusable": 0, "refused": 2}
    assert open_names(world.alerts) == []
    assert "put aside" not in caplog.text


async def test_what_a_delivery_left_out_is_asked_for(world: World) -> None:
    """Where Alertmanager cut a delivery short, its list is read at once."""
    await world.start(world.alerts)
    await until(lambda: world.alertmanager.asked == 1)
    world.alertmanager.hold("f2", starts=20, labels={**LABELS, "target": "replica"})
    await world.alerts.receive(delivery(report(10), truncated=1))
    await until(lambda: open_names(world.alerts) == ["primary", "replica"])


async def test_a_storm_in_one_delivery_is_taken_in_time(world: World) -> None:
    """Hundreds of alerts of one group, and their ends, fit into the deadlines of the acts that take them in."""
    storm = [report(10, fingerprint=f"f{number}", target=f"host{number}") for number in range(450)]
    await world.alerts.receive(delivery(*storm))
    assert len(world.alerts.open) == 450
    await world.alerts.receive(delivery(*(replace(one, ends=at(60)) for one in storm)))
    assert open_names(world.alerts) == []


# ── Reconciling ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_no_message_told_is_opened(world: World) -> None:
    """An alert that was silenced from its beginning never gets to the webhook: it is open, and suppressed."""
    world.alertmanager.hold(silenced=True)
    await world.alerts.reconcile()
    (episode,) = world.alerts.open
    assert world.alerts.suppressed == frozenset()
    await world.alerts.reconcile()
    assert world.alerts.suppressed == {episode.id}
    assert await world.book.events(episode) == [("suppressed", 0), ("fired", 10)]


async def test_what_is_for_nobody_is_not_written_down(world: World) -> None:
    """The watchdog, which always fires, costs no write each half minute."""
    before = await world.store.revision()
    world.alertmanager.hold(labels={**LABELS, "severity": "none"})
    await world.alerts.reconcile()
    assert await world.store.revision() == before


async def test_what_nobody_knows_of_any_more_is_closed_after_a_minute(world: World) -> None:
    """Gone from a settled Alertmanager and from Prometheus: the end that no message told."""
    await world.alerts.receive(delivery(report(10)))
    await world.pass_time(60)
    assert open_names(world.alerts) == ["primary"]
    await world.pass_time(30)
    assert open_names(world.alerts) == []
    assert await world.book.times() == [(10, 90)]


async def test_a_short_absence_is_no_end(world: World) -> None:
    """The minute begins anew with each absence."""
    await world.alerts.receive(delivery(report(10)))
    for _ in range(5):
        await world.pass_time(60)
        world.alertmanager.hold()
        await world.alerts.reconcile()
        world.alertmanager.held.clear()
    assert open_names(world.alerts) == ["primary"]


async def test_nothing_closes_while_prometheus_cant_be_asked(world: World) -> None:
    """It may fire, whatever Alertmanager has forgotten."""
    await world.alerts.receive(delivery(report(10)))
    world.prometheus.away = True
    await world.pass_time(3600)
    assert open_names(world.alerts) == ["primary"]
    world.prometheus.away = False
    await world.pass_time(90)
    assert open_names(world.alerts) == []


async def test_nothing_closes_that_prometheus_fires(world: World) -> None:
    """Though Alertmanager doesn't hold it."""
    await world.alerts.receive(delivery(report(10)))
    world.prometheus.fires = [LABELS]
    await world.pass_time(3600)
    assert open_names(world.alerts) == ["primary"]


@pytest.mark.parametrize("fires", [True, False])
async def test_an_alertmanager_that_is_down_for_an_hour_ends_nothing(world: World, fires: bool) -> None:
    """Down for an hour and restarted empty: open alerts stay, until it has had five minutes to hear of them."""
    await world.alerts.receive(delivery(report(10)))
    world.prometheus.fires = [LABELS] if fires else []
    world.alertmanager.away = True
    await world.pass_time(3600)
    world.alertmanager.away = False
    world.alertmanager.restart_empty()
    await world.pass_time(300)
    assert open_names(world.alerts) == ["primary"]
    if fires:
        world.alertmanager.hold()
    await world.pass_time(120, firing=True)
    assert open_names(world.alerts) == (["primary"] if fires else [])
    assert len(await world.book.episodes()) == 1


async def test_a_replaced_alertmanager_ends_nothing(world: World) -> None:
    """A new one is as empty as a restarted one, and has as long to hear what fires; the exporter has restarted too."""
    await world.alerts.receive(delivery(report(10)))
    world.clock.advance(3600)
    world.alertmanager.restart_empty()
    successor = world.another(world.store)
    await successor._follow()
    await world.pass_time(270, alerts=successor)
    world.alertmanager.hold()
    await world.pass_time(3600, firing=True, alerts=successor)
    assert open_names(successor) == ["primary"]
    assert await world.book.events(await world.book.only()) == [("fired", 10)]


async def test_one_alertmanager_of_two_that_is_away_ends_nothing(world: World) -> None:
    """It may be the one that knows."""
    both = world.another(world.store, both=True)
    await both._follow()
    await both.receive(delivery(report(10)))
    world.second.away = True
    await world.pass_time(3600, alerts=both)
    assert open_names(both) == ["primary"]
    world.second.away = False
    await world.pass_time(90, alerts=both)
    assert open_names(both) == []


async def test_suppressed_is_what_all_that_hold_it_suppress(world: World) -> None:
    """Of two Alertmanagers one that tells people is enough; one that doesn't hold it has no say."""
    both = world.another(world.store, both=True)
    await both._follow()
    await both.receive(delivery(report(10)))
    (episode,) = both.open
    states = []
    for first, second in ((True, None), (True, False), (True, True), (False, True)):
        world.alertmanager.hold(silenced=first)
        world.second.held.clear()
        if second is not None:
            world.second.hold(silenced=second)
        world.clock.advance(30)
        await both.reconcile()
        states.append(episode.id in both.suppressed)
    assert states == [True, False, True, False]
    kinds = [event.kind for event in await world.book.timeline(episode)]
    assert kinds == [EventKind.FIRED] + [EventKind.SUPPRESSED, EventKind.UNSUPPRESSED] * 2


async def test_what_is_over_is_not_suppressed(world: World) -> None:
    """The state ends with the alert."""
    await world.alerts.receive(delivery(report(10)))
    world.alertmanager.hold(silenced=True)
    await world.alerts.reconcile()
    assert len(world.alerts.suppressed) == 1
    await world.alerts.receive(delivery(report(10, 70)))
    assert world.alerts.suppressed == frozenset()


async def test_a_later_word_of_alertmanager_reopens(world: World) -> None:
    """What Alertmanager heard to fire after the end that it told is open again; what it heard before is not."""
    world.clock.advance(100)
    world.alertmanager.hold()
    await world.alerts.receive(delivery(report(10, 300)))
    await world.alerts.reconcile()
    assert open_names(world.alerts) == []
    world.clock.advance(260)
    world.alertmanager.hold()
    await world.alerts.reconcile()
    assert open_names(world.alerts) == ["primary"]
    assert await world.book.events(await world.book.only()) == [("fired", 10), ("resolved", 300), ("reopened", 360)]


async def test_a_forced_end_is_taken_back_while_it_fires(world: World) -> None:
    """Resolving is refused while it fires; forced, it lasts until Alertmanager is next asked."""
    await world.alerts.receive(delivery(report(10)))
    world.alertmanager.hold()
    (episode,) = world.alerts.open
    with pytest.raises(ledger.StillFiring):
        await world.alerts.resolve(episode.id, ADA, force=False)
    await world.alerts.resolve(episode.id, ADA, force=True)
    assert open_names(world.alerts) == []
    await world.alerts.reconcile()
    assert [each.id for each in world.alerts.open] == [episode.id]


async def test_an_escalation_that_came_before_its_source_is_found(world: World) -> None:
    """Left out at first, it is noted once its source is known."""
    labels = {**LABELS, "alertname": "EscalatedToManager", "source_alert": LABELS["alertname"], "escalation": "manager"}
    await world.alerts.receive(delivery(report_of(labels, 910, fingerprint="f2")))
    world.alertmanager.hold("f2", starts=910, labels=labels)
    await world.alerts.receive(delivery(report(10)))
    await world.alerts.reconcile()
    assert await world.book.events(await world.book.only()) == [("fired", 10), ("escalated", 910)]


async def test_what_cant_be_reached_is_asked_again_soon_and_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it is back, and meanwhile it is known since when; no matter who asks."""
    caplog.set_level("INFO")
    world.alertmanager.away = True
    await world.alerts.post(draft(), ADA)
    for _ in range(3):
        assert await world.alerts.reconcile() == module.RETRY_SECONDS
        assert await world.alerts.tell() == module.RETRY_SECONDS
        world.clock.advance(5)
    assert world.alerts.unreachable == {"am1": world.clock.time() - 15}
    world.alertmanager.away = False
    assert (await world.alerts.reconcile(), await world.alerts.tell()) == (module.RETRY_SECONDS, None)
    assert await world.alerts.reconcile() is None
    assert world.alerts.unreachable == {}
    assert [record.message for record in caplog.records if "reached" in record.message] == [
        "can't be reached",
        "can be reached again",
    ]


async def test_an_alertmanager_that_refuses_what_we_tell_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """That it answers questions meanwhile makes no line each minute."""
    world.alertmanager.refuses = True
    await world.alerts.post(draft(), ADA)
    for _ in range(3):
        await world.alerts.tell()
        await world.alerts.reconcile()
    assert list(world.alerts.unreachable) == ["am1"]
    assert len([record for record in caplog.records if "reached" in record.message]) == 1


# ── Posted alerts ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_posted_alert_is_told_again_and_again(world: World) -> None:
    """Each time it is said to last for ten minutes more, so that a restart of ours, or nine lost calls, end nothing."""
    await world.alerts.post(draft(), ADA)
    for _ in range(3):
        assert await world.alerts.tell() is None
        world.clock.advance(60)
    assert world.alertmanager.told == [
        {"Orders wait": (0, 600)},
        {"Orders wait": (0, 660)},
        {"Orders wait": (0, 720)},
    ]


async def test_the_loops_tell_and_repeat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is posted is told at once, kept alive in a rhythm of its own, and its end is told at once."""
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0.05)
    await world.start(world.alerts)
    posted = await world.alerts.post(draft(), ADA)
    await until(lambda: len(world.alertmanager.told) >= 3)
    monkeypatch.undo()
    await world.alerts.resolve(posted.id, BOB, force=False)
    await until(lambda: {"Orders wait": (0, 0)} in world.alertmanager.told)


async def test_a_minute_is_the_rhythm() -> None:
    """Ten calls fit into the time for which Alertmanager believes one."""
    assert (module.KEEP_ALIVE_SECONDS, module.LIFETIME) == (60, 600_000_000)


async def test_what_is_told_has_all_that_pages_need(world: World) -> None:
    """Words, links and our id go along, and never a runbook that there isn't."""
    sent: list[PostableAlert] = []

    async def post(alerts: Iterable[PostableAlert]) -> None:
        sent.extend(alerts)

    world.alertmanager.post = post  # type: ignore[method-assign]  # what it is told, in full
    breach = draft(alert_type=AlertType.SECURITY, severity=Severity.CRITICAL, title="Break-in", description="At night")
    slow = draft(title="Slow", description="Orders take long.", actual_value=12.5, threshold_value=10)
    posted = [await world.alerts.post(each, ADA) for each in (draft(), breach, slow)]
    await world.alerts.tell()
    assert [alert.labels["alert_id"] for alert in sent] == [each.id for each in posted]
    assert [alert.annotations for alert in sent] == [
        {
            "summary": "Orders wait",
            "description": "Orders wait",
            "runbook_url": "https://monitoring.example/runbooks/",
            "dashboard_url": "https://monitoring.example/dashboard",
        },
        {
            "summary": "Break-in",
            "description": "At night",
            "runbook_url": "https://monitoring.example/runbooks/SecurityBreachDetected",
            "dashboard_url": "https://monitoring.example/dashboard",
        },
        {
            "summary": "Slow",
            "description": "Orders take long. The value is 12.5; the limit is 10.",
            "runbook_url": "https://monitoring.example/runbooks/",
            "dashboard_url": "https://monitoring.example/dashboard",
        },
    ]


async def test_a_posted_alert_outlives_our_restart_and_alertmanagers(world: World) -> None:
    """A successor tells of it, also an Alertmanager that has forgotten everything."""
    await world.alerts.post(draft(), ADA)
    await world.alerts.tell()
    world.clock.advance(120)
    world.alertmanager.restart_empty()
    successor = world.another(world.store)
    await successor._follow()
    await successor.tell()
    assert world.alertmanager.told[-1] == {"Orders wait": (0, 720)}
    assert len(world.alertmanager.held) == 1


async def test_an_end_is_told_until_every_alertmanager_has_it(world: World) -> None:
    """Of two, one is away, and we restart meanwhile: then both hear the end, after which it is told no more."""
    both = world.another(world.store, both=True)
    await both._follow()
    posted = await both.post(draft(), ADA)
    assert await both.tell() is None
    world.second.away = True
    world.clock.advance(30)
    await both.resolve(posted.id, BOB, force=False)
    assert await both.tell() == module.RETRY_SECONDS
    successor = world.another(world.store, both=True)
    await successor._follow()
    assert await successor.tell() == module.RETRY_SECONDS
    world.second.away = False
    assert await successor.tell() is None
    calls = len(world.alertmanager.told)
    await successor.tell()
    assert len(world.alertmanager.told) == calls
    assert world.second.told[-1] == {"Orders wait": (0, 30)}
    assert [await each.alerts() for each in (world.alertmanager, world.second)] == [[], []]


async def test_a_posted_alert_is_neither_opened_nor_closed_by_alertmanager(world: World) -> None:
    """What comes back by the webhook or the list is known; that Alertmanager has lost it is no end."""
    posted = await world.alerts.post(draft(), ADA)
    await world.alerts.tell()
    await world.alerts.reconcile()
    await world.alerts.receive(delivery(report_of(posted.labels, 0, fingerprint="f7")))
    await world.alerts.receive(delivery(report_of(posted.labels, 0, 5, fingerprint="f7")))
    world.alertmanager.held.clear()
    await world.pass_time(3600)
    assert world.alerts.open == (posted,)


async def test_a_posted_alert_can_be_suppressed(world: World) -> None:
    """Alertmanager's silence of it shows."""
    posted = await world.alerts.post(draft(), ADA)
    world.alertmanager.hold("f7", silenced=True, labels=posted.labels)
    await world.alerts.reconcile()
    assert world.alerts.suppressed == {posted.id}


# ── The store, and who else writes there ─────────────────────────────────────────────────────────────────────────────


async def follow_a_store_that_comes(alerts: Alerts, come: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """Start while the store is away, let it come, and take something in."""
    caplog.set_level("INFO")
    await alerts.start()
    try:
        assert (alerts.is_loaded, alerts.open, list(alerts.unreachable)) == (False, (), ["store"])
        with pytest.raises(StoreError):
            await alerts.receive(delivery(report(10)))
        assert await alerts.reconcile() == module.RETRY_SECONDS
        assert await alerts.tell() == module.RETRY_SECONDS
        come()
        await until(lambda: alerts.is_loaded, 10)
        assert alerts.unreachable == {}
        await alerts.receive(delivery(report(10)))
        assert open_names(alerts) == ["primary"]
    finally:
        await alerts.close()
    assert [record.message for record in caplog.records if "reached" in record.message] == [
        "can't be reached",
        "can be reached again",
    ]


async def test_a_file_that_cant_be_written_at_start_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then deliveries are refused, nothing is taken for over, and it is said once."""
    folder = tmp_path / "data"
    folder.write_text("a file in the way")
    store = open_store("", folder)
    await follow_a_store_that_comes(World(store).alerts, folder.unlink, caplog)
    await store.close()


async def test_a_postgresql_that_is_down_at_start_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same on PostgreSQL."""
    with PostgreSQL(tmp_path, password=PASSWORD) as server:
        server.kill()
        store = open_store(server.dsn, tmp_path)
        await follow_a_store_that_comes(World(store).alerts, server.start, caplog)
        await store.close()


async def test_a_postgresql_that_goes_keeps_the_memory(tmp_path: Path) -> None:
    """While it is down what was open stays open, posted alerts are kept alive, and deliveries are refused."""
    with PostgreSQL(tmp_path, password=PASSWORD) as server:
        store = open_store(server.dsn, tmp_path)
        world = World(store)
        await world.start(world.alerts)
        await world.alerts.receive(delivery(report(10)))
        posted = await world.alerts.post(draft(), ADA)
        server.kill()
        await until(lambda: list(world.alerts.unreachable) == ["store"])
        with pytest.raises(StoreError):
            await world.alerts.receive(delivery(report(10, 20)))
        assert len(world.alerts.open) == 2
        world.clock.advance(60)
        await world.alerts.tell()
        assert world.alertmanager.told[-1] == {"Orders wait": (0, 660)}
        server.start()
        await until(lambda: not world.alerts.unreachable, 10)
        await world.alerts.receive(delivery(report(10, 20)))
        assert [episode.id for episode in world.alerts.open] == [posted.id]
        await world.close()
        await store.close()


async def test_another_exporters_writes_are_seen_within_a_second(shared_place: Place) -> None:
    """What one takes in and what people do there is open, acknowledged, suppressed and over at the other."""
    here, there = shared_place.open(), shared_place.open()
    world = World(here)
    one, other = await world.start(world.alerts), await world.start(world.another(there))
    await one.receive(delivery(report(10)))
    await until(lambda: open_names(other) == ["primary"], 1)
    (episode,) = one.open
    await other.acknowledge(episode.id, BOB)
    await until(lambda: one.open[0].acknowledged_by == "bob", 1)
    world.alertmanager.hold(silenced=True)
    await one.reconcile()
    await until(lambda: other.suppressed == {episode.id}, 1)
    await other.receive(delivery(report(10, 20)))
    await until(lambda: one.open == (), 1)
    await world.close()
    await asyncio.gather(here.close(), there.close())


async def test_each_exporter_counts_response_times_once(shared_place: Place) -> None:
    """Whoever was told, both count one acknowledgement and one end; repeating them, and a restart, count nothing."""
    here, there = shared_place.open(), shared_place.open()
    world = World(here)
    one, other = await world.start(world.alerts), await world.start(world.another(there))
    await one.receive(delivery(report(10)))
    await until(lambda: open_names(other) == ["primary"])
    (episode,) = one.open
    world.clock.advance(100)
    for exporter, actor in ((one, ADA), (other, BOB), (one, ADA)):
        await exporter.acknowledge(episode.id, actor)
    for exporter in (one, other, one):
        await exporter.receive(delivery(report(10, 400)))
    await until(lambda: (one.open, other.open) == ((), ()))
    third = world.another(here)
    await third._follow()
    for exporter in (one, other):
        times = exporter.times
        assert (times.to_acknowledge["critical"].total, times.to_resolve["critical"].total) == (90, 390)
        assert (sum(times.to_acknowledge["critical"].counts), sum(times.to_resolve["critical"].counts)) == (1, 1)
        assert times.to_acknowledge["critical"].counts[BOUNDS.index(300)] == 1
        assert sum(times.to_resolve["warning"].counts) == 0
    assert sum(third.times.to_acknowledge["critical"].counts) == 0
    await world.close()
    await asyncio.gather(here.close(), there.close())


async def test_what_another_exporter_resolved_is_not_kept_alive(shared_place: Place) -> None:
    """Whoever told Alertmanager, too late, that a posted alert goes on tells the end as soon as it knows."""
    here, there = shared_place.open(), shared_place.open()
    world = World(here)
    one, other = world.alerts, world.another(there)
    posted = await one.post(draft(), ADA)
    for exporter in (one, other):
        await exporter._follow()
    world.clock.advance(30)
    await one.resolve(posted.id, ADA, force=False)
    await other.tell()  # which knows it from the store alone
    assert world.alertmanager.told == [{"Orders wait": (0, 30)}]
    await world.book.act(table.set_told, [posted.id], told=True)
    await other.tell()  # which has not looked into the store since
    assert len(await world.alertmanager.alerts()) == 1
    await other._follow()
    await other.tell()
    assert await world.alertmanager.alerts() == []
    calls = len(world.alertmanager.told)
    await other.tell()
    assert len(world.alertmanager.told) == calls
    await asyncio.gather(here.close(), there.close())


async def test_the_memory_is_loaded_while_deliveries_keep_coming(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored between the reading and its answer holds nothing up, and is not lost either."""
    await world.book.hear(report(10))
    successor = world.another(world.store)
    read = world.store.read
    targets = iter(["second", "third", "fourth"])

    async def busy(query: Callable[[Any], Any]) -> Any:
        found = await read(query)
        if target := next(targets, None):
            await successor.receive(delivery(report(20, fingerprint=target, target=target)))
        return found

    monkeypatch.setattr(world.store, "read", busy)
    await successor._follow()
    monkeypatch.undo()
    assert successor._revision == await world.store.revision()
    stored = [episode.identity.target for episode in await world.book.episodes()]
    assert sorted(open_names(successor)) == sorted(stored) == ["primary", "second", "third"]


async def test_an_older_answer_never_replaces_a_newer_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before a write of ours, and comes after it, takes nothing of it away, and counts nothing twice."""
    await world.alerts.receive(delivery(report(10)))
    (episode,) = world.alerts.open
    await world.book.act(ledger.note, episode.id, BOB, at(11), "by another exporter")
    read = world.store.read

    async def slow(query: Callable[[Any], Any]) -> Any:
        found = await read(query)
        monkeypatch.undo()
        await world.alerts.acknowledge(episode.id, ADA)
        return found

    monkeypatch.setattr(world.store, "read", slow)
    monkeypatch.setattr(world.store, "revision", lambda: _revision(999))
    await world.alerts._follow()
    assert [each.acknowledged_by for each in world.alerts.open] == ["ada"]
    await world.alerts._follow()
    assert [each.acknowledged_by for each in world.alerts.open] == ["ada"]
    assert sum(world.alerts.times.to_acknowledge["critical"].counts) == 1


async def _revision(number: int) -> int:
    return number


async def test_a_write_of_ours_never_hides_what_was_read_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the memory was read anew before the answer to our write came, that answer is old."""
    await world.alerts.receive(delivery(report(10)))
    (episode,) = world.alerts.open
    write = world.store.write

    async def slow(act: Callable[[Any], Any]) -> Any:
        done = await write(act)
        monkeypatch.undo()
        await world.book.act(ledger.close, [episode.id], at(20), "another exporter")
        await world.alerts._follow()
        return done

    monkeypatch.setattr(world.store, "write", slow)
    await world.alerts.acknowledge(episode.id, ADA)
    assert open_names(world.alerts) == []


async def test_a_store_that_was_restored_is_read(world: World) -> None:
    """A backup's count of writes is lower than what is known; what it holds counts all the same."""
    await world.alerts.receive(delivery(report(10)))
    await world.book.act(lambda transaction: transaction.execute("DELETE FROM episodes"))
    await world.book.act(lambda transaction: transaction.execute("UPDATE meta SET value = 0 WHERE key = 'revision'"))
    await world.alerts._follow()
    assert open_names(world.alerts) == []


async def test_a_page_of_an_alert_can_be_acknowledged(world: World) -> None:
    """A receiver that pages names its group, whose key PagerDuty gives back; other receivers' groups are no pages."""
    body = delivery(report(10))
    key = pagerduty.dedup_key("{}:{}")
    await world.alerts.receive(body)
    assert await world.alerts.acknowledge_page(key, BOB) == []
    await world.alerts.receive(body.replace(b'"incident-log"', b'"oncall-engineer-page"'))
    await world.alerts.acknowledge_page(key, BOB)
    assert [episode.acknowledged_by for episode in world.alerts.open] == ["bob"]
    assert len(await world.book.episodes()) == 1


# ── Hours ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HOURS = """
route:
  receiver: oncall-engineer-page
  routes:
    - {receiver: support-team-notify, active_time_intervals: [office-hours]}
time_intervals:
  - name: office-hours
    time_intervals: [{times: [{start_time: "20:30", end_time: "20:35"}]}]
"""  # the clock of these tests begins at 20:26:40


async def test_what_the_hours_mute_is_suppressed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Until they begin, and from their end on; what pages is not. The same configuration is read once."""
    world.alertmanager.config = HOURS
    world.alertmanager.hold(
        "f1", labels={**LABELS, "severity": "info"}, receivers=("incident-log", "support-team-notify")
    )
    world.alertmanager.hold("f2")
    found = []
    for _ in range(12):
        await world.pass_time(60, firing=True)
        by_fingerprint = {episode.fingerprint: episode.id for episode in world.alerts.open}
        assert by_fingerprint["f2"] not in world.alerts.suppressed
        found.append(by_fingerprint["f1"] in world.alerts.suppressed)
    assert found == [True] * 3 + [False] * 5 + [True] * 4
    assert "can't be read" not in caplog.text


async def test_hours_that_cant_be_read_mute_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """That is said once: a page too many is better than one too few."""
    world.alertmanager.config = HOURS.replace("20:30", "noon")
    world.alertmanager.hold(receivers=("support-team-notify",))
    await world.pass_time(120, firing=True)
    assert world.alerts.suppressed == frozenset()
    assert caplog.text.count("time intervals can't be read") == 1


# ── Ends that PagerDuty has not heard of ─────────────────────────────────────────────────────────────────────────────


def page(*reports: Report, key: bytes = b"{}:{}") -> bytes:
    """Return a delivery to a receiver that pages."""
    body = delivery(*reports).replace(b'"incident-log"', b'"oncall-engineer-page"')
    return body.replace(b"{}:{}", key)


async def test_an_end_that_no_page_told_is_told_again_until_one_does(world: World) -> None:
    """A minute after nobody knows of the alert any more, then each minute, with the moment at which it was gone."""
    await world.alerts.receive(page(report(10)))
    world.alertmanager.hold()
    await world.pass_time(120, firing=True)
    assert world.alertmanager.told == []
    world.alertmanager.held.clear()
    await world.pass_time(60)
    assert world.alertmanager.told == []
    await world.pass_time(30)
    assert world.alertmanager.told == [{"DatabaseConnectionLost": (10, 150)}]
    await world.pass_time(120)
    assert world.alertmanager.told == [{"DatabaseConnectionLost": (10, 150)}] * 3
    await world.alerts.receive(page(report(10, 150)))
    await world.pass_time(120)
    assert len(world.alertmanager.told) == 3


async def test_a_page_is_over_with_all_that_was_part_of_it(world: World) -> None:
    """Of two alerts of a page one ended unheard; the other's end closes the page, and nothing is left to tell."""
    other = report(10, fingerprint="f2", pod="another")
    await world.alerts.receive(page(report(10), other))
    await world.alerts.receive(page(replace(other, ends=at(20))))
    await world.pass_time(120)
    assert world.alertmanager.told == []


async def test_of_a_page_that_goes_on_the_end_of_one_alert_is_told(world: World) -> None:
    """What the page itself told is done; what fires is not over; the third is told by itself."""
    told, fires, unheard = (report(10, fingerprint=name, target=name) for name in ("f1", "f2", "f3"))
    await world.alerts.receive(page(told, fires, unheard))
    await world.alerts.receive(page(replace(told, ends=at(20)), fires))
    world.alertmanager.hold("f2", labels=fires.labels)
    await world.pass_time(90, firing=True)
    assert [alert.labels["target"] for alert in world.alertmanager.held.values()] == ["f2", "f3"]


@pytest.mark.parametrize("doubt", ["Alertmanager is away", "Alertmanager is new", "Prometheus is away", "it fires"])
async def test_no_end_is_told_in_doubt(world: World, doubt: str) -> None:
    """Who can't be asked, or has just been started, says nothing about an end; a false all-clear would be worse."""
    await world.alerts.receive(page(report(10)))
    world.alertmanager.away = doubt == "Alertmanager is away"
    world.alertmanager.started = at(-86_400 if doubt != "Alertmanager is new" else -60)
    world.prometheus.away = doubt == "Prometheus is away"
    world.prometheus.fires = [LABELS] if doubt == "it fires" else []
    await world.pass_time(180)
    assert world.alertmanager.told == []


async def test_a_posted_alert_that_alertmanager_has_lost_is_not_over(world: World) -> None:
    """It is told as what goes on, by the task that keeps it alive, and its page stays open."""
    posted = await world.alerts.post(draft(), ADA)
    await world.alerts.receive(page(report_of(posted.labels, 10, fingerprint="am-1")))
    await world.pass_time(120)
    assert world.alertmanager.told == []
    await world.alerts.resolve(posted.id, ADA, force=False)
    await world.pass_time(90)
    assert [list(told) for told in world.alertmanager.told] == [["Orders wait"]]


async def test_an_end_is_told_to_each_alertmanager_and_again_where_that_failed(world: World) -> None:
    """One that refuses costs the other nothing, and hears of it a minute later."""
    alerts = world.another(world.store, both=True)
    await alerts._follow()
    await alerts.receive(page(report(10)))
    world.second.refuses = True
    await world.pass_time(90, alerts=alerts)
    assert (len(world.alertmanager.told), len(world.second.told)) == (1, 0)
    world.second.refuses = False
    await world.pass_time(60, alerts=alerts)
    assert (len(world.alertmanager.told), len(world.second.told)) == (2, 1)


async def test_what_alertmanager_can_no_longer_know_is_forgotten(world: World) -> None:
    """After the five days for which it remembers what it told nothing is told again, and the next page tidies up."""
    await world.alerts.receive(page(report(10)))
    world.clock.advance(5 * 86_400 + 1)
    await world.pass_time(120)
    assert world.alertmanager.told == []
    await world.alerts.receive(page(report(10, fingerprint="f2", target="replica"), key=b"{}:{another}"))
    left = await world.store.read(lambda transaction: table.open_pages(transaction, 0))
    assert [each.fingerprint for each in left] == ["f2"]


# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_people_who_acknowledge_at_once_get_the_same_answer(world: World) -> None:
    """One of them is the first; both are told who."""
    await world.alerts.receive(delivery(report(10)))
    (episode,) = world.alerts.open
    answers = await asyncio.gather(*(world.alerts.acknowledge(episode.id, actor) for actor in (ADA, BOB) * 5))
    assert len({answer.acknowledged_by for answer in answers}) == 1
    assert world.alerts.open == (answers[0],)
    assert len(await world.book.audit()) == 10


async def test_the_timeline_tells_what_happened(world: World) -> None:
    """With the alert itself; of an unknown one it says so."""
    await world.alerts.receive(delivery(report(10)))
    (episode,) = world.alerts.open
    world.clock.advance(20)
    note = await world.alerts.note(episode.id, ADA, "Looking")
    found, events = await world.alerts.timeline(episode.id)
    assert (found, events[1:]) == (episode, [note])
    assert await world.alerts.listed(resolved=False, severity="critical", limit=5) == [episode]
    for call in (world.alerts.timeline("unknown"), world.alerts.note("unknown", ADA, "?")):
        with pytest.raises(ledger.UnknownAlert):
            await call


async def test_a_task_that_fails_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the program is logged, and the next round comes all the same."""
    monkeypatch.setattr(module, "REVISION_SECONDS", 0.01)
    await world.start(world.alerts)
    untouched = table.all_open

    def fails(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(table, "all_open", fails)
    await world.book.hear(report(10))
    await until(lambda: "a background task failed" in caplog.text)
    monkeypatch.setattr(table, "all_open", untouched)
    await until(lambda: open_names(world.alerts) == ["primary"])
