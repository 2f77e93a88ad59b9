"""The stand-in for Slack's incoming webhooks refuses what the service refuses."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.standins.slack import Slack


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack("token", ["#incidents", "#other"]) as service:
        yield service


def send(service: Slack, body: Any, path: str | None = None) -> tuple[int, str]:
    url = urlsplit(service.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=5)
    connection.request("POST", path or url.path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_a_message_is_posted_with_all_that_a_reader_sees(slack: Slack) -> None:
    """Titles, texts, fields and links of an attachment are the message's text; keys that nobody sees are not."""
    attachment = {
        "title": "Down",
        "title_link": "https://example.com/runbook",
        "fallback": "unseen",
        "fields": [{"title": "component", "value": "database"}],
    }
    assert send(slack, {"channel": "#other", "attachments": [attachment]}) == (200, "ok")
    (message,) = slack.messages
    assert (message.channel, message.text) == ("#other", "Down\nhttps://example.com/runbook\ncomponent\ndatabase")


def test_a_message_without_a_channel_goes_to_the_webhooks_own(slack: Slack) -> None:
    """The first channel is the default."""
    assert send(slack, {"text": "hello"}) == (200, "ok")
    assert slack.messages[0].channel == "#incidents"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ([], (400, "invalid_payload")),
        ({"text": 1}, (400, "invalid_payload")),
        ({"channel": "#incidents"}, (400, "no_text")),
        ({"attachments": [{"text": ""}]}, (400, "no_text")),
        ({"text": "x", "attachments": [{}] * 101}, (400, "too_many_attachments")),
        ({"text": "x", "blocks": [{"type": "divider"}] * 51}, (400, "invalid_blocks")),
        ({"text": "x", "blocks": [{}]}, (400, "invalid_blocks")),
        ({"text": "x" * 40_001}, (400, "msg_too_long")),
        ({"text": "x", "channel": "#nowhere"}, (404, "channel_not_found")),
    ],
)
def test_a_faulty_message_is_refused(slack: Slack, body: Any, answer: tuple[int, str]) -> None:
    """A fault gets Slack's status and word for it, and nothing is posted."""
    assert send(slack, body) == answer
    assert slack.messages == []


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/services/T00000000/B00000000/wrong", (403, "invalid_token")),
        ("/services/T11111111/B00000000/token", (404, "no_service")),
    ],
)
def test_a_wrong_address_is_refused(slack: Slack, path: str, answer: tuple[int, str]) -> None:
    """The address is the secret: another token or service posts nothing."""
    assert send(slack, {"text": "hello"}, path) == answer
    assert slack.messages == []
