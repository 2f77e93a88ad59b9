"""The HTTP API: one request on a fresh connection, its phases timed, its answer and its certificates judged."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from auraconnect_exporter import __version__
from auraconnect_exporter.model import Clock, Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes.base import Probe, ProbeError, explain
from auraconnect_exporter.probes.certificates import Trust, not_after, trusting_anyone, verified_chain
from auraconnect_exporter.probes.http_exchange import Answer, Exchange, Stopwatch
from auraconnect_exporter.targets import Http, HttpUrl

PHASE = Metric("api_probe_phase_seconds", "gauge", "Duration of a phase of the last request.", ("phase",))
STATUS = Metric("api_probe_status_code", "gauge", "HTTP status of the last answer.")
CERTIFICATE_EXPIRY = Metric(
    "api_certificate_expiry_timestamp_seconds", "gauge", "When the server's certificate expires."
)
CHAIN_EXPIRY = Metric(
    "api_certificate_chain_expiry_timestamp_seconds",
    "gauge",
    "When the first certificate expires between the server's own and the trusted one.",
)

DAY: Final = 86400.0

PATIENCE: Final = 0.9
"""How much of the deadline may have gone by when an untrusted certificate has been looked at for its expiry."""


class HttpProbe(Probe):
    """Watches one URL."""

    def __init__(self, system: Http, timeout: float, clock: Clock, trust: Trust) -> None:
        self.collectors = ("request", "certificate") if system.url.tls else ("request",)
        self._system = system
        self._patience = timeout * PATIENCE
        self._clock = clock
        self._trust = trust
        self._headers = _headers(system)

    async def check(self) -> Reading:
        """GET the URL without following redirects. Raises ProbeError, OSError."""
        until = asyncio.get_running_loop().time() + self._patience
        url = self._system.url
        try:
            return await self._request()
        except ssl.SSLError as error:
            self._trust.forget(url.ca_file)  # the authorities may have been renewed
            failure = explain(error)
            if isinstance(error, ssl.SSLCertVerificationError):
                failure.samples = await self._untrusted_expiry(until)
            raise failure from None

    async def _request(self) -> Reading:
        url = self._system.url
        stopwatch = Stopwatch(self._clock.monotonic)
        exchange = Exchange(url, self._trust.context(url.ca_file) if url.tls else None, stopwatch)
        try:
            reader = await exchange.connect()
            chain = verified_chain(exchange.tls) if exchange.tls else []
            answer = await exchange.get(reader, self._headers)
        finally:
            exchange.close()
        samples = (
            STATUS.sample(answer.status),
            *(PHASE.sample(seconds, phase) for phase, seconds in stopwatch.laps.items()),
        )
        certificate = certificate_part(chain, self._clock.time(), self._system.certificate_expires) if chain else None
        if problem := unexpected(answer, self._system):
            raise ProbeError(Reason.ERROR, problem, (*samples, *(certificate.samples if certificate else ())))
        seconds = sum(stopwatch.laps.values())
        slow = (f"the answer took {seconds:.2f} s",) if seconds > self._system.slow else ()
        request = Part("request", samples, slow)
        return Reading((request, certificate) if certificate else (request,))

    async def _untrusted_expiry(self, until: float) -> tuple[Sample, ...]:
        """Ask once more for the certificate that was not trusted: it may have expired. Nothing if that fails."""
        exchange = Exchange(self._system.url, trusting_anyone(), Stopwatch(self._clock.monotonic))
        try:
            async with asyncio.timeout_at(until):
                await exchange.connect()
            der = exchange.tls.getpeercert(binary_form=True) if exchange.tls else None
            return (CERTIFICATE_EXPIRY.sample(not_after(der)),) if der else ()
        except (OSError, ValueError):  # SSLError and TimeoutError among them
            return ()
        finally:
            exchange.close()


def _headers(system: Http) -> list[tuple[str, str]]:
    """Return the headers of the request."""
    token = [("Authorization", f"Bearer {system.token.reveal()}")] if system.token else []
    ours = [("Host", _host(system.url)), ("User-Agent", f"auraconnect-exporter/{__version__}"), ("Accept", "*/*")]
    theirs = dict(system.request_headers)
    names = {name.lower() for name in theirs}
    kept = [(name, value) for name, value in ours if name.lower() not in names]
    return [*kept, ("Connection", "close"), *theirs.items(), *token]


def _host(url: HttpUrl) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host.encode("idna").decode()
    return host if url.port == (443 if url.tls else 80) else f"{host}:{url.port}"


def certificate_part(chain: list[bytes], now: float, soon: float) -> Part:
    """Return when the certificates expire, the server's own first in their chain; a finding if one does so soon."""
    try:
        expiries = [not_after(certificate) for certificate in chain]
    except ValueError as error:
        return Part("certificate", problem=f"a certificate's expiry can't be read: {error}")
    first = min(expiries)
    which = "the certificate" if first == expiries[0] else "a certificate above the server's own"
    findings = (f"{which} expires in {(first - now) / DAY:.1f} days",) if first - now < soon else ()
    return Part("certificate", (CERTIFICATE_EXPIRY.sample(expiries[0]), CHAIN_EXPIRY.sample(first)), findings)


def unexpected(answer: Answer, system: Http) -> str:
    """Say what in an answer is not as it should be; nothing when all is. The answer's own text is never repeated."""
    if answer.status not in system.statuses:
        return f"answered with status {answer.status}"
    for name, expected in system.expect_headers:
        values = [value for known, value in answer.headers if known == name.lower().encode()]
        if not any(contains(value, expected) for value in values):
            return f"the header {name} is not as expected" if values else f"the header {name} is missing"
    return "" if contains(answer.body, system.expect_body) else "the body is not as expected"


def contains(text: bytes, wanted: str) -> bool:
    """Tell whether a text holds what is wanted, in which ``*`` stands for anything. Takes time by the text's length."""
    at = 0
    for piece in wanted.encode().split(b"*"):
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True
