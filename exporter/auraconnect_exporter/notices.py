"""What the public is told of incidents: a person publishes it, word by word; nothing is told by itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from auraconnect_exporter.ledger import new_id
from auraconnect_exporter.model import Clock
from auraconnect_exporter.records import SECOND, Actor, Moment, Notice, NoticeState, NoticeUpdate, moment
from auraconnect_exporter.store import audit
from auraconnect_exporter.store import notices as table
from auraconnect_exporter.store.engine import Store, StoreError
from auraconnect_exporter.store.transaction import Transaction

log = logging.getLogger(__name__)

SHOWN_FOR: Final = 90 * 86400 * SECOND
"""How long the public is told of what is over."""
MAX_SHOWN: Final = 50


class UnknownNotice(Exception):
    """There is no notice with this id."""


class Notices:
    """The notices that the store holds. What changes or lists them raises StoreError.

    ``shown`` is what the public sees, None while nobody can tell; it is read in the background, however many look.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.shown: tuple[Notice, ...] | None = None

    async def read(self) -> None:
        """Read what the public sees."""
        try:
            self.shown = tuple(await self.newest(MAX_SHOWN))
        except StoreError as error:
            log.debug("the notices could not be read", extra={"detail": str(error)})
            self.shown = None

    async def newest(self, limit: int) -> list[Notice]:
        """Return the newest notices, those that are not over and those of the last months."""
        since = self._now() - SHOWN_FOR
        return await self._store.read(lambda transaction: table.newest(transaction, since, limit))

    async def publish(
        self, title: str, components: tuple[str, ...], state: NoticeState, text: str, actor: Actor
    ) -> Notice:
        """Tell the public of an incident."""
        now = self._now()
        notice = Notice(new_id(), title, components, (NoticeUpdate(now, state, text, actor.name),))

        def act(transaction: Transaction) -> None:
            table.insert(transaction, notice)
            audit.insert(transaction, actor.did(now, "notice.publish", notice.id))

        await self._store.write(act)
        await self.read()
        return notice

    async def update(self, id_: str, state: NoticeState, text: str, actor: Actor) -> Notice:
        """Tell the public how it goes on. Raises UnknownNotice."""
        now = self._now()

        def act(transaction: Transaction) -> Notice:
            notice = table.get(transaction, id_)
            if notice is None:
                raise UnknownNotice(f"there is no notice {id_}")
            update = NoticeUpdate(now, state, text, actor.name)
            table.add(transaction, id_, update)
            audit.insert(transaction, actor.did(now, "notice.update", id_))
            return replace(notice, updates=(*notice.updates, update))

        notice = await self._store.write(act)
        await self.read()
        return notice

    def _now(self) -> Moment:
        return moment(self._clock.time())
