"""The alerts that are open, in memory, and all that happens to them: the only caller of the store's episodes.

Prometheus owns firing, Alertmanager routing, we own what people do and the history. What Alertmanager tells us comes in
by its webhook, at once, and by reading its list every ten seconds, which finds what no message told. What is posted to
us we tell Alertmanager, again and again until it is resolved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from auraconnect_exporter import ledger, muting, reconciliation
from auraconnect_exporter.clients import pagerduty
from auraconnect_exporter.clients.alertmanager import (
    AlertmanagerAlert,
    AlertmanagerStatus,
    PostableAlert,
    UnusableWebhook,
    Webhook,
    parse_webhook,
)
from auraconnect_exporter.clients.json_client import ClientError
from auraconnect_exporter.episodes import identity
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import (
    SECOND,
    Actor,
    Draft,
    Episode,
    Event,
    Identity,
    Moment,
    Origin,
    Report,
    moment,
)
from auraconnect_exporter.response_times import ResponseTimes
from auraconnect_exporter.store import episodes as table
from auraconnect_exporter.store import meta, set_aside
from auraconnect_exporter.store.engine import Store, StoreError
from auraconnect_exporter.store.transaction import Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

RECONCILE_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
"""After something could not be reached."""
REVISION_SECONDS: Final = 0.5
"""How often to ask the store whether somebody else has written: another exporter's acknowledgement counts here, too."""

PAGING: Final = "-page"
"""How the names of Alertmanager's receivers end that page through PagerDuty."""

LIFETIME: Final = 600 * SECOND
"""How long Alertmanager believes a posted alert without hearing of it again: ten missed messages, or our restart."""


class AlertmanagerApi(Protocol):
    """What we need of an Alertmanager."""

    async def alerts(self) -> list[AlertmanagerAlert]:
        """Return what fires."""

    async def post(self, alerts: Iterable[PostableAlert]) -> None:
        """Tell it of alerts."""

    async def status(self) -> AlertmanagerStatus:
        """Return since when it runs."""


class PrometheusApi(Protocol):
    """What we need of a Prometheus."""

    async def firing(self) -> Iterable[Iterable[tuple[str, str]]]:
        """Return the labels of the alerts that its rules fire."""


class Alerts:
    """Owns the open alerts, and the tasks that keep them true. ``base_url`` is where people reach our pages."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        alertmanagers: Mapping[str, AlertmanagerApi],
        prometheus: PrometheusApi | None,
        base_url: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._alertmanagers = alertmanagers
        self._prometheus = prometheus
        self._base_url = base_url
        self._open: dict[str, Episode] = {}
        self._suppressed: frozenset[str] = frozenset()
        self._revision = -1
        self._meanwhile: list[tuple[int, list[Episode]]] = []
        """What we have changed, with its revision, since we last began to read the store."""
        self._over: dict[str, Episode] = {}
        """Posted alerts that another exporter has resolved: we may have told that they fire since."""
        self._absent: dict[str, Moment] = {}
        self._untold: dict[str, Moment] = {}
        """Since when it is over what PagerDuty believes to go on, by fingerprint; and when that was told last."""
        self._told_again: dict[str, Moment] = {}
        self._hours: dict[str, tuple[str, muting.Hours]] = {}
        """Of each Alertmanager the configuration that it runs with, and what that says of hours."""
        self._doubt = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing: dict[tuple[str, str], float] = {}
        """Since when what fails, by name: an Alertmanager that answers may refuse what we tell it."""
        self.deliveries: dict[str, int] = {"accepted": 0, "unusable": 0, "refused": 0}
        """Deliveries of the webhook by what became of them."""
        self.times = ResponseTimes()

    # ── State ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_loaded(self) -> bool:
        """Whether the store has told what is open."""
        return self._revision >= 0

    @property
    def open(self) -> tuple[Episode, ...]:
        """What is not over, oldest first."""
        return tuple(sorted(self._open.values(), key=lambda episode: (episode.started_at, episode.id)))

    @property
    def suppressed(self) -> frozenset[str]:
        """The ids of those that Alertmanager keeps from people: silenced, inhibited or muted."""
        return self._suppressed & self._open.keys()

    @property
    def unreachable(self) -> dict[str, float]:
        """Since when (Unix seconds) the store and those around us can't be reached, by name."""
        since: dict[str, float] = {}
        for (name, _), at in self._failing.items():
            since[name] = min(at, since.get(name, at))
        return since

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of all that may be unreachable."""
        return ("store", *(("Prometheus",) if self._prometheus else ()), *self._alertmanagers)

    async def start(self) -> None:
        """Load what is open, and keep it true from now on; a store that can't be reached is asked again."""
        await self._follow()
        loops = {
            "follow the store": (self._follow, REVISION_SECONDS, None),
            "reconcile alerts": (self.reconcile, RECONCILE_SECONDS, self._doubt),
            "keep alerts alive": (self.tell, KEEP_ALIVE_SECONDS, self._news),
        }
        for name, (act, seconds, wake) in loops.items():
            self._tasks.append(asyncio.create_task(_repeat(act, seconds, wake), name=name))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── What Alertmanager tells ──────────────────────────────────────────────────────────────────────────────────────

    async def receive(self, body: bytes) -> None:
        """Take in a delivery of the webhook, once it is stored. Raises StoreError, after which it should come again.

        A body that can't be used would come again for ever, so it is put aside and counts as taken.
        """
        now = self._now()
        try:
            try:
                webhook = parse_webhook(body)
            except UnusableWebhook as problem:
                await self._put_aside(body, str(problem), now)
                return
            await self._record(webhook, now)
        except StoreError:
            self.deliveries["refused"] += 1
            raise
        self.deliveries["accepted"] += 1
        if webhook.truncated:
            log.warning("a delivery left out alerts, which are now asked for", extra={"left_out": webhook.truncated})
            self._doubt.set()

    async def _put_aside(self, body: bytes, reason: str, now: Moment) -> None:
        await self._store.write(lambda transaction: set_aside.insert(transaction, now, reason, body))
        self.deliveries["unusable"] += 1
        log.warning("a delivery of Alertmanager can't be used and was put aside", extra={"reason": reason})

    async def _record(self, webhook: Webhook, now: Moment) -> None:
        reports = [
            Report(alert.fingerprint, alert.labels, alert.annotations, alert.starts, alert.ends)
            for alert in webhook.alerts
        ]
        # What pages somebody through PagerDuty can be acknowledged there.
        key = pagerduty.dedup_key(webhook.group_key) if webhook.receiver.endswith(PAGING) else None

        for batch in ledger.batches(reports):

            def act(transaction: Transaction, batch: list[Report] = batch) -> list[Episode]:
                changed = ledger.record(transaction, batch, now, "webhook")
                if key is not None:
                    ledger.note_page(transaction, key, batch, now)
                    if webhook.status == "resolved":
                        ledger.close_page(transaction, key)
                return changed

            await self._change(act)

    async def acknowledge_page(self, key: str, actor: Actor) -> list[Episode]:
        """Note that somebody takes care in PagerDuty of all that a page is about. Raises StoreError."""
        now = self._now()
        return await self._change(lambda transaction: ledger.acknowledge_page(transaction, key, actor, now))

    async def reconcile(self) -> float | None:
        """Ask Alertmanager and Prometheus what fires, and make up for what no message told.

        Returns in how many seconds to do so again, where that is sooner than usual.
        """
        if not self._alertmanagers:
            return None
        if not self.is_loaded:
            return RETRY_SECONDS
        view = await self._view()
        now = self._now()
        missing = reconciliation.absent(self._open.values(), view)
        self._absent = {id_: self._absent.get(id_, now) for id_ in missing}
        over = reconciliation.over(self._absent, now)
        began = {episode.fingerprint: episode.started_at for episode in self._open.values()}
        news = [report for report in view.reports.values() if self._is_news(report, began)]
        states = reconciliation.suppressed(self._open.values(), view)
        changed_states = {id_: state for id_, state in states.items() if state != (id_ in self._suppressed)}
        for batch in ledger.batches(news):

            def record(transaction: Transaction, batch: list[Report] = batch) -> list[Episode]:
                return ledger.record(transaction, batch, now, "reconciler")

            await self._attempt("store", "reconcile", self._change(record))
        if over or changed_states:

            def act(transaction: Transaction) -> list[Episode]:
                changed = ledger.close(transaction, over, now, "reconciler")
                ledger.mark_suppressed(transaction, changed_states, now)
                return changed

            if await self._attempt("store", "reconcile", self._change(act)):
                self._suppressed = self._suppressed.union(states) - {id_ for id_, state in states.items() if not state}
        await self._tell_ends(view, now)
        return RETRY_SECONDS if self._failing or missing else None

    async def _tell_ends(self, view: reconciliation.View, now: Moment) -> None:
        """Tell Alertmanager again what is over, until PagerDuty has heard of it: the end may have come while muted.

        Prometheus does so too, but for a quarter of an hour only.
        """
        since = now - ledger.PAGES_REMEMBERED
        read = await self._attempt("store", "read", self._store.read(lambda act: table.open_pages(act, since)))
        if read is None:
            return
        untold = reconciliation.untold(read[0], self._open, view)
        self._untold = {id_: self._untold.get(id_, now) for id_ in untold}
        self._told_again = {id_: at for id_, at in self._told_again.items() if id_ in untold}
        due = reconciliation.over(self._untold | self._told_again, now)
        if not due:
            return
        messages = [
            PostableAlert(report.labels, report.annotations, report.starts, max(report.starts, self._untold[id_]))
            for id_ in due
            for report in [untold[id_]]
        ]
        for name, alertmanager in self._alertmanagers.items():
            await self._attempt(name, "tell what is over", alertmanager.post(messages))
        self._told_again |= dict.fromkeys(due, now)

    def _is_news(self, report: Report, began: Mapping[str, Moment]) -> bool:
        """Whether a report may tell something; most say that what is open, by when it ``began``, is open."""
        if report.labels.get("alert_id") in self._open:
            return False
        known = began.get(report.fingerprint)
        return known is None or report.starts < known

    async def _view(self) -> reconciliation.View:
        names = list(self._alertmanagers)
        lists = await asyncio.gather(*(self._ask(name, self._alertmanagers[name]) for name in names))
        firing: frozenset[Identity] | None = frozenset()
        if self._prometheus is not None:
            told = await self._attempt("Prometheus", "ask", self._prometheus.firing())
            firing = None if told is None else frozenset(identity(dict(labels)) for labels in told[0])
        answers = [answer for answer in lists if answer is not None]
        return reconciliation.View(
            reports=reconciliation.merged(reports for reports, _ in answers),
            complete=len(answers) == len(names) and all(settled for _, settled in answers),
            firing=firing,
        )

    async def _ask(self, name: str, alertmanager: AlertmanagerApi) -> tuple[list[Report], bool] | None:
        """Return what an Alertmanager holds and whether it has been running for long enough; None if it is away."""
        status = await self._attempt(name, "ask since when it runs", alertmanager.status())
        listed = await self._attempt(name, "ask what fires", alertmanager.alerts()) if status else None
        if status is None or listed is None:
            return None
        now = self._now()
        deaf = self._hours_of(name, status[0].config).deaf(now)
        reports = [
            Report(
                alert.fingerprint,
                alert.labels,
                alert.annotations,
                alert.starts_at,
                updated=alert.updated_at,
                suppressed=alert.suppressed or muting.nobody_hears(alert.receivers, deaf),
            )
            for alert in listed[0]
        ]
        return reports, now - status[0].started_at >= reconciliation.SETTLED

    def _hours_of(self, name: str, config: str) -> muting.Hours:
        """Return the hours of an Alertmanager's configuration, which is read anew only when it has changed."""
        known = self._hours.get(name)
        if known and known[0] == config:
            return known[1]
        hours = muting.Hours()
        if config:
            try:
                hours = muting.parse(config)
            except muting.UnusableHours as problem:
                log.warning(
                    "an Alertmanager's time intervals can't be read; what they mute counts as seen",
                    extra={"what": name, "reason": str(problem)},
                )
        self._hours[name] = config, hours
        return hours

    async def tell(self) -> float | None:
        """Tell every Alertmanager of the posted alerts that are open, and of those whose end it may not know."""
        if not self._alertmanagers:
            return None
        if not self.is_loaded:
            return RETRY_SECONDS
        read = await self._attempt("store", "read", self._store.read(table.untold))
        untold = [episode.id for episode in read[0]] if read else []
        over = self._over | {episode.id: episode for episode in (read[0] if read else [])}
        posted = [each for each in self._open.values() if each.origin is Origin.API and each.id not in over]
        if not posted and not over:
            return None
        until = self._now() + LIFETIME
        messages = [self._postable(episode, until) for episode in [*posted, *over.values()]]
        sent = await asyncio.gather(
            *(
                self._attempt(name, "tell what was posted", alertmanager.post(messages))
                for name, alertmanager in self._alertmanagers.items()
            ),
        )
        if None in sent:
            return RETRY_SECONDS
        for id_ in over:
            self._over.pop(id_, None)
        if untold:
            note = self._store.write(lambda transaction: table.set_told(transaction, untold, told=True))
            await self._attempt("store", "note what was told", note)
        return None

    def _postable(self, episode: Episode, until: Moment) -> PostableAlert:
        name = episode.identity.alertname
        description = episode.description or episode.title
        if episode.actual_value is not None and episode.threshold_value is not None:
            # In the words of the rules' descriptions, which a text message looks for.
            said = f"The value is {episode.actual_value:g}; the limit is {episode.threshold_value:g}."
            description = f"{description.rstrip('. ')}. {said}"
        annotations = {
            "summary": episode.title,
            "description": description,
            # Who posts brings no runbook along, except for what becomes an alert of ours.
            "runbook_url": f"{self._base_url}/runbooks/{name if name == ledger.BREACH else ''}",
            "dashboard_url": f"{self._base_url}/dashboard",
        }
        ends = until if episode.ended_at is None else episode.ended_at
        return PostableAlert(episode.labels, annotations, episode.started_at, ends, annotations["dashboard_url"])

    # ── What people and programs do; all raise StoreError ────────────────────────────────────────────────────────────

    async def post(self, draft: Draft, actor: Actor) -> Episode:
        """Open an alert. Raises TooManyOpen."""
        now = self._now()
        episode = await self._change_one(lambda transaction: ledger.post(transaction, draft, actor, now))
        self._news.set()
        return episode

    async def acknowledge(self, id_: str, actor: Actor) -> Episode:
        """Note that somebody takes care. Raises UnknownAlert."""
        now = self._now()
        return await self._change_one(lambda transaction: ledger.acknowledge(transaction, id_, actor, now))

    async def resolve(self, id_: str, actor: Actor, *, force: bool) -> Episode:
        """End an alert. Raises UnknownAlert, StillFiring."""
        now = self._now()
        episode = await self._change_one(
            lambda transaction: ledger.resolve(transaction, id_, actor, now, force=force),
        )
        self._news.set()
        return episode

    async def note(self, id_: str, actor: Actor, text: str) -> Event:
        """Add a note. Raises UnknownAlert."""
        now = self._now()
        return await self._store.write(lambda transaction: ledger.note(transaction, id_, actor, now, text))

    async def listed(self, *, resolved: bool | None, severity: str | None, limit: int) -> list[Episode]:
        """Return alerts, those that began last first."""
        return await self._store.read(
            lambda transaction: table.listed(transaction, resolved=resolved, severity=severity, limit=limit)
        )

    async def timeline(self, id_: str) -> tuple[Episode, list[Event]]:
        """Return an alert and what happened to it. Raises UnknownAlert."""

        def read(transaction: Transaction) -> tuple[Episode | None, list[Event]]:
            return table.get(transaction, id_), table.timeline(transaction, id_)

        episode, events = await self._store.read(read)
        if episode is None:
            raise ledger.UnknownAlert(f"there is no alert {id_}")
        return episode, events

    # ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _change_one(self, act: Callable[[Transaction], Episode]) -> Episode:
        (episode,) = await self._change(lambda transaction: [act(transaction)])
        return episode

    async def _change(self, act: Callable[[Transaction], list[Episode]]) -> list[Episode]:
        """Change the store, then the memory."""

        def run(transaction: Transaction) -> tuple[list[Episode], int]:
            return act(transaction), meta.revision(transaction)

        changed, revision = await self._store.write(run)
        if revision <= self._revision:
            return changed  # was read meanwhile, perhaps with what somebody did after it
        self._meanwhile.append((revision, changed))
        self._observe(changed)
        self._remember(revision, changed)
        return changed

    def _remember(self, revision: int, changed: Iterable[Episode]) -> None:
        for episode in changed:
            if episode.is_open:
                self._open[episode.id] = episode
            else:
                self._open.pop(episode.id, None)
        if revision == self._revision + 1:  # else somebody wrote in between, and all is read again soon
            self._revision = revision

    async def _refresh(self) -> None:
        """Read what is open, if anybody has written since it was read last. Raises StoreError."""
        self._meanwhile = []
        if await self._store.revision() == self._revision:
            return
        known = tuple(self._open)

        def read(transaction: Transaction) -> tuple[list[Episode], list[Episode], set[str], int]:
            found = table.all_open(transaction)
            gone = set(known).difference(episode.id for episode in found)
            over = [episode for id_ in gone if (episode := table.get(transaction, id_)) is not None]
            return found, over, table.suppressed(transaction), meta.revision(transaction)

        found, over, suppressed, revision = await self._store.read(read)
        later = [(number, changed) for number, changed in self._meanwhile if number > revision]
        ours = {episode.id for _, changed in later for episode in changed}
        theirs = [episode for episode in [*found, *over] if episode.id not in ours]
        self._observe(theirs)
        told = {each.id: each for each in theirs if each.origin is Origin.API and not each.is_open}
        if told:
            self._over |= told
            self._news.set()
        self._open = {episode.id: episode for episode in found}
        self._suppressed = frozenset(suppressed)
        self._revision = revision
        for number, changed in later:
            self._remember(number, changed)

    async def _follow(self) -> float | None:
        await self._attempt("store", "read", self._refresh())
        return None

    def _observe(self, changed: Iterable[Episode]) -> None:
        """Count how long people took for what has just been acknowledged or has ended, and was known before."""
        for episode in changed:
            known = self._open.get(episode.id)
            if known is None:
                continue
            if known.acknowledged_at is None and episode.acknowledged_at is not None:
                self.times.acknowledged(episode.identity.severity, episode.acknowledged_at - episode.started_at)
            if episode.ended_at is not None:
                self.times.resolved(episode.identity.severity, episode.ended_at - episode.started_at)

    async def _attempt(self, name: str, what: str, call: Coroutine[Any, Any, T]) -> tuple[T] | None:
        """Await a call; returns what it does, or None when it failed, which is said once."""
        try:
            result = await call
        except (ClientError, StoreError) as error:
            if (name, what) not in self._failing:
                if name not in self.unreachable:
                    log.warning("can't be reached", extra={"what": name, "to": what, "detail": str(error)})
                self._failing[name, what] = self._clock.time()
            return None
        if self._failing.pop((name, what), None) is not None and name not in self.unreachable:
            log.info("can be reached again", extra={"what": name})
        return (result,)

    def _now(self) -> Moment:
        return moment(self._clock.time())


async def _repeat(
    act: Callable[[], Coroutine[Any, Any, float | None]], seconds: float, wake: asyncio.Event | None
) -> None:
    """Act again and again: every so many seconds, sooner where ``act`` says so or ``wake`` is set."""
    while True:
        try:
            sooner = await act()
        except Exception:
            log.exception("a background task failed; it goes on")
            sooner = None
        pause = seconds if sooner is None else min(sooner, seconds)
        if wake is None:
            await asyncio.sleep(pause)
            continue
        try:
            await asyncio.wait_for(wake.wait(), pause)
        except TimeoutError:
            continue
        wake.clear()
