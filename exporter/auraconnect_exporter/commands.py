"""The commands beside serving: tokens, the incident store's backups, and the look at Alertmanager's configuration."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auraconnect_exporter import tokens
from auraconnect_exporter.auth import Role
from auraconnect_exporter.model import Secret
from auraconnect_exporter.pack import check, drill, routing
from auraconnect_exporter.pack.routing import PackProblem
from auraconnect_exporter.pack.web import CallProblem, HttpAlertmanager, ask_webhook
from auraconnect_exporter.schema import Duration
from auraconnect_exporter.store import StoreError, upkeep


class CommandProblem(Exception):
    """A command can't do what it is told, or found what it looked for faults: a sentence each, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def run(options: argparse.Namespace, store_url: Secret, now: float) -> str:
    """Run the command that the arguments name; returns what it has to say. ``now`` in Unix seconds."""
    try:
        said: str = options.act(options, store_url, now)
    except PackProblem as error:
        raise CommandProblem(str(error), 2) from None
    except CallProblem as error:
        raise CommandProblem(str(error)) from None
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
    check = _pack_command(commands, "check", _check, "say what of Alertmanager's configuration would fail when needed")
    check.add_argument("--offline", action="store_true", help="do not ask whether the incident log's webhook answers")
    routes = _pack_command(commands, "routes", _routes, "say who is told: of given labels, or in the whole matrix")
    routes.add_argument("labels", nargs="*", metavar="LABEL=VALUE", type=_label)
    held = _pack_command(commands, "drill", _drill, "send a test alert down the whole path, time it, and take it back")
    held.add_argument("--severity", choices=routing.SEVERITIES, default="critical")
    held.add_argument("--alertmanager-url", default="http://localhost:9093", metavar="URL")
    held.add_argument("--token-file", type=Path, metavar="PATH", help="bearer token for Alertmanager")
    held.add_argument("--timeout", type=_duration, default=120.0, metavar="DURATION", help="to wait (default: 2m)")


_Act = Callable[[argparse.Namespace, Secret, float], str]


def _action(actions: Any, name: str, act: _Act, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text}.")
    parser.set_defaults(act=act)
    return parser


def _pack_command(commands: Any, name: str, act: _Act, text: str) -> argparse.ArgumentParser:
    parser = _action(commands, name, act, text)
    parser.add_argument(
        "--alertmanager.config",
        dest="alertmanager_config",
        type=Path,
        default=Path("alertmanager/alertmanager.yml"),
        metavar="PATH",
        help="(default: %(default)s)",
    )
    parser.add_argument("--amtool", default="amtool", metavar="PATH", help="Alertmanager's tool (default: on PATH)")
    return parser


def _check(options: argparse.Namespace, _store_url: Secret, _now: float) -> str:
    found = list(check.faults(_routing(options), os.environ, None if options.offline else ask_webhook))
    if found:
        raise CommandProblem("\n".join(found), 2)
    return "Alertmanager's configuration is sound.\n"


def _routes(options: argparse.Namespace, _store_url: Secret, _now: float) -> str:
    configured = _routing(options)
    return routing.told(configured, dict(options.labels)) if options.labels else routing.matrix(configured)


def _drill(options: argparse.Namespace, _store_url: Secret, _now: float) -> str:
    token = "" if options.token_file is None else _read(options.token_file)
    alertmanager = HttpAlertmanager(options.alertmanager_url.rstrip("/"), token)
    outcomes = drill.run(_routing(options), alertmanager, options.severity, options.timeout, time)
    said = drill.report(options.severity, outcomes)
    if not drill.succeeded(outcomes):
        raise CommandProblem(said.rstrip("\n"))
    return said


def _routing(options: argparse.Namespace) -> routing.Routing:
    return routing.Routing.load(options.alertmanager_config.absolute(), options.amtool)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PackProblem(f"{path}: can't be read: {getattr(error, 'strerror', 'no text')}") from None


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a label such as severity=critical")
    return name, value


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
