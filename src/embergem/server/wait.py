"""Waiting for a result without blocking the event loop, until the client disconnects or the deadline passes."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request as HttpRequest

from embergem._native import CancelToken
from embergem.engine import Engine, Request, Result
from embergem.engine.pending import PendingRequest
from embergem.errors import Cancelled, DeadlineExceeded, InvalidRequest

if TYPE_CHECKING:
    from embergem.server.state import RequestContext

T = TypeVar("T")

SHORT_TEXTS = 16
SHORT = 2048
"""Texts, and characters of texts and titles, that tokenize faster than a switch to another thread takes."""

SHORT_BODY = 2**20
"""Bytes of a body that is decoded in a few milliseconds."""

WATCH_AFTER = 0.005
"""Seconds of waiting after which the connection is watched for a disconnect and the deadline is checked. Most results
come before, and watching costs a task."""


PAUSE = 0.002
"""Seconds between two turns of a `Pacer` while other requests are in progress: several times what a turn takes."""


class Pacer:
    """Lets tasks go on one after the other, one in each cycle of the event loop.

    The results of a whole batch come at once. If the tasks of a hundred lines went on in the same cycle, other requests
    would wait for all of them. A request needs several cycles itself, so a pause follows each turn while there are any.

    Args:
        others: Returns the number of other requests in progress.
    """

    def __init__(self, others: Callable[[], int] = lambda: 0) -> None:
        self._others = others
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def turn(self) -> None:
        """Wait for the turn of this task."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        while self._waiting and self._waiting[0].done():  # its task was cancelled
            self._waiting.popleft()
        if self._waiting:
            self._waiting.popleft().set_result(None)
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_later(PAUSE if self._others() else 0, self._next)


async def decode(context: "RequestContext", content: bytes, work: Callable[[], T], deadline: float) -> T:
    """Decode a body with `work`; a large one on another thread, so that the event loop serves other requests meanwhile.

    Raises:
        InvalidRequest: The body is invalid.
        Cancelled: The client closed the connection.
        DeadlineExceeded: The deadline has passed.
    """
    if len(content) <= SHORT_BODY:
        return work()
    return await wait_while_connected(context.http, asyncio.wrap_future(context.state.texts.decode(work)), deadline)


async def compute(context: "RequestContext", engine: Engine, request: Request, size: int) -> Result:
    """Submit a request to the engine and wait for its result. Long texts are tokenized on a worker thread.

    `size` is the size of the request's body in bytes.

    Raises:
        InvalidRequest: The engine refuses the request; see `Engine.submit` for this and other errors.
        Overloaded: Too many bytes wait to be tokenized.
        Cancelled: The client closed the connection.
        DeadlineExceeded: The request's deadline has passed.
    """
    http = context.http
    characters = SHORT + 1
    if request.texts is not None and len(request.texts) <= SHORT_TEXTS:
        characters = sum(map(len, request.texts)) + sum(map(len, filter(None, request.titles or ())))
    trace = context.trace
    if characters <= SHORT:
        if trace is not None:
            trace.begin("tokenize")
        work = engine.submit(request)
    else:
        submit: Callable[[CancelToken], PendingRequest] = partial(engine.submit, request)
        if trace is not None:
            trace.begin("tokenize queue")
            submit = trace.staged("tokenize", submit)
        submission = context.state.texts.submit(submit, size, request.tenant, bulk=context.of_batch)
        try:
            work = await wait_while_connected(http, asyncio.wrap_future(submission), request.deadline)
        except BaseException:
            submission.add_done_callback(_cancel_result)  # the request may be in the engine's queue by now
            raise
    if trace is not None:
        trace.submitted(work, engine)
    if context.of_batch:
        result = await asyncio.wrap_future(work)
        await context.state.pacer.turn()
        return result
    if not work.done():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        timer = loop.call_later(WATCH_AFTER, _wake, done)

        def on_done(_: "Future[Result]") -> None:
            with suppress(RuntimeError):  # at shutdown the event loop may be closed already
                loop.call_soon_threadsafe(_wake, done)

        work.add_done_callback(on_done)
        try:
            await done
            if not work.done():
                return await wait_while_connected(http, asyncio.wrap_future(work), request.deadline)
        finally:
            timer.cancel()
            if not work.done():
                work.cancel()
    return work.result()


def _cancel_result(submission: "Future[PendingRequest]") -> None:
    """Cancel the computation that a submission began."""
    if not submission.cancelled() and submission.exception() is None:
        submission.result().cancel()


async def wait_while_connected(http: HttpRequest, work: Awaitable[T], deadline: float | None) -> T:
    """Wait for the result of `work`; cancel the work if the client disconnects or the deadline passes.

    `deadline` is a time of `time.monotonic()`; None means no deadline.

    Raises:
        Cancelled: The client closed the connection.
        DeadlineExceeded: The deadline has passed.
    """
    future = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(http))
    try:
        either: set[asyncio.Future[Any]] = {future, disconnect}
        timeout = None if deadline is None else deadline - time.monotonic()
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if disconnect.done():
            raise Cancelled("The client closed the connection.")
        raise DeadlineExceeded(
            "The request was not done before its deadline. Send fewer inputs, or allow more time with the header "
            "X-Request-Timeout."
        )
    finally:
        disconnect.cancel()
        future.cancel()


def request_deadline(http: HttpRequest, limit: float) -> float:
    """Return the deadline of a request, a time of `time.monotonic()`: `X-Request-Timeout` from now, at most `limit`.

    Raises:
        InvalidRequest: The header is not a number of seconds.
    """
    given = http.headers.get("x-request-timeout")
    if given is None:
        return time.monotonic() + limit
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise InvalidRequest(f"The header X-Request-Timeout is {given[:40]!r}, not a number of seconds above 0.")
    return time.monotonic() + min(seconds, limit)


def _wake(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


async def _disconnected(http: HttpRequest) -> None:
    """Return when the client closes the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
