"""When queues are degraded, and how that is said."""

from __future__ import annotations

from auraconnect_exporter.probes.worker_metrics import QueueFigures, queue_findings, queue_samples
from auraconnect_exporter.targets import RedisServer, Workers

SERVER = RedisServer("r", 6379, 0, None, None)


def test_old_jobs_and_long_queues_are_named() -> None:
    """Only what is beyond its limit, the worst first."""
    system = Workers("arq", SERVER, ("a", "b"), queue_age=60.0, queue_depth=10)
    queues = [QueueFigures("a", 11, 61.0), QueueFigures("b", 10, 60.0), QueueFigures("c", 12, 90.4)]
    assert queue_findings(system, queues) == (
        "a job of c has waited for 90 s",
        "a job of a has waited for 61 s",
        "12 jobs wait in c",
        "11 jobs wait in a",
    )


def test_a_long_queue_is_well_unless_a_limit_is_set() -> None:
    """What is much is for the user to say; five minutes are long for anybody."""
    system = Workers("arq", SERVER, ("a",))
    assert queue_findings(system, [QueueFigures("a", 10**6, 300.0)]) == ()
    assert queue_findings(system, [QueueFigures("a", 1, 301.0)]) == ("a job of a has waited for 301 s",)


def test_of_many_queues_a_few_are_named() -> None:
    """A sentence stays one, also when a hundred queues stand still."""
    system = Workers("arq", SERVER, ("a",))
    queues = [QueueFigures(str(number), 1, 400.0 + number) for number in range(100)]
    assert queue_findings(system, queues) == (
        "a job of 99 has waited for 499 s",
        "a job of 98 has waited for 498 s",
        "a job of 97 has waited for 497 s",
        "and so in 97 more queues",
    )


def test_each_queue_has_its_depth_and_age() -> None:
    """Two series a queue, one where the age is not known: 0 would say that nothing waits."""
    samples = queue_samples([QueueFigures("a", 3, 1.5), QueueFigures("b", 2, None)])
    assert {(sample.metric.name, sample.label_values): sample.value for sample in samples} == {
        ("worker_queue_depth", ("a",)): 3.0,
        ("worker_queue_depth", ("b",)): 2.0,
        ("worker_queue_oldest_job_age_seconds", ("a",)): 1.5,
    }
