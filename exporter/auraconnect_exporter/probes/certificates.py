"""TLS as probes need it: whom they trust, and when the certificates expire that they are shown.

Source of the certificate's form: RFC 5280, section 4.1.
"""

from __future__ import annotations

import ssl
import sys
from _ssl import ENCODING_DER
from datetime import UTC, datetime
from typing import Any, Final

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


class Trust:
    """TLS contexts by their file of authorities, shared by targets: the system's authorities take 0.9 MB and 17 ms."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def context(self, ca_file: str | None) -> ssl.SSLContext:
        """Return a context that trusts the authorities of a file, or the system's. Raises OSError or SSLError."""
        if ca_file not in self._contexts:
            self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
        return self._contexts[ca_file]

    def forget(self, ca_file: str | None) -> None:
        """Read the authorities anew next time: somebody may have renewed them."""
        self._contexts.pop(ca_file, None)


def trusting_anyone() -> ssl.SSLContext:
    """Return a context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the certificates from the server's own to the trusted one, in DER."""
    if sys.version_info >= (3, 13):
        return tls.get_verified_chain()
    inner: Any = getattr(tls, "_sslobj")  # noqa: B009  # 3.11 and 3.12 have it, but not by a public name
    return [certificate.public_bytes(ENCODING_DER) for certificate in inner.get_verified_chain()]


def not_after(der: bytes) -> float:
    """Return when a certificate expires, in Unix seconds. Raises ValueError for what is no certificate."""
    try:
        _, at, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, at)  # TBSCertificate
        tag, _, end = _element(der, at)
        for _ in range(4 if tag == _VERSION else 3):  # version, serialNumber, signature, issuer
            at = _element(der, at)[2]
        _, at, _ = _element(der, at)  # Validity
        at = _element(der, at)[2]  # notBefore
        tag, start, end = _element(der, at)
        text = der[start:end].decode("ascii")
        if tag == _UTC_TIME:
            text = f"{'19' if text >= '50' else '20'}{text}"
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except IndexError:
        raise ValueError("the certificate is cut off") from None


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element at an offset, and where its content begins and ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        start, length = start + (length & 0x7F), int.from_bytes(der[start : start + (length & 0x7F)])
    return tag, start, start + length
