"""A Celery application such as AuraConnect's, for the workers that the tests start."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery  # type: ignore[import-untyped]  # Celery has no types

app = Celery("watched", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_transport_options={"priority_steps": list(range(10)), "queue_order_strategy": "priority"},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="wait_for")  # type: ignore[untyped-decorator]  # for the same reason
def wait_for(file: str) -> None:
    """Run until a file exists."""
    while not Path(file).exists():
        time.sleep(0.02)
