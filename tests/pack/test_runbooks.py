"""What the runbooks tell people to type: every command runs, on real servers where it asks one.

Each runbook is pasted whole into bash, where whatever reaches out or changes something is a stand-in that notes how it
was called. What was asked of PostgreSQL, Redis, Prometheus and Alertmanager is then asked of real ones.
"""

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode

import psycopg
import pytest
from redis import Redis as Client

from auraconnect_exporter.probes.celery_queue import priority_lists
from tests.e2e.stack import get
from tests.pack.files import ALERTMANAGER, ROOT, RUNBOOKS, rules
from tests.pack.test_lint import INSTRUMENTATOR, SERVERS
from tests.scrape import declared
from tools.promql import Selector, parse, walk
from tools.servers import Alertmanager, PostgreSQL, Prometheus, Redis, program

CONTACTS = ROOT / "docs/contacts.md"
NAMES = [path.stem for path in RUNBOOKS]
each_runbook = pytest.mark.parametrize("name", NAMES)

# What a runbook may call. The tools run; the stand-ins only note how they were called.
TOOLS = (
    *("awk", "bash", "cat", "cut", "date", "grep", "gzip", "head", "ls", "mkdir", "sed", "sort", "tail", "tee"),
    *("timeout", "tr", "uniq", "wc", "xargs"),
)
STAND_INS = (
    *("curl", "psql", "pg_basebackup", "pg_dump", "pg_isready", "redis-cli", "promtool", "amtool", "git", "celery"),
    *("openssl", "aws", "auraconnect-exporter", "systemctl", "journalctl", "certbot", "logrotate", "apt-get"),
    *("iptables", "df", "dmesg", "du", "find", "free", "getent", "last", "pgrep", "ps", "ss", "uptime", "who"),
)
STAND_IN = """#!/bin/sh
printf '%s\\0' "${0##*/}" "$@" > "$CALLS/$$.call"
case $0 in */psql) cat > "$CALLS/$$.stdin" ;; */redis-cli) echo a-key ;; esac
"""

DATABASE = "postgresql://oncall@127.0.0.1:1/auraconnect"
ADMIN = "postgresql://postgres@127.0.0.1:1/auraconnect"
REPLICA = "postgresql://oncall@127.0.0.1:2/auraconnect"
PGBOUNCER = "postgresql://postgres@127.0.0.1:3/pgbouncer"
REDIS, EXPORTER, PROMETHEUS, ALERTS = "redis://cache:6379/0", "http://exporter", "http://prometheus", "http://alerts"
ENVIRONMENT = {
    "DATABASE_URL": DATABASE,
    "ADMIN_DATABASE_URL": ADMIN,
    "REPLICA_URL": REPLICA,
    "PGBOUNCER_URL": PGBOUNCER,
    "REDIS_URL": REDIS,
    "EXPORTER": EXPORTER,
    "PROMETHEUS": PROMETHEUS,
    "ALERTMANAGER": ALERTS,
    "TOKEN": "token",
}
# What the one who follows a runbook has found out, and gives it so that the rougher steps act.
FOUND = {
    **dict.fromkeys(("QUERY_PID", "REPLICA_PID", "BLOCKER", "HOLDER"), "2147483647"),
    **dict.fromkeys(("ROLE", "REDIS_USER"), "somebody"),
    **dict.fromkeys(("UNIT", "DATABASE_UNIT", "PROMETHEUS_UNIT", "REPLICA_UNIT", "GROWN_WORKER"), "a-service"),
    "ADDRESS": "192.0.2.1",
    "ALERT_ID": "an-alert",
    "ARCHIVE_COMMAND": "false",
    "ASG": "group",
    "AWS_REGION": "us-east-1",
    "CACHE_PATTERN": "cache:*",
    "CAPACITY": "3",
    "COST_DELAY": "0",
    "DUMP": "dump",
    "FAILOVER_URL": ADMIN,
    "GID": "stuck",
    "GOOD_COMMIT": "HEAD~1",
    "GROW": "2",
    "IDLE_SECONDS": "600",
    "JOB": "job",
    "LEAK": "leak",
    "MORE_PROCESSES": "1",
    "MORE_WORKERS": "1",
    "NEW_PGDATA": "new",
    "PRIMARY_HOST": "primary",
    "PUT_BACK": "exports",
    "QUEUE": "exports",
    "REDIS_MAXCLIENTS": "100",
    "REDIS_MAXMEMORY": "1gb",
    "REDIS_PASSWORD": "secret",
    "REDIS_POLICY": "volatile-lru",
    "SECURITY_GROUP": "sg-1",
    "SILENCE": "Watchdog",
    "SLOT": "slot",
    "TABLE": "error_logs",
}

# Commands that take something away; the step that has one says what is lost.
TAKES_AWAY = re.compile(
    r"pg_terminate_backend|pg_cancel_backend|pg_drop_replication_slot|pg_promote|ROLLBACK PREPARED|NOLOGIN|UNLINK|ZREM|"
    r"CLIENT KILL|LMOVE|CONFIG SET|SETUSER .* off|--vacuum-size|logrotate --force|\$\{RESTART"
)

HEALTH_API = (
    r"|/detailed|/metrics|/performance\?time_window_minutes=\d+|/errors\?hours=\d+|/errors/summary\?hours=\d+|"
    r"/alerts\?resolved=false|/alerts/[^/]+/(acknowledge|resolve)|/dashboard"
)

SCHEMA = """
    CREATE EXTENSION pg_stat_statements;
    CREATE TABLE performance_metrics (
        id uuid, endpoint varchar(200), method varchar, response_time_ms float, status_code int,
        request_size_bytes int, response_size_bytes int, db_query_count int, db_query_time_ms float, cache_hits int,
        cache_misses int, user_id int, restaurant_id int, request_id varchar, created_at timestamp
    );
    CREATE TABLE error_logs (
        id uuid, error_type varchar(100), error_message text, stack_trace text, endpoint varchar, method varchar,
        status_code int, user_id int, restaurant_id int, request_id varchar, tags json, created_at timestamp,
        resolved boolean, resolved_at timestamp
    );
    CREATE ROLE somebody LOGIN;
    CREATE ROLE oncall LOGIN PASSWORD 'oncall' IN ROLE pg_monitor;
    GRANT SELECT ON performance_metrics, error_logs TO oncall;
"""


@dataclass(frozen=True)
class Call:
    """How a program was called: its name, its arguments, and of `psql` what it read."""

    program: str
    arguments: tuple[str, ...]
    stdin: str = ""


def text_of(name: str) -> str:
    """Return a runbook."""
    return (ROOT / f"runbooks/{name}.md").read_text()


def blocks(text: str) -> list[str]:
    """Return the blocks of commands of a runbook, as they are pasted."""
    found = re.findall(r"^( *)```bash\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands(name: str) -> str:
    """Return all commands of a runbook."""
    return "\n".join(blocks(text_of(name)))


def guarded(name: str) -> set[str]:
    """Return the variables of a runbook without which a step does nothing."""
    return set(re.findall(r'\[ -z "\$\{(\w+):-\}" \]', commands(name)))


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with all that a runbook may call."""
    folder = tmp_path_factory.mktemp("programs")
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name} is needed"
        (folder / name).symlink_to(found)
    for name in STAND_INS:
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def pasted(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Call], str]]:
    """Paste every runbook; return for each what it called, and what bash complained of."""
    return {name: paste(name, stand_ins, tmp_path_factory.mktemp(name)) for name in NAMES}


def paste(name: str, programs: Path, folder: Path) -> tuple[list[Call], str]:
    """Run all commands of a runbook in one bash, whose PATH leads to nothing else."""
    calls = folder / "calls"
    calls.mkdir()
    script = folder / "commands.sh"
    script.write_text(commands(name))
    environment = {"PATH": str(programs), "HOME": str(folder), "CALLS": str(calls), **ENVIRONMENT, **FOUND}
    done = subprocess.run(
        [programs / "bash", script],
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return [read_call(path) for path in sorted(calls.glob("*.call"), key=lambda path: int(path.stem))], done.stderr


def read_call(path: Path) -> Call:
    """Return a call as its stand-in noted it."""
    called, *arguments = path.read_text().split("\0")[:-1]
    stdin = path.with_suffix(".stdin")
    return Call(called, tuple(arguments), stdin.read_text() if stdin.exists() else "")


def distinct(pasted: Mapping[str, tuple[list[Call], str]], *programs: str) -> list[Call]:
    """Return the calls of some programs in all runbooks, each once, in their order."""
    return list(dict.fromkeys(call for calls, _ in pasted.values() for call in calls if call.program in programs))


def test_everything_that_is_called_exists(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """A runbook calls only what it may, and bash has nothing to complain of."""
    # What they look for (logs, a port) is not here; that is no fault of theirs.
    looked_for = r".*(/var/log/|/dev/tcp/|[Cc]onnection refused).*"
    complaints = {
        name: [line for line in stderr.splitlines() if not re.fullmatch(looked_for, line)]
        for name, (_, stderr) in pasted.items()
    }
    assert {name: lines for name, lines in complaints.items() if lines} == {}


def test_every_stand_in_is_needed(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """The list of what a runbook may call holds nothing that none calls."""
    assert {call.program for calls, _ in pasted.values() for call in calls} == set(STAND_INS)


@pytest.fixture(params=["distribution", "newest"])
def postgres_release(request: pytest.FixtureRequest) -> str:
    """Return the release of PostgreSQL to ask."""
    return str(request.param)


@pytest.fixture
def postgres(postgres_release: str, tmp_path: Path) -> Iterator[PostgreSQL]:
    """Return a PostgreSQL with AuraConnect's telemetry, a prepared transaction, and the role of whoever is on call."""
    settings = {"shared_preload_libraries": "pg_stat_statements", "max_prepared_transactions": "1"}
    with PostgreSQL(tmp_path, settings=settings, release=postgres_release) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(SCHEMA)
            connection.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'stuck'")
        yield server


def test_sql_runs_with_the_rights_that_the_contacts_name(
    pasted: dict[str, tuple[list[Call], str]], postgres: PostgreSQL, postgres_release: str
) -> None:
    """Looking needs pg_monitor and to read AuraConnect's tables; only what acts is done as administrator."""
    oncall = f"postgresql://oncall:oncall@127.0.0.1:{postgres.port}/postgres"
    servers = {DATABASE: oncall, REPLICA: oncall, ADMIN: postgres.dsn}
    calls = [call for call in distinct(pasted, "psql") if call.arguments[0] != PGBOUNCER]
    assert {call.arguments[0] for call in calls} == servers.keys()
    # Of its own version, beside the server; what is on PATH may be a distribution's wrapper, which fails with status 0.
    psql = program("postgres", postgres_release).with_name("psql")
    failed = {}
    for call in calls:
        url, *arguments = call.arguments
        done = subprocess.run(
            [psql, "-X", "-v", "ON_ERROR_STOP=1", servers[url], *arguments],
            input=call.stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed[call] = done.stderr
    assert failed == {}


def test_only_a_reconnect_is_asked_of_pgbouncer(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """Its own database knows no SQL but its commands (https://www.pgbouncer.org/usage.html)."""
    asked = [call.arguments[1:] for call in distinct(pasted, "psql") if call.arguments[0] == PGBOUNCER]
    assert asked == [("-c", "RECONNECT")]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Return a Redis with jobs of every priority in `exports`, a job of arq's, and a user who may be shut out."""
    with Redis(tmp_path) as server, Client.from_url(server.url) as client:
        for key in priority_lists("exports"):
            client.rpush(key, "a job")
        client.zadd("notifications", {"job": 1})
        client.execute_command("ACL", "SETUSER", "somebody", "on")
        yield server


def redis_cli(server: Redis, arguments: Iterable[str]) -> str:
    """Return what redis-cli prints; the beginning of what would never end."""
    given = [server.url if argument == REDIS else argument for argument in arguments]
    with subprocess.Popen([program("redis-cli"), *given], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        if "PSUBSCRIBE" not in given:
            return process.stdout.read()
        beginning = process.stdout.readline()
        process.kill()
        return beginning


def test_redis_understands_what_it_is_asked(pasted: dict[str, tuple[list[Call], str]], redis: Redis) -> None:
    """No command is unknown to it, misses an argument, or takes a key for what it is not."""
    calls = distinct(pasted, "redis-cli")
    assert all(REDIS in call.arguments for call in calls)
    answers = {call.arguments[2:]: redis_cli(redis, call.arguments) for call in calls}
    wrong = r"(\(error\) )?(ERR|WRONGTYPE|NOPERM|NOSCRIPT|Unrecognized|Could not)"
    assert {arguments: answer for arguments, answer in answers.items() if re.match(wrong, answer)} == {}


def test_jobs_of_all_priorities_are_counted(pasted: dict[str, tuple[list[Call], str]], redis: Redis) -> None:
    """Celery keeps a list for each priority; the length of a queue is that of them all."""
    counting = [
        call for call in distinct(pasted, "redis-cli") if "EVAL" in call.arguments and "exports" in call.arguments
    ]
    assert counting
    for call in counting:
        assert redis_cli(redis, call.arguments) == f"{len(priority_lists('exports'))}\n"


@cache
def known_series() -> frozenset[str]:
    """Return the names that something exports or records, or that the design's table has."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    everybodys = {"process_resident_memory_bytes"}
    return frozenset({*declared(), *INSTRUMENTATOR, *SERVERS, *recorded, *everybodys})


def unknown_series(query: str) -> list[str]:
    """Return what a query names, be it by a pattern, and nothing has."""
    selectors = [node for node in walk(parse(query)) if isinstance(node, Selector)]
    names = [re.sub(r"_(bucket|count|sum)$", "", node.name) for node in selectors if node.name]
    patterns = [one.value.value for node in selectors for one in node.matchers if one.label == "__name__"]
    known = known_series()
    return [one for one in (*names, *patterns) if not any(re.fullmatch(one, name) for name in known)]


def requests(pasted: dict[str, tuple[list[Call], str]], server: str) -> list[tuple[str, list[tuple[str, str]], str]]:
    """Return what curl asks of a server, each once: path, parameters and method."""
    found = []
    for call in distinct(pasted, "curl"):
        (url,) = (argument for argument in call.arguments if argument.startswith("http"))
        if url.startswith(f"{server}/"):
            pairs = zip(call.arguments, call.arguments[1:], strict=False)
            data = [tuple(value.split("=", 1)) for option, value in pairs if option == "--data-urlencode"]
            method = call.arguments[call.arguments.index("-X") + 1] if "-X" in call.arguments else "GET"
            found.append((url.removeprefix(server), [(key, value) for key, value in data], method))
    return found


def test_queries_name_series_that_exist(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """A step that asks for a name that nothing has prints nothing, whatever is wrong."""
    queries = [value for _, data, _ in requests(pasted, PROMETHEUS) for key, value in data if key == "query"]
    assert queries
    assert {query: unknown_series(query) for query in queries if unknown_series(query)} == {}


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("up == 0", []),
        ("rate(http_request_duration_seconds_bucket[5m])", []),
        ("rate(http_requests_tootal[5m]) > on () upp", ["http_requests_tootal", "upp"]),
        ('{__name__=~"up|nothing.*"}', []),
        ('{__name__=~"(no|nothing).*"} == 0', ["(no|nothing).*"]),
    ],
)
def test_a_name_that_nothing_has_is_found(query: str, unknown: list[str]) -> None:
    """Names are found anywhere in a query, in patterns, too."""
    assert unknown_series(query) == unknown


def test_prometheus_and_alertmanager_answer_what_they_are_asked(
    pasted: dict[str, tuple[list[Call], str]], release: str, tmp_path: Path
) -> None:
    """Each path exists and each query and filter is one, in the oldest release as in the newest."""
    config, routes = tmp_path / "prometheus.yml", tmp_path / "alertmanager.yml"
    config.write_text("scrape_configs: []\n")
    routes.write_text("{route: {receiver: nobody}, receivers: [{name: nobody}]}\n")
    refused = {}
    with ExitStack() as running:
        servers = {
            PROMETHEUS: running.enter_context(Prometheus(tmp_path, config, release=release)),
            ALERTS: running.enter_context(Alertmanager(tmp_path, routes, release=release)),
        }
        for name, server in servers.items():
            asked = [(path, data) for path, data, method in requests(pasted, name) if method == "GET"]
            assert asked
            for path, data in asked:
                try:
                    get(f"{server.url}{path}{'?' if data else ''}{urlencode(data)}")
                except HTTPError as error:
                    refused[path, str(data)] = error.read().decode()
    assert refused == {}


def test_the_exporter_is_asked_only_what_it_offers(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """Its pages, its metrics, and the calls of the health API with their parameters."""
    offered = rf"/metrics|/-/(ready|healthy|reload)|/runbooks/\w+|/api/v1/health({HEALTH_API})"
    asked = {(path, method) for path, _, method in requests(pasted, EXPORTER)}
    assert asked
    assert [path for path, _ in asked if not re.fullmatch(offered, path)] == []
    changing = {path for path, method in asked if method != "GET"}
    alert = "/api/v1/health/alerts/an-alert"
    assert changing == {"/-/reload", f"{alert}/acknowledge", f"{alert}/resolve"}


def test_configuration_files_are_checked_by_their_own_tools(pasted: dict[str, tuple[list[Call], str]]) -> None:
    """What promtool and amtool are told to check is in the folder of the pack, and they take it."""
    calls = [call for call in distinct(pasted, "promtool", "amtool") if "silence" not in call.arguments]
    assert {call.arguments[1] for call in calls} == {"config", "rules", str(ALERTMANAGER.relative_to(ROOT))}
    failed = {}
    for call in calls:
        command: list[str | Path] = [program(call.program), *call.arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            failed[call] = done.stdout + done.stderr
    assert failed == {}


@each_runbook
def test_a_step_that_takes_something_away_says_what_is_lost(name: str) -> None:
    """Whoever is about to do harm reads of it just before, in the same step."""
    mitigation = text_of(name).partition("## Mitigation")[2].partition("## Escalation")[0]
    for step in re.split(r"^- ", mitigation, flags=re.MULTILINE):
        prose = re.sub(r"```bash.*?```", "", step, flags=re.DOTALL)
        if any(TAKES_AWAY.search(block) for block in blocks(step)):
            assert re.search(r"\b(lost|loses?)\b", prose), step


@each_runbook
def test_a_server_that_is_frozen_does_not_hold_the_shell(name: str) -> None:
    """Whatever asks a server, and waits for no value first, gives up by itself."""
    typed = commands(name)
    assert "psql" not in typed or "export PGCONNECT_TIMEOUT=" in typed
    unbounded = [
        line
        for line in typed.splitlines()
        if not line.lstrip().startswith("[ -z")
        and (
            ("redis-cli" in line and not re.search(r"timeout \d+ redis-cli", line))
            or ("curl" in line and " -m " not in line)
        )
    ]
    assert unbounded == []


@each_runbook
def test_a_variable_is_explained(name: str) -> None:
    """What a step waits for is named beside it; what is the same everywhere stands in the contacts."""
    prose = re.sub(r"```bash.*?```", "", text_of(name), flags=re.DOTALL)
    everywhere = set(re.findall(r"`([A-Z_]+)`", CONTACTS.read_text().partition("## Before you run a command")[2]))
    typed = commands(name)
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", typed))
    set_here = set(re.findall(r"(?:^|[ ;])([A-Z][A-Z_]+)=", typed, flags=re.MULTILINE))
    named = {variable for variable in used if re.search(rf"`{variable}\b", prose)}
    assert used - set_here - named - everywhere - {"HOME"} == set()
    assert guarded(name) - named - {"REDIS_PASSWORD", *everywhere} == set()


@each_runbook
def test_a_runbook_says_whom_to_call_and_where_to_look(name: str) -> None:
    """Its end leads to the one page with people, logs, traces and infrastructure metrics."""
    escalation = " ".join(text_of(name).partition("## Escalation")[2].split())
    if name not in {"MaintenanceActive", "ScheduledMaintenanceUpcoming"}:
        assert "logs, traces and infrastructure metrics" in escalation
    assert "[contacts](../docs/contacts.md)" in escalation


def test_the_contacts_lead_to_all_that_the_procedure_names() -> None:
    """Every tool and every vendor has its line in the one place that the runbooks link to."""
    contacts = CONTACTS.read_text()
    tools = ("AWS CloudWatch", "Datadog", "CloudWatch Logs", "ELK", "New Relic", "AppDynamics")
    people = ("On-call engineer", "Engineering manager", "CTO", "AWS Support", "Database support", "CDN support")
    assert [name for name in (*tools, *people) if f"| {name}" not in contacts] == []


def test_the_procedures_runbooks_and_diagnoses_are_in_runbooks() -> None:
    """Each is found by the name that the procedure gives it."""
    texts = " ".join(text_of(name) for name in NAMES)
    named = (
        *("Quick Checks", "High Error Rate", "Slow Response Times"),
        *("Database Connection Issues", "High Memory Usage", "API Performance Degradation"),
    )
    assert [name for name in named if f'"{name}"' not in texts] == []
