"""The commands beside serving: tokens and the incident store's backups."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auraconnect_exporter import tokens
from auraconnect_exporter.auth import Role
from auraconnect_exporter.model import Secret
from auraconnect_exporter.schema import Duration
from auraconnect_exporter.store import StoreError, upkeep


class CommandProblem(Exception):
    """A command can't do what it is told: one sentence."""


def run(options: argparse.Namespace, store_url: Secret, now: float) -> str:
    """Run the command that the arguments name; returns what it has to say. ``now`` in Unix seconds."""
    try:
        said: str = options.act(options, store_url, now)
    except (tokens.TokenProblem, StoreError) as error:
        raise CommandProblem(f"{options.command} {options.action}: {error}") from None
    return said


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the program's arguments; without one, it serves."""
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands (without one: serve)")
    token = commands.add_parser("token", help="tokens of programs and people").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = _action(token, "create", _create_token, "make a token; it is shown once")
    create.add_argument("name")
    create.add_argument("--role", action="append", required=True, choices=[str(role) for role in Role], dest="roles")
    create.add_argument("--expires-in", type=_duration, metavar="DURATION", help="such as 90d (default: never)")
    _action(token, "list", _list_tokens, "show the tokens that there are, without what could be used as one")
    _action(token, "revoke", _revoke_token, "let a token count no longer").add_argument("name")
    store = commands.add_parser("store", help="the incident store").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    backup = _action(store, "backup", _back_up, "write all that it holds into a file, while the exporter runs")
    backup.add_argument("file", type=Path)
    restore = _action(store, "restore", _restore, "replace what it holds by a backup")
    restore.add_argument("file", type=Path)
    restore.add_argument("--force", action="store_true", help="also where it holds something")
    _action(store, "verify", _verify, "say whether it is sound, and what it holds")


_Act = Callable[[argparse.Namespace, Secret, float], str]


def _action(actions: Any, name: str, act: _Act, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text}.")
    parser.set_defaults(act=act)
    return parser


def _create_token(options: argparse.Namespace, _store_url: Secret, now: float) -> str:
    secret = tokens.create(options.data_path, options.name, options.roles, options.expires_in, now)
    return f"{secret.reveal()}\n"


def _list_tokens(options: argparse.Namespace, _store_url: Secret, now: float) -> str:
    return tokens.listing(options.data_path, now)


def _revoke_token(options: argparse.Namespace, _store_url: Secret, _now: float) -> str:
    tokens.revoke(options.data_path, options.name)
    return f"The token {options.name} counts no longer.\n"


def _back_up(options: argparse.Namespace, store_url: Secret, _now: float) -> str:
    return f"{upkeep.backup(store_url.reveal(), options.data_path, options.file)}\n"


def _restore(options: argparse.Namespace, store_url: Secret, _now: float) -> str:
    return f"{upkeep.restore(store_url.reveal(), options.data_path, options.file, force=options.force)}\n"


def _verify(options: argparse.Namespace, store_url: Secret, _now: float) -> str:
    return f"{upkeep.verify(store_url.reveal(), options.data_path)}\n"


def _duration(text: str) -> float:
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
