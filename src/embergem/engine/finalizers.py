"""Ends the threads behind an engine that was garbage-collected without being closed.

Separate because the closing thread and its queue belong to the process, not to an engine, and know nothing of one.
"""

import os
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


def _close_later(resource: Closable, process: int) -> None:
    """Queue `resource` for the closing thread, unless this process was forked and the parent has its threads."""
    if process == os.getpid():
        _to_close.put(resource)


def close_with(owner: object, resource: Closable) -> None:
    """Close `resource`, on a thread of this module, once `owner` was garbage-collected."""
    _start_closer()
    # A finalizer runs on any thread and under any lock, also on the threads that `close` waits for, so the finalizer
    # must not block. `SimpleQueue.put` is reentrant and never blocks.
    weakref.finalize(owner, _close_later, resource, os.getpid()).atexit = False


@cache
def _start_closer() -> None:
    """Start the closing thread. Two threads that race here start two, which does no harm."""
    Thread(target=_close_queued, name="embergem closer", daemon=True).start()


def _close_queued() -> None:
    while True:
        _to_close.get().close()


def _start_anew() -> None:
    """Forget the queue and the closing thread of the parent process, in a forked child, which has no such thread."""
    global _to_close
    _to_close = SimpleQueue()
    _start_closer.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
