"""What the configuration may expect of an API's answer, what is sent to it, and what its certificates tell."""

from __future__ import annotations

import dataclasses
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter import endpoints
from auraconnect_exporter.model import Reason, Secret
from auraconnect_exporter.probes.certificates import Trust, not_after
from auraconnect_exporter.probes.http_api import certificate_part, contains
from auraconnect_exporter.targets import Http
from tests.builders import FakeClock, collectors
from tests.probes.conftest import Watch
from tests.probes.support import PASSWORD, Leaks, issued, self_signed, serving, value, values
from tests.probes.test_http_api import OK, answering, api, expiry

DAY = 86400.0


def shows(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server needs to show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_an_expired_certificate_is_a_tls_failure_that_tells_its_expiry(tmp_path: Path, watch: Watch) -> None:
    """It is not trusted, and when it expired is what a person wants to know."""
    certificate, key = issued(tmp_path, "localhost", days=-1)
    async with serving(answering(OK), tls=shows(certificate, key)) as port:
        watched = watch(api(f"https://localhost:{port}", certificate))
        leaks = Leaks()
        attempt = await watched.attempt()
        assert await leaks.found() == {}
    assert (attempt.reason, attempt.message) == (Reason.TLS, "TLS failed: certificate has expired")
    assert value(attempt, "api_certificate_expiry_timestamp_seconds") == expiry(certificate)
    assert collectors(attempt) == {"request": False, "certificate": False}


async def test_a_renewed_certificate_is_trusted_without_a_restart(tmp_path: Path, watch: Watch) -> None:
    """Whoever renews a self-signed certificate also replaces the file that it is trusted by."""
    trusted = tmp_path / "trusted.pem"
    expired, renewed = issued(tmp_path, "localhost", days=-1), issued(tmp_path, "localhost", days=30)
    trusted.write_bytes(expired[0].read_bytes())
    context = shows(*expired)
    async with serving(answering(OK), tls=context) as port:
        watched = watch(api(f"https://localhost:{port}", trusted))
        assert (await watched.attempt()).reason is Reason.TLS
        context.load_cert_chain(*renewed)
        trusted.write_bytes(renewed[0].read_bytes())
        await watched.until(None)


async def test_a_certificate_that_expires_soon_is_a_finding(tmp_path: Path, watch: Watch) -> None:
    """Its own, or one above it, which is then named as the first to expire."""
    clock = FakeClock()
    authority, soon = self_signed(tmp_path, "authority", days=20), issued(tmp_path, "localhost", days=10)
    signed = issued(tmp_path, "localhost", days=30, authority=authority)
    found = {}
    for trusted, shown in ((soon[0], soon), (authority[0], signed)):
        clock.wall = expiry(trusted) - 9.5 * DAY
        async with serving(answering(OK), tls=shows(*shown)) as port:
            system = api(f"https://localhost:{port}", trusted)
            attempt = await watch(system, clock=clock).attempt()
            calm = await watch(dataclasses.replace(system, certificate_expires=9 * DAY), clock=clock).attempt()
        assert calm.reading.degraded == ()
        found[attempt.reading.degraded] = (
            value(attempt, "api_certificate_expiry_timestamp_seconds"),
            value(attempt, "api_certificate_chain_expiry_timestamp_seconds"),
        )
    assert found == {
        ("the certificate expires in 9.5 days",): (expiry(soon[0]), expiry(soon[0])),
        ("a certificate above the server's own expires in 9.5 days",): (expiry(signed[0]), expiry(authority[0])),
    }


def test_a_certificate_of_another_form_costs_its_part(tmp_path: Path) -> None:
    """Whatever OpenSSL has verified, the API is no worse for what we can't read."""
    certificate, _ = self_signed(tmp_path, "localhost")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    part = certificate_part([der, der[:40]], 0.0, DAY)
    assert (part.samples, part.problem) == ((), "a certificate's expiry can't be read: the certificate is cut off")


def test_authorities_are_read_once_for_all_targets(tmp_path: Path) -> None:
    """Each file of them has one context, which is made anew only when somebody has failed with it."""
    certificate, _ = self_signed(tmp_path, "localhost")
    trust = Trust()
    first = trust.context(str(certificate))
    assert trust.context(str(certificate)) is first
    assert trust.context(None) is not first
    trust.forget(str(certificate))
    assert trust.context(str(certificate)) is not first


@pytest.mark.parametrize("days", [1, 20_000, 2_000_000], ids=["soon", "after 2050", "in some thousand years"])
def test_an_expiry_is_read_as_openssl_reads_it(tmp_path: Path, days: int) -> None:
    """From 2050 on, certificates write the year with four digits."""
    certificate, _ = self_signed(tmp_path, "localhost", days=days)
    assert not_after(ssl.PEM_cert_to_DER_cert(certificate.read_text())) == expiry(certificate)


def test_two_digits_of_a_year_from_50_on_are_of_the_last_century(tmp_path: Path) -> None:
    """As RFC 5280 has it; Python would take 50 to 68 for years to come."""
    certificate, _ = self_signed(tmp_path, "localhost")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    written = datetime.fromtimestamp(expiry(certificate), UTC).strftime("%y%m%d%H%M%SZ").encode()
    read = [not_after(der.replace(written, year + written[2:])) for year in (b"49", b"50", b"99")]
    assert [datetime.fromtimestamp(moment, UTC).year for moment in read] == [2049, 1950, 1999]


def test_a_certificate_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """An untrusted server may show anything; what is there is read right, or not at all."""
    certificate, _ = self_signed(tmp_path, "localhost")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    cut = [read_or_refused(der[:length]) for length in range(len(der))]
    assert cut == sorted(cut)
    assert set(cut) == {0.0, expiry(certificate)}


@given(st.binary(max_size=64))
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    """Whatever it is, only one kind of error comes of it."""
    assert read_or_refused(der) == 0.0


def read_or_refused(der: bytes) -> float:
    """Return the expiry, 0 for what is no certificate."""
    try:
        return not_after(der)
    except ValueError:
        return 0.0


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: A\r\nVary: B\r\nContent-Length: 37\r\n\r\n"
JSON += b'{"status": "ok", "database": "is up"}'


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ({"expect_body": '"database": "is up"'}, ""),
        ({"expect_body": '"status":*"ok"*"database":*up'}, ""),
        ({"expect_body": '"database": "down"'}, "the body is not as expected"),
        ({"expect_body": '"up"*"status"'}, "the body is not as expected"),
        ({"expect_headers": (("content-type", "json"), ("Vary", "B"), ("VARY", "A"), ("vary", ""))}, ""),
        ({"expect_headers": (("Content-Type", "text/*"),)}, "the header Content-Type is not as expected"),
        ({"expect_headers": (("X-Cache", ""),)}, "the header X-Cache is missing"),
        ({"statuses": frozenset({204}), "expect_body": "no"}, "answered with status 200"),
    ],
)
async def test_an_answer_must_be_as_expected(watch: Watch, expected: dict[str, Any], problem: str) -> None:
    """Status, headers and body are judged in this order; the sentence never repeats the answer."""
    async with serving(answering(JSON)) as port:
        attempt = await watch(dataclasses.replace(api(f"http://localhost:{port}"), **expected)).attempt()
    assert (attempt.message, attempt.reason) == (problem, Reason.ERROR if problem else None)
    assert value(attempt, "api_probe_status_code") == 200


def test_stars_stand_for_anything_in_their_order() -> None:
    """None of what is wanted may be used twice; no star means the text itself."""
    assert [contains(b"abcabc", wanted) for wanted in ("", "*", "abc", "b*b", "c*a", "*c*", "abc*abc")] == [True] * 7
    assert [contains(b"abcabc", wanted) for wanted in ("d", "ac", "c*b*b", "abca*abc", "abc*abc*a")] == [False] * 5


def test_a_long_text_is_searched_once() -> None:
    """What would hold a regular expression for longer than the world is old is answered at once."""
    assert not contains(b"a" * 1_000_000, "a*" * 30 + "b")


async def test_what_is_sent_is_what_was_configured(watch: Watch) -> None:
    """Headers beside ours or in their place, and a token that nothing repeats."""
    requests: list[bytes] = []
    headers = (("X-Tenant", "probe"), ("accept", "application/json"))
    async with serving(answering(OK, requests)) as port:
        system = Http(endpoints.http(f"http://localhost:{port}"), frozenset({200}), 60.0, request_headers=headers)
        attempt = await watch(dataclasses.replace(system, token=Secret(PASSWORD))).attempt()
    assert attempt.ok
    lines = set(requests[0].decode().split("\r\n"))
    assert {"X-Tenant: probe", "accept: application/json", f"Authorization: Bearer {PASSWORD}"} < lines
    assert not lines & {"Accept: */*"}
    assert values(attempt, "api_certificate_expiry_timestamp_seconds") == {}
