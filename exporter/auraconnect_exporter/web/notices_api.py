"""The operations of what the public is told: read by everybody, written by administrators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from aiohttp import web

from auraconnect_exporter.maintenance import Occurrence
from auraconnect_exporter.model import Snapshot, StatusPage
from auraconnect_exporter.notices import Notices
from auraconnect_exporter.records import NoticeState
from auraconnect_exporter.web import status
from auraconnect_exporter.web.operations import Call, Operation, json_answer
from auraconnect_exporter.web.status import PublicIncident, StatusAnswer

KEPT_SECONDS: Final = 1.0
"""For how long everybody gets the same answer."""
CACHED: Final = "public, max-age=15"
"""For how long whoever stands between us and the public may keep it."""

Words = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NoticeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An incident to tell the public of; ``components`` are names that people outside know."""

    title: Title
    text: Words
    state: NoticeState = NoticeState.INVESTIGATING
    components: Annotated[tuple[Title, ...], msgspec.Meta(max_length=20)] = ()


class NoticeUpdateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it goes on."""

    text: Words
    state: NoticeState


@dataclass(frozen=True, slots=True)
class NoticesApi:
    """What the public page is made from, and its operations."""

    notices: Notices
    page: Callable[[], StatusPage]
    snapshot: Callable[[], Snapshot]
    windows: Callable[[], Iterable[Occurrence]]

    def operations(self) -> tuple[Operation, ...]:
        """Return all of them, in the order of the document."""
        return (
            Operation(
                "status", "GET", "/status", "What the public is told", self._status, None,
                answer=StatusAnswer, kept_for=KEPT_SECONDS,
            ),
            Operation(
                "publishNotice", "POST", "/notices", "Tell the public of an incident", self._publish,
                body=NoticeBody, answer=PublicIncident, status=201, problems=(503,),
            ),
            Operation(
                "updateNotice", "POST", "/notices/{id}/updates", "Tell the public how it goes on, or that it is over",
                self._update, body=NoticeUpdateBody, answer=PublicIncident, status=201, problems=(404, 503),
            ),
        )  # fmt: skip

    def answer(self) -> StatusAnswer:
        """Return what the public is told now."""
        return status.status(self.page(), self.snapshot(), self.notices.shown, self.windows())

    async def _status(self, _call: Call) -> web.Response:
        return json_answer(self.answer(), headers={"Cache-Control": CACHED})

    async def _publish(self, call: Call) -> web.Response:
        body: NoticeBody = call.body
        notice = await self.notices.publish(body.title, body.components, body.state, body.text, call.actor)
        return json_answer(status.incident(notice), 201)

    async def _update(self, call: Call) -> web.Response:
        body: NoticeUpdateBody = call.body
        notice = await self.notices.update(call.request.match_info["id"], body.state, body.text, call.actor)
        return json_answer(status.incident(notice), 201)
