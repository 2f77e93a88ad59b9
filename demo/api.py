"""The demo's API: a few routes that need the database, and the two tables that AuraConnect's own API writes."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psycopg
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_fastapi_instrumentator import Instrumentator

from demo.faults import Faults

SLOW_SECONDS: Final = 6.0
DATABASE_SECONDS: Final = 2

TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamp)",
    """CREATE TABLE IF NOT EXISTS performance_metrics (id uuid PRIMARY KEY, endpoint varchar(200), method varchar(10),
    response_time_ms float, status_code int, created_at timestamp)""",
    "CREATE INDEX IF NOT EXISTS performance_metrics_created ON performance_metrics USING brin (created_at)",
    """CREATE TABLE IF NOT EXISTS error_logs (id uuid PRIMARY KEY, error_type varchar(100), error_message text,
    stack_trace text, endpoint varchar(200), method varchar(10), status_code int, user_id uuid, restaurant_id uuid,
    request_id varchar(100), tags json, created_at timestamp, resolved boolean DEFAULT false, resolved_at timestamp)""",
    "CREATE INDEX IF NOT EXISTS error_logs_created ON error_logs (created_at)",
)
WRITE_REQUEST: Final = """INSERT INTO performance_metrics
VALUES (%s, %s, %s, %s, %s, clock_timestamp() AT TIME ZONE 'UTC')"""
WRITE_ERROR: Final = """INSERT INTO error_logs
(id, error_type, error_message, endpoint, method, status_code, created_at)
VALUES (%s, %s, 'the order could not be printed', %s, %s, %s, clock_timestamp() AT TIME ZONE 'UTC')"""
TAKE_ORDER: Final = "INSERT INTO orders (created_at) VALUES (clock_timestamp() AT TIME ZONE 'UTC') RETURNING id"

faults = Faults(Path(os.environ["DEMO_FAULTS"]))
dsn = os.environ["DATABASE_URL"]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables."""
    async with await connect() as connection:
        for statement in TABLES:
            await connection.execute(statement.encode())
    yield


app = FastAPI(lifespan=lifespan)
Instrumentator().instrument(app).expose(app)


async def connect() -> psycopg.AsyncConnection:
    """Return a connection."""
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=DATABASE_SECONDS)


@app.middleware("http")
async def write_down(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Write each request, and each that failed, where AuraConnect's API does; without the database nothing is."""
    begun = time.monotonic()
    try:
        response = await call_next(request)
    except psycopg.Error as error:
        response = Response(status_code=500)
        failure: Exception | None = error
    else:
        failure = None
    milliseconds = (time.monotonic() - begun) * 1000
    if request.url.path.startswith("/-/") or request.url.path == "/metrics":
        return response
    try:
        async with await connect() as connection:
            path, method, status = request.url.path, request.method, response.status_code
            await connection.execute(WRITE_REQUEST, (uuid.uuid4(), path, method, milliseconds, status))
            if status >= 500:  # noqa: PLR2004  # the class of the server's errors
                kind = type(failure).__name__ if failure else "KitchenPrinterError"
                await connection.execute(WRITE_ERROR, (uuid.uuid4(), kind, path, method, status))
    except psycopg.Error:
        pass
    return response


async def misbehave() -> None:
    """Be slow, or fail, as far as that is asked for."""
    if faults.has("latency") and random.random() < 0.2:  # noqa: S311, PLR2004  # one in five
        await asyncio.sleep(SLOW_SECONDS)
    if faults.has("errors") and random.random() < 0.25:  # noqa: S311, PLR2004  # one in four
        raise HTTPException(500, "the kitchen's printer does not answer")


@app.get("/-/ready")
async def ready() -> None:
    """Answer as soon as the server serves."""


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer while the database does."""
    async with await connect() as connection:
        await connection.execute("SELECT 1")
    return {"status": "ok"}


@app.get("/restaurants/{restaurant}/menu")
async def menu(restaurant: int) -> dict[str, int]:
    """Return a menu, or so."""
    await misbehave()
    return {"restaurant": restaurant}


@app.post("/orders")
async def order() -> dict[str, int]:
    """Take an order."""
    await misbehave()
    async with await connect() as connection:
        cursor = await connection.execute(TAKE_ORDER)
        row = await cursor.fetchone()
    return {"order": row[0] if row else 0}
