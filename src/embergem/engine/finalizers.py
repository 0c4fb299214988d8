"""Engines that nobody has any more and nobody closed: their threads are ended, and with them go the weights."""

import weakref
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Protocol


class Closable(Protocol):
    """What runs behind an owner, and holds nothing of it."""

    def close(self) -> None:
        """End it."""


_waiting: SimpleQueue[Closable] = SimpleQueue()


def watch(owner: object, behind: Closable) -> None:
    """Close what is `behind` an object once that is gone."""
    _closer()
    # A finalizer may run on any thread, under any lock, even within the loop that it is to close: so it must not wait.
    # This queue's `put` is made for that. In a fork nobody takes it out, and there is nothing to close.
    weakref.finalize(owner, _waiting.put, behind).atexit = False


@cache
def _closer() -> None:
    """Start the thread that closes; a second one, where two threads load their first model at once, does no harm."""
    Thread(target=_close, name="embergem closer", daemon=True).start()


def _close() -> None:
    while True:
        _waiting.get().close()
