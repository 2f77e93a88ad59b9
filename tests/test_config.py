"""The configuration: what is watched for a given file and environment, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from auraconnect_exporter import config
from auraconnect_exporter.model import Component, Link, Secret, TargetId
from auraconnect_exporter.targets import (
    Host,
    Http,
    HttpUrl,
    PgBouncer,
    Postgres,
    PostgresServer,
    Redis,
    RedisServer,
    Target,
    Workers,
)

LOCAL_REDIS = RedisServer("r", 6379, 0, None, None)


def load(tmp_path: Path, text: str, **environ: str) -> dict[str, Target]:
    path = tmp_path / "exporter.yml"
    path.write_text(text, encoding="utf-8")
    return {str(target.id): target for target in config.load(path, environ, "vm-1").targets}


def refusal(tmp_path: Path, text: str | bytes, **environ: str) -> str:
    path = tmp_path / "exporter.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(config.ConfigError) as raised:
        config.load(path, environ, "vm-1")
    return str(raised.value).replace(str(tmp_path), "…")


class TestEnvironment:
    def test_nothing_set_watches_this_host(self) -> None:
        """Without any configuration the machine itself is watched."""
        (target,) = config.load(None, {}, "vm-1").targets
        assert target == Target(TargetId(Component.HOST, "vm-1"), False, 5.0, 2.0, Host())

    def test_auraconnects_own_settings_are_enough(self) -> None:
        """The variables of AuraConnect's .env name every system."""
        environ = {
            "DATABASE_URL": "postgresql+asyncpg://api:pw@db/auraconnect",
            "REDIS_URL": "redis://r",
            "REDIS_PASSWORD": "word",
            "API_URL": "http://api:8000/ping",
            "WORKER_QUEUES": "celery:exports, arq:notifications,celery:webhooks",
        }
        redis = RedisServer("r", 6379, 0, None, Secret("word"))
        systems = {str(target.id): target.system for target in config.load(None, environ, "vm-1").targets}
        assert systems == {
            "database/primary": Postgres(PostgresServer("db", 5432, "api", Secret("pw"), "auraconnect"), 0.5),
            "redis/primary": Redis(redis, 0.5),
            "api/auraconnect-api": Http(HttpUrl(False, "api", 8000, "/ping"), frozenset(range(200, 400)), 0.5),
            "workers/celery": Workers("celery", redis, ("exports", "webhooks")),
            "workers/arq": Workers("arq", redis, ("notifications",)),
            "host/vm-1": Host(),
        }

    def test_the_files_section_wins_over_the_environment(self, tmp_path: Path) -> None:
        """A section of the file replaces what the environment says of that component, and only of that."""
        targets = load(
            tmp_path,
            "redis: [{name: cache, url: 'redis://r'}]",
            REDIS_URL="redis://other",
            DATABASE_URL="postgresql://u@h/d",
        )
        assert list(targets) == ["database/primary", "redis/cache", "host/vm-1"]

    def test_secret_may_stand_in_a_file(self, tmp_path: Path) -> None:
        """VARIABLE_FILE names a file, as container platforms mount secrets."""
        secret = tmp_path / "url"
        secret.write_text("postgresql://u:pw@h/d\n", encoding="utf-8")
        target = config.load(None, {"DATABASE_URL_FILE": str(secret)}, "vm-1").targets[0]
        assert target.system == Postgres(PostgresServer("h", 5432, "u", Secret("pw"), "d"), 0.5)

    @pytest.mark.parametrize(
        ("environ", "sentence"),
        [
            ({"DATABASE_URL": "mysql://h"}, "DATABASE_URL: is not a URL such as postgresql://user@host:5432/name"),
            ({"API_URL": "api:8000"}, "API_URL: is not a URL such as https://host/path"),
            (
                {"WORKER_QUEUES": "exports", "REDIS_URL": "redis://r"},
                "WORKER_QUEUES: expected entries such as celery:exports,arq:notifications, got 'exports'",
            ),
            (
                {"WORKER_QUEUES": "arq:a"},
                "WORKER_QUEUES: needs REDIS_URL beside it, the Redis that holds the queues",
            ),
            ({"REDIS_URL": "redis://r/x"}, "REDIS_URL: has a database number that is not a number up to 65535"),
        ],
    )
    def test_a_broken_variable_is_named(self, environ: dict[str, str], sentence: str) -> None:
        """What is wrong with the environment is said by the variable's name."""
        with pytest.raises(config.ConfigError) as raised:
            config.load(None, environ, "vm-1")
        assert str(raised.value) == sentence


class TestFile:
    def test_every_setting_reaches_its_target(self, tmp_path: Path) -> None:
        """A full file comes out as frozen targets, in seconds and bytes."""
        (tmp_path / "password").write_text("s3cret\n", encoding="utf-8")
        (tmp_path / "token").write_text("t0ken\n", encoding="utf-8")
        targets = load(
            tmp_path,
            """
check: {interval: 10s, timeout: 1500ms}
database:
  - name: primary
    url: postgresql://u@db:6432/app?sslmode=verify-full&sslrootcert=/ca.pem
    password_file: password
    slow: 200ms
  - {name: replica, url: "postgresql:///app?host=/run/postgresql&user=u", critical: false, interval: 1m, timeout: 3s}
redis:
  - {name: cache, url: "rediss://user:pw@r:6380/2?ssl_cert_reqs=none"}
  - {name: local, url: "unix:///run/redis.sock?db=1", memory_usage: 0.9, clients_usage: 1, acl_log: true}
api:
  - {name: api, url: "https://api.example.com/ping?deep=1", statuses: [200, 204], slow: 1s}
  - name: health
    url: http://api:8000/health
    expect_body: '"status":*"ok"'
    expect_headers: {Content-Type: application/json}
    request_headers: {X-Tenant: probe}
    token_file: token
    certificate_expires: 30d
workers:
  - {name: mail, kind: arq, url: "redis://r", queues: ["arq:queue", mail], queue_age: 90s, queue_depth: 500}
  - {name: jobs, kind: celery, url: "redis://r", queues: [exports], min_workers: 2}
host:
  - {name: web-1, filesystems: [/, /var], memory_usage: 0.7, disk_usage: 0.8, memory_pressure: 1}
""",
        )
        primary = PostgresServer(
            "db", 6432, "u", Secret("s3cret"), "app", (("sslmode", "verify-full"), ("sslrootcert", "/ca.pem"))
        )
        cache = RedisServer("r", 6380, 2, "user", Secret("pw"), tls=True, verify=False)
        assert targets == {
            str(target.id): target
            for target in (
                Target(TargetId(Component.DATABASE, "primary"), True, 10.0, 1.5, Postgres(primary, 0.2)),
                Target(
                    TargetId(Component.DATABASE, "replica"),
                    False,
                    60.0,
                    3.0,
                    Postgres(PostgresServer("/run/postgresql", 5432, "u", None, "app"), 0.5),
                ),
                Target(TargetId(Component.REDIS, "cache"), False, 10.0, 1.5, Redis(cache, 0.5)),
                Target(
                    TargetId(Component.REDIS, "local"),
                    False,
                    10.0,
                    1.5,
                    Redis(
                        RedisServer("", 6379, 1, None, None, socket_path="/run/redis.sock"),
                        0.5,
                        memory_usage=0.9,
                        clients_usage=1.0,
                        acl_log=True,
                    ),
                ),
                Target(
                    TargetId(Component.API, "api"),
                    True,
                    10.0,
                    1.5,
                    Http(HttpUrl(True, "api.example.com", 443, "/ping?deep=1"), frozenset({200, 204}), 1.0),
                ),
                Target(
                    TargetId(Component.API, "health"),
                    True,
                    10.0,
                    1.5,
                    Http(
                        HttpUrl(False, "api", 8000, "/health"),
                        frozenset(range(200, 400)),
                        0.5,
                        expect_body='"status":*"ok"',
                        expect_headers=(("Content-Type", "application/json"),),
                        request_headers=(("X-Tenant", "probe"),),
                        token=Secret("t0ken"),
                        certificate_expires=30 * 86400.0,
                    ),
                ),
                Target(
                    TargetId(Component.WORKERS, "mail"),
                    False,
                    10.0,
                    1.5,
                    Workers("arq", LOCAL_REDIS, ("arq:queue", "mail"), queue_age=90.0, queue_depth=500),
                ),
                Target(
                    TargetId(Component.WORKERS, "jobs"),
                    False,
                    10.0,
                    1.5,
                    Workers("celery", LOCAL_REDIS, ("exports",), queue_age=300.0, min_workers=2),
                ),
                Target(TargetId(Component.HOST, "web-1"), False, 10.0, 1.5, Host(("/", "/var"), 0.7, 0.8, 1.0)),
            )
        }

    def test_a_databases_limits_and_sources_reach_its_target(self, tmp_path: Path) -> None:
        """In seconds; a file's name starts from the configuration's folder; a PgBouncer has limits of its own."""
        targets = load(
            tmp_path,
            """
database:
  - name: primary
    url: postgresql://u@h/d
    connections: 0.5
    longest_transaction: 2h
    longest_idle_transaction: 5m
    longest_wait: 10s
    replication_lag: 90s
    statements: false
    backup_query: "SELECT max(finished) FROM backups;"
    log_file: logs/postgresql-*.log
  - {name: bouncer, kind: pgbouncer, url: "postgresql://u@h:6432/pgbouncer"}
  - {name: other, kind: pgbouncer, url: "postgresql://u@h:6433/pgbouncer", slow: 1s, longest_wait: 2s}
""",
        )
        assert [target.system for target in targets.values()][:3] == [
            Postgres(
                PostgresServer("h", 5432, "u", None, "d"),
                0.5,
                connections=0.5,
                longest_transaction=7200.0,
                longest_idle_transaction=300.0,
                longest_wait=10.0,
                replication_lag=90.0,
                statements=False,
                backup_query="SELECT max(finished) FROM backups",
                log_file=f"{tmp_path}/logs/postgresql-*.log",
            ),
            PgBouncer(PostgresServer("h", 6432, "u", None, "pgbouncer"), 0.5, 5.0),
            PgBouncer(PostgresServer("h", 6433, "u", None, "pgbouncer"), 1.0, 2.0),
        ]

    def test_a_pgbouncer_is_no_database_to_count_requests_in(self, tmp_path: Path) -> None:
        """What the first database does by default, the first entry that is one does."""
        path = tmp_path / "exporter.yml"
        path.write_text(
            "database:\n"
            "- {name: bouncer, kind: pgbouncer, url: 'postgresql://u@h:6432/pgbouncer'}\n"
            "- {name: primary, url: 'postgresql://u@h/d'}\n"
        )
        assert config.load(path, {}, "vm-1").request_log == PostgresServer("h", 5432, "u", None, "d")

    def test_timeout_follows_a_short_interval(self, tmp_path: Path) -> None:
        """Without a timeout of its own, a target that is checked every second gets a second."""
        targets = load(tmp_path, "redis: [{name: a, url: 'redis://r', interval: 1s}]")
        assert targets["redis/a"].timeout == 1.0

    def test_no_secret_is_shown(self, tmp_path: Path) -> None:
        """The repr of a whole configuration holds no password."""
        targets = load(
            tmp_path, "redis: [{name: a, url: 'redis://u:hunter2@r'}]", DATABASE_URL="postgresql://u:hunter2@h/d"
        )
        assert "hunter2" not in repr(targets)

    def test_unreadable_file_is_said(self, tmp_path: Path) -> None:
        """A file that is not there is named."""
        with pytest.raises(config.ConfigError, match=r"nowhere\.yml: can't be read: No such file or directory"):
            config.load(tmp_path / "nowhere.yml", {}, "vm-1")


REDIS = "redis:\n  - name: a\n    url: redis://r\n"

BROKEN = [
    ("[]", "…/exporter.yml: expected sections such as 'database:' at the top"),
    ("database:", "…/exporter.yml:1: database: expected a list, got nothing"),
    ("database: [5]", "…/exporter.yml:1: database[0]: expected a mapping, got a whole number"),
    ("redis:\n  - url: redis://r", "…/exporter.yml:2: redis[0]: needs name"),
    ("redis:\n  - name: a", "…/exporter.yml:2: redis[0]: needs a url or a url_file"),
    (f"{REDIS}    colour: red", "…/exporter.yml:4: redis[0].colour: is not a setting that exists here"),
    ("postgres: []", "…/exporter.yml:1: postgres: is not a setting that exists here"),
    (f"{REDIS}    name: b", "…/exporter.yml:4: has the key 'name' twice"),
    (
        f"{REDIS}  - name: a\n    url: redis://r",
        "…/exporter.yml:4: redis[1].name: 'a' is the name of another entry already",
    ),
    (f"{REDIS}    interval: soon", "…/exporter.yml:4: redis[0].interval: expected a duration such as 5s, 500ms or 2m"),
    (f"{REDIS}    interval: 0", "…/exporter.yml:4: redis[0].interval: expected 0.1s to 3600s"),
    (
        f"{REDIS}    timeout: 6s",
        "…/exporter.yml:4: redis[0].timeout: expected more than 0s and at most the interval of 5s",
    ),
    ("check: {timeout: 6s}", "…/exporter.yml:1: check.timeout: expected more than 0s and at most the interval of 5s"),
    (f"{REDIS}    interval: .inf", "…/exporter.yml:4: is not a finite number"),
    (f"{REDIS}    critical: often", "…/exporter.yml:4: redis[0].critical: expected true or false, got text"),
    (f"{REDIS}    slow: 0", "…/exporter.yml:4: redis[0].slow: expected more than 0s"),
    (
        f"{REDIS}    memory_usage: 75",
        "…/exporter.yml:4: redis[0].memory_usage: expected a ratio above 0 and up to 1, such as 0.9",
    ),
    (
        f"{REDIS}    clients_usage: 0",
        "…/exporter.yml:4: redis[0].clients_usage: expected a ratio above 0 and up to 1, such as 0.9",
    ),
    (
        f"{REDIS}    password_file: gone",
        "…/exporter.yml:4: redis[0].password_file: …/gone can't be read: No such file or directory",
    ),
    (f"{REDIS}    password_file: empty", "…/exporter.yml:4: redis[0].password_file: is empty"),
    (
        f"{REDIS}    password: x\n    password_file: empty",
        "…/exporter.yml:4: redis[0].password: stands beside password_file, use one of them",
    ),
    (
        f"{REDIS}    ca_file: exporter.yml",
        "…/exporter.yml:4: redis[0].ca_file: …/exporter.yml holds no certificates in PEM form",
    ),
    (
        "redis: [{name: 'a b', url: 'redis://r'}]",
        "…/exporter.yml:1: redis[0].name: expected 1 to 64 letters, digits, dots, dashes or underscores",
    ),
    ("redis: [{name: 7, url: 'redis://r'}]", "…/exporter.yml:1: redis[0].name: expected text, got a whole number"),
    (
        "redis: [{name: a, url: 'redis://:hunter2@r:70000'}]",
        "…/exporter.yml:1: redis[0].url: has a port that is not a number from 1 to 65535",
    ),
    (
        "database: [{name: a, url: 'postgresql://u:hun#ter2@h/d'}]",
        (
            "…/exporter.yml:1: database[0].url: "
            "has a # or @ too many: in a password they must stand percent-encoded, or use a file"
        ),
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h,i/d'}]",
        "…/exporter.yml:1: database[0].url: names several hosts, one server is one target",
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h/d?ssl=require'}]",
        "…/exporter.yml:1: database[0].url: has an option 'ssl' that is not supported, did you mean sslmode",
    ),
    (
        "api: [{name: a, url: 'https://u:hunter2@h'}]",
        "…/exporter.yml:1: api[0].url: has a user or password, which does not belong into a URL",
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h/d', connections: 80}]",
        "…/exporter.yml:1: database[0].connections: expected a share of the connections, more than 0 and at most 1",
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h/d', longest_wait: 0}]",
        "…/exporter.yml:1: database[0].longest_wait: expected more than 0s",
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h/d', backup_query: 'SELECT 1; DROP TABLE orders'}]",
        "…/exporter.yml:1: database[0].backup_query: expected one SELECT, without a ; in it",
    ),
    (
        "database: [{name: a, url: 'postgresql://u@h/d', backup_query: 'DELETE FROM orders'}]",
        "…/exporter.yml:1: database[0].backup_query: expected one SELECT, without a ; in it",
    ),
    (
        "database: [{name: a, kind: pgbouncer, url: 'postgresql://u@h/pgbouncer', error_logs: true}]",
        ("…/exporter.yml:1: database[0].error_logs: belongs to a database, this entry is a PgBouncer's console"),
    ),
    ("api: [{name: a, url: 'http://h/é'}]", "…/exporter.yml:1: api[0].url: has a path that must be percent-encoded"),
    (
        "api: [{name: a, url: 'http://h', statuses: [2000]}]",
        "…/exporter.yml:1: api[0].statuses: expected one or more HTTP status codes from 100 to 599",
    ),
    (
        "api: [{name: a, url: 'http://h', certificate_expires: 0}]",
        "…/exporter.yml:1: api[0].certificate_expires: expected more than 0s",
    ),
    (
        "api: [{name: a, url: 'http://h', request_headers: {Cookie: hunter2}}]",
        "…/exporter.yml:1: api[0].request_headers.Cookie: can't be set here",
    ),
    (
        "api: [{name: a, url: 'http://h', expect_headers: {'X Y': hunter2}}]",
        "…/exporter.yml:1: api[0].expect_headers.X Y: is not a header such as X-Scope-OrgID: tenant",
    ),
    (
        "api: [{name: a, url: 'http://h', token_file: words}]",
        "…/exporter.yml:1: api[0].token_file: holds more than one word of visible ASCII characters",
    ),
    (
        "workers: [{name: a, kind: rq, url: 'redis://r', queues: [q]}]",
        "…/exporter.yml:1: workers[0].kind: can't be 'rq'",
    ),
    (
        "workers: [{name: a, kind: arq, url: 'redis://r', queues: []}]",
        "…/exporter.yml:1: workers[0].queues: names no queue",
    ),
    (
        "workers: [{name: a, kind: arq, url: 'redis://r', queues: [q], queue_depth: 0}]",
        "…/exporter.yml:1: workers[0].queue_depth: expected 1 or more",
    ),
    (
        "workers: [{name: a, kind: arq, url: 'redis://r', queues: [q], queue_age: 0s}]",
        "…/exporter.yml:1: workers[0].queue_age: expected more than 0s",
    ),
    (
        "workers: [{name: a, kind: arq, url: 'redis://r', queues: [q], min_workers: 2}]",
        "…/exporter.yml:1: workers[0].min_workers: needs kind: celery; arq's workers can't be counted",
    ),
    (
        f"workers: [{{name: a, kind: arq, url: 'redis://r', queues: {[f'q{number}' for number in range(101)]}}}]",
        "…/exporter.yml:1: workers[0].queues: names more than 100 queues; they need entries of their own",
    ),
    (
        "workers: [{name: a, kind: arq, url: 'redis://r', queues: [q, q]}]",
        "…/exporter.yml:1: workers[0].queues[1]: names 'q' twice",
    ),
    (
        "host: [{name: a}, {name: b}]",
        "…/exporter.yml:1: host[1]: one entry at most: only the exporter's own machine can be watched",
    ),
    (
        "host: [{name: a, filesystems: [var]}]",
        "…/exporter.yml:1: host[0].filesystems[0]: expected a mount point such as /var, each once",
    ),
    *(
        (
            f"host: [{{name: a, {ratio}: {value}}}]",
            f"…/exporter.yml:1: host[0].{ratio}: expected a ratio above 0 and up to 1, such as 0.9",
        )
        for ratio, value in (("memory_usage", 85), ("disk_usage", 0), ("memory_pressure", -0.1))
    ),
    *(
        (
            f"links: [{{name: Logs, url: '{url}'}}]",
            "…/exporter.yml:1: links[0].url: expected an address such as https://logs.example.com, without a password",
        )
        for url in ("javascript:alert(1)", "https://u:hunter2@h", "/logs", "https://[", "https://h/a b")
    ),
    ("links: [{name: '', url: 'https://h'}]", "…/exporter.yml:1: links[0].name: expected 1 to 60 printable characters"),
    (
        f"links: [{', '.join(['{name: a, url: https://h}'] * 21)}]",
        "…/exporter.yml:1: links: has 21 entries, 20 are the most",
    ),
    ("host: []", "…/exporter.yml:1: names nothing to watch"),
    ("a: &x [1]\nb: *x", "…/exporter.yml:1: anchors and aliases are not supported, write the value out"),
    (
        "check: !!python/object/apply:os.getcwd []",
        "…/exporter.yml:1: has a value of the kind os.getcwd, which is not supported",
    ),
    ("redis: [", "…/exporter.yml:1: is not valid YAML: expected the node content, but found '<stream end>'"),
    ("redis:\n\t- a", "…/exporter.yml:2: is not valid YAML: found character '\\t' that cannot start any token"),
    ("a: 1\n---\nb: 2", "…/exporter.yml:2: is not valid YAML: but found another document"),
    (b"redis: \xff", "…/exporter.yml:1: is not UTF-8 text"),
    (b"redis: []\nx: \x00", "…/exporter.yml:2: has a character that YAML does not allow"),
    ('redis: "\\0"', "…/exporter.yml:1: has a character that is not allowed"),
    ("[" * 1000, "…/exporter.yml:1: nested deeper than 20 levels"),
    (b"#" * (1024 * 1024 + 1), "…/exporter.yml: is larger than 1048576 bytes"),
    ("? [a]\n: b", "…/exporter.yml:1: has a key that is not plain text"),
]


@pytest.mark.parametrize(("text", "sentence"), BROKEN, ids=[sentence[-60:] for _, sentence in BROKEN])
def test_a_broken_file_gets_one_sentence_with_its_place(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    """Every fault is said in one sentence, with file, line and path, and without a password."""
    (tmp_path / "empty").touch()
    (tmp_path / "words").write_text("two hunter2")
    said = refusal(tmp_path, text)
    assert said == sentence
    assert "hunter2" not in said


TWO_COPIED = """database:
- {name: a, url: "postgresql://u@h/a", error_logs: true}
- name: b
  url: postgresql://u@h/b
  error_logs: true
"""


class TestPeers:
    """Those that we ask and tell."""

    def parsed(self, tmp_path: Path, text: str, **environ: str) -> config.Config:
        path = tmp_path / "exporter.yml"
        path.write_text(text, encoding="utf-8")
        return config.load(path, environ, "vm-1")

    def test_prometheus_and_alertmanagers_are_named_with_their_secrets(self, tmp_path: Path) -> None:
        """Secrets come from files; a lone Alertmanager needs no name, several have theirs or a number."""
        (tmp_path / "token").write_text("t0ken\n")
        text = (
            "prometheus: {url: 'https://p/base', token_file: token, headers: {X-Scope-OrgID: a}, timeout: 3s}\n"
            "alertmanager: [{url: 'http://a:9093'}, {name: b, url: 'http://b:9093', user: u, password_file: token}]\n"
        )
        parsed = self.parsed(tmp_path, text)
        assert parsed.prometheus is not None
        assert (parsed.prometheus.url, parsed.prometheus.token) == ("https://p/base", Secret("t0ken"))
        assert (parsed.prometheus.headers, parsed.prometheus.timeout) == ((("X-Scope-OrgID", "a"),), 3.0)
        (first, second) = parsed.alertmanagers
        assert (first[0], first[1].url) == ("alertmanager-1", "http://a:9093")
        assert (second[0], second[1].user, second[1].password) == ("b", "u", Secret("t0ken"))

    def test_the_environment_names_them_where_the_file_does_not(self, tmp_path: Path) -> None:
        """PROMETHEUS_URL and ALERTMANAGER_URL are enough."""
        environ = {"PROMETHEUS_URL": "http://p:9090", "ALERTMANAGER_URL": "http://a:9093"}
        parsed = self.parsed(tmp_path, "host: [{name: h}]\n", **environ)
        assert parsed.prometheus is not None
        assert parsed.prometheus.url == "http://p:9090"
        assert [(name, server.url) for name, server in parsed.alertmanagers] == [("alertmanager", "http://a:9093")]

    def test_pagerduty_secrets_and_the_copied_database_are_found(self, tmp_path: Path) -> None:
        """Several secrets count at once, while one is being replaced."""
        (tmp_path / "old").write_text("s1\n")
        (tmp_path / "new").write_text("s2")
        text = (
            "pagerduty: {signing_secret_files: [old, new]}\n"
            "database: [{name: a, url: 'postgresql://u@h/a', error_logs: true}, {name: b, url: 'postgresql://u@h/b'}]\n"
        )
        parsed = self.parsed(tmp_path, text)
        assert parsed.pagerduty_secrets == (Secret("s1"), Secret("s2"))
        assert parsed.error_log == PostgresServer("h", 5432, "u", None, "a")

    def test_links_are_found(self, tmp_path: Path) -> None:
        """Where people look further, in the order of the file."""
        text = "links: [{name: Logs, url: 'https://logs.example/?q=a%20b'}, {name: Traces, url: 'http://t'}]"
        assert self.parsed(tmp_path, text).links == (
            Link("Logs", "https://logs.example/?q=a%20b"),
            Link("Traces", "http://t"),
        )

    @pytest.mark.parametrize(
        ("first", "second", "counted"),
        [
            ("", "", "a"),
            ("request_log: true", "", "a"),
            ("request_log: false", "", None),
            ("", "request_log: true", "b"),
            ("request_log: false", "request_log: true", "b"),
            ("", "request_log: false", "a"),
        ],
    )
    def test_requests_are_counted_in_the_first_database_unless_said_otherwise(
        self, tmp_path: Path, first: str, second: str, counted: str | None
    ) -> None:
        """One at most; without a database none."""
        text = "".join(
            f"- {{name: {name}, url: 'postgresql://u@h/{name}', {setting}}}\n"
            for name, setting in (("a", first), ("b", second))
        )
        parsed = self.parsed(tmp_path, f"database:\n{text}")
        assert (parsed.request_log and parsed.request_log.dbname) == counted
        assert self.parsed(tmp_path, "host: [{name: h}]").request_log is None

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("prometheus: {}", "…/exporter.yml:1: prometheus: needs a url or a url_file"),
            (
                "prometheus: {url: 'http://p?x=1'}",
                "…/exporter.yml:1: prometheus.url: has a query, but paths are put behind it",
            ),
            (
                "prometheus: {url: 'http://p', user: u, token_file: t}",
                "…/exporter.yml:1: prometheus.token_file: stands beside a user or password, use one of them",
            ),
            (
                "prometheus: {url: 'http://p', interval: 5s}",
                "…/exporter.yml:1: prometheus.interval: is not a setting that exists here",
            ),
            (
                "alertmanager: [{url: 'http://a', critical: true}]",
                "…/exporter.yml:1: alertmanager[0].critical: is not a setting that exists here",
            ),
            (
                "prometheus: {url: 'http://p', token_file: empty}",
                "…/exporter.yml:1: prometheus.token_file: is empty",
            ),
            (
                "prometheus: {url: 'http://p', user: u}",
                "…/exporter.yml:1: prometheus.user: needs both user and password_file",
            ),
            (
                "prometheus: {url: 'http://p', password_file: empty}",
                "…/exporter.yml:1: prometheus.password_file: needs both user and password_file",
            ),
            (
                "prometheus: {url: 'http://p', headers: {Authorization: x}}",
                "…/exporter.yml:1: prometheus.headers.Authorization: can't be set here",
            ),
            (
                "alertmanager: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]",
                "…/exporter.yml:1: alertmanager[1].name: 'a' is the name of another entry already",
            ),
            (
                "pagerduty: {signing_secret_files: [x]}",
                "…/exporter.yml:1: pagerduty.signing_secret_files[0]: …/x can't be read: No such file or directory",
            ),
            (
                "pagerduty: {signing_secret_files: []}",
                "…/exporter.yml:1: pagerduty.signing_secret_files: names no file",
            ),
            (
                TWO_COPIED,
                "…/exporter.yml:5: database[1].error_logs: is set for another database already",
            ),
            (
                TWO_COPIED.replace("error_logs", "request_log"),
                "…/exporter.yml:5: database[1].request_log: is set for another database already",
            ),
        ],
    )
    def test_what_is_wrong_is_said_with_its_place(self, tmp_path: Path, text: str, sentence: str) -> None:
        """One sentence, with file, line and path."""
        (tmp_path / "empty").write_text("\n")
        assert refusal(tmp_path, text) == sentence
