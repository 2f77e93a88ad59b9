"""Every channel that a page takes, as stand-ins that start together."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.standins.heartbeat import Heartbeat
from tests.standins.mail import MailServer
from tests.standins.pagerduty import PagerDuty
from tests.standins.slack import Slack
from tests.standins.sns import Sns


@dataclass(frozen=True)
class Channels:
    """The services, and the secrets that they accept."""

    pagerduty: PagerDuty
    slack: Slack
    mail: MailServer
    sns: Sns
    heartbeat: Heartbeat
    routing_key: str
    password: str
    token: str


@contextmanager
def channels() -> Iterator[Channels]:
    """Start them; they stop at the end of the block."""
    routing_key, password, token = (secrets.token_hex(16) for _ in range(3))
    with ExitStack() as running:
        yield Channels(
            running.enter_context(PagerDuty(routing_key)),
            running.enter_context(Slack(token, ["#incidents"])),
            running.enter_context(MailServer(user="alertmanager@auraconnect.ai", password=password)),
            running.enter_context(Sns(access_key="test-access-key")),
            running.enter_context(Heartbeat(token)),
            routing_key,
            password,
            token,
        )
