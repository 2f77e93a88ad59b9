"""PostgreSQL: connections, what waits for what, replication, what runs out slowly."""

from typing import Final

from tools.boards.model import Board, Graph, Query, Row, Timeline
from tools.boards.queries import CONNECTED, limit, or_unknown, state, targets_of

_CHOSEN: Final = '{target=~"$target"}'


def _highest(metric: str, labels: str = "target") -> str:
    return f"max by ({labels}) (auraconnect_postgres_{metric}{_CHOSEN})"


def _rate(metric: str, labels: str = "target") -> str:
    return f"max by ({labels}) (rate(auraconnect_postgres_{metric}{_CHOSEN}[$__rate_interval]))"


_LINK: Final = "auraconnect_postgres_replication_connected" + _CHOSEN

CONNECTIONS: Final = (
    Graph(
        title="Connections in use",
        description="The share of the connections that the server allows which are taken. Near the limit new clients "
        "are turned away.",
        unit="percentunit",
        runbooks=("ConnectionsNearLimit",),
        highest=1,
        queries=(
            Query(f"target:auraconnect_postgres_connections:ratio{_CHOSEN}", "{{target}}"),
            limit("auraconnect:postgres_connections_ratio:threshold", "warning"),
        ),
    ),
    Graph(
        title="Connections by state",
        description="What the clients' connections do. Many that are idle in transaction hold locks and keep old rows.",
        unit="short",
        queries=(
            Query(_highest("connections", "target, state"), "{{target}} {{state}}"),
            Query(_highest("max_connections"), "{{target}}: limit", limit="critical"),
            Query(
                f"{_highest('max_connections')} - {_highest('reserved_connections')}",
                "{{target}}: limit for applications",
                limit="warning",
            ),
        ),
    ),
    Graph(
        title="Time to connect and to answer",
        description="How long a new connection takes, and a trivial query on an open one. If connecting alone is "
        "slow, it is the sign-in or the limit of connections; if both are, the server or the network.",
        unit="s",
        queries=(
            Query(_highest("connect_duration_seconds"), "{{target}}: connect"),
            Query(_highest("query_duration_seconds"), "{{target}}: query"),
        ),
    ),
)

WAITING: Final = (
    Graph(
        title="Longest transaction",
        description="How long the oldest transaction has been open, and how long a client has done nothing in one. "
        "Long ones keep locks, and old rows that vacuum can't remove.",
        unit="s",
        queries=(
            Query(_highest("longest_transaction_seconds"), "{{target}}: oldest"),
            Query(_highest("longest_idle_transaction_seconds"), "{{target}}: idle in it"),
        ),
    ),
    Graph(
        title="Who waits for a lock",
        description="Sessions that wait for a lock, and sessions that hold what others wait for. The times are how "
        "long one has waited, and how old the oldest transaction is that blocks.",
        unit="short",
        queries=(
            Query(_highest("blocked_queries"), "{{target}}: waiting"),
            Query(_highest("blocking_sessions"), "{{target}}: blocking"),
            Query(_highest("blocked_longest_seconds"), "{{target}}: longest wait", unit="s"),
            Query(_highest("blocking_longest_seconds"), "{{target}}: longest that blocks", unit="s"),
        ),
    ),
    Graph(
        title="Transactions",
        description="Transactions per second by how they ended, and deadlocks. Rollbacks that grow are errors of the "
        "application.",
        unit="cps",
        queries=(
            Query(_rate("transactions_total", "target, result"), "{{target}} {{result}}"),
            Query(_rate("deadlocks_total"), "{{target}} deadlocks"),
        ),
    ),
)

WORK: Final = (
    Graph(
        title="Blocks found in the cache",
        description="The share of blocks that did not have to be read from disk. A sudden drop is a new query, or a "
        "cache that is empty after a restart.",
        unit="percentunit",
        highest=1,
        queries=(
            Query(
                f"{_rate('blocks_hit_total')} / ({_rate('blocks_hit_total')} + {_rate('blocks_read_total')} > 0)",
                "{{target}}",
            ),
        ),
    ),
    Graph(
        title="Busiest statements",
        description="Seconds of execution per second of the ten busiest statements, by their number in "
        "pg_stat_statements (SELECT query FROM pg_stat_statements WHERE queryid = …). 1 is one processor that does "
        "nothing else. No lines: the extension is not there.",
        unit="none",
        queries=(Query(f"topk(10, {_rate('statement_seconds_total', 'target, queryid')})", "{{target}} {{queryid}}"),),
    ),
    Graph(
        title="PgBouncer",
        description="Clients of the pools by state, and how long the first in line has waited for a connection. No "
        "lines: no PgBouncer is configured.",
        unit="short",
        queries=(
            Query(_highest("pgbouncer_clients", "target, state"), "{{target}} {{state}}"),
            Query(_highest("pgbouncer_max_wait_seconds"), "{{target}}: longest wait", unit="s"),
        ),
    ),
)

REPLICATION: Final = (
    Graph(
        title="Replication lag",
        description="How far each standby is behind: what is read from it is that old, and a failover would lose "
        "that much. No lines: nothing is replicated.",
        unit="s",
        runbooks=("ReplicationLagging",),
        width=12,
        queries=(
            Query(_highest("replication_lag_seconds", "target, standby"), "{{target}} {{standby}}"),
            limit("auraconnect:postgres_replication_lag_seconds:threshold", "warning"),
        ),
    ),
    Timeline(
        title="Replication links",
        description="Whether each standby is connected. A link that is cut has no lag, so look here first.",
        unit="none",
        runbooks=("ReplicationBroken",),
        width=12,
        queries=(
            Query(
                or_unknown(f"max by (target, standby) ({_LINK})", "target, standby", _LINK),
                "{{target}} {{standby}}",
            ),
        ),
        states=CONNECTED,
    ),
)

RUNNING_OUT: Final = (
    Graph(
        title="Transaction ids",
        description="Transactions since the oldest row that is not frozen. At about two billion PostgreSQL stops to "
        "write; vacuum is what keeps it low.",
        unit="short",
        runbooks=("TransactionIdsRunningOut",),
        queries=(
            Query(_highest("xid_age"), "{{target}}"),
            limit("auraconnect:postgres_xid_age:threshold", "critical"),
            limit("auraconnect:postgres_xid_age:threshold", "warning"),
        ),
    ),
    Graph(
        title="Backups and archive",
        description="How long ago the last backup ended and the last piece of the log was archived; and failed "
        "attempts to archive. No lines: nothing reports backups, nothing is archived.",
        unit="s",
        runbooks=("BackupTooOld", "ArchivingFailing"),
        queries=(
            Query(f"time() - {_highest('backup_last_success_timestamp_seconds')}", "{{target}}: backup"),
            Query(f"time() - {_highest('archive_last_success_timestamp_seconds')}", "{{target}}: archive"),
            Query(
                f"max by (target) (increase(auraconnect_postgres_archive_failures_total{_CHOSEN}[$__rate_interval]))",
                "{{target}}: failed to archive",
                unit="short",
            ),
            limit("auraconnect:postgres_backup_age_seconds:threshold", "warning", "limit: backup"),
            limit("auraconnect:postgres_archive_age_seconds:threshold", "warning", "limit: archive"),
        ),
    ),
    Graph(
        title="Size",
        description="What each database takes on disk. The disk itself is on the host's board.",
        unit="bytes",
        queries=(Query(_highest("database_size_bytes", "target, database"), "{{target}} {{database}}"),),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-database",
    title="AuraConnect · PostgreSQL",
    description="Whether the database answers, what its connections do and wait for, whether standbys and backups "
    "keep up.",
    variables=(targets_of("database"),),
    rows=(
        Row("Does it answer?", state("database")),
        Row("Connections", CONNECTIONS),
        Row("Who waits?", WAITING),
        Row("Work", WORK),
        Row("Replication", REPLICATION),
        Row("What runs out slowly", RUNNING_OUT),
    ),
)
