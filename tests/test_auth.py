"""Sign-in: which credentials are taken for whom, and that everything else is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.auth import (
    INSUFFICIENT_SCOPE,
    MAX_HEADER,
    AccessTokens,
    AccessTokenSettings,
    Authenticator,
    Kind,
    Principal,
    Reason,
    Refused,
    Role,
    access_token_settings,
    authorize,
    safe_name,
)
from auraconnect_exporter.config import ConfigError
from auraconnect_exporter.model import Secret
from tests.probes.support import self_signed

NOW = 1_800_000_000.0
SECRET = "Hunter2-never-shown-not-even-half-of-it"
OLD_SECRET = "the-secret-before-it-was-rotated-away"
SETTINGS = AccessTokenSettings((Secret(SECRET), Secret(OLD_SECRET)), "HS256", "auraconnect-api", "auraconnect-ws")
CLAIMS: Mapping[str, Any] = {
    "sub": "42",
    "user_id": 42,
    "username": "ada",
    "email": "ada@auraconnect.ai",
    "roles": ["admin", "manager"],
    "tenant_ids": [1],
    "session_id": "s",
    "exp": NOW + 900,
    "iat": NOW - 60,
    "iss": "auraconnect-api",
    "aud": "auraconnect-ws",
    "jti": "j",
    "type": "access",
}
ADA = Principal("ada", frozenset({Role.SYSTEM_ADMIN}), Kind.JWT)
OUR_TOKEN = "auc_" + "0" * 64


class FixedClock:
    def time(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class OneToken:
    def find(self, token: str) -> Principal | Refused:
        if token == OUR_TOKEN:
            return Principal("prometheus", frozenset({Role.METRICS}), Kind.TOKEN)
        return Refused(Reason.UNKNOWN)


class OnePassword:
    def __init__(self) -> None:
        self.remembered = False

    def known(self, user: str, password: str) -> bool:
        return self.remembered and (user, password) == ("scraper", "pass:word")

    def check(self, user: str, password: str) -> bool:
        self.remembered = (user, password) == ("scraper", "pass:word")
        return self.remembered


AUTHENTICATOR = Authenticator(OneToken(), AccessTokens(SETTINGS, FixedClock()), OnePassword())


def signed(changes: Mapping[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    """Return a token with these claims changed; a claim that is None is left out."""
    claims = {key: value for key, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.PyJWS().encode(json.dumps(claims).encode(), secret, algorithm)


def made(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """Return a token with any header and payload at all, signed with HMAC-SHA256 whatever the header says."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret, text, hashlib.sha256)
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def sign_in(credential: str, authenticator: Authenticator = AUTHENTICATOR) -> Principal | Refused:
    return authenticator.authenticate(f"Bearer {credential}")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


class TestAccessTokens:
    def test_an_administrator_is_known(self) -> None:
        """AuraConnect's token as it comes makes its holder a system administrator, by name."""
        assert sign_in(signed({})) == ADA

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    def test_each_algorithm_can_be_chosen(self, algorithm: str) -> None:
        """The algorithm that JWT_ALGORITHM names is taken, and only that one."""
        settings = access_token_settings({"JWT_SECRET_KEY": SECRET * 2, "JWT_ALGORITHM": algorithm})
        assert settings is not None
        authenticator = Authenticator(OneToken(), AccessTokens(settings, FixedClock()))
        answers = {
            other: sign_in(signed({}, SECRET * 2, other), authenticator) for other in ("HS256", "HS384", "HS512")
        }
        assert answers.pop(algorithm) == ADA
        assert set(answers.values()) == {Refused(Reason.SIGNATURE)}

    def test_the_previous_secret_counts_while_it_is_rotated(self) -> None:
        """A token that was signed just before the secret was replaced is still good."""
        assert sign_in(signed({}, OLD_SECRET)) == ADA

    @pytest.mark.parametrize(
        ("roles", "expected"),
        [
            (["system_admin"], {Role.SYSTEM_ADMIN}),
            (["waiter", "manager"], set()),
            ([], set()),
            (["alertmanager", "ingest", "metrics", "ADMIN", " admin"], set()),
        ],
    )
    def test_only_auraconnects_administrators_have_a_role(self, roles: list[str], expected: set[Role]) -> None:
        """Others are known but may nothing, also if their roles are named like ours."""
        principal = sign_in(signed({"roles": roles}))
        assert isinstance(principal, Principal)
        assert principal.roles == expected

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"username": None}, "ada@auraconnect.ai"),
            ({"username": None, "email": None}, "42"),
            ({"username": "\n\t", "email": ""}, "42"),
            ({"username": "ada\r\nlevel=error\u202e"}, "ada level=error"),
            ({"username": "x" * 5000}, "x" * 128),
        ],
    )
    def test_the_name_is_fit_for_logs(self, changes: Mapping[str, Any], name: str) -> None:
        """User name, else e-mail, else subject: one printable line of at most 128 characters."""
        principal = sign_in(signed(changes))
        assert isinstance(principal, Principal)
        assert principal.name == name

    @pytest.mark.parametrize(
        "changes",
        [
            {"type": "refresh"},
            {"type": ["access"]},
            {"iss": "someone-else"},
            {"iss": ["auraconnect-api"]},
            {"aud": "auraconnect-api"},
            {"aud": []},
            {"aud": [["auraconnect-ws"]]},
            {"sub": ""},
            {"sub": 42},
            {"sub": "\n", "username": None, "email": "\u200b"},
            {"roles": "admin"},
            {"roles": {"admin": True}},
            {"roles": ["admin", 1]},
            {"roles": [["admin"]]},
            {"exp": "never"},
            {"exp": str(NOW + 900)},
            {"exp": True},
            {"exp": [NOW + 900]},
            {"iat": NOW + 11},
            {"nbf": NOW + 11},
            {"username": {"$ne": 1}},
            *({claim: None} for claim in ("sub", "exp", "iat", "iss", "aud", "type", "roles")),
        ],
        ids=str,
    )
    def test_a_claim_that_is_missing_or_wrong_is_refused(self, changes: Mapping[str, Any]) -> None:
        """A signature alone opens nothing: each claim must be there, of its type, and the right one."""
        assert sign_in(signed(changes)) == Refused(Reason.CLAIMS)

    def test_one_of_several_audiences_is_enough(self) -> None:
        """An audience may be a list, as RFC 7519 has it."""
        assert sign_in(signed({"aud": ["other", "auraconnect-ws"]})) == ADA

    @pytest.mark.parametrize(
        ("ago", "answer"), [(9, ADA), (10, Refused(Reason.EXPIRED)), (1e9, Refused(Reason.EXPIRED))]
    )
    def test_an_expired_token_is_refused(self, ago: float, answer: Principal | Refused) -> None:
        """Clocks may differ by ten seconds; what expired earlier is over."""
        assert sign_in(signed({"exp": NOW - ago})) == answer

    def test_clocks_may_differ(self) -> None:
        """A token from a machine whose clock is a little ahead is good."""
        assert sign_in(signed({"iat": NOW + 9, "nbf": NOW + 9})) == ADA

    def test_a_forged_signature_is_refused(self) -> None:
        """A token that was signed with another secret, or changed after signing, is nobody's."""
        head, payload, signature = signed({"roles": []}).split(".")
        other = signed({}).split(".")[1]
        forged = [
            signed({}, "x" * 40),
            f"{head}.{other}.{signature}",
            f"{head}.{payload}.{'A' * len(signature)}",
        ]
        assert {sign_in(token) for token in forged} == {Refused(Reason.SIGNATURE)}

    @pytest.mark.parametrize(
        "name", ["none", "None", "NONE", "", "HS384", "RS256", "ES256", "EdDSA", ["HS256"], None, 1]
    )
    def test_the_header_does_not_choose_the_algorithm(self, name: object) -> None:
        """``alg: none`` and every other algorithm are refused, signed or not."""
        token = made({"alg": name, "typ": "JWT"}, dict(CLAIMS))
        unsigned = token.rpartition(".")[0] + "."
        assert {type(sign_in(token)), type(sign_in(unsigned))} == {Refused}

    def test_a_public_key_is_no_secret(self, tmp_path: Path) -> None:
        """A token signed with the certificate's text as HMAC secret is refused, and so is that text as our secret."""
        certificate = self_signed(tmp_path, "api.example.com")[0].read_text(encoding="utf-8")
        token = made({"alg": "HS256", "typ": "JWT"}, dict(CLAIMS), certificate.encode())
        assert sign_in(token) == Refused(Reason.SIGNATURE)
        with pytest.raises(ConfigError, match=r"^JWT_SECRET_KEY: is empty, or a key or certificate, not a shared"):
            access_token_settings({"JWT_SECRET_KEY": certificate})

    @pytest.mark.parametrize(
        "header",
        [
            {"alg": "HS256", "crit": ["exp"], "exp": 1},
            {"alg": "HS256", "crit": ["b64"], "b64": True},
            {"alg": "HS256", "crit": [], "b64": False},
            {"alg": "HS256", "kid": 1},
            {"typ": "JWT"},
            [],
            "HS256",
            b"[" * 3000,
            b'{"alg":' * 700,
            b"\xff\xfe",
            b'{"alg": ' + b"9" * 5000 + b"}",
        ],
        ids=lambda header: str(header)[:30],
    )
    def test_a_strange_header_is_refused(self, header: object) -> None:
        """Extensions that we don't know, wrong types, great depth, broken text: refused, never an error."""
        assert isinstance(sign_in(made(header, dict(CLAIMS))), Refused)

    @pytest.mark.parametrize(
        "payload",
        [
            [],
            None,
            "text",
            b"",
            b"{",
            b"\xff",
            b'{"sub":' * 700,
            b"[" * 3000,
            b'{"unknown":' + b"[" * 3000 + b"]" * 3000 + b"}",
            b'{"unknown":"\xff"}',
            json.dumps(CLAIMS).encode().replace(b"ada", b"\xff"),
            json.dumps(CLAIMS).encode("utf-16"),
            json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "1e999").encode(),
            json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "9" * 400).encode(),
            json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "NaN").encode(),
            json.dumps(CLAIMS).replace("ada", "\\ud800").encode(),
        ],
        ids=lambda payload: str(payload)[:30],
    )
    def test_a_strange_payload_is_refused(self, payload: object) -> None:
        """Even with a good signature, what is no set of claims is refused, never an error."""
        assert sign_in(made({"alg": "HS256"}, payload)) == Refused(Reason.CLAIMS)

    @pytest.mark.parametrize("text", ["a", "a.b", "..", "a.b.c.d", "a.b.c", "eyJ", "!.!.!", "=.=.="])
    def test_what_is_no_token_is_refused(self, text: str) -> None:
        """A token has three parts in base64url."""
        assert sign_in(text) == Refused(Reason.MALFORMED)

    def test_a_huge_token_is_refused(self) -> None:
        """A header beyond 8 KiB is not even taken apart."""
        assert sign_in(signed({"padding": "x" * MAX_HEADER})) == Refused(Reason.MALFORMED)

    def test_without_a_secret_no_access_token_is_taken(self) -> None:
        """Where AuraConnect's secret is not known, nobody signs in with its tokens."""
        assert sign_in(signed({}), Authenticator(OneToken())) == Refused(Reason.UNKNOWN)


class TestHeader:
    @pytest.mark.parametrize("header", [f"Bearer {OUR_TOKEN}", f"bearer {OUR_TOKEN}", f"BEARER   {OUR_TOKEN} "])
    def test_our_token_is_found(self, header: str) -> None:
        """The scheme's case does not matter, nor how many spaces follow it."""
        assert AUTHENTICATOR.authenticate(header) == Principal("prometheus", frozenset({Role.METRICS}), Kind.TOKEN)

    def test_a_password_gives_the_metrics(self) -> None:
        """A user of the web configuration file may read the metrics; a password may hold colons."""
        principal = AUTHENTICATOR.authenticate(basic("scraper:pass:word"))
        assert principal == Principal("scraper", frozenset({Role.METRICS}), Kind.BASIC)

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (None, Reason.MISSING),
            ("", Reason.MALFORMED),
            ("Bearer", Reason.MALFORMED),
            ("Bearer ", Reason.MALFORMED),
            (OUR_TOKEN, Reason.MALFORMED),
            (f"Bearer {OUR_TOKEN}, Bearer {OUR_TOKEN}", Reason.MALFORMED),
            (f"Bearer\t{OUR_TOKEN}", Reason.MALFORMED),
            (f"Bearer {OUR_TOKEN}\n", Reason.MALFORMED),
            ("Bearer tökën", Reason.MALFORMED),
            ("Bearer \udcff", Reason.MALFORMED),
            ("Bearer " + "a" * MAX_HEADER, Reason.MALFORMED),
            (f"Digest {OUR_TOKEN}", Reason.SCHEME),
            ("Bearer auc_", Reason.UNKNOWN),
            ("Basic !!!", Reason.MALFORMED),
            ("Basic " + base64.b64encode(b"\xff:\xff").decode(), Reason.MALFORMED),
            (basic("nobody"), Reason.MALFORMED),
            (basic("nobody:x"), Reason.UNKNOWN),
            (basic("scraper:"), Reason.UNKNOWN),
        ],
    )
    def test_what_is_wrong_is_refused(self, header: str | None, reason: Reason) -> None:
        """Whatever else the header holds is refused, for a reason that the log can name."""
        assert AUTHENTICATOR.authenticate(header) == Refused(reason)

    def test_a_password_means_nothing_where_there_are_none(self) -> None:
        """Without users in the web configuration file, Basic is a scheme that we don't know."""
        assert Authenticator(OneToken()).authenticate(basic("scraper:pass:word")) == Refused(Reason.SCHEME)

    def test_a_certificate_gives_the_metrics(self) -> None:
        """A client that TLS has verified may read the metrics, under its certificate's name."""
        principal = AUTHENTICATOR.authenticate(None, "prometheus.example.com\n")
        assert principal == Principal("prometheus.example.com", frozenset({Role.METRICS}), Kind.CERTIFICATE)

    def test_a_header_says_more_than_a_certificate(self) -> None:
        """Who shows a certificate and a wrong token is refused for the token."""
        assert AUTHENTICATOR.authenticate("Bearer auc_x", "prometheus") == Refused(Reason.UNKNOWN)

    @given(st.text(max_size=300))
    def test_no_header_is_an_error(self, text: str) -> None:
        """Whatever someone sends, the answer is a refusal, not an exception."""
        for header in (text, f"Bearer {text}", f"Basic {text}", f"Bearer {text}.{text}.{text}"):
            assert isinstance(AUTHENTICATOR.authenticate(header), Refused)

    def test_only_a_password_that_must_be_hashed_is_slow(self) -> None:
        """The event loop need not wait for tokens, nor for a password that was right a moment ago."""
        authenticator = Authenticator(OneToken(), None, OnePassword())
        header = basic("scraper:pass:word")
        headers = [None, "", "Basic x", f"Bearer {OUR_TOKEN}", header]
        assert [authenticator.is_slow(text) for text in headers] == [False, False, False, False, True]
        authenticator.authenticate(header)
        assert not authenticator.is_slow(header)
        assert not Authenticator(OneToken()).is_slow(header)


class TestAnswers:
    @pytest.mark.parametrize(
        ("header", "challenge", "failed"),
        [
            (None, 'Bearer realm="auraconnect"', False),
            ("Digest x", 'Bearer realm="auraconnect"', True),
            ("Bearer auc_x", 'Bearer realm="auraconnect", error="invalid_token"', True),
            ("Bearer", 'Bearer realm="auraconnect", error="invalid_token"', True),
        ],
    )
    def test_the_challenge_is_that_of_rfc_6750(self, header: str | None, challenge: str, failed: bool) -> None:
        """An error is named only to whoever has shown a token; who has shown nothing has not failed to sign in."""
        refused = AUTHENTICATOR.authenticate(header)
        assert isinstance(refused, Refused)
        assert AUTHENTICATOR.challenges(refused, Role.SYSTEM_ADMIN) == (challenge,)
        assert refused.failed is failed

    def test_a_password_is_asked_for_where_one_helps(self) -> None:
        """Basic is offered for the metrics alone, and only if there are users."""
        refused = Refused(Reason.MISSING)
        bearer = 'Bearer realm="auraconnect"'
        expected = (bearer, 'Basic realm="auraconnect", charset="UTF-8"')
        assert AUTHENTICATOR.challenges(refused, Role.METRICS) == expected
        assert Authenticator(OneToken()).challenges(refused, Role.METRICS) == (bearer,)

    def test_an_expired_and_a_forged_token_are_answered_alike(self) -> None:
        """Whoever is refused does not learn why."""
        refusals = [sign_in(signed({"exp": NOW - 60})), sign_in(signed({}, "x" * 40)), sign_in("auc_x")]
        challenges = {AUTHENTICATOR.challenges(one, Role.INGEST) for one in refusals if isinstance(one, Refused)}
        assert (len({*refusals}), len(challenges)) == (3, 1)

    @pytest.mark.parametrize("role", list(Role))
    def test_a_role_opens_its_own_door(self, role: Role) -> None:
        """Each role may what is its own, the administrator everything, nobody else anything."""
        holder = Principal("x", frozenset({role}), Kind.TOKEN)
        may = {other for other in Role if authorize(holder, other)}
        assert may == (set(Role) if role is Role.SYSTEM_ADMIN else {role})
        assert not authorize(Principal("x", frozenset(), Kind.JWT), role)

    def test_a_403_names_the_scope(self) -> None:
        """RFC 6750's word for a role that is too small."""
        assert INSUFFICIENT_SCOPE == 'Bearer realm="auraconnect", error="insufficient_scope"'

    @given(st.text())
    def test_every_name_is_one_printable_line(self, text: str) -> None:
        """No name can forge a line of a log."""
        name = safe_name(text)
        assert name.isprintable()
        assert len(name) <= 128


class TestSettings:
    def test_auraconnects_own_variables_are_enough(self) -> None:
        """The secret alone gives AuraConnect's defaults; the other variables change them."""
        assert access_token_settings({"JWT_SECRET_KEY": SECRET}) == AccessTokenSettings(
            (Secret(SECRET),), "HS256", "auraconnect-api", "auraconnect-ws"
        )
        environ = {
            "JWT_SECRET_KEY": SECRET * 2,
            "JWT_SECRET_KEY_PREVIOUS": OLD_SECRET * 2,
            "JWT_ALGORITHM": "HS512",
            "JWT_ISSUER": "i",
            "JWT_AUDIENCE": "a",
        }
        expected = AccessTokenSettings((Secret(SECRET * 2), Secret(OLD_SECRET * 2)), "HS512", "i", "a")
        assert access_token_settings(environ) == expected

    def test_a_secret_may_stand_in_a_file(self, tmp_path: Path) -> None:
        """…_FILE names a file, whose last line's end is not part of the secret."""
        (tmp_path / "new").write_text(f"{SECRET}\n", encoding="utf-8")
        (tmp_path / "old").write_text(f"{OLD_SECRET}\r\n", encoding="utf-8")
        environ = {
            "JWT_SECRET_KEY_FILE": str(tmp_path / "new"),
            "JWT_SECRET_KEY_PREVIOUS_FILE": str(tmp_path / "old"),
        }
        assert access_token_settings(environ) == SETTINGS

    def test_without_a_secret_there_are_no_settings(self) -> None:
        """AuraConnect's tokens are not taken where its secret is not set, or empty."""
        assert access_token_settings({}) is None
        assert access_token_settings({"JWT_SECRET_KEY": "", "JWT_ISSUER": "x"}) is None

    @pytest.mark.parametrize(
        ("environ", "sentence"),
        [
            ({"JWT_ALGORITHM": "none"}, "JWT_ALGORITHM: expected HS256, HS384, HS512, got 'none'"),
            ({"JWT_ALGORITHM": "RS256"}, "JWT_ALGORITHM: expected HS256, HS384, HS512, got 'RS256'"),
            (
                {"JWT_SECRET_KEY": SECRET, "JWT_SECRET_KEY_FILE": "…/secret"},
                "JWT_SECRET_KEY: stands beside JWT_SECRET_KEY_FILE, use one of them",
            ),
            (
                {"JWT_SECRET_KEY_PREVIOUS": SECRET},
                "JWT_SECRET_KEY_PREVIOUS: needs JWT_SECRET_KEY beside it, the secret in use",
            ),
            (
                {"JWT_SECRET_KEY_FILE": "…/none"},
                "JWT_SECRET_KEY_FILE: …/none can't be read: No such file or directory",
            ),
            ({"JWT_SECRET_KEY_FILE": "…/binary"}, "JWT_SECRET_KEY_FILE: …/binary is not UTF-8 text"),
            (
                {"JWT_SECRET_KEY_FILE": "…/empty"},
                "JWT_SECRET_KEY_FILE: is empty, or a key or certificate, not a shared secret",
            ),
            ({"JWT_SECRET_KEY_FILE": "…/huge"}, "JWT_SECRET_KEY_FILE: …/huge is larger than 65536 bytes"),
            ({"JWT_SECRET_KEY": "\udcff" * 40}, "JWT_SECRET_KEY: is not UTF-8 text"),
        ],
    )
    def test_a_broken_setting_is_one_sentence(self, tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
        """What is wrong is said by the variable's name, at start, and without the secret."""
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        (tmp_path / "empty").write_bytes(b"\n")
        (tmp_path / "huge").write_bytes(b"x" * 65537)
        with pytest.raises(ConfigError) as raised:
            access_token_settings({key: text.replace("…", str(tmp_path)) for key, text in environ.items()})
        assert str(raised.value).replace(str(tmp_path), "…") == sentence

    def test_a_short_secret_works_and_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """AuraConnect's people get in with the secret that they have; the log says that it is short, and no more."""
        settings = access_token_settings({"JWT_SECRET_KEY": "short-one"})
        assert settings is not None
        authenticator = Authenticator(OneToken(), AccessTokens(settings, FixedClock()))
        token = made({"alg": "HS256"}, dict(CLAIMS), b"short-one")
        assert [sign_in(token, authenticator) for _ in range(3)] == [ADA] * 3
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "short-one" not in str(record.__dict__)

    def test_nothing_shows_a_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither ``repr`` nor the log holds a secret or a token."""
        caplog.set_level(logging.DEBUG)
        token = signed({"exp": NOW - 60})
        shown = [repr(AUTHENTICATOR), repr(SETTINGS), str(SETTINGS), repr(vars(AUTHENTICATOR.access_tokens))]
        shown += [repr(sign_in(token)), repr(sign_in(signed({}))), repr(sign_in(OUR_TOKEN)), caplog.text]
        text = "\n".join(shown)
        assert not [secret for secret in (SECRET, OLD_SECRET, token, OUR_TOKEN) if secret in text]
