"""Redis: whether it answers, is full, saves and replicates."""

from typing import Final

from tools.boards.model import Board, Graph, Query, Row, Timeline
from tools.boards.queries import CONNECTED, GOOD, limit, or_unknown, state, targets_of

_CHOSEN: Final = '{target=~"$target"}'


def _highest(metric: str) -> str:
    return f"max by (target) (auraconnect_redis_{metric}{_CHOSEN})"


def _rate(metric: str, labels: str = "target") -> str:
    return f"max by ({labels}) (rate(auraconnect_redis_{metric}{_CHOSEN}[$__rate_interval]))"


_HITS: Final = _rate("keyspace_hits_total")
_MISSES: Final = _rate("keyspace_misses_total")

MEMORY: Final = (
    Graph(
        title="Memory, of its limit",
        description="The share of maxmemory in use. When it is full, Redis evicts keys or refuses writes. No line: "
        "there is no limit.",
        unit="percentunit",
        runbooks=("RedisMemoryNearLimit",),
        highest=1,
        queries=(
            Query(f"target:auraconnect_redis_memory_usage:ratio{_CHOSEN}", "{{target}}"),
            limit("auraconnect:redis_memory_usage_ratio:threshold", "warning"),
        ),
    ),
    Graph(
        title="Memory",
        description="What Redis has allocated, and its limit where it has one. The ratio is resident memory by "
        "allocated: far above 1 is fragmented, below 1 is swapped.",
        unit="bytes",
        queries=(
            Query(_highest("memory_used_bytes"), "{{target}}: used"),
            Query(f"{_highest('memory_max_bytes')} > 0", "{{target}}: limit", limit="warning"),
            Query(_highest("fragmentation_ratio"), "{{target}}: fragmentation", unit="none"),
        ),
    ),
    Graph(
        title="Evicted keys",
        description="Keys per second that were thrown out because memory is full. Some are a cache's way to live, "
        "many mean that it is too small; of a queue, each is a lost job.",
        unit="cps",
        runbooks=("RedisEvictingKeys",),
        queries=(
            Query(_rate("evicted_keys_total"), "{{target}}"),
            limit("auraconnect:redis_evictions_per_second:threshold", "warning"),
        ),
    ),
)

CLIENTS: Final = (
    Graph(
        title="Clients",
        description="Connections, against what the server allows, and clients that wait in a blocking command "
        "(workers that wait for jobs do).",
        unit="short",
        queries=(
            Query(_highest("connected_clients"), "{{target}}: connected"),
            Query(_highest("blocked_clients"), "{{target}}: waiting"),
            Query(_highest("max_clients"), "{{target}}: limit", limit="warning"),
        ),
    ),
    Graph(
        title="Turned away",
        description="Connections per second that were refused because there were too many. Each is an error for "
        "somebody.",
        unit="cps",
        runbooks=("RedisRejectingConnections",),
        queries=(Query(_rate("rejected_connections_total"), "{{target}}"),),
    ),
    Graph(
        title="Denied access",
        description="Sign-ins and commands per second that were denied, by reason. A few are a wrong password "
        "somewhere, many are an attack.",
        unit="cps",
        runbooks=("SecuritySignal",),
        queries=(Query(_rate("access_denied_total", "target, reason"), "{{target}} {{reason}}"),),
    ),
)

USE: Final = (
    Graph(
        title="Time to answer",
        description="How long a PING takes, and opening a connection. Much more than usual: a slow command blocks "
        "all others, or the network does.",
        unit="s",
        queries=(
            Query(_highest("ping_duration_seconds"), "{{target}}: PING"),
            Query(_highest("connect_duration_seconds"), "{{target}}: connect"),
        ),
    ),
    Graph(
        title="Keys found",
        description="The share of look-ups that found their key. A drop makes the database work more.",
        unit="percentunit",
        highest=1,
        queries=(
            Query(
                f"{_HITS} / ({_HITS} + {_MISSES} > 0)",
                "{{target}}",
            ),
        ),
    ),
    Graph(
        title="Look-ups",
        description="Look-ups per second, by whether the key was there.",
        unit="cps",
        stacked=True,
        queries=(
            Query(_HITS, "{{target}}: found"),
            Query(_MISSES, "{{target}}: not there"),
        ),
    ),
)


def _timeline(title: str, description: str, metric: str, *, link: bool) -> Timeline:
    series = f"auraconnect_redis_{metric}{_CHOSEN}"
    return Timeline(
        title=title,
        description=description,
        unit="none",
        queries=(Query(or_unknown(f"min by (target) ({series})", "target", series), "{{target}}"),),
        states=CONNECTED if link else GOOD,
    )


SAFETY: Final = (
    _timeline(
        "Saved to disk",
        "Whether the last snapshot, append and rewrite of the append-only file succeeded. What is not saved is lost "
        "with the process, jobs among it.",
        "last_save_ok",
        link=False,
    ),
    _timeline(
        "Replica's link",
        "Whether a replica's link to its primary is up. A primary has no line.",
        "replication_connected",
        link=True,
    ),
    Graph(
        title="Replicas",
        description="Replicas that are connected to the server.",
        unit="short",
        queries=(Query(_highest("connected_replicas"), "{{target}}"),),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-redis",
    title="AuraConnect · Redis",
    description="Whether Redis answers, whether its memory is full, who is turned away, whether it saves and "
    "replicates.",
    variables=(targets_of("redis"),),
    rows=(
        Row("Does it answer?", state("redis")),
        Row("Memory", MEMORY),
        Row("Use", USE),
        Row("Clients", CLIENTS),
        Row("Would anything be lost?", SAFETY),
    ),
)
