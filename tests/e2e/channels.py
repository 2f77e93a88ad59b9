"""Every channel that a page takes, as stand-ins that start together."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.probes.support import self_signed
from tests.standins.heartbeat import Heartbeat
from tests.standins.mail import MailServer
from tests.standins.pagerduty import PagerDuty
from tests.standins.sigv4 import Account
from tests.standins.slack import Slack
from tests.standins.sns import Sns

PAGED_ROLES = ("oncall-engineer", "lead-engineer", "cto")
"""Who has a service in PagerDuty, and a topic in SNS."""


@dataclass(frozen=True)
class Channels:
    """The services, and the secrets that they accept, by the names of their files.

    The mail server's certificate is `authority`.
    """

    pagerduty: PagerDuty
    slack: Slack
    mail: MailServer
    sns: Sns
    heartbeat: Heartbeat
    secrets: Mapping[str, str]
    authority: Path


@contextmanager
def channels(folder: Path) -> Iterator[Channels]:
    """Start them, with their files in `folder`; they stop at the end of the block."""
    routing_keys = {f"pagerduty-{role}": secrets.token_hex(16) for role in PAGED_ROLES}
    password, token, beat = (secrets.token_hex(16) for _ in range(3))
    account = Account("TESTACCESSKEY", secrets.token_hex(16))
    topics = [f"arn:aws:sns:us-east-1:000000000000:auraconnect-{role}" for role in PAGED_ROLES]
    certificate, key = self_signed(folder, "localhost")
    with ExitStack() as running:
        slack = running.enter_context(Slack(token, ["#incidents"]))
        yield Channels(
            running.enter_context(PagerDuty(*routing_keys.values())),
            slack,
            running.enter_context(MailServer("alertmanager@auraconnect.ai", password, certificate, key)),
            running.enter_context(Sns(account, topics)),
            running.enter_context(Heartbeat(beat)),
            {
                **routing_keys,
                "slack-webhook-url": slack.url,
                "smtp-password": password,
                "heartbeat-token": beat,
                "aws-credentials": "[auraconnect]\n"
                f"aws_access_key_id = {account.access_key}\naws_secret_access_key = {account.secret_key}\n",
            },
            certificate,
        )
