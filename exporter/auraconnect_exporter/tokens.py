"""Our own tokens: who holds one is a principal. Kept are their hashes alone, in ``tokens.json`` of the data folder.

A token is 256 random bits, so its SHA-256 is enough: a slow hash helps passwords, of which there are few enough to try.
Rotating one is: create another under another name, use it, revoke the first.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from auraconnect_exporter import strict_yaml
from auraconnect_exporter.auth import TOKEN_PREFIX, Kind, Principal, Reason, Refused, Role
from auraconnect_exporter.model import Clock, Secret
from auraconnect_exporter.schema import Problem, converted

log = logging.getLogger(__name__)

FILE: Final = "tokens.json"
ADMIN_FILE: Final = "admin-token"
MAX_TOKENS: Final = 100
LONGEST_LIFE: Final = 3650 * 86400.0
"""Seconds until a token expires, where it does."""
_CHECK_SECONDS: Final = 1.0

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"


class TokenProblem(Exception):
    """A token or the file of tokens can't be used: one sentence, which holds no token."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of a token: its ``hash`` is SHA-256 in hexadecimal digits; it may never expire."""

    name: Annotated[str, msgspec.Meta(pattern=rf"^{_NAME}\Z")]
    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Literal[1]
    tokens: tuple[Token, ...] = ()


class TokenFile:
    """The tokens of a folder; a change of the file counts within a second.

    A file that is damaged while we run grants nothing new: the tokens read before it stay the ones that count.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read the file. Raises TokenProblem; a file that is not there holds no tokens."""
        self._path = folder / FILE
        self._clock = clock
        self._seen = _identity(self._path)
        self._tokens = _read(self._path)
        self._checked = clock.monotonic()

    def find(self, token: str) -> Principal | Refused:
        """Return whose token it is, which is ASCII. Never raises."""
        self._refresh()
        digest = _hash(token)
        found = None
        for known in self._tokens:  # all of them, whichever it is: the time that it takes tells nothing
            if hmac.compare_digest(known.hash, digest):
                found = known
        if found is None:
            return Refused(Reason.UNKNOWN)
        if _expired(found, self._clock.time()):
            return Refused(Reason.EXPIRED)
        return Principal(found.name, frozenset(found.roles), Kind.TOKEN)

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        identity = _identity(self._path)
        if identity == self._seen:
            return
        self._seen = identity
        try:
            self._tokens = _read(self._path)
        except TokenProblem as problem:
            log.error("the tokens were not read again", extra={"detail": str(problem)})  # noqa: TRY400
        else:
            log.info("the tokens were read again", extra={"tokens": len(self._tokens)})


def create(folder: Path, name: str, roles: Iterable[str], expires_in: float | None, now: float) -> Secret:
    """Make a token and keep its hash; returns the token, which can't be had again. Raises TokenProblem.

    ``now`` in Unix seconds, ``expires_in`` in seconds.
    """
    if not re.fullmatch(_NAME, name):
        raise TokenProblem("a token's name is 1 to 64 letters, digits, dots, dashes, underscores or @")
    known = {str(role): role for role in Role}
    wanted = dict.fromkeys(roles)
    if not wanted or not wanted.keys() <= known.keys():
        raise TokenProblem(f"a token has one or more of the roles {', '.join(known)}")
    if expires_in is not None and not 0 < expires_in <= LONGEST_LIFE:
        raise TokenProblem("a token expires in more than 0s and at most 3650d")
    secret, token = _made(name, tuple(known[role] for role in wanted), expires_in, now)
    with _locked(folder) as path:
        tokens = _read(path)
        if name in {other.name for other in tokens}:
            raise TokenProblem(f"there is a token {name!r} already: revoke it first, or give this one another name")
        if len(tokens) >= MAX_TOKENS:
            raise TokenProblem(f"there are {len(tokens)} tokens, no more are possible")
        _save(path, (*tokens, token))
    return secret


def revoke(folder: Path, name: str) -> None:
    """Let a token count no longer; exporters that run notice within a second. Raises TokenProblem."""
    with _locked(folder) as path:
        tokens = _read(path)
        left = tuple(token for token in tokens if token.name != name)
        if len(left) == len(tokens):
            raise TokenProblem(f"there is no token {name[:64]!r}")
        _save(path, left)


def listing(folder: Path, now: float) -> str:
    """Return a table of the tokens, without anything that could be used as one. Raises TokenProblem."""
    rows = [("NAME", "ROLES", "CREATED", "EXPIRES")]
    for token in _read(folder / FILE):
        expires = "never" if token.expires is None else _written(token.expires)
        if _expired(token, now):
            expires += " (expired)"
        rows.append((token.name, ",".join(token.roles), _written(token.created), expires))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def first_start(folder: Path, now: float, *, others: bool) -> Path | None:
    """Make the first administrator's token where nobody could sign in otherwise; returns the file that holds it.

    Nothing happens where there are tokens, or once were, or where ``others`` says that there is another way to sign in.
    Raises TokenProblem.
    """
    if others or (folder / FILE).exists():
        return None
    secret, token = _made("admin", (Role.SYSTEM_ADMIN,), None, now)
    with _locked(folder) as path:
        if path.exists():  # another exporter on the same folder was quicker
            return None
        # The token before its hash: if we stop in between, the next start makes both again.
        _write(folder / ADMIN_FILE, f"{secret.reveal()}\n")
        _save(path, (token,))
    return folder / ADMIN_FILE


def _made(name: str, roles: tuple[Role, ...], expires_in: float | None, now: float) -> tuple[Secret, Token]:
    secret = TOKEN_PREFIX + secrets.token_hex(32)
    created = datetime.fromtimestamp(int(now), UTC)
    expires = None if expires_in is None else created + timedelta(seconds=expires_in)
    return Secret(secret), Token(name=name, roles=roles, hash=_hash(secret), created=created, expires=expires)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _expired(token: Token, now: float) -> bool:
    return token.expires is not None and token.expires.timestamp() <= now


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when the file does; None when it is not there, or can't be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file; none where there is no file. Raises TokenProblem."""
    try:
        with path.open("rb") as stream:
            writable = os.fstat(stream.fileno()).st_mode & stat.S_IWOTH
            raw = stream.read(strict_yaml.MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise TokenProblem(f"{path}: can't be read: {error.strerror}") from None
    if writable:
        raise TokenProblem(f"{path}: can be written by everybody, who could let themselves in; chmod it to 600")
    try:
        document = strict_yaml.load(raw)  # JSON is YAML; this reader also refuses keys that come twice
    except strict_yaml.YAMLProblem as error:
        raise TokenProblem(f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}") from None
    try:
        tokens = converted(document.data, _File).tokens
        _check_unique(tokens)
    except Problem as problem:
        place = f"{path}:{document.line(problem.path)}: {problem.path}".removesuffix(": ")
        raise TokenProblem(f"{place}: {problem}") from None
    return tokens


def _check_unique(tokens: tuple[Token, ...]) -> None:
    for index, token in enumerate(tokens):
        if token.name in {other.name for other in tokens[:index]}:
            raise Problem(f"tokens[{index}].name", f"{token.name!r} is the name of another token already")
    if len(tokens) > MAX_TOKENS:
        raise Problem("tokens", f"has {len(tokens)} entries, {MAX_TOKENS} are the most")


def _save(path: Path, tokens: tuple[Token, ...]) -> None:
    content = msgspec.to_builtins(_File(version=1, tokens=tokens))
    _write(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Keep other processes from changing the tokens meanwhile; yields the file's path. Raises TokenProblem."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / f"{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TokenProblem(f"{folder}: can't be written: {error.strerror}") from None
    try:
        _give_to_owner(lock, folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / FILE
    finally:
        os.close(lock)


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Let a file belong to whoever owns the folder, who runs the exporter, also if root made it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _write(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all, for its owner's eyes only. Raises TokenProblem."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            _give_to_owner(descriptor, path.parent)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise TokenProblem(f"{path}: can't be written: {error.strerror}") from None
