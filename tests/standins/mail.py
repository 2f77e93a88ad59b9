"""A stand-in for a mail server: takes mail from whoever signs in, and keeps it."""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.standins.service import Memory
from tools.servers import free_port


@dataclass(frozen=True)
class Mail:
    """A mail that was taken. `at` is when it arrived (time.monotonic), `texts` its body by content type."""

    at: float
    recipients: tuple[str, ...]
    subject: str
    texts: Mapping[str, str]


class MailServer(Memory):
    """Speaks SMTP (RFC 5321) on a free port of 127.0.0.1: STARTTLS (RFC 3207) first, then AUTH (RFC 4954).

    `certificate` and `key` are files (PEM).
    """

    def __init__(self, user: str, password: str, certificate: Path, key: Path) -> None:
        super().__init__()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        self._login = LoginPassword(user.encode(), password.encode())
        self.mails: list[Mail] = []
        self.port = free_port()
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            server_hostname="mail.test",
            authenticator=self._authenticate,
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            auth_exclude_mechanism=["LOGIN"],  # Alertmanager does not understand this one's prompts
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def __str__(self) -> str:
        return "\n  ".join([f"The mail server with {len(self.mails)} mails", *(str(mail) for mail in self.mails)])

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        """Take one mail; what aiosmtpd calls, once TLS is on and somebody has signed in."""
        message = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        texts = {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}
        with self.change():
            self.mails.append(Mail(time.monotonic(), tuple(envelope.rcpt_tos), message["Subject"], texts))
        return "250 OK"

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, login: Any) -> AuthResult:
        return AuthResult(success=login == self._login, handled=False)  # the answer is left to aiosmtpd
