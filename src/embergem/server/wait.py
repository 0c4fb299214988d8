"""Waiting for the engine without holding up the event loop, and no longer than the client does."""

import asyncio
import math
import time
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from embergem.engine import Engine, Request, Result
from embergem.errors import Cancelled, DeadlineExceeded, InvalidRequest

T = TypeVar("T")

SHORT = 2048
"""Characters of texts and titles that are tokenized faster than another thread is asked to."""


async def submit(engine: Engine, request: Request) -> "Future[Result]":
    """Submit a request; what takes a while to tokenize is tokenized off the event loop."""
    if request.texts is not None and len(request.texts) <= 16:
        titles = (title for title in request.titles or () if title is not None)
        if sum(map(len, request.texts)) + sum(map(len, titles)) <= SHORT:
            return engine.submit(request)
    return await asyncio.to_thread(engine.submit, request)


async def result_of(http: HttpRequest, work: "Future[Result]", deadline: float) -> Result:
    """Wait for the engine as `unless_gone` does."""
    return work.result() if work.done() else await unless_gone(http, asyncio.wrap_future(work), deadline)


async def unless_gone(http: HttpRequest, work: Awaitable[T], deadline: float) -> T:
    """Wait for the result until `deadline`, a time of `time.monotonic()`; cancel the work when the client hangs up.

    Raises:
        Cancelled: The client has gone.
        DeadlineExceeded: It took too long.
    """
    future = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(disconnected(http))
    try:
        either: set[asyncio.Future[Any]] = {future, gone}
        left = deadline - time.monotonic()
        await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if gone.done():
            raise Cancelled("the client closed the connection")
        raise DeadlineExceeded("the request was not done in time; ask for less at once, or allow more time")
    finally:
        gone.cancel()
        future.cancel()


def deadline(http: HttpRequest, most: float) -> float:
    """When an answer is too late, as a time of `time.monotonic()`: after what `X-Request-Timeout` says, and at `most`.

    Raises:
        InvalidRequest: The header is not a number of seconds.
    """
    given = http.headers.get("x-request-timeout")
    if given is None:
        return time.monotonic() + most
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise InvalidRequest(f"the header X-Request-Timeout is {given[:40]!r}; it is a number of seconds above 0")
    return time.monotonic() + min(seconds, most)


async def disconnected(http: HttpRequest) -> None:
    """Return when the client has closed the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
