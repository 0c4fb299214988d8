"""Ends the threads behind an engine that was garbage-collected without being closed.

Separate because the closing thread and its queue belong to the process, not to an engine, and know nothing of one.
"""

import weakref
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Protocol


class Closable(Protocol):
    """An object with threads or memory to free. It must not refer to the owner that it is watched with."""

    def close(self) -> None:
        """Free the resources."""


_to_close: SimpleQueue[Closable] = SimpleQueue()


def close_with(owner: object, resource: Closable) -> None:
    """Close `resource`, on a thread of this module, once `owner` was garbage-collected."""
    _start_closer()
    # A finalizer runs on any thread and under any lock, also on the threads that `close` waits for, so the finalizer
    # must not block. `SimpleQueue.put` is reentrant and never blocks. In a forked child the closing thread does not
    # exist and the queue is never read; there is nothing to close there either.
    weakref.finalize(owner, _to_close.put, resource).atexit = False


@cache
def _start_closer() -> None:
    """Start the closing thread. Two threads that race here start two, which does no harm."""
    Thread(target=_close_queued, name="embergem closer", daemon=True).start()


def _close_queued() -> None:
    while True:
        _to_close.get().close()
