"""Decoding and tokenizing of long texts on worker threads, in an order that is fair to all clients.

Tokenizing has a queue of its own, because the engine's queue counts tokens, which are not known yet. It is the engine's
scheduler with bytes of request bodies in place of tokens. Requests of at most `SMALL` bytes and larger ones have a lane
and workers each, so a small request does not wait for a large one. Within a lane the API keys share the workers fairly.

Large bodies are decoded by a thread of their own, one at a time: a body takes less than a second, and the decoder holds
the GIL most of this time, so that more threads would gain nothing.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Barrier, Lock
from typing import TypeVar

from embergem._native import CancelToken
from embergem.engine.scheduler import Limits, QueuedRow, Scheduler
from embergem.errors import Overloaded
from embergem.free_memory import require_address_space
from embergem.types import Lane, Request

T = TypeVar("T")

SMALL = 64 * 1024
"""Most bytes of a request that does not wait for larger ones. Such a request is tokenized in less than 0.1 s."""

QUEUED_BODIES = 2
"""Most bytes that wait in a lane, as a multiple of the size limit of one body."""

FIXED_MEMORY, MEMORY_FACTOR = 32 * 2**20, 16
"""Most memory that a request takes while it is tokenized: a constant, and a multiple of the bytes of its body."""

BYTES_PER_SECOND = 2**20
"""Bytes that a worker tokenizes in a second at least. `Retry-After` of a refused request is estimated with it."""


class TextWork(Future[T]):
    """The future of one request in the queue. Cancelling it also stops the work if it has begun.

    The queue refers to the future, and not the other way round: a cycle would keep the texts of a request in memory
    until the garbage collector runs, which takes no notice of their size.
    """

    def __init__(self, remove: Callable[[], None]) -> None:
        super().__init__()
        self.token = CancelToken()
        self._remove = remove

    def cancel(self) -> bool:
        """Take the work out of the queue, or stop it. Return False if it has begun or is done."""
        self.token.cancel()
        self._remove()
        return super().cancel()


class _Row(QueuedRow, eq=False, kw_only=True):
    """One request in the queue; `run` is emptied when the request leaves the queue."""

    run: Callable[[], None] | None = None


class TextQueue:
    """Queue and workers of all models of a server. Thread-safe.

    Args:
        max_body: Most bytes of one request body.
        workers: Threads of each lane; None for half of the processors.

    Attributes:
        threads: Threads of each lane.
    """

    def __init__(self, max_body: int, workers: int | None = None) -> None:
        self._scheduler: Scheduler[_Row] = Scheduler(Limits(1, 1, QUEUED_BODIES * max_body))
        self._lock = Lock()
        self.threads = workers or max(1, (os.cpu_count() or 1) // 2)
        self._workers: dict[Lane, ThreadPoolExecutor] = {
            "interactive": _start_pool(self.threads, "embergem tokenize"),
            "bulk": _start_pool(self.threads, "embergem tokenize long"),
        }
        self._decoder = _start_pool(1, "embergem decode")

    def decode(self, work: Callable[[], T]) -> Future[T]:
        """Run the decoding of a large body on its thread, and return the future of its result.

        `BodyReader` bounds the bodies that wait.
        """
        return self._decoder.submit(work)

    def submit(self, work: Callable[[CancelToken], T], size: int, tenant: str, *, bulk: bool = False) -> TextWork[T]:
        """Queue `work` and return the future of its result. A worker calls it with a token that tells it to stop.

        Args:
            work: What to do.
            size: Bytes of the request body.
            tenant: Name of the API key.
            bulk: Put a small request into the lane of the larger ones, too.

        Raises:
            Overloaded: Too many bytes wait.
        """
        row = _Row(tokens=size)
        future: TextWork[T] = TextWork(partial(self._remove, row))
        row.run = partial(_run, work, future, 0 if size <= SMALL else FIXED_MEMORY + MEMORY_FACTOR * size)
        request = Request(lane="interactive" if size <= SMALL and not bulk else "bulk", tenant=tenant)
        with self._lock:
            if excess := self._scheduler.excess(size, request):
                seconds = max(1.0, math.ceil(excess / BYTES_PER_SECOND))
                raise Overloaded(
                    f"Requests with {self._scheduler.queued_tokens(request.lane)} bytes wait to be tokenized, and "
                    f"{size} more exceed the limit of {self._scheduler.limits.max_queue_tokens}. Try again in "
                    f"{seconds:.0f} s.",
                    retry_after=seconds,
                )
            self._scheduler.add([row], request)
        self._workers[request.lane].submit(self._run_next, request.lane)
        return future

    def queued_bytes(self, lane: Lane) -> int:
        """Return the bytes of the requests that wait in a lane."""
        return self._scheduler.queued_tokens(lane)

    def _run_next(self, lane: Lane) -> None:
        """Run the next work of a lane; do nothing if it was cancelled in the meantime."""
        # No variable, because the traceback of an error in the work refers to this frame.
        self._take(lane)()

    def _take(self, lane: Lane) -> Callable[[], None]:
        with self._lock:
            rows = self._scheduler.next_batch(lane)
        run = None
        for row in rows:
            run, row.run = row.run, None
        return run or _nothing

    def _remove(self, row: _Row) -> None:
        row.run = None
        with self._lock:
            self._scheduler.remove(row)


def _nothing() -> None:
    """Run in place of a work that was cancelled."""


def _start_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads run already.

    `ThreadPoolExecutor` starts a thread at a submission. If memory is short then, `Thread.start` waits forever for a
    thread that failed to begin, and the event loop with it.
    """
    pool = ThreadPoolExecutor(threads, name)
    all_run = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(all_run.wait)
    all_run.wait()
    return pool


def _run(work: Callable[[CancelToken], T], future: TextWork[T], memory: int) -> None:
    """Run `work` and set its result, unless it was cancelled. `memory` is the bytes that it may need."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        if memory:
            require_address_space(memory)
        result = work(future.token)
    except BaseException as error:
        future.set_exception(error)
        del future  # the traceback of the error refers to this frame
    else:
        future.set_result(result)
