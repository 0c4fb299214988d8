"""Packs waiting rows into batches by a budget of tokens. A plain class: no I/O, no threads, no tensors.

First come, first served for now. The server's lanes (interactive before bulk) and fair shares go in here, behind the
same two methods; that is what the clock is for.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from embergem.engine.request import Row

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Item(Generic[Key]):
    """One waiting row: whose it is, which of theirs, and since when (seconds of the scheduler's clock)."""

    key: Key
    index: int
    row: Row
    since: float


class Scheduler(Generic[Key]):
    """Queue of rows; `next_batch` takes as many as fit `max_batch_tokens`, and always at least one."""

    def __init__(self, max_batch_tokens: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._clock = clock
        self._waiting: deque[Item[Key]] = deque()

    def add(self, key: Key, rows: Sequence[Row]) -> None:
        """Queue the rows of one request."""
        now = self._clock()
        self._waiting.extend(Item(key, index, row, now) for index, row in enumerate(rows))

    def drop(self, key: Key) -> None:
        """Forget what still waits for a request that was cancelled or failed."""
        self._waiting = deque(item for item in self._waiting if item.key != key)

    def next_batch(self) -> list[Item[Key]]:
        """Take the next rows in order; empty when nothing waits."""
        batch: list[Item[Key]] = []
        tokens = 0
        while self._waiting:
            tokens += len(self._waiting[0].row.ids)
            if batch and tokens > self.max_batch_tokens:
                break
            batch.append(self._waiting.popleft())
        return batch

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return sum(len(item.row.ids) for item in self._waiting)
