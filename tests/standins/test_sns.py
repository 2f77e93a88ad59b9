"""The stand-in for Amazon SNS refuses what the service refuses, a signature that is not right above all."""

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

import pytest

from tests.standins.service import Request
from tests.standins.sigv4 import ALGORITHM, Account, signature
from tests.standins.sns import Sns

ACCOUNT = Account("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOPIC = "arn:aws:sns:us-east-1:000000000000:pages"
CALL = {"Action": "Publish", "Version": "2010-03-31", "TopicArn": TOPIC, "Subject": "Down", "Message": "It is down"}


@pytest.fixture
def sns() -> Iterator[Sns]:
    with Sns(ACCOUNT, [TOPIC]) as service:
        yield service


def signed(
    service: Sns,
    body: str,
    account: Account = ACCOUNT,
    late: float = 0.0,
    scope: str = "us-east-1/sns",
) -> dict[str, str]:
    """Return the headers of a request as AWS's own clients sign it; it comes so many minutes late."""
    covered = ("host", "x-amz-date")
    moment = f"{datetime.now(UTC) - timedelta(minutes=late):%Y%m%dT%H%M%SZ}"
    headers = {"host": urlsplit(service.base_url).netloc, "x-amz-date": moment}
    whole = f"{moment[:8]}/{scope}/aws4_request"
    made = signature(Request(0.0, "POST", "/", headers, body.encode()), account.secret_key, whole, covered)
    credential = f"{ALGORITHM} Credential={account.access_key}/{whole}"
    return {**headers, "authorization": f"{credential}, SignedHeaders={';'.join(covered)}, Signature={made}"}


def send(service: Sns, body: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(service.base_url).netloc, timeout=5)
    connection.request("POST", "/", body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text.partition("<Code>")[2].partition("</Code>")[0]


def test_the_signature_is_that_of_awss_own_example() -> None:
    """The request, secret and signature that AWS's documentation shows (IAM, ListUsers)."""
    request = Request(
        0.0,
        "GET",
        "/?Action=ListUsers&Version=2010-05-08",
        {
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "host": "iam.amazonaws.com",
            "x-amz-date": "20150830T123600Z",
        },
        b"",
    )
    made = signature(
        request, ACCOUNT.secret_key, "20150830/us-east-1/iam/aws4_request", ("content-type", "host", "x-amz-date")
    )
    assert made == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


def test_a_signed_call_is_published(sns: Sns) -> None:
    """Topic, subject and message are kept."""
    body = urlencode(CALL)
    assert send(sns, body, signed(sns, body)) == (200, "")
    assert [(one.topic, one.subject, one.message) for one in sns.published] == [(TOPIC, "Down", "It is down")]


def test_a_signature_that_is_not_right_is_refused(sns: Sns) -> None:
    """Another secret, body, region, service or host, an old request, and one that claims to cover less."""
    body = urlencode(CALL)
    good = signed(sns, body)
    wrong = [
        signed(sns, body, Account(ACCOUNT.access_key, "another")),
        signed(sns, urlencode({**CALL, "Message": "All is well"})),
        signed(sns, body, scope="eu-west-1/sns"),
        signed(sns, body, scope="us-east-1/sqs"),
        signed(sns, body, late=16),
        signed(sns, body, late=-16),
        {**good, "host": "sns.eu-west-1.amazonaws.com"},
        {**good, "authorization": good["authorization"].replace("host;", "")},
        {**good, "x-amz-date": "yesterday"},
    ]
    assert [send(sns, body, headers) for headers in wrong] == [(403, "SignatureDoesNotMatch")] * len(wrong)
    assert send(sns, body, signed(sns, body, Account("SOMEBODY", "else"))) == (403, "InvalidClientTokenId")
    assert send(sns, body, {}) == (403, "MissingAuthenticationToken")
    assert send(sns, body, {"authorization": "Bearer token"}) == (400, "IncompleteSignature")
    assert sns.published == []


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"Action": "Subscribe"}, (400, "InvalidAction")),
        ({"Version": "2009-01-01"}, (400, "InvalidAction")),
        ({"TopicArn": f"{TOPIC}-of-others"}, (404, "NotFound")),
        ({"TopicArn": "pages"}, (400, "InvalidParameter")),
        ({"Message": ""}, (400, "InvalidParameter")),
        ({"Message": "m" * 262_145}, (400, "InvalidParameter")),
        ({"Subject": ""}, (400, "InvalidParameter")),
        ({"Subject": " Down"}, (400, "InvalidParameter")),
        ({"Subject": "Daten ü"}, (400, "InvalidParameter")),
        ({"Subject": "two\nlines"}, (400, "InvalidParameter")),
        ({"Subject": "s" * 100}, (400, "InvalidParameter")),
    ],
)
def test_a_faulty_call_is_refused(sns: Sns, change: dict[str, str], answer: tuple[int, str]) -> None:
    """A single fault gets its status and code, and nothing is published."""
    body = urlencode({**CALL, **change})
    assert send(sns, body, signed(sns, body)) == answer
    assert sns.published == []
