"""A stand-in for a heartbeat service, which would call somebody when the beats stop."""

import json

from tests.standins.service import Answer, Request, StandIn


class Heartbeat(StandIn):
    """Takes Alertmanager's webhook (version 4) from whoever has the token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token
        self.beats: list[float] = []
        """When each beat came (time.monotonic)."""

    def answer(self, request: Request) -> Answer:
        """Count a beat."""
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return Answer(401, "unauthorized")
        if json.loads(request.body)["status"] != "firing":
            return Answer(400, "a beat that says it stops is none")
        self.beats.append(request.at)
        return Answer(200, "ok")
