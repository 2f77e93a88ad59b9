"""The web configuration file: what exporter-toolkit's format means here, over real TLS and real bcrypt hashes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from auraconnect_exporter import web_config
from auraconnect_exporter.config import ConfigError
from auraconnect_exporter.model import Secret
from auraconnect_exporter.web_config import BcryptPasswords, ServerTls, TlsSettings, WebConfig, certificate_name
from tests.probes.support import self_signed, serving
from tools.programs import program

HASH = "$2y$04$" + "a" * 53
REFUSED = (ssl.SSLError, ConnectionError, EOFError)


class SteppedClock:
    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


def issued(authority: Pair, name: str, *alternatives: str) -> Pair:
    """Make a certificate that an authority has signed, beside the authority's."""
    pair = Pair(authority.certificate.with_name(f"{name}.pem"), authority.certificate.with_name(f"{name}.key"))
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-CA", authority.certificate, "-CAkey", authority.key, "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={','.join(alternatives or (f'DNS:{name}',))}"),
            *("-out", pair.certificate, "-keyout", pair.key),
        ],
        check=True,
        capture_output=True,
    )
    return pair


@dataclass(frozen=True)
class Certificates:
    """What a server and its clients have: copies of the same, in each test's own folder."""

    folder: Path

    def pair(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def all_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make every certificate once: keys cost time."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "server2", "authority", "other-authority", "self-made"):
        self_signed(folder, name)
    authority = Pair(folder / "authority.pem", folder / "authority.key")
    names = ("DNS:prometheus.example.com", "IP:2001:db8::1", "IP:192.0.2.1", "email:a@b.c", "URI:spiffe://x/y")
    issued(authority, "prometheus", *names)
    issued(Pair(folder / "other-authority.pem", folder / "other-authority.key"), "stranger")
    return folder


@pytest.fixture
def certificates(all_certificates: Path, tmp_path: Path) -> Certificates:
    shutil.copytree(all_certificates, tmp_path, dirs_exist_ok=True)
    return Certificates(tmp_path)


def load(folder: Path, text: str) -> WebConfig:
    path = folder / "web.yml"
    path.write_text(text, encoding="utf-8")
    return web_config.load(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(folder, text)
    return str(raised.value).replace(f"{folder}/", "")


def tls_file(*lines: str) -> str:
    return "\n  ".join(["tls_server_config:", "cert_file: server.pem", "key_file: server.key", *lines]) + "\n"


def settings(folder: Path, *lines: str) -> TlsSettings:
    """Return the TLS settings of a file with these lines in its section."""
    tls = load(folder, tls_file(*lines)).tls
    assert tls is not None
    return tls


async def say_who(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the name of the client's certificate."""
    writer.write(f"{certificate_name(writer.get_extra_info('peercert'))}\n".encode())
    await writer.drain()


@dataclass(frozen=True)
class Visit:
    """What a client saw."""

    said: str
    version: str | None
    cipher: str
    server: Mapping[str, Any]
    session: ssl.SSLSession | None
    resumed: bool | None


class Client:
    """A client of real TLS: who it trusts, what it shows, what it insists on."""

    def __init__(self, trusts: Path, shows: Pair | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(trusts)
        self.context.check_hostname = False
        if shows is not None:
            self.context.load_cert_chain(shows.certificate, shows.key)

    async def visit(self, port: int, name: str | None = None, session: ssl.SSLSession | None = None) -> Visit:
        """Connect and read one line, in a thread. Raises one of REFUSED."""
        return await asyncio.to_thread(self._visit, port, name, session)

    def _visit(self, port: int, name: str | None, session: ssl.SSLSession | None) -> Visit:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            self.context.wrap_socket(plain, server_hostname=name, session=session) as connection,
        ):
            said = connection.recv(100).decode().strip()
            if not said:
                raise EOFError
            cipher = connection.cipher()
            assert cipher is not None
            return Visit(
                said,
                connection.version(),
                cipher[0],
                connection.getpeercert() or {},
                connection.session,
                connection.session_reused,
            )


def common_name(visit: Visit) -> str:
    """Return whom the server showed itself as."""
    return str(certificate_name(visit.server))


class TestTls:
    async def test_a_server_shows_its_certificate(self, certificates: Certificates) -> None:
        """The plainest file serves TLS 1.3, with a name asked for or none, and asks nobody for a certificate."""
        tls = ServerTls(settings(certificates.folder), SteppedClock())
        client = Client(certificates.folder / "server.pem", certificates.pair("prometheus"))
        async with serving(say_who, tls=tls.context) as port:
            visits = [await client.visit(port, name) for name in (None, "server", "some.other.name")]
        assert {(visit.said, visit.version, common_name(visit)) for visit in visits} == {("None", "TLSv1.3", "server")}

    @pytest.mark.parametrize(
        ("auth_type", "let_in"),
        [
            ("NoClientCert", {"none": "None", "prometheus": "None", "stranger": "None", "self-made": "None"}),
            ("VerifyClientCertIfGiven", {"none": "None", "prometheus": "prometheus"}),
            ("RequireAndVerifyClientCert", {"prometheus": "prometheus"}),
        ],
    )
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_client_certificates_are_checked(
        self, certificates: Certificates, auth_type: str, let_in: dict[str, str], version: ssl.TLSVersion
    ) -> None:
        """Each client_auth_type lets in whom it should, of no, a good, a stranger's and a self-made certificate."""
        authority = () if auth_type == "NoClientCert" else ("client_ca_file: authority.pem",)
        tls = ServerTls(settings(certificates.folder, f"client_auth_type: {auth_type}", *authority), SteppedClock())
        said = {}
        async with serving(say_who, tls=tls.context) as port:
            for name in ("none", "prometheus", "stranger", "self-made"):
                shows = None if name == "none" else certificates.pair(name)
                client = Client(certificates.folder / "server.pem", shows)
                client.context.maximum_version = version
                try:
                    said[name] = (await client.visit(port)).said
                except REFUSED:
                    continue
        assert said == let_in

    @pytest.mark.parametrize("auth_type", ["RequestClientCert", "RequireAnyClientCert", "RequireClientCert"])
    def test_a_certificate_that_nobody_verifies_is_refused(self, certificates: Certificates, auth_type: str) -> None:
        """What Python's TLS can't do is said, not taken for something stricter or laxer."""
        said = refusal(certificates.folder, tls_file(f"client_auth_type: {auth_type}"))
        assert said == (
            "web.yml:4: tls_server_config.client_auth_type: Python's TLS can't ask for a certificate and then not "
            f"verify it, as {auth_type} wants: use VerifyClientCertIfGiven or RequireAndVerifyClientCert"
        )

    @pytest.mark.parametrize(
        ("allowed", "let_in"),
        [
            ("prometheus.example.com", True),
            ("2001:db8::1", True),
            ("192.0.2.1", True),
            ("a@b.c", True),
            ("spiffe://x/y", True),
            ("prometheus", False),
            ("example.com", False),
            ("", False),
        ],
    )
    async def test_an_alternative_name_must_be_allowed(
        self, certificates: Certificates, allowed: str, let_in: bool
    ) -> None:
        """client_allowed_sans is an exact match with a name of any kind; the common name is none."""
        lines = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: authority.pem")
        names = f"client_allowed_sans: [nobody, '{allowed}']"
        tls = ServerTls(settings(certificates.folder, *lines, names), SteppedClock())
        client = Client(certificates.folder / "server.pem", certificates.pair("prometheus"))
        async with serving(say_who, tls=tls.context) as port:
            if let_in:
                assert (await client.visit(port)).said == "prometheus"
            else:
                with pytest.raises(REFUSED):
                    await client.visit(port)

    async def test_an_authority_may_stand_in_the_file(self, certificates: Certificates) -> None:
        """client_ca holds the certificates themselves."""
        authority = (certificates.folder / "authority.pem").read_text(encoding="utf-8").strip().replace("\n", "\n    ")
        lines = ("client_auth_type: RequireAndVerifyClientCert", f"client_ca: |\n    {authority}")
        tls = ServerTls(settings(certificates.folder, *lines), SteppedClock())
        async with serving(say_who, tls=tls.context) as port:
            client = Client(certificates.folder / "server.pem", certificates.pair("prometheus"))
            assert (await client.visit(port)).said == "prometheus"
            with pytest.raises(REFUSED):
                await Client(certificates.folder / "server.pem", certificates.pair("stranger")).visit(port)

    @pytest.mark.parametrize(
        ("lines", "client", "seen"),
        [
            (("max_version: TLS12",), {}, "TLSv1.2"),
            (("min_version: TLS13",), {}, "TLSv1.3"),
            (("min_version: TLS13",), {"maximum_version": ssl.TLSVersion.TLSv1_2}, None),
            (("max_version: TLS12",), {"minimum_version": ssl.TLSVersion.TLSv1_3}, None),
        ],
    )
    async def test_versions_are_kept_to(
        self, certificates: Certificates, lines: tuple[str, ...], client: dict[str, Any], seen: str | None
    ) -> None:
        """A client outside min_version and max_version is turned away."""
        tls = ServerTls(settings(certificates.folder, *lines), SteppedClock())
        visitor = Client(certificates.folder / "server.pem")
        for key, value in client.items():
            setattr(visitor.context, key, value)
        async with serving(say_who, tls=tls.context) as port:
            if seen is None:
                with pytest.raises(REFUSED):
                    await visitor.visit(port)
            else:
                assert (await visitor.visit(port)).version == seen

    @pytest.mark.parametrize(
        ("prefer", "cipher"), [("true", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("false", "ECDHE-ECDSA-AES128-GCM-SHA256")]
    )
    async def test_suites_are_chosen_by_gos_names(self, certificates: Certificates, prefer: str, cipher: str) -> None:
        """Only the suites that are named are served, in the server's order if it is preferred."""
        gcm = "TLS_ECDHE_ECDSA_WITH_AES_{}"
        lines = (
            f"cipher_suites: [{gcm.format('256_GCM_SHA384')}, {gcm.format('128_GCM_SHA256')}, TLS_AES_128_GCM_SHA256]",
            f"prefer_server_cipher_suites: {prefer}",
        )
        tls = ServerTls(settings(certificates.folder, *lines), SteppedClock())
        client = Client(certificates.folder / "server.pem")
        client.context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with serving(say_who, tls=tls.context) as port:
            client.context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
            assert (await client.visit(port)).cipher == cipher
            client.context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
            with pytest.raises(REFUSED):
                await client.visit(port)

    @pytest.mark.parametrize("name", list(web_config._CIPHERS))
    def test_each_suite_of_go_is_one_of_openssl(self, certificates: Certificates, name: str) -> None:
        """Every name that Go calls secure can be served."""
        chosen = settings(certificates.folder, f"cipher_suites: [{name}]", "max_version: TLS12")
        suites = [suite["name"] for suite in ServerTls(chosen, SteppedClock()).context.get_ciphers()]
        assert [suite for suite in suites if not suite.startswith("TLS_")] == [web_config._CIPHERS[name]]

    @pytest.mark.parametrize(("curve", "other"), [("CurveP384", "X25519"), ("X25519", "secp384r1")])
    async def test_a_curve_is_kept_to(self, certificates: Certificates, curve: str, other: str) -> None:
        """A client that offers another curve alone is turned away; one that offers all is served."""
        tls = ServerTls(settings(certificates.folder, f"curve_preferences: [{curve}]"), SteppedClock())
        async with serving(say_who, tls=tls.context) as port:
            client = Client(certificates.folder / "server.pem")
            assert (await client.visit(port)).said == "None"
            client.context.set_ecdh_curve(other)
            with pytest.raises(REFUSED):
                await client.visit(port)


class TestRenewal:
    async def test_a_renewed_certificate_is_shown_without_a_restart(self, certificates: Certificates) -> None:
        """A connection a second after the files changed sees the new ones; one that is open goes on."""
        clock = SteppedClock()
        tls = ServerTls(settings(certificates.folder), clock)
        old, new = certificates.pair("server"), certificates.pair("server2")
        first, second = Client(old.certificate), Client(new.certificate)
        first.context.load_verify_locations(new.certificate)
        async with serving(say_who, tls=tls.context) as port:
            assert common_name(await first.visit(port)) == "server"
            new.certificate.replace(old.certificate)
            new.key.replace(old.key)
            assert common_name(await first.visit(port)) == "server"
            clock.now += 1
            assert common_name(await second.visit(port)) == "server2"

    async def test_half_a_renewal_changes_nothing(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A certificate whose key has not come yet leaves the old pair in use, and the log says it once."""
        clock = SteppedClock()
        tls = ServerTls(settings(certificates.folder), clock)
        old, new = certificates.pair("server"), certificates.pair("server2")
        client = Client(old.certificate)
        client.context.load_verify_locations(new.certificate)
        async with serving(say_who, tls=tls.context) as port:
            new.certificate.replace(old.certificate)
            seen = []
            for _ in range(3):
                clock.now += 1
                seen.append(common_name(await client.visit(port)))
            records = [record for record in caplog.records if record.levelno == logging.ERROR]
            new.key.replace(old.key)
            clock.now += 1
            seen.append(common_name(await client.visit(port)))
        assert seen == ["server"] * 3 + ["server2"]
        assert [record.__dict__["detail"] for record in records] == [
            f"tls_server_config.key_file: {old.key} is not the key of {old.certificate}"
        ]

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_an_authority_that_is_gone_lets_nobody_in(
        self, certificates: Certificates, version: ssl.TLSVersion
    ) -> None:
        """After the authority was replaced its clients are strangers, sessions that they kept included."""
        clock = SteppedClock()
        lines = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: authority.pem")
        tls = ServerTls(settings(certificates.folder, *lines), clock)
        client = Client(certificates.folder / "server.pem", certificates.pair("prometheus"))
        stranger = Client(certificates.folder / "server.pem", certificates.pair("stranger"))
        client.context.maximum_version = version
        async with serving(say_who, tls=tls.context) as port:
            session = (await client.visit(port)).session
            again = await client.visit(port, session=session)
            (certificates.folder / "other-authority.pem").replace(certificates.folder / "authority.pem")
            clock.now += 1
            for kept in (again.session, None):
                with pytest.raises(REFUSED):
                    await client.visit(port, session=kept)
            assert (await stranger.visit(port)).said == "stranger"
        assert (again.said, again.resumed) == ("prometheus", True)

    async def test_other_files_can_be_named(self, certificates: Certificates) -> None:
        """A reload takes other certificates and other names."""
        lines = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: authority.pem")
        tls = ServerTls(settings(certificates.folder, *lines), SteppedClock())
        client = Client(certificates.folder / "server.pem", certificates.pair("prometheus"))
        async with serving(say_who, tls=tls.context) as port:
            assert (await client.visit(port)).said == "prometheus"
            tls.replace(settings(certificates.folder, *lines, "client_allowed_sans: [someone]"))
            with pytest.raises(REFUSED):
                await client.visit(port)
            tls.replace(settings(certificates.folder, *lines, "client_allowed_sans: [192.0.2.1]"))
            assert (await client.visit(port)).said == "prometheus"

    def test_the_rest_needs_a_restart(self, certificates: Certificates) -> None:
        """What a listening context can't change is said to need one, and nothing is changed by halves."""
        tls = ServerTls(settings(certificates.folder), SteppedClock())
        with pytest.raises(ConfigError, match=r"can change without a restart$"):
            tls.replace(settings(certificates.folder, "min_version: TLS13"))


class TestFile:
    def test_an_empty_file_changes_nothing(self, tmp_path: Path) -> None:
        """Plain HTTP, no headers, no users."""
        assert load(tmp_path, "") == WebConfig()
        assert load(tmp_path, "tls_server_config: {}\nhttp_server_config:\nbasic_auth_users: {}\n") == WebConfig()

    def test_the_toolkits_headers_are_kept(self, tmp_path: Path) -> None:
        """A blank one is not sent, as in exporter-toolkit; http2 may say either."""
        config = load(
            tmp_path,
            "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: ''\n"
            "    Strict-Transport-Security: max-age=31536000\n",
        )
        assert config.headers == (("X-Frame-Options", "deny"), ("Strict-Transport-Security", "max-age=31536000"))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("tls_server: {}", "web.yml:1: tls_server: is not a setting that exists here"),
            (
                "tls_server_config: {ca_file: x}",
                "web.yml:1: tls.ca_file: is not a setting that exists here",
            ),
            ("tls_server_config: {cert_file: server.pem}", "web.yml:1: tls: needs key_file"),
            ("tls_server_config: {min_version: TLS13}", "web.yml:1: tls: needs cert_file"),
            (
                "tls_server_config: {cert: x, key: y}",
                "web.yml:1: tls.cert: Python's TLS reads it from a file only: use cert_file",
            ),
            (
                "tls_server_config: {cert_file: none.pem, key_file: server.key}",
                "web.yml:1: tls.cert_file: none.pem can't be read: No such file or directory",
            ),
            (
                "tls_server_config: {cert_file: server.pem, key_file: server2.key}",
                "web.yml:1: tls.key_file: server2.key is not the key of server.pem",
            ),
            (
                "tls_server_config: {cert_file: server.key, key_file: server.key}",
                ("web.yml:1: tls.cert_file: server.key and server.key are not a certificate and its key in PEM form"),
            ),
            (
                "tls_server_config: {cert_file: server.pem, key_file: encrypted.key}",
                ("web.yml:1: tls.key_file: encrypted.key is encrypted, and nobody is there to type its passphrase"),
            ),
            (
                tls_file("client_auth_type: Sometimes"),
                (
                    "web.yml:4: tls.client_auth_type: expected one of NoClientCert, VerifyClientCertIfGiven, "
                    "RequireAndVerifyClientCert, RequestClientCert, RequireAnyClientCert, RequireClientCert"
                ),
            ),
            (
                tls_file("client_ca_file: authority.pem"),
                (
                    "web.yml:1: tls.client_auth_type: must say what the client_ca is for, such as "
                    "RequireAndVerifyClientCert"
                ),
            ),
            (
                tls_file("client_auth_type: RequireAndVerifyClientCert"),
                (
                    "web.yml:4: tls.client_auth_type: needs a client_ca_file: every public authority could "
                    "let people in otherwise"
                ),
            ),
            (
                tls_file("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: server.key"),
                "web.yml:5: tls.client_ca_file: holds no certificates in PEM form",
            ),
            (
                tls_file("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: none.pem"),
                "web.yml:5: tls.client_ca_file: none.pem can't be read: No such file or directory",
            ),
            (
                tls_file("client_auth_type: RequireAndVerifyClientCert", "client_ca: nonsense"),
                "web.yml:5: tls.client_ca: holds no certificates in PEM form",
            ),
            (
                tls_file("client_ca_file: authority.pem", "client_ca: x"),
                "web.yml:5: tls.client_ca: stands beside client_ca_file, use one of them",
            ),
            (
                tls_file("client_allowed_sans: [a]"),
                ("web.yml:4: tls.client_allowed_sans: needs the client_auth_type RequireAndVerifyClientCert"),
            ),
            (
                tls_file("min_version: TLS11"),
                ("web.yml:4: tls.min_version: OpenSSL 3 does not serve TLS11 any more: expected TLS12 or TLS13"),
            ),
            (tls_file("max_version: 1.3"), "web.yml:4: tls.max_version: expected text, got a number"),
            (tls_file("max_version: TLS14"), "web.yml:4: tls.max_version: expected TLS12 or TLS13"),
            (
                tls_file("min_version: TLS13", "max_version: TLS12"),
                "web.yml:5: tls.max_version: is older than min_version",
            ),
            (
                tls_file("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]"),
                (
                    "web.yml:4: tls.cipher_suites[0]: 'TLS_RSA_WITH_RC4_128_SHA' is none of the suites that "
                    "Go calls secure"
                ),
            ),
            (
                tls_file("cipher_suites: [TLS_AES_128_GCM_SHA256]"),
                (
                    "web.yml:4: tls.cipher_suites: has none for TLS 1.2: set min_version to TLS13, whose "
                    "suites are always on"
                ),
            ),
            (
                tls_file("curve_preferences: [P256]"),
                ("web.yml:4: tls.curve_preferences[0]: expected one of CurveP256, CurveP384, CurveP521, X25519"),
            ),
            (
                tls_file("curve_preferences: [X25519, CurveP256]"),
                (
                    "web.yml:4: tls.curve_preferences: Python's TLS can be held to one curve only: name "
                    "one, or none for all"
                ),
            ),
            (
                "http_server_config: {http2: maybe}",
                "web.yml:1: http.http2: expected true or false, got text",
            ),
            (
                "http_server_config:\n  headers:\n    Server: x",
                (
                    "web.yml:3: http.headers.Server: is not one of Strict-Transport-Security, "
                    "X-Content-Type-Options, X-Frame-Options, X-XSS-Protection, Content-Security-Policy"
                ),
            ),
            (
                "http_server_config:\n  headers:\n    X-Frame-Options: DENY",
                "web.yml:3: http.headers.X-Frame-Options: expected deny or sameorigin",
            ),
            (
                'http_server_config:\n  headers:\n    Content-Security-Policy: "a\\r\\nSet-Cookie: b"',
                ("web.yml:3: http.headers.Content-Security-Policy: has a character that a header can't hold"),
            ),
            (
                f"basic_auth_users:\n  a.b: {HASH}\n  ada: secret-in-plain-text",
                "web.yml:3: basic_auth_users.ada: expected a bcrypt hash, as `htpasswd -nB` prints it after the colon",
            ),
            (
                f"basic_auth_users:\n  'a:b': {HASH}",
                "web.yml:2: basic_auth_users.a:b: is not a user's name: it is empty or has a colon in it",
            ),
            (
                "rate_limit: {interval: 1s, burst: 1}",
                "web.yml:1: rate_limit: is not supported: one limit for all callers would let one lock out the others",
            ),
            ("a: 1\na: 2", "web.yml:2: has the key 'a' twice"),
            ("[]", "web.yml:1: expected a mapping, got a list"),
        ],
    )
    def test_what_can_not_be_used_is_one_sentence(self, certificates: Certificates, text: str, sentence: str) -> None:
        """File, line, path and what is wrong; never a hash or a key."""
        encrypt = ("pkey", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out", "encrypted.key")
        subprocess.run([program("openssl"), *encrypt], check=True, cwd=certificates.folder, capture_output=True)
        said = refusal(certificates.folder, text)
        assert re.sub(r"(web\.yml:\d+: )(tls|http)_server_config", r"\1\2", said) == sentence

    def test_a_file_that_is_not_there_is_one_sentence(self, tmp_path: Path) -> None:
        """The path, and the system's reason."""
        with pytest.raises(ConfigError, match=r"none\.yml: can't be read: No such file or directory$"):
            web_config.load(tmp_path / "none.yml")

    def test_the_documents_example_loads(self, certificates: Certificates) -> None:
        """A reader who copies the example gets TLS, a header and a user."""
        text = (Path(__file__).parent.parent / "docs/access.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        config = load(certificates.folder, example)
        assert config.tls is not None
        assert config.tls.fixed.client_certificates is ssl.CERT_OPTIONAL
        assert config.headers == (("Strict-Transport-Security", "max-age=31536000"),)
        assert config.passwords is not None

    def test_names_are_relative_to_the_file(
        self, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever the exporter is started, the certificates are those beside the file."""
        monkeypatch.chdir(os.sep)
        assert settings(certificates.folder).certificate == tmp_path / "server.pem"

    def test_nothing_shows_a_hash(self, tmp_path: Path) -> None:
        """The configuration can be logged."""
        config = load(tmp_path, f"basic_auth_users: {{ada: '{HASH}'}}")
        assert HASH[8:] not in repr(config)


@pytest.fixture
def hashed() -> str:
    """Return the hash of the password ``päss``, of the least cost that there is."""
    return bcrypt.hashpw("päss".encode(), bcrypt.gensalt(4)).decode()


class TestPasswords:
    @pytest.mark.parametrize("kind", ["$2a$", "$2b$", "$2y$"])
    def test_a_right_password_is_known(self, tmp_path: Path, hashed: str, kind: str) -> None:
        """htpasswd's, Go's and Python's hashes are the same but for their first letters."""
        passwords = load(tmp_path, f"basic_auth_users: {{ada: '{kind}{hashed[4:]}'}}").passwords
        assert passwords is not None
        assert passwords.check("ada", "päss")
        wrong = [("ada", "pass"), ("ada", ""), ("Ada", "päss"), ("", ""), ("ada", "päss\0"), ("ada", "ä" * 5000)]
        assert [one for one in wrong if passwords.check(*one)] == []

    def test_a_long_password_counts_as_bcrypt_counts_it(self) -> None:
        """A password beyond 72 bytes, which Go and htpasswd accept, is no error."""
        hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
        assert BcryptPasswords({"ada": Secret(hashed)}).check("ada", "x" * 100)

    def test_a_scrape_pays_for_bcrypt_once(self, hashed: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A password that was right is known the next time, a wrong one never; a new one replaces what was known."""
        calls: list[bytes] = []
        check = bcrypt.checkpw

        def counting(password: bytes, stored: bytes) -> bool:
            calls.append(stored)
            return check(password, stored)

        monkeypatch.setattr(bcrypt, "checkpw", counting)
        passwords = BcryptPasswords({"ada": Secret(hashed)})
        assert not passwords.known("ada", "päss")
        assert [passwords.check("ada", "päss") for _ in range(5)] == [True] * 5
        assert passwords.known("ada", "päss")
        assert not passwords.known("ada", "other")
        assert len(calls) == 1
        assert [passwords.check("ada", "other") for _ in range(2)] == [False] * 2
        assert len(calls) == 3
        assert passwords.known("ada", "päss")

    def test_an_unknown_user_costs_the_same_work(self, hashed: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """For a user who does not exist a hash of the highest cost in use is worked on, which no password has."""
        stored: list[bytes] = []

        def noting(_: bytes, hash_: bytes) -> bool:
            stored.append(hash_)
            return True  # by the greatest of accidents

        monkeypatch.setattr(bcrypt, "checkpw", noting)
        passwords = BcryptPasswords({"ada": Secret(hashed), "bob": Secret(f"$2b$06${'a' * 53}")})
        assert not passwords.check("nobody", "x")
        (hash_,) = stored
        assert re.fullmatch(rb"\$2b\$06\$[./A-Za-z0-9]{53}", hash_)

    def test_one_hash_is_worked_on_at_a_time(self, hashed: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever tries many passwords at once gets one core, and a known password does not wait for them."""
        passwords = BcryptPasswords({"ada": Secret(hashed)})
        assert passwords.check("ada", "päss")
        working, entered, go_on = [], threading.Semaphore(0), threading.Event()

        def slow(_: bytes, __: bytes) -> bool:
            working.append(threading.get_ident())
            entered.release()
            assert go_on.wait(10)
            return False

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        threads = [threading.Thread(target=passwords.check, args=("ada", f"guess {number}")) for number in range(3)]
        for thread in threads:
            thread.start()
        assert entered.acquire(timeout=10)
        assert passwords.check("ada", "päss")
        assert len(working) == 1
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert len(working) == 3


class TestCertificateName:
    @pytest.mark.parametrize(
        ("certificate", "name"),
        [
            (None, None),
            ({}, None),
            (
                {"subject": ((("organizationName", "O"),), (("commonName", "a"),)), "subjectAltName": (("DNS", "b"),)},
                "a",
            ),
            ({"subject": (), "subjectAltName": (("DNS", "b"), ("IP Address", "192.0.2.1"))}, "192.0.2.1"),
            ({"subject": (), "serialNumber": "0A"}, "0A"),
            ({"subject": (), "subjectAltName": (("IP Address", "<invalid>"),)}, ""),
        ],
    )
    def test_a_client_has_a_name(self, certificate: Mapping[str, Any] | None, name: str | None) -> None:
        """The common name, else an alternative one, else the number; nobody where TLS has verified nothing."""
        assert certificate_name(certificate) == name
