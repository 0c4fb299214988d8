"""Waiting for the engine without holding up the event loop, and no longer than the client does."""

import asyncio
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request as HttpRequest

from embergem.engine import Engine, Request, Result
from embergem.errors import Cancelled

SHORT = 2048
"""Characters that are tokenized faster than another thread is asked to."""


async def submit(engine: Engine, request: Request) -> "Future[Result]":
    """Submit a request; what takes a while to tokenize is tokenized off the event loop."""
    if request.texts is not None and sum(map(len, request.texts)) <= SHORT and len(request.texts) <= 16:
        return engine.submit(request)
    return await asyncio.to_thread(engine.submit, request)


async def unless_gone(http: HttpRequest, work: "Future[Result]") -> Result:
    """Wait for the result; cancel the work when the client hangs up."""
    if work.done():
        return work.result()
    future = asyncio.wrap_future(work)
    gone = asyncio.ensure_future(disconnected(http))
    try:
        either: set[asyncio.Future[Any]] = {future, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise Cancelled("the client closed the connection")
        return future.result()
    finally:
        gone.cancel()
        future.cancel()


async def disconnected(http: HttpRequest) -> None:
    """Return when the client has closed the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
