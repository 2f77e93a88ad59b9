"""The demo's background jobs: a Celery application on Redis, as AuraConnect has one."""

from __future__ import annotations

import os
import time

from celery import Celery  # type: ignore[import-untyped]  # Celery has no types

app = Celery("demo", broker=os.environ["REDIS_URL"])
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True, worker_prefetch_multiplier=1)


@app.task(name="tell_restaurant")  # type: ignore[untyped-decorator]  # for the same reason
def tell_restaurant() -> None:
    """Take as long as a call to a restaurant's till does."""
    time.sleep(0.05)
