"""The signature that AWS wants of a request: Signature Version 4, made anew from what came, and compared.

Source: AWS's documentation, "Create a signed AWS API request". Errors are named as AWS names them.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

from tests.standins.service import Request

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
MUST_BE_SIGNED = ("host", "x-amz-date")

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>[^/]+)/(?P<scope>\d{{8}}/[\w-]+/[\w-]+/aws4_request),\s*"
    r"SignedHeaders=(?P<signed>[\w;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Account:
    """An access key and its secret."""

    access_key: str
    secret_key: str


def fault(request: Request, account: Account, region: str, service: str, now: datetime) -> tuple[int, str] | None:
    """Return the status and code with which AWS refuses a request; None if it is signed well."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        return 403, "MissingAuthenticationToken"
    parts = _AUTHORIZATION.fullmatch(authorization)
    if parts is None:
        return 400, "IncompleteSignature"
    if parts["key"] != account.access_key:
        return 403, "InvalidClientTokenId"
    signed = parts["signed"].split(";")
    moment = request.headers.get("x-amz-date", "")
    if (
        not set(MUST_BE_SIGNED) <= set(signed) <= set(request.headers)
        or not _is_recent(moment, now)
        or parts["scope"] != f"{moment[:8]}/{region}/{service}/aws4_request"
        or parts["signature"] != signature(request, account.secret_key, parts["scope"], signed)
    ):
        return 403, "SignatureDoesNotMatch"
    return None


def signature(request: Request, secret_key: str, scope: str, signed: Sequence[str]) -> str:
    """Return a request's signature, in hexadecimal; `signed` are the names of the headers that it covers."""
    canonical = canonical_request(request, signed)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return _hmac(key, "\n".join([ALGORITHM, request.headers["x-amz-date"], scope, digest])).hex()


def canonical_request(request: Request, signed: Sequence[str]) -> str:
    """Return what is signed of a request, in one form whatever way it was written."""
    url = urlsplit(request.path)
    query = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in _pairs(url.query))
    return "\n".join(
        [
            request.method,
            url.path or "/",
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{_value(request.headers, name)}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _value(headers: Mapping[str, str], name: str) -> str:
    return " ".join(headers[name].split())


def _is_recent(moment: str, now: datetime) -> bool:
    try:
        sent = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(now - sent) <= MAX_SKEW


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()
