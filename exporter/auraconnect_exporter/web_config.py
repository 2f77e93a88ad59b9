"""The web configuration file of Prometheus's exporter-toolkit: TLS, headers, users → WebConfig, or ConfigError.

The format is that of ``--web.config.file``, described in exporter-toolkit's docs/web-configuration.md. What Python's
TLS can't do is refused with a sentence, never ignored. Certificates are read again when their files change.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bcrypt
import msgspec

from auraconnect_exporter import strict_yaml
from auraconnect_exporter.config import ConfigError
from auraconnect_exporter.model import Clock, Secret
from auraconnect_exporter.schema import Problem, converted

log = logging.getLogger(__name__)

HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that exporter-toolkit lets a file set, and their values where only some are allowed."""

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Go's names of the suites that it calls secure, for TLS 1.2, and OpenSSL's."""
_ALWAYS_ON: Final = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
"""The suites of TLS 1.3, which neither Go nor Python lets one choose from."""
_UNVERIFIED: Final = {"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"}
_MAX_PASSWORD_BYTES: Final = 72
"""What bcrypt looks at, in every implementation."""


@dataclass(frozen=True, slots=True)
class TlsFixed:
    """What TLS can't change while it listens."""

    client_certificates: ssl.VerifyMode = ssl.CERT_NONE
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str | None = None
    """OpenSSL's names, for TLS 1.2; None for OpenSSL's own choice."""
    prefer_server_ciphers: bool = True
    curve: str | None = None


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to serve TLS, and which client certificates are wanted."""

    certificate: Path
    key: Path
    authorities: Path | str | None = None
    """Who signs client certificates: a file, or the certificates in PEM form."""
    allowed_names: frozenset[str] | None = None
    """One of these must be an alternative name in a client's certificate; None for any name."""
    fixed: TlsFixed = TlsFixed()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        authorities = (self.authorities,) if isinstance(self.authorities, Path) else ()
        return (self.certificate, self.key, *authorities)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the web configuration file says. With ``passwords``, ``/metrics`` is closed."""

    tls: TlsSettings | None = None
    headers: tuple[tuple[str, str], ...] = ()
    passwords: BcryptPasswords | None = None


def load(path: Path) -> WebConfig:
    """Read the file and the certificates that it names. Raises ConfigError."""
    try:
        document = strict_yaml.load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except strict_yaml.YAMLProblem as error:
        raise ConfigError(f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}") from None
    try:
        spec = converted(document.data, _FileSpec)
        return spec.config(path.parent)
    except Problem as problem:
        place = f"{path}:{document.line(problem.path)}: {problem.path}".removesuffix(": ")
        raise ConfigError(f"{place}: {problem}") from None


class _TlsSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: str = ""
    client_ca_file: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    def settings(self, folder: Path) -> TlsSettings:
        """Return what the section describes, once it was seen to work. Raises Problem."""
        for name in ("cert", "key"):
            if getattr(self, name):
                raise _problem(name, f"Python's TLS reads it from a file only: use {name}_file")
            if not getattr(self, f"{name}_file"):
                raise Problem("tls_server_config", f"needs {name}_file")
        mode = self._mode()
        settings = TlsSettings(
            certificate=folder / self.cert_file,
            key=folder / self.key_file,
            authorities=self._authorities(folder, mode),
            allowed_names=self._allowed_names(mode),
            fixed=TlsFixed(
                client_certificates=mode,
                minimum=self._version("min_version", self.min_version),
                maximum=self._version("max_version", self.max_version),
                ciphers=self._ciphers(),
                prefer_server_ciphers=self.prefer_server_cipher_suites,
                curve=self._curve(),
            ),
        )
        if settings.fixed.minimum > settings.fixed.maximum:
            raise _problem("max_version", "is older than min_version")
        _Context.make(settings, trusted_since=0)
        return settings

    def _mode(self) -> ssl.VerifyMode:
        if self.client_auth_type in _UNVERIFIED:
            raise _problem(
                "client_auth_type",
                f"Python's TLS can't ask for a certificate and then not verify it, as {self.client_auth_type} wants: "
                "use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            )
        modes = {
            "": ssl.CERT_NONE,
            "NoClientCert": ssl.CERT_NONE,
            "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
            "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
        }
        if self.client_auth_type not in modes:
            known = (*modes, *sorted(_UNVERIFIED))[1:]
            raise _problem("client_auth_type", f"expected one of {', '.join(known)}")
        return modes[self.client_auth_type]

    def _authorities(self, folder: Path, mode: ssl.VerifyMode) -> Path | str | None:
        if self.client_ca and self.client_ca_file:
            raise _problem("client_ca", "stands beside client_ca_file, use one of them")
        named = self.client_ca or (folder / self.client_ca_file if self.client_ca_file else None)
        if named is not None and mode is ssl.CERT_NONE:
            raise _problem("client_auth_type", "must say what the client_ca is for, such as RequireAndVerifyClientCert")
        if named is None and mode is not ssl.CERT_NONE:
            raise _problem(
                "client_auth_type", "needs a client_ca_file: every public authority could let people in otherwise"
            )
        return named

    def _allowed_names(self, mode: ssl.VerifyMode) -> frozenset[str] | None:
        if self.client_allowed_sans is None:
            return None
        if mode is not ssl.CERT_REQUIRED:
            raise _problem("client_allowed_sans", "needs the client_auth_type RequireAndVerifyClientCert")
        return frozenset(self.client_allowed_sans)

    def _version(self, key: str, name: str) -> ssl.TLSVersion:
        if name in {"TLS10", "TLS11"}:
            raise _problem(key, f"OpenSSL 3 does not serve {name} any more: expected TLS12 or TLS13")
        if name not in _VERSIONS:
            raise _problem(key, "expected TLS12 or TLS13")
        return _VERSIONS[name]

    def _ciphers(self) -> str | None:
        for index, name in enumerate(self.cipher_suites):
            if name not in _CIPHERS and name not in _ALWAYS_ON:
                raise _problem(f"cipher_suites[{index}]", f"{name[:60]!r} is none of the suites that Go calls secure")
        chosen = [_CIPHERS[name] for name in self.cipher_suites if name in _CIPHERS]
        if self.cipher_suites and not chosen and self.min_version != "TLS13":
            raise _problem(
                "cipher_suites", "has none for TLS 1.2: set min_version to TLS13, whose suites are always on"
            )
        return ":".join(chosen) or None

    def _curve(self) -> str | None:
        for index, name in enumerate(self.curve_preferences):
            if name not in _CURVES:
                raise _problem(f"curve_preferences[{index}]", f"expected one of {', '.join(_CURVES)}")
        if len(self.curve_preferences) > 1:
            raise _problem("curve_preferences", "Python's TLS can be held to one curve only: name one, or none for all")
        return _CURVES[self.curve_preferences[0]] if self.curve_preferences else None


class _HttpSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    http2: bool = True  # either is right: HTTP/1.1 is what we serve, and every client of HTTP/2 speaks it
    headers: dict[str, str] | None = None

    def kept(self) -> tuple[tuple[str, str], ...]:
        """Return the headers to send. Raises Problem."""
        for name, value in (self.headers or {}).items():
            place = f"http_server_config.headers.{name}"
            if name not in HEADERS:
                raise Problem(place, f"is not one of {', '.join(HEADERS)}")
            if not re.fullmatch(r"[ -~]*", value):
                raise Problem(place, "has a character that a header can't hold")
            if value and HEADERS[name] and value not in HEADERS[name]:
                raise Problem(place, f"expected {' or '.join(HEADERS[name])}")
        return tuple((name, value) for name, value in (self.headers or {}).items() if value)


class _FileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file, with the keys of exporter-toolkit."""

    tls_server_config: _TlsSpec | None = None
    http_server_config: _HttpSpec | None = None
    basic_auth_users: dict[str, str] | None = None
    rate_limit: Any = None

    def config(self, folder: Path) -> WebConfig:
        """Return what the file describes; relative file names start from ``folder``. Raises Problem."""
        if self.rate_limit is not None:
            raise Problem("rate_limit", "is not supported: one limit for all callers would let one lock out the others")
        tls = self.tls_server_config
        return WebConfig(
            tls=None if tls is None or tls == _TlsSpec() else tls.settings(folder),
            headers=(self.http_server_config or _HttpSpec()).kept(),
            passwords=self._passwords(),
        )

    def _passwords(self) -> BcryptPasswords | None:
        users = self.basic_auth_users or {}
        for user, hashed in users.items():
            place = f"basic_auth_users.{user}"
            if not user or ":" in user:
                raise Problem(place, "is not a user's name: it is empty or has a colon in it")
            if not re.fullmatch(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", hashed):
                raise Problem(place, "expected a bcrypt hash, as `htpasswd -nB` prints it after the colon")
        return BcryptPasswords({user: Secret(hashed) for user, hashed in users.items()}) if users else None


def _problem(key: str, problem: str) -> Problem:
    return Problem(f"tls_server_config.{key}", problem)


class _Connection(ssl.SSLObject):
    """A connection that ends its handshake only if the client's certificate is one that is wanted now."""

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        if not isinstance(context, _Context) or context.verify_mode is ssl.CERT_NONE:
            return
        if self.session_reused and self.session is not None and self.session.time <= context.trusted_since:
            raise ssl.SSLCertVerificationError("the session began when others were trusted")
        if context.allowed_names is not None and not context.allowed_names & _alternative_names(self.getpeercert()):
            raise ssl.SSLCertVerificationError("the client's certificate has none of the names that are allowed")


class _Context(ssl.SSLContext):
    """A context that knows which client certificates are wanted beyond what OpenSSL checks."""

    allowed_names: frozenset[str] | None
    trusted_since: int
    """Unix seconds: a session that began earlier is none that ``authorities`` have vouched for."""
    sslobject_class = _Connection

    @classmethod
    def make(cls, settings: TlsSettings, trusted_since: int) -> _Context:
        """Return a context with the certificates as the files hold them now. Raises Problem."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.allowed_names = settings.allowed_names
        context.trusted_since = trusted_since
        context.minimum_version = settings.fixed.minimum
        context.maximum_version = settings.fixed.maximum
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if settings.fixed.prefer_server_ciphers:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if settings.fixed.ciphers is not None:
            try:
                context.set_ciphers(settings.fixed.ciphers)
            except ssl.SSLError:
                raise _problem("cipher_suites", "has none that this machine's OpenSSL serves") from None
        if settings.fixed.curve is not None:
            context.set_ecdh_curve(settings.fixed.curve)
        _load_certificate(context, settings)
        if settings.authorities is not None:
            _load_authorities(context, settings.authorities)
        context.verify_mode = settings.fixed.client_certificates
        return context


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    _check_readable("cert_file", settings.certificate)
    _check_readable("key_file", settings.key)

    def passphrase() -> str:
        raise _problem("key_file", f"{settings.key} is encrypted, and nobody is there to type its passphrase")

    try:
        context.load_cert_chain(settings.certificate, settings.key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _problem("key_file", f"{settings.key} is not the key of {settings.certificate}") from None
        raise _problem(
            "cert_file", f"{settings.certificate} and {settings.key} are not a certificate and its key in PEM form"
        ) from None


def _load_authorities(context: ssl.SSLContext, authorities: Path | str) -> None:
    try:
        if isinstance(authorities, Path):
            _check_readable("client_ca_file", authorities)
            context.load_verify_locations(cafile=authorities)
        else:
            context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise _problem(
            "client_ca_file" if isinstance(authorities, Path) else "client_ca", "holds no certificates in PEM form"
        ) from None


def _check_readable(key: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise _problem(key, f"{path} can't be read: {error.strerror}") from None


def _alternative_names(certificate: Mapping[str, Any] | None) -> set[str]:
    """Return a certificate's alternative names (DNS, IP, e-mail, URI) as Go writes them."""
    names = set()
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        if kind in {"DNS", "email", "URI"}:
            names.add(name)
        elif kind == "IP Address":
            with suppress(ValueError):  # not even OpenSSL could read it
                names.add(str(ipaddress.ip_address(name.strip())))
    return names


def certificate_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return whose a client certificate is, as ``getpeercert()`` returns it; None where TLS has verified none."""
    if not certificate:
        return None
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    names = [*common, *sorted(_alternative_names(certificate)), str(certificate.get("serialNumber", ""))]
    return next((str(name) for name in names if name), "")


class ServerTls:
    """TLS for one listening address. Changed certificates count for the connections that begin a second later."""

    def __init__(self, settings: TlsSettings, clock: Clock) -> None:
        """Read the certificates. Raises ConfigError."""
        self._clock = clock
        self._settings = settings
        self._seen = _identities(settings)
        self.context: ssl.SSLContext = self._make(settings, trusted_since=0)
        """What to listen with. It hands each connection over to the newest context."""
        self._newest: ssl.SSLContext = self.context
        self._checked = clock.monotonic()
        self.context.sni_callback = self._hand_over

    def replace(self, settings: TlsSettings) -> None:
        """Use other files, or other names. Raises ConfigError; then nothing has changed."""
        if settings.fixed != self._settings.fixed:
            raise ConfigError(
                "tls_server_config: only certificates, authorities and client_allowed_sans can change without a restart"
            )
        seen = _identities(settings)
        self._newest = self._make(settings, trusted_since=int(self._clock.time()))
        self._settings, self._seen = settings, seen

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Let a connection have the newest certificates; OpenSSL asks at the start of each, with a name or without."""
        now = self._clock.monotonic()
        if now - self._checked >= 1.0:
            self._checked = now
            self._refresh()
        connection.context = self._newest

    def _refresh(self) -> None:
        seen = _identities(self._settings)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._newest = self._make(self._settings, trusted_since=int(self._clock.time()))
        except ConfigError as error:
            # A certificate whose key comes a moment later, perhaps: the next change is tried again.
            log.error("the certificates were not read again", extra={"detail": str(error)})  # noqa: TRY400
        else:
            log.info("the certificates were read again")

    @staticmethod
    def _make(settings: TlsSettings, trusted_since: int) -> ssl.SSLContext:
        try:
            return _Context.make(settings, trusted_since)
        except Problem as problem:
            raise ConfigError(f"{problem.path}: {problem}") from None


def _identities(settings: TlsSettings) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what changes when one of the files does."""
    found: list[tuple[int, int, int] | None] = []
    for path in settings.files:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


class BcryptPasswords:
    """Users with passwords that are kept as bcrypt hashes.

    A password that was right is remembered as a hash with a salt of this process, so that scrapes don't pay for bcrypt
    each time. A user who does not exist costs as much work as one who does. One hash is worked on at a time, as in
    exporter-toolkit: whoever tries passwords gets one core at most. Safe to use from several threads.
    """

    def __init__(self, hashes: Mapping[str, Secret]) -> None:
        self._hashes = {user: hashed.reveal().encode() for user, hashed in hashes.items()}
        cost = max(int(hashed[4:6]) for hashed in self._hashes.values())
        self._nobody = bcrypt.gensalt(cost) + b"." * 31  # a hash that no password has, as far as anyone knows
        self._salt = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._working = threading.Lock()

    def known(self, user: str, password: str) -> bool:
        """Whether the password was right before; costs nothing."""
        right = self._right.get(user)
        return right is not None and hmac.compare_digest(right, self._digest(user, password))

    def check(self, user: str, password: str) -> bool:
        """Whether the password is right; unless it is known, this takes as long as the hash's cost wants."""
        if self.known(user, password):
            return True
        hashed = self._hashes.get(user)
        with self._working:
            matches = bcrypt.checkpw(password.encode()[:_MAX_PASSWORD_BYTES], hashed or self._nobody)
        if hashed is None or not matches:
            return False
        self._right[user] = self._digest(user, password)
        return True

    def _digest(self, user: str, password: str) -> bytes:
        return hmac.digest(self._salt, f"{user}\0{password}".encode(), hashlib.sha256)
