"""Workers and queues: whether the work is done, how late it is, who does it."""

from typing import Final

from tools.boards.model import Bars, Board, Graph, Query, Row
from tools.boards.queries import limit, state, targets_of

_CHOSEN: Final = '{target=~"$target"}'


def _highest(metric: str, labels: str) -> str:
    return f"max by ({labels}) (auraconnect_worker_{metric}{_CHOSEN})"


QUEUES: Final = (
    Graph(
        title="Age of the oldest job",
        description="How long the oldest job that waits has been due. For Celery a lower bound, since its jobs bear "
        "no date.",
        unit="s",
        runbooks=("QueueJobTooOld",),
        queries=(
            Query(_highest("queue_oldest_job_age_seconds", "target, queue"), "{{queue}} ({{target}})"),
            limit("auraconnect:queue_oldest_job_age_seconds:threshold", "warning"),
        ),
    ),
    Graph(
        title="Jobs that wait",
        description="Jobs in each queue, of all priorities. More than the limit that also become more are a backlog.",
        unit="short",
        runbooks=("QueueBacklogGrowing",),
        queries=(
            Query(f"target_queue:auraconnect_worker_queue_depth:max{_CHOSEN}", "{{queue}} ({{target}})"),
            limit("auraconnect:queue_depth:threshold", "warning", "limit, if it grows"),
        ),
    ),
    Graph(
        title="Jobs in progress",
        description="Jobs that a worker has taken and not finished. While jobs wait and this is zero, nobody works.",
        unit="short",
        queries=(Query(_highest("jobs_in_progress", "target, queue"), "{{queue}} ({{target}})"),),
    ),
)

NOW: Final = (
    Bars(
        title="Jobs that wait now",
        description="The longest queues at this moment.",
        unit="short",
        queries=(Query(f"topk(12, {_highest('queue_depth', 'target, queue')})", "{{queue}} ({{target}})"),),
    ),
    Graph(
        title="Growing or shrinking",
        description="By how many jobs a minute each queue grows, over ten minutes; below zero it shrinks.",
        unit="short",
        queries=(
            Query(
                f"60 * deriv(target_queue:auraconnect_worker_queue_depth:max{_CHOSEN}[10m])", "{{queue}} ({{target}})"
            ),
        ),
        signed=True,
    ),
    Graph(
        title="Memory of workers",
        description="Resident memory of each worker with its children, where it runs on an exporter's machine. One "
        "that grows and never falls leaks.",
        unit="bytes",
        queries=(Query(_highest("resident_memory_bytes", "target, worker"), "{{worker}}"),),
    ),
)

WORKERS: Final = (
    Graph(
        title="Workers online",
        description="Workers that are alive: of Celery those whose heartbeat came lately, of arq the queues that "
        "have one.",
        unit="short",
        runbooks=("JobsWaitingWithoutWorker",),
        queries=(Query(_highest("online", "target"), "{{target}}"),),
    ),
    Graph(
        title="Tasks done",
        description="Tasks per second that each worker has taken (Celery) or ended (arq, as of its last health check).",
        unit="cps",
        queries=(
            Query(
                f"max by (target, worker) (rate(auraconnect_worker_processed_total{_CHOSEN}[$__rate_interval]))",
                "{{worker}}",
            ),
        ),
    ),
    Graph(
        title="Tasks that run",
        description="Tasks that each worker runs now. One that never changes may be stuck in a task.",
        unit="short",
        queries=(Query(_highest("active_tasks", "target, worker"), "{{worker}}"),),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-workers",
    title="AuraConnect · Workers and queues",
    description="Whether background work is done, how late it is, and who does it.",
    variables=(targets_of("workers"),),
    rows=(
        Row("Are there workers?", state("workers")),
        Row("Is the work late?", QUEUES),
        Row("Workers", WORKERS),
        Row("More closely", NOW),
    ),
)
