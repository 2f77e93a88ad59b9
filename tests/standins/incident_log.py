"""A stand-in for the exporter's webhook, read as the exporter reads it; the end-to-end tests have the real one."""

from auraconnect_exporter.clients.alertmanager import Webhook, parse_webhook
from tests.standins.service import Answer, Request, StandIn

PATH = "/api/v1/health/alerts/webhook"


class IncidentLog(StandIn):
    """Takes Alertmanager's webhook (version 4) from whoever has the token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token
        self.deliveries: list[Webhook] = []

    def answer(self, request: Request) -> Answer:
        """Take a delivery."""
        if request.path != PATH:
            return Answer(404, "not found")
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return Answer(401, "unauthorized")
        self.deliveries.append(parse_webhook(request.body))
        return Answer(200, "{}", "application/json")
