"""`PendingRequest`, the future of a request, and `PendingRow`, a row that has no vector yet."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

import msgspec
import numpy as np

from embergem.engine.scheduler import QueuedRow
from embergem.errors import without_panic
from embergem.types import Ids, Request, Result, Row, Vectors, pack

Cut = Callable[[Vectors, int], Vectors]
"""Cuts vectors `(rows, full size)` to `(rows, dimensions)`; see `Request.dimensions`."""


class Timing(msgspec.Struct):
    """When the rows of a request were queued and computed, in seconds of the loop's clock (`time.monotonic()`).

    A batch counts once its outcome is known, computed or failed.

    Attributes:
        queued_at: When the tokenized rows were submitted.
        started_at: When the first batch with rows of the request started; None if there was none.
        ended_at: When the last batch with rows of the request ended; None if there was none.
        batches, batch_rows: Number of these batches, and their rows, those of other requests included.
        batch_tokens: Tokens that these batches computed, those of other requests included.
    """

    queued_at: float
    started_at: float | None = None
    ended_at: float | None = None
    batches: int = 0
    batch_rows: int = 0
    batch_tokens: int = 0


_NO_VECTORS: Vectors = np.empty((0, 0), dtype=np.float32)


class PendingRequest(Future[Result]):
    """A request, and the future that its caller holds. The fields are read and written under the loop's lock.

    Attributes:
        request: The request.
        rows: Its tokenized inputs.
        vectors: Vectors of the rows, shape `(rows, full size)`, filled as they come; an empty array before the first.
        missing: Number of rows without a vector.
        cached: Indices of the rows whose vectors came from the cache.
        timing: When its rows were queued and computed.
        awaited: Rows that the request waits for, those of other requests included; empty once it is resolved.
        settled: A thread is about to set the result or the error, so no other thread may.
        engine: The engine, which is closed when it is garbage-collected and so must live as long as the future.
    """

    def __init__(
        self,
        request: Request,
        rows: Sequence[Row],
        on_cancel: "Callable[[Sequence[PendingRequest]], None]",
        queued_at: float,
    ) -> None:
        super().__init__()
        self.request = request
        self.rows = rows
        self.vectors = _NO_VECTORS
        self.missing = len(rows)
        self.cached: list[int] = []
        self.timing = Timing(queued_at)
        self.awaited: Sequence[PendingRow] = ()
        self.settled = False
        self.engine: object = None
        self._on_cancel = on_cancel

    def cancel(self) -> bool:
        """Cancel the request and take its rows out of the queue; return False if it is resolved already."""
        cancelled = super().cancel()
        if cancelled:
            self._on_cancel([self])
        return cancelled

    def fill(self, vectors: Vectors, indices: Sequence[int], sources: Sequence[int]) -> bool:
        """Copy the vectors `sources` of a batch to the rows `indices`; return whether the request has all vectors now.

        The request is settled then, and the caller has to resolve it.
        """
        if len(indices) == len(self.rows) == len(vectors) and indices == sources:
            self.vectors = vectors  # the batch is this request, so nothing has to be copied
        else:
            if self.vectors is _NO_VECTORS:
                self.vectors = np.empty((len(self.rows), vectors.shape[1]), dtype=np.float32)
            self.vectors[indices] = vectors[sources]
        self.missing -= len(indices)
        if self.missing or self.settled:
            return False
        self.settled = True
        return True

    def resolve(self, cut: Cut) -> None:
        """Set the result, once `missing` is 0.

        Do not call this under a lock, because the callbacks of the future run here.
        """
        self.awaited = ()
        if not self.set_running_or_notify_cancel():
            return
        try:
            dimensions = self.request.dimensions
            vectors = self.vectors if dimensions is None else cut(self.vectors, dimensions)
            result = Result(vectors, self.rows, self.cached)
        except BaseException as error:
            reason = without_panic(error)
            self.set_exception(reason)
            if not isinstance(reason, Exception):  # KeyboardInterrupt on a caller's thread
                raise
        else:
            self.set_result(result)

    def fail(self, error: Exception) -> bool:
        """Set the error; return False if the request is resolved or cancelled. Do not call this under a lock."""
        self.awaited = ()
        if self.done() or not self.set_running_or_notify_cancel():
            return False
        self.set_exception(error)
        return True


class PendingRow(QueuedRow, eq=False, kw_only=True):
    """A row that is queued or being computed.

    Attributes:
        ids: Its token ids.
        key: Its key in the vector cache; empty without a cache, and then no other request can wait for the row.
        waiters: Requests that wait for the row, each with the index of the row among the inputs of the request.
        cu_seqlens: Offsets of the rows of a segment: consecutive rows of one request that are queued and computed
            together. `ids` and `tokens` are those of all, and the index of a waiter is that of the first. None for one
            row.
        count: Number of rows.
    """

    ids: Ids
    key: bytes
    waiters: list[tuple[PendingRequest, int]]
    cu_seqlens: Ids | None = None
    count: int = 1


def pack_segments(rows: Sequence[PendingRow]) -> tuple[Ids, Ids]:
    """Return rows and segments as a packed batch; see `types.pack`."""
    if len(rows) == 1:
        ids, offsets = rows[0].ids, rows[0].cu_seqlens
        return ids, np.array((0, len(ids)), dtype=np.uint32) if offsets is None else offsets
    if all(row.cu_seqlens is None for row in rows):
        return pack([row.ids for row in rows])
    counts = [np.diff(row.cu_seqlens) if row.cu_seqlens is not None else [len(row.ids)] for row in rows]
    return np.concatenate([row.ids for row in rows]), np.cumsum(np.concatenate([[0], *counts])).astype(np.uint32)


def waiting_requests(rows: Iterable[PendingRow]) -> list[PendingRequest]:
    """Return the requests that wait for any of the rows, each once."""
    return list(dict.fromkeys(request for row in rows for request, _ in row.waiters))
