"""A stand-in for Amazon SNS: takes signed Publish calls of the Query API and keeps what would go out as SMS.

Source: the SNS API Reference, "Publish" (parameters, limits, the answer), and Signature Version 4, of which the
key's name is checked, not the signature.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from tests.standins.service import Answer, Request, StandIn

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
    """The service, for one access key."""

    def __init__(self, access_key: str) -> None:
        super().__init__()
        self._access_key = access_key
        self.published: list[Published] = []

    def answer(self, request: Request) -> Answer:
        """Check a call and publish its message."""
        if f"Credential={self._access_key}/" not in request.headers.get("authorization", ""):
            return _error(403, "InvalidClientTokenId")
        call = dict(parse_qsl(request.body.decode()))
        subject, message = call.get("Subject", ""), call.get("Message", "")
        if (
            call.get("Action") != "Publish"
            or not message
            or len(message.encode()) > MAX_MESSAGE_BYTES
            or len(subject) > MAX_SUBJECT
            or not subject.isascii()
            or "\n" in subject
        ):
            return _error(400, "InvalidParameter")
        self.published.append(Published(request.at, call["TopicArn"], subject, message))
        number = f"00000000-0000-0000-0000-{len(self.published):012}"
        return _xml(
            200,
            f"<PublishResponse><PublishResult><MessageId>{number}</MessageId></PublishResult>"
            f"<ResponseMetadata><RequestId>{number}</RequestId></ResponseMetadata></PublishResponse>",
        )


def _error(status: int, code: str) -> Answer:
    return _xml(status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code></Error></ErrorResponse>")


def _xml(status: int, text: str) -> Answer:
    return Answer(status, text, "text/xml")
