"""A stand-in for Slack's incoming webhooks: checks messages as the service does, and keeps those it posted.

Source: Slack's documentation, "Sending messages using incoming webhooks" (errors), "Reference: blocks" and
"Reference: secondary message attachments" (limits). Errors are plain text.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.standins.service import Answer, Request, StandIn

MAX_ATTACHMENTS = 100
MAX_BLOCKS = 50
MAX_TEXT = 40_000
"""Slack cuts a longer text off; here it is refused, since a page that is cut off is a fault."""


@dataclass(frozen=True)
class Message:
    """A message that was posted. `at` is when it arrived (time.monotonic), `text` all that a reader sees of it."""

    at: float
    channel: str
    text: str


class Slack(StandIn):
    """One webhook with its `token`, in a workspace that has these `channels`; the first is the webhook's own."""

    def __init__(self, token: str, channels: Collection[str]) -> None:
        super().__init__()
        self._path = f"/services/T00000000/B00000000/{token}"
        self._channels = tuple(channels)
        self.messages: list[Message] = []

    @property
    def url(self) -> str:
        """The webhook's address, which is its secret."""
        return f"{self.base_url}{self._path}"

    def answer(self, request: Request) -> Answer:
        """Check a message and post it."""
        path = urlsplit(request.path).path
        if not path.startswith(self._path.rpartition("/")[0]):
            return Answer(404, "no_service")
        if path != self._path:
            return Answer(403, "invalid_token")
        message = _decoded(request)
        error = "invalid_payload" if message is None else _error(message)
        if error or message is None:
            return Answer(400, error)
        channel = message.get("channel", self._channels[0])
        if channel not in self._channels:
            return Answer(404, "channel_not_found")
        self.messages.append(Message(request.at, channel, "\n".join(_texts(message))))
        return Answer(200, "ok")


def _decoded(request: Request) -> dict[str, Any] | None:
    if request.media_type != "application/json":
        return None
    try:
        message = json.loads(request.body)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _error(message: dict[str, Any]) -> str:
    """Return what Slack would answer to a faulty message; empty when there is no fault."""
    text, attachments, blocks = message.get("text", ""), message.get("attachments", []), message.get("blocks", [])
    if not isinstance(text, str) or not _are_objects(attachments) or not _are_objects(blocks):
        return "invalid_payload"
    if len(attachments) > MAX_ATTACHMENTS:
        return "too_many_attachments"
    if len(blocks) > MAX_BLOCKS or not all("type" in block for block in blocks):
        return "invalid_blocks"
    visible = "".join(_texts(message)).strip()
    if not visible:
        return "no_text"
    return "msg_too_long" if len(visible) > MAX_TEXT else ""


def _are_objects(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _texts(node: Any) -> list[str]:
    """Return what a reader sees of a message: titles, texts, fields, the addresses of links."""
    if isinstance(node, list):
        return [text for item in node for text in _texts(item)]
    if not isinstance(node, dict):
        return []
    texts = []
    for key, value in node.items():
        if key in {"title", "title_link", "pretext", "text", "value", "url"} and isinstance(value, str):
            texts.append(value)
        elif key in {"attachments", "blocks", "fields", "actions", "elements", "text"}:
            texts += _texts(value)
    return texts
