"""`Feed`: a source of Ray Data to which the driver adds items while the pipeline runs.

An actor on the driver's node holds the items until they are done. One read task, also on that node, takes them in order
and makes a block of each. If Ray runs the read task again, the task begins at the first item; items that are done have
no payload then, so the memory is bounded.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

DONE = b""
"""Payload of an item that is done."""


class FeedActor:
    """Holds the items of a feed, as an actor of Ray: `put` adds one, and `get` waits for it."""

    def __init__(self) -> None:
        self._items: dict[int, bytes] = {}
        self._count: int | None = None
        self._changed = asyncio.Event()

    async def put(self, number: int, payload: bytes) -> None:
        """Add an item."""
        self._items[number] = payload
        self._changed.set()

    async def done(self, number: int) -> None:
        """Drop the payload of an item whose result has arrived."""
        self._items[number] = DONE

    async def close(self, count: int) -> None:
        """End the feed after `count` items."""
        self._count = count
        self._changed.set()

    async def get(self, number: int) -> bytes | None:
        """Wait for an item and return it; None after the last one."""
        while number not in self._items:
            if self._count is not None and number >= self._count:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items[number]


class Feed(Datasource):
    """The source: one read task, whose blocks have the columns `number` and `payload` and one row each.

    Args:
        actor: A `FeedActor`.
    """

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self._actor = actor

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is not known."""
        return None

    def get_read_tasks(self, parallelism: int, *given: Any, **options: Any) -> list[ReadTask]:
        """Return the read task."""
        actor = self._actor

        def read() -> Iterator[pa.Table]:
            number = 0
            while (payload := ray.get(actor.get.remote(number))) is not None:
                yield pa.table({"number": [number], "payload": pa.array([payload], pa.large_binary())})
                number += 1

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown)]
