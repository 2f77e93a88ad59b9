"""A process that is nothing but ``Alerts`` on a store behind HTTP, to be killed at any moment.

python -m tests.soak.exactly_once_server URL FOLDER PORT
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from auraconnect_exporter.alerts import Alerts
from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.ledger import UnknownAlert
from auraconnect_exporter.records import Actor
from auraconnect_exporter.store import StoreError, open_store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 503 for what could not be stored, so that it comes again."""
    try:
        return await handler(request)
    except StoreError as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error
    except UnknownAlert as error:
        raise web.HTTPNotFound(text=str(error)) from error


async def serve(url: str, folder: Path, port: int) -> None:
    """Serve until the process ends."""
    alerts = Alerts(open_store(url, folder), time, {}, None, "")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if alerts.is_loaded else 503)

    async def webhook(request: web.Request) -> web.Response:
        await alerts.receive(await request.read())
        return web.Response()

    async def acknowledge(request: web.Request) -> web.Response:
        episode = await alerts.acknowledge(request.match_info["id"], Actor(request.query["actor"], "192.0.2.1"))
        return web.json_response({"acknowledged_by": episode.acknowledged_by})

    async def open_(_: web.Request) -> web.Response:
        return web.json_response([[episode.id, episode.fingerprint] for episode in alerts.open])

    application = web.Application(middlewares=[refuse])
    application.add_routes(
        [
            web.get("/-/ready", ready),
            web.post("/webhook", webhook),
            web.post("/acknowledge/{id}", acknowledge),
            web.get("/open", open_),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await alerts.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=ExporterLoop) as loop:
        loop.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
