"""Who asks, and what may they: an ``Authorization`` header becomes a Principal with roles, or is refused.

Three kinds of credential: our own tokens and AuraConnect's access tokens (``Bearer``), and the passwords of the web
configuration file (``Basic``). A certificate counts where TLS has verified it and no header says more. The reason of a
refusal is for the log; whoever is refused learns only that they are.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec
from jwt import PyJWS
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError, PyJWTError

from auraconnect_exporter.config import ConfigError
from auraconnect_exporter.model import Clock, Secret

log = logging.getLogger(__name__)

TOKEN_PREFIX: Final = "auc_"  # noqa: S105  # what our tokens begin with, so that scanners for secrets know them
MAX_HEADER: Final = 8192
"""Characters of an ``Authorization`` header."""
MAX_NAME: Final = 128
LEEWAY: Final = 10.0
"""Seconds by which the clocks of AuraConnect and of this machine may differ."""
MAX_SECRET_BYTES: Final = 64 * 1024

REALM: Final = 'realm="auraconnect"'
INSUFFICIENT_SCOPE: Final = f'Bearer {REALM}, error="insufficient_scope"'
"""The ``WWW-Authenticate`` of a 403 (RFC 6750)."""


class Role(StrEnum):
    """What a caller may do."""

    SYSTEM_ADMIN = "system_admin"
    """Everything, reload included."""
    ALERTMANAGER = "alertmanager"
    """Deliver alerts to the webhook."""
    INGEST = "ingest"
    """Log errors."""
    METRICS = "metrics"
    """Read ``/metrics`` where it is closed."""


class Kind(StrEnum):
    """How a caller proved who they are."""

    TOKEN = "token"  # noqa: S105  # a kind of credential, not one
    JWT = "jwt"
    BASIC = "basic"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential was valid; the name is fit for logs."""

    name: str
    roles: frozenset[Role]
    kind: Kind


class Reason(StrEnum):
    """Why a caller was refused: a fixed list, for logs and counters."""

    MISSING = "missing"
    MALFORMED = "malformed"
    SCHEME = "scheme"
    UNKNOWN = "unknown"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    CLAIMS = "claims"


@dataclass(frozen=True, slots=True)
class Refused:
    """A caller who is not let in."""

    reason: Reason

    @property
    def failed(self) -> bool:
        """Whether it was a failed sign-in: a credential was shown, and it was no good."""
        return self.reason is not Reason.MISSING


class Tokens(Protocol):
    """Our own tokens."""

    def find(self, token: str) -> Principal | Refused:
        """Return whose token it is."""


class Passwords(Protocol):
    """The users of the web configuration file."""

    def known(self, user: str, password: str) -> bool:
        """Whether the password was right a moment ago; costs nothing."""

    def check(self, user: str, password: str) -> bool:
        """Whether the password is right; takes a good part of a second unless it is known."""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Knows callers by their credentials."""

    tokens: Tokens
    access_tokens: AccessTokens | None = None
    passwords: Passwords | None = None

    def authenticate(self, authorization: str | None, certificate: str | None = None) -> Principal | Refused:
        """Return who asks.

        ``authorization`` is the header (several of them, joined by commas, are malformed), ``certificate`` the name in
        a client certificate that TLS has verified. Never raises, whatever the header holds.
        """
        if authorization is None:
            if certificate is None:
                return Refused(Reason.MISSING)
            return Principal(safe_name(certificate), frozenset({Role.METRICS}), Kind.CERTIFICATE)
        scheme, credential = _split(authorization)
        if scheme == "bearer":
            return self._bearer(credential)
        if scheme == "basic" and self.passwords is not None:
            return _basic(credential, self.passwords)
        return Refused(Reason.SCHEME if scheme else Reason.MALFORMED)

    def is_slow(self, authorization: str | None) -> bool:
        """Whether ``authenticate`` would work on a password's hash, which is nothing for the event loop."""
        scheme, credential = _split(authorization or "")
        user_password = _user_password(credential) if scheme == "basic" else None
        return self.passwords is not None and user_password is not None and not self.passwords.known(*user_password)

    def challenges(self, refused: Refused, role: Role) -> tuple[str, ...]:
        """Return the ``WWW-Authenticate`` headers for a caller who is refused where ``role`` is needed (RFC 6750)."""
        shown = refused.failed and refused.reason is not Reason.SCHEME
        bearer = f'Bearer {REALM}, error="invalid_token"' if shown else f"Bearer {REALM}"
        # A browser that is offered Basic asks its user for a password, so it is offered only where one helps.
        helps = self.passwords is not None and role is Role.METRICS
        return (bearer, f'Basic {REALM}, charset="UTF-8"') if helps else (bearer,)

    def _bearer(self, credential: str) -> Principal | Refused:
        if credential.startswith(TOKEN_PREFIX):
            return self.tokens.find(credential)
        return Refused(Reason.UNKNOWN) if self.access_tokens is None else self.access_tokens.find(credential)


def authorize(principal: Principal, role: Role) -> bool:
    """Whether a caller may do what needs a role."""
    return role in principal.roles or Role.SYSTEM_ADMIN in principal.roles


def safe_name(text: str) -> str:
    """Return a name that can stand in a log or on a page: printable, one line, not long."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * MAX_NAME])
    return " ".join(printable.split())[:MAX_NAME].rstrip()


def _split(authorization: str) -> tuple[str, str]:
    """Return scheme and credential; an empty scheme means that the header is malformed."""
    if len(authorization) > MAX_HEADER:
        return "", ""
    match = re.fullmatch(r"([A-Za-z]{1,20}) +([!-~]+) *", authorization)
    return (match[1].lower(), match[2]) if match else ("", "")


def _user_password(credential: str) -> tuple[str, str] | None:
    try:
        text = base64.b64decode(credential, validate=True).decode("utf-8")
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _basic(credential: str, passwords: Passwords) -> Principal | Refused:
    user_password = _user_password(credential)
    if user_password is None:
        return Refused(Reason.MALFORMED)
    if not passwords.check(*user_password):
        return Refused(Reason.UNKNOWN)
    return Principal(safe_name(user_password[0]), frozenset({Role.METRICS}), Kind.BASIC)


Algorithm = Literal["HS256", "HS384", "HS512"]
_DIGESTS: Final[Mapping[Algorithm, Any]] = {
    "HS256": hashlib.sha256,
    "HS384": hashlib.sha384,
    "HS512": hashlib.sha512,
}
_ADMINS: Final = frozenset({"admin", "system_admin"})
"""AuraConnect's roles that have the system permissions."""


@dataclass(frozen=True, slots=True)
class AccessTokenSettings:
    """How AuraConnect signs its access tokens. The newest secret comes first; the others are on their way out."""

    secrets: tuple[Secret, ...]
    algorithm: Algorithm
    issuer: str
    audience: str


class _Claims(msgspec.Struct, frozen=True):
    """What we read of a token, strictly: a number is a number. Other claims are AuraConnect's own business."""

    sub: str
    exp: float
    iat: float
    iss: str
    aud: str | tuple[str, ...]
    type: Literal["access"]
    roles: tuple[str, ...]
    nbf: float = 0.0
    username: str | None = None
    email: str | None = None


class _Hmac(HMACAlgorithm):
    """PyJWT's HMAC, whose checks of the secret are made once, when the settings are read."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002  # PyJWT's signature
        return None


class AccessTokens:
    """AuraConnect's JWTs, of the type ``access`` only."""

    def __init__(self, settings: AccessTokenSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        # It knows one algorithm, so that no header can talk it into another one, or into none.
        self._jws = PyJWS(algorithms=[])
        self._jws.register_algorithm(settings.algorithm, _Hmac(_DIGESTS[settings.algorithm]))

    def find(self, token: str) -> Principal | Refused:
        """Return whose token it is. Never raises, whatever the token holds."""
        payload = self._payload(token)
        if isinstance(payload, Refused):
            return payload
        try:
            claims = msgspec.json.decode(payload, type=_Claims)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return Refused(Reason.CLAIMS)
        now = self._clock.time()
        audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        names = (safe_name(name) for name in (claims.username, claims.email, claims.sub) if name)
        name = next((name for name in names if name), "")
        if (
            claims.iss != self._settings.issuer
            or self._settings.audience not in audiences
            or max(claims.iat, claims.nbf) > now + LEEWAY
            or not claims.sub
            or not name
        ):
            return Refused(Reason.CLAIMS)
        if claims.exp <= now - LEEWAY:
            return Refused(Reason.EXPIRED)
        roles = {Role.SYSTEM_ADMIN} if _ADMINS & set(claims.roles) else set()
        return Principal(name, frozenset(roles), Kind.JWT)

    def _payload(self, token: str) -> bytes | Refused:
        """Return the bytes that were signed with one of the secrets."""
        for secret in self._settings.secrets:
            try:
                decoded = self._jws.decode_complete(token, secret.reveal().encode(), [self._settings.algorithm])
            except InvalidSignatureError:
                continue
            except InvalidAlgorithmError:
                return Refused(Reason.SIGNATURE)
            except (PyJWTError, ValueError, RecursionError):  # some versions let those of the JSON reader through
                return Refused(Reason.MALFORMED)
            if "crit" in decoded["header"]:  # an extension that must be understood, and isn't
                return Refused(Reason.MALFORMED)
            payload: bytes = decoded["payload"]
            return payload
        return Refused(Reason.SIGNATURE)


def access_token_settings(environ: Mapping[str, str]) -> AccessTokenSettings | None:
    """Read AuraConnect's own variables; None where no secret is set. Raises ConfigError.

    ``JWT_SECRET_KEY``, and ``JWT_SECRET_KEY_PREVIOUS`` while it is being replaced, each also as ``…_FILE``;
    ``JWT_ALGORITHM``, ``JWT_ISSUER``, ``JWT_AUDIENCE``.
    """
    named = environ.get("JWT_ALGORITHM") or "HS256"
    algorithm = next((known for known in _DIGESTS if known == named), None)
    if algorithm is None:
        raise ConfigError(f"JWT_ALGORITHM: expected {', '.join(_DIGESTS)}, got {named[:20]!r}")
    current = _secret("JWT_SECRET_KEY", environ, algorithm)
    previous = _secret("JWT_SECRET_KEY_PREVIOUS", environ, algorithm)
    if current is None:
        if previous is not None:
            raise ConfigError("JWT_SECRET_KEY_PREVIOUS: needs JWT_SECRET_KEY beside it, the secret in use")
        return None
    return AccessTokenSettings(
        secrets=(current,) if previous is None else (current, previous),
        algorithm=algorithm,
        issuer=environ.get("JWT_ISSUER") or "auraconnect-api",
        audience=environ.get("JWT_AUDIENCE") or "auraconnect-ws",
    )


def _secret(variable: str, environ: Mapping[str, str], algorithm: Algorithm) -> Secret | None:
    text, file = environ.get(variable) or None, environ.get(f"{variable}_FILE") or None
    if text is not None and file is not None:
        raise ConfigError(f"{variable}: stands beside {variable}_FILE, use one of them")
    if file is not None:
        variable = f"{variable}_FILE"
        text = _read_secret(variable, Path(file))
    if text is None:
        return None
    hmac = HMACAlgorithm(_DIGESTS[algorithm])
    try:
        key = hmac.prepare_key(text.encode())
    except InvalidKeyError:
        raise ConfigError(f"{variable}: is empty, or a key or certificate, not a shared secret") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{variable}: is not UTF-8 text") from None
    shortest = _DIGESTS[algorithm]().digest_size
    if len(key) < shortest:
        # AuraConnect runs with it, and it is AuraConnect's to change; refusing would shut its people out of here alone.
        log.warning(
            "the secret of access tokens is short enough to be guessed",
            extra={"variable": variable, "bytes": len(key), "needed": shortest},
        )
    return Secret(text)


def _read_secret(variable: str, path: Path) -> str:
    """Return what a file says, without its last line's end."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_SECRET_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{variable}: {path} can't be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{variable}: {path} is not UTF-8 text") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise ConfigError(f"{variable}: {path} is larger than {MAX_SECRET_BYTES} bytes")
    return text.rstrip("\r\n")
