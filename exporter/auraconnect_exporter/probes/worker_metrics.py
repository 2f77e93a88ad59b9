"""What Celery's and arq's probes publish alike, and when queues are degraded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from auraconnect_exporter.model import Metric, Sample
from auraconnect_exporter.targets import Workers

QUEUE_DEPTH = Metric("worker_queue_depth", "gauge", "Jobs that wait, of all priorities.", ("queue",))
OLDEST_JOB_AGE = Metric(
    "worker_queue_oldest_job_age_seconds",
    "gauge",
    "How long the oldest job that waits has been due. Celery's jobs bear no date: for them a lower bound, since when "
    "one that still waits has been seen.",
    ("queue",),
)
JOBS_IN_PROGRESS = Metric(
    "worker_jobs_in_progress",
    "gauge",
    "Jobs that a worker has taken and not finished: those that run, and of Celery also those that it holds ready.",
    ("queue",),
)
ONLINE = Metric("worker_online", "gauge", "Workers that are alive; of arq, queues that have one.")
ACTIVE_TASKS = Metric(
    "worker_active_tasks", "gauge", "Tasks that the worker is running; of arq, the workers of this queue.", ("worker",)
)
PROCESSED = Metric(
    "worker_processed_total",
    "counter",
    "Tasks that the worker has taken since it started; of arq, that it has ended, as of its last health check.",
    ("worker",),
)
RESIDENT_MEMORY = Metric(
    "worker_resident_memory_bytes",
    "gauge",
    "Memory of the worker and its children, where it runs on this machine; what they share counts for each.",
    ("worker",),
)

MAX_WORKERS: Final = 200
MAX_NAME: Final = 100
"""Characters of a worker's name that are kept."""

MAX_FINDINGS: Final = 3
"""How many queues are named for one fault; of more, the number is told."""


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue at one moment: jobs that wait, and for how many seconds the oldest has, None where nobody knows."""

    name: str
    waiting: int
    oldest_age: float | None


def queue_samples(queues: Iterable[QueueFigures]) -> tuple[Sample, ...]:
    """Return what queues show."""
    queues = tuple(queues)
    ages = ((queue.name, queue.oldest_age) for queue in queues)
    return (
        *(QUEUE_DEPTH.sample(queue.waiting, queue.name) for queue in queues),
        *(OLDEST_JOB_AGE.sample(age, name) for name, age in ages if age is not None),
    )


def queue_findings(system: Workers, queues: Iterable[QueueFigures]) -> tuple[str, ...]:
    """Say which queues have an old job or are too long, the worst first."""
    queues = tuple(queues)
    ages = ((queue.oldest_age or 0.0, queue.name) for queue in queues)
    old = sorted(((age, name) for age, name in ages if age > system.queue_age), reverse=True)
    limit = system.queue_depth
    long = sorted((queue for queue in queues if limit and queue.waiting > limit), key=lambda queue: -queue.waiting)
    return (
        *_first_few(f"a job of {name} has waited for {age:.0f} s" for age, name in old),
        *_first_few(f"{queue.waiting} jobs wait in {queue.name}" for queue in long),
    )


def _first_few(findings: Iterable[str]) -> tuple[str, ...]:
    """Return findings that are alike, of many only the first and the number of others."""
    findings = tuple(findings)
    more = len(findings) - MAX_FINDINGS
    return findings if more <= 0 else (*findings[:MAX_FINDINGS], f"and so in {more} more queues")
