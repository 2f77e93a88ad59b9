"""Serve nothing, as quickly as aiohttp can: what the exporter's public answer is measured against.

    python -m benchmarks.empty_handler PORT

The same loop, server and client's path as the exporter's, and a handler that does nothing.
"""

import asyncio
import sys

from aiohttp import web

from auraconnect_exporter.blocking import ExporterLoop
from auraconnect_exporter.web.health_api import PREFIX


async def nothing(_request: web.Request) -> web.Response:
    """Answer 200, without anything in it."""
    return web.Response()


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until the process ends."""
    app = web.Application()
    app.add_routes([web.get(PREFIX, nothing), web.get("/-/ready", nothing)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=ExporterLoop) as loop:
        loop.run(serve(int(sys.argv[1])))
