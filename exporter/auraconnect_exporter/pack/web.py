"""Calls to Alertmanager and to our own webhook, from the command line: one after the other, without an event loop."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TIMEOUT: Final = 5.0


class CallProblem(Exception):
    """A call failed; the message is the end of a sentence that begins with the address."""


def call(url: str, token: str, body: object = None) -> str:
    """Return what a URL answers to a GET, or to a POST of ``body`` as JSON. Raises CallProblem."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if not url.startswith(("http://", "https://")):
        raise CallProblem("is not an http or https address")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # the scheme was looked at
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT) as answer:
            text: str = answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            raise CallProblem(f"answers with status {error.code}") from None
    except (OSError, ValueError) as error:
        raise CallProblem(f"can't be asked: {getattr(error, 'reason', error)}") from None
    return text


def ask_webhook(url: str, token: str) -> str:
    """Deliver nothing to the incident log, as Alertmanager would; returns what is wrong, or nothing."""
    nothing = {"version": "4", "status": "firing", "receiver": "check", "groupKey": "check", "alerts": []}
    try:
        call(url, token, nothing)
    except CallProblem as problem:
        return str(problem)
    return ""


@dataclass(frozen=True, slots=True)
class HttpAlertmanager:
    """An Alertmanager by its URL; ``token`` signs in where it asks for that. Every method raises CallProblem."""

    url: str
    token: str = ""

    def post(self, alert: Mapping[str, object]) -> None:
        """Tell it of an alert."""
        self._call("/api/v2/alerts", [alert])

    def metrics(self) -> str:
        """Return what it counts, as text."""
        return self._call("/metrics")

    def _call(self, path: str, body: object = None) -> str:
        try:
            return call(self.url + path, self.token, body)
        except CallProblem as problem:
            raise CallProblem(f"{self.url}{path} {problem}") from None
