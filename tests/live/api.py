"""An API as AuraConnect's, with prometheus-fastapi-instrumentator as it comes; it fails and idles on request."""

import asyncio

from fastapi import FastAPI, HTTPException
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()


@app.get("/-/ready")
async def ready() -> None:
    """Answer as soon as the server serves."""


@app.get("/orders")
async def orders(fail: bool = False, seconds: float = 0) -> None:
    """Answer after so many seconds, with 500 where it shall fail."""
    await asyncio.sleep(seconds)
    if fail:
        raise HTTPException(500)


Instrumentator().instrument(app).expose(app)
