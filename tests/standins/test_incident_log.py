"""The stand-in for our webhook takes deliveries at its own address, from who has the token."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from tests.standins.incident_log import PATH, IncidentLog

DELIVERY = {"version": "4", "status": "firing", "receiver": "incident-log", "groupKey": "{}:{}", "alerts": []}


@pytest.mark.parametrize(
    ("path", "token", "status"), [(PATH, "right", 200), (PATH, "wrong", 401), ("/elsewhere", "right", 404)]
)
def test_who_may_deliver_where(path: str, token: str, status: int) -> None:
    """Another address or token is refused, and nothing is kept of it."""
    with IncidentLog("right") as log:
        connection = http.client.HTTPConnection(urlsplit(log.base_url).netloc, timeout=5)
        connection.request("POST", path, json.dumps(DELIVERY), {"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == status
        connection.close()
        assert [delivery.group_key for delivery in log.deliveries] == (["{}:{}"] if status == 200 else [])
