"""A stand-in for Amazon SNS: takes signed Publish calls of the Query API and keeps what would go out as SMS.

Source: the SNS API Reference, "Publish" (parameters, limits, errors, the answer); the signature is checked in full
(`sigv4`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from tests.standins import sigv4
from tests.standins.service import Answer, Request, StandIn
from tests.standins.sigv4 import Account

VERSION = "2010-03-31"
MAX_SUBJECT = 100
MAX_MESSAGE_BYTES = 262_144


@dataclass(frozen=True)
class Published:
    """A message that was published to a topic. `at` is when it arrived (time.monotonic)."""

    at: float
    topic: str
    subject: str
    message: str


class Sns(StandIn):
    """The service in one region, for one account, which has these topics (their ARNs)."""

    def __init__(self, account: Account, topics: Collection[str], region: str = "us-east-1") -> None:
        super().__init__()
        self._account, self._topics, self._region = account, topics, region
        self.published: list[Published] = []

    def answer(self, request: Request) -> Answer:
        """Check a call and publish its message."""
        refused = sigv4.fault(request, self._account, self._region, "sns", datetime.now(UTC))
        if refused:
            return _error(*refused)
        call = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        if call.get("Action") != "Publish" or call.get("Version") != VERSION:
            return _error(400, "InvalidAction")
        if not _is_valid(call):
            return _error(400, "InvalidParameter")
        if call["TopicArn"] not in self._topics:
            return _error(404, "NotFound")
        self.published.append(Published(request.at, call["TopicArn"], call.get("Subject", ""), call["Message"]))
        number = f"00000000-0000-0000-0000-{len(self.published):012}"
        return _xml(
            200,
            f"<PublishResponse><PublishResult><MessageId>{number}</MessageId></PublishResult>"
            f"<ResponseMetadata><RequestId>{number}</RequestId></ResponseMetadata></PublishResponse>",
        )


def _is_valid(call: dict[str, str]) -> bool:
    subject = call.get("Subject")
    if subject is not None and not (
        0 < len(subject) < MAX_SUBJECT and subject.isascii() and subject.isprintable() and subject[0] != " "
    ):
        return False
    message = call.get("Message", "").encode()
    return 0 < len(message) <= MAX_MESSAGE_BYTES and call.get("TopicArn", "").startswith("arn:aws:sns:")


def _error(status: int, code: str) -> Answer:
    return _xml(status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code></Error></ErrorResponse>")


def _xml(status: int, text: str) -> Answer:
    return Answer(status, text, "text/xml")
