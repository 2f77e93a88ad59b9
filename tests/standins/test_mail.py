"""The stand-in for a mail server takes nothing in the clear, and nothing from strangers."""

import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.probes.support import self_signed
from tests.standins.mail import MailServer

USER, PASSWORD = "alertmanager@example.com", "secret"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path, "localhost")


@pytest.fixture
def server(files: tuple[Path, Path]) -> Iterator[MailServer]:
    with MailServer(USER, PASSWORD, *files) as started:
        yield started


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = USER, "oncall@example.com", "Down"
    mail.set_content("It is down.")
    return mail


def test_a_mail_over_tls_from_who_signs_in_is_taken(server: MailServer, files: tuple[Path, Path]) -> None:
    """Its certificate counts for localhost; recipients, subject and text are kept."""
    with smtplib.SMTP("localhost", server.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(files[0])))
        client.login(USER, PASSWORD)
        client.send_message(message())
    (mail,) = server.mails
    assert (mail.recipients, mail.subject) == (("oncall@example.com",), "Down")
    assert mail.texts["text/plain"].splitlines() == ["It is down."]


def test_nothing_is_taken_in_the_clear(server: MailServer) -> None:
    """Without STARTTLS neither a mail nor a password is accepted."""
    with smtplib.SMTP("localhost", server.port) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            client.send_message(message())
    assert refused.value.smtp_code == 530
    assert server.mails == []


def test_nothing_is_taken_from_strangers(server: MailServer, files: tuple[Path, Path]) -> None:
    """A wrong password, and none at all."""
    with smtplib.SMTP("localhost", server.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(files[0])))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            client.send_message(message())
    assert refused.value.smtp_code == 530
    assert server.mails == []
