"""Work that would hold an event loop, done on a thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def off_loop(call: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Await `call()` on a thread. If the caller is cancelled meanwhile, its result is handed to `undo`."""
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if undo is not None:
            work.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo(done.result()))
        raise
