"""Our own tokens: made, found, expired, revoked; and a file that is damaged lets nobody in."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from auraconnect_exporter import tokens
from auraconnect_exporter.auth import Kind, Principal, Reason, Refused, Role
from auraconnect_exporter.tokens import TokenFile, TokenProblem

NOW = 1_800_000_000.0
UNKNOWN = Refused(Reason.UNKNOWN)


class SteppedClock:
    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def make(folder: Path, name: str = "prometheus", *roles: str, expires_in: float | None = None) -> str:
    return tokens.create(folder, name, roles or ("metrics",), expires_in, NOW).reveal()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def entry(**changes: object) -> dict[str, object]:
    """Return a token's entry as the file has it; a key that is None is left out."""
    whole = {
        "name": "a",
        "roles": ["ingest"],
        "hash": "0" * 64,
        "created": "2027-01-15T08:00:00Z",
        "expires": "2028-01-15T08:00:00Z",
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


class TestFind:
    def test_a_token_is_found_by_its_holder(self, tmp_path: Path, clock: SteppedClock) -> None:
        """What create returned is a principal of that name and those roles."""
        token = make(tmp_path, "collector", "ingest", "metrics")
        principal = Principal("collector", frozenset({Role.INGEST, Role.METRICS}), Kind.TOKEN)
        assert TokenFile(tmp_path, clock).find(token) == principal

    def test_tokens_look_like_ours_and_are_all_different(self, tmp_path: Path) -> None:
        """A scanner for secrets can know them; each has 256 random bits."""
        made = {make(tmp_path, f"t{number}") for number in range(20)}
        assert len(made) == 20
        assert all(re.fullmatch(r"auc_[0-9a-f]{64}", token) for token in made)

    @pytest.mark.parametrize(
        "change", [str.upper, lambda t: t[:-1], lambda t: t + "0", lambda t: t + "\n", lambda _: ""]
    )
    def test_nothing_but_the_token_itself_is_found(self, tmp_path: Path, clock: SteppedClock, change: Any) -> None:
        """A token that is nearly right is unknown, and so is the hash that the file holds."""
        token = make(tmp_path)
        (stored,) = json.loads((tmp_path / "tokens.json").read_text(encoding="utf-8"))["tokens"]
        file = TokenFile(tmp_path, clock)
        assert [file.find(text) for text in (change(token), stored["hash"], f"auc_{stored['hash']}")] == [UNKNOWN] * 3

    def test_without_a_file_nobody_is_found(self, tmp_path: Path, clock: SteppedClock) -> None:
        """No file means no tokens."""
        assert TokenFile(tmp_path, clock).find("auc_" + "0" * 64) == UNKNOWN

    def test_a_token_expires(self, tmp_path: Path, clock: SteppedClock) -> None:
        """Until its last second a token is good, then it is expired."""
        token = make(tmp_path, expires_in=3600.0)
        file = TokenFile(tmp_path, clock)
        clock.now = NOW + 3599
        assert isinstance(file.find(token), Principal)
        clock.now = NOW + 3600
        assert file.find(token) == Refused(Reason.EXPIRED)

    def test_a_rotation_has_both_tokens_for_a_while(self, tmp_path: Path, clock: SteppedClock) -> None:
        """The new one counts within a second of its making, the old one stops within a second of its end."""
        old = make(tmp_path, "alertmanager-1", "alertmanager")
        file = TokenFile(tmp_path, clock)
        new = make(tmp_path, "alertmanager-2", "alertmanager")
        clock.now += 1
        assert [type(file.find(token)) for token in (old, new)] == [Principal, Principal]
        tokens.revoke(tmp_path, "alertmanager-1")
        clock.now += 1
        assert [type(file.find(token)) for token in (old, new)] == [Refused, Principal]

    def test_the_file_is_looked_at_once_a_second(self, tmp_path: Path, clock: SteppedClock) -> None:
        """A busy exporter does not ask the file system at each request."""
        token = make(tmp_path)
        file = TokenFile(tmp_path, clock)
        (tmp_path / "tokens.json").unlink()
        clock.now += 0.9
        assert isinstance(file.find(token), Principal)
        clock.now += 0.1
        assert file.find(token) == UNKNOWN

    def test_a_file_damaged_meanwhile_grants_nothing_new(
        self, tmp_path: Path, clock: SteppedClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The tokens read before stay, the log says once what is wrong, and a repaired file counts again."""
        token, other = make(tmp_path), make(tmp_path, "other", "system_admin")
        path = tmp_path / "tokens.json"
        whole = path.read_text(encoding="utf-8")
        tokens.revoke(tmp_path, "other")
        file = TokenFile(tmp_path, clock)
        path.write_text(whole.replace('"version": 1', '"version": 2'), encoding="utf-8")
        for _ in range(3):
            clock.now += 1
            assert [type(file.find(one)) for one in (token, other)] == [Principal, Refused]
        (record,) = caplog.records
        assert record.__dict__["detail"] == f"{path}:2: version: can't be 2"
        path.write_text(whole, encoding="utf-8")
        clock.now += 1
        assert [type(file.find(one)) for one in (token, other)] == [Principal, Principal]


class TestFile:
    def test_only_its_owner_may_read_it(self, tmp_path: Path) -> None:
        """Folder, file and lock are made for one user, and no piece of work is left behind."""
        folder = tmp_path / "new" / "data"
        make(folder)
        assert mode(folder) == 0o700
        assert {path.name: mode(path) for path in folder.iterdir()} == {"tokens.json": 0o600, "tokens.json.lock": 0o600}

    def test_what_root_makes_belongs_to_the_folders_owner(self, tmp_path: Path) -> None:
        """An administrator's ``token create`` leaves no file that the exporter, another user, can't read."""
        if os.geteuid() == 0:
            os.chown(tmp_path, 12345, 12345)
        make(tmp_path)
        owners = {path.name: path.stat().st_uid for path in tmp_path.iterdir()}
        assert owners == dict.fromkeys(("tokens.json", "tokens.json.lock"), tmp_path.stat().st_uid)

    def test_it_holds_no_token(self, tmp_path: Path) -> None:
        """Neither the file nor the list nor ``repr`` has anything that could be used."""
        token = tokens.create(tmp_path, "admin", ["system_admin"], None, NOW)
        text = (tmp_path / "tokens.json").read_text(encoding="utf-8")
        shown = [text, tokens.listing(tmp_path, NOW), repr(token), str(token)]
        assert not [one for one in shown if token.reveal() in one or token.reveal()[4:] in one]

    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path) -> None:
        """A token whose hash can't be written is not made, and the others stay as they were."""
        make(tmp_path)
        before = (tmp_path / "tokens.json").read_bytes()
        script = (
            "import resource, sys; from pathlib import Path; from auraconnect_exporter import tokens\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
            "try: tokens.create(Path(sys.argv[1]), 'b', ['ingest'], None, 0.0)\n"
            "except tokens.TokenProblem as problem: print(problem)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(tokens.__file__).parent.parent)},
        )
        assert done.stdout == f"{tmp_path}/tokens.json: can't be written: File too large\n"
        assert (tmp_path / "tokens.json").read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}

    def test_two_who_create_at_once_both_succeed(self, tmp_path: Path, clock: SteppedClock) -> None:
        """No token is lost to another that is made at the same time."""
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: make(tmp_path, f"t{number}"), range(24)))
        file = TokenFile(tmp_path, clock)
        assert {type(file.find(token)) for token in made} == {Principal}

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "…:1: needs version"),
            (b"{", "…:1: is not valid YAML: expected the node content, but found '<stream end>'"),
            (b"[]", "…:1: expected a mapping, got a list"),
            (b"\xff", "…:1: is not UTF-8 text"),
            (b"\0" * 500, "…:1: has a character that YAML does not allow"),
            (b'{"version": 1, "version": 1}', "…:1: has the key 'version' twice"),
            (b'{"tokens": []}', "…:1: needs version"),
            ({"version": "1"}, "…:1: version: expected a whole number, got text"),
            ({"version": 1, "admin": True}, "…:1: admin: is not a setting that exists here"),
            ({"version": 1, "tokens": {}}, "…:1: tokens: expected a list, got a mapping"),
            ([entry(), entry()], "…:1: tokens[1].name: 'a' is the name of another token already"),
            ([entry(name=None)], "…:1: tokens[0]: needs name"),
            ([entry(name="a\n")], "…:1: tokens[0].name: expected `str` matching regex …"),
            ([entry(roles=None)], "…:1: tokens[0]: needs roles"),
            ([entry(roles="system_admin")], "…:1: tokens[0].roles: expected a list, got text"),
            ([entry(roles=[])], "…:1: tokens[0].roles: expected `array` of length >= 1"),
            ([entry(roles=["admin"])], "…:1: tokens[0].roles[0]: can't be 'admin'"),
            ([entry(hash=None)], "…:1: tokens[0]: needs hash"),
            ([entry(hash="")], "…:1: tokens[0].hash: expected `str` matching regex …"),
            ([entry(hash="0" * 63)], "…:1: tokens[0].hash: expected `str` matching regex …"),
            ([entry(hash=["0" * 64])], "…:1: tokens[0].hash: expected text, got a list"),
            ([entry(expires="2028-01-15T08:00:00")], "…:1: tokens[0].expires: expected `datetime` with a timezone …"),
            ([entry(expires="never")], "…:1: tokens[0].expires: invalid RFC3339 encoded datetime"),
            ([entry(expires=0)], "…:1: tokens[0].expires: expected datetime, got a whole number"),
            ([entry(extra=1)], "…:1: tokens[0].extra: is not a setting that exists here"),
            ([entry(name=f"t{number}") for number in range(101)], "…:1: tokens: has 101 entries, 100 are the most"),
        ],
    )
    def test_a_damaged_file_is_one_sentence(
        self, tmp_path: Path, clock: SteppedClock, content: object, sentence: str
    ) -> None:
        """What is wrong with the file is said with its place, and nothing of it is used."""
        path = tmp_path / "tokens.json"
        document = {"version": 1, "tokens": content} if isinstance(content, list) else content
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        for use in (
            lambda: TokenFile(tmp_path, clock),
            lambda: tokens.listing(tmp_path, NOW),
            lambda: make(tmp_path, "new"),
            lambda: tokens.revoke(tmp_path, "a"),
        ):
            with pytest.raises(TokenProblem) as raised:
                use()
            said = re.sub(r"(regex|timezone) .*", r"\1 …", str(raised.value)).replace(str(path), "…")
            assert said == sentence

    def test_a_file_that_everybody_can_write_is_refused(self, tmp_path: Path, clock: SteppedClock) -> None:
        """Whoever can write the file can let themselves in."""
        make(tmp_path)
        (tmp_path / "tokens.json").chmod(0o666)
        with pytest.raises(TokenProblem, match="can be written by everybody, who could let themselves in"):
            TokenFile(tmp_path, clock)

    def test_what_is_no_file_is_one_sentence(self, tmp_path: Path, clock: SteppedClock) -> None:
        """A folder in the file's place, or a file in the folder's, is said to be so."""
        (tmp_path / "tokens.json").mkdir()
        with pytest.raises(TokenProblem, match=r"tokens\.json: can't be read: Is a directory$"):
            TokenFile(tmp_path, clock)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(TokenProblem, match=r"file: can't be written: File exists$"):
            make(tmp_path / "file")


class TestCommands:
    def test_the_list_says_what_is_known(self, tmp_path: Path) -> None:
        """Name, roles, and when a token was made and expires."""
        make(tmp_path, "prometheus")
        make(tmp_path, "collector@eu", "ingest", "metrics", expires_in=86400.0)
        lines = [re.split(r"  +", line) for line in tokens.listing(tmp_path, NOW + 86400).splitlines()]
        assert lines == [
            ["NAME", "ROLES", "CREATED", "EXPIRES"],
            ["prometheus", "metrics", "2027-01-15T08:00:00Z", "never"],
            ["collector@eu", "ingest,metrics", "2027-01-15T08:00:00Z", "2027-01-16T08:00:00Z (expired)"],
        ]

    @pytest.mark.parametrize(
        ("name", "roles", "expires_in", "sentence"),
        [
            ("", ["ingest"], None, "a token's name is 1 to 64 letters, digits, dots, dashes, underscores or @"),
            ("a b", ["ingest"], None, "a token's name is 1 to 64 letters, digits, dots, dashes, underscores or @"),
            ("a", [], None, "a token has one or more of the roles system_admin, alertmanager, ingest, metrics"),
            ("a", ["root"], None, "a token has one or more of the roles system_admin, alertmanager, ingest, metrics"),
            ("a", ["ingest"], 0.0, "a token expires in more than 0s and at most 3650d"),
            ("a", ["ingest"], 1e12, "a token expires in more than 0s and at most 3650d"),
            (
                "taken",
                ["ingest"],
                None,
                "there is a token 'taken' already: revoke it first, or give this one another name",
            ),
        ],
    )
    def test_what_can_not_be_made_is_one_sentence(
        self, tmp_path: Path, name: str, roles: list[str], expires_in: float | None, sentence: str
    ) -> None:
        """A wrong argument makes no token."""
        make(tmp_path, "taken")
        before = (tmp_path / "tokens.json").read_bytes()
        with pytest.raises(TokenProblem, match=f"^{re.escape(sentence)}$"):
            tokens.create(tmp_path, name, roles, expires_in, NOW)
        assert (tmp_path / "tokens.json").read_bytes() == before

    def test_an_unknown_name_can_not_be_revoked(self, tmp_path: Path) -> None:
        """A slip of the hand is said, not taken for success."""
        make(tmp_path, "a")
        with pytest.raises(TokenProblem, match=r"^there is no token 'b'$"):
            tokens.revoke(tmp_path, "b")

    def test_there_is_a_most(self, tmp_path: Path) -> None:
        """The hundred-and-first token is refused, before it makes the file one that can't be read."""
        entries = [entry(name=f"t{number}") for number in range(100)]
        path = tmp_path / "tokens.json"
        path.write_text(json.dumps({"version": 1, "tokens": entries}), encoding="utf-8")
        with pytest.raises(TokenProblem, match=r"^there are 100 tokens, no more are possible$"):
            make(tmp_path)


class TestFirstStart:
    def test_an_administrators_token_is_made(
        self, tmp_path: Path, clock: SteppedClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its file is the owner's alone, what it holds signs in, and neither path nor log holds it."""
        caplog.set_level(logging.DEBUG)
        path = tokens.first_start(tmp_path / "data", NOW, others=False)
        assert path == tmp_path / "data" / "admin-token"
        assert mode(path) == 0o600
        token = path.read_text(encoding="utf-8").rstrip("\n")
        principal = TokenFile(tmp_path / "data", clock).find(token)
        assert principal == Principal("admin", frozenset({Role.SYSTEM_ADMIN}), Kind.TOKEN)
        assert token not in caplog.text

    def test_it_happens_once(self, tmp_path: Path) -> None:
        """A second start, and a first one with another way to sign in, make nothing."""
        assert tokens.first_start(tmp_path / "a", NOW, others=True) is None
        assert not (tmp_path / "a").exists()
        tokens.first_start(tmp_path / "b", NOW, others=False)
        before = (tmp_path / "b" / "admin-token").read_bytes()
        assert tokens.first_start(tmp_path / "b", NOW, others=False) is None
        assert (tmp_path / "b" / "admin-token").read_bytes() == before

    def test_revoking_all_does_not_bring_it_back(self, tmp_path: Path) -> None:
        """Whoever revoked the last token did not ask for another."""
        tokens.first_start(tmp_path, NOW, others=False)
        tokens.revoke(tmp_path, "admin")
        assert tokens.first_start(tmp_path, NOW, others=False) is None

    def test_a_start_that_was_cut_off_is_made_good(self, tmp_path: Path, clock: SteppedClock) -> None:
        """A token whose hash was never written is replaced by one that works."""
        (tmp_path / "admin-token").write_text("auc_left-behind\n", encoding="utf-8")
        path = tokens.first_start(tmp_path, NOW, others=False)
        assert path is not None
        assert isinstance(TokenFile(tmp_path, clock).find(path.read_text(encoding="utf-8").strip()), Principal)

    def test_two_first_starts_agree(self, tmp_path: Path, clock: SteppedClock) -> None:
        """Of several exporters that start on one folder one makes a token, and its file holds the one that counts."""
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(lambda _: tokens.first_start(tmp_path, NOW, others=False), range(8)))
        (path,) = (path for path in paths if path is not None)
        assert isinstance(TokenFile(tmp_path, clock).find(path.read_text(encoding="utf-8").strip()), Principal)
