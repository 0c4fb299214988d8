"""The in-flight table: rows that are queued or being computed, and the requests that wait for them.

A plain class without threads. The loop calls every method under its lock.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from embergem.engine.bisect import Batch, Outcome, errors_by_request
from embergem.engine.pending import PendingRequest, PendingRow
from embergem.engine.scheduler import Scheduler
from embergem.engine.vector_cache import VectorCache
from embergem.packed_rows import PackedRows
from embergem.types import Lane, Vectors

Failures = list[tuple[PendingRequest, Exception]]
"""Requests to fail, each with its error."""


class InflightTable:
    """Requests that were accepted and are not resolved, by row. A row in the table is queued or in a batch.

    With a cache, requests share rows: a request waits for a row of the same key that is in flight, except that an
    interactive request does not wait for a row in the bulk lane. So a key may be in flight in both lanes; the first
    vector resolves the rows of both.

    Attributes:
        batches: The batch that each lane is computing.
    """

    def __init__(self, scheduler: Scheduler[PendingRow], cache: VectorCache | None) -> None:
        self.batches: dict[Lane, Batch] = {}
        self._scheduler = scheduler
        self._cache = cache
        self._rows: dict[bytes, list[PendingRow]] = {}  # by key; at most one a lane, and none without a key

    def match(
        self,
        pending: PendingRequest,
        keys: Sequence[bytes],
        stored: Mapping[bytes, Vectors],
        segment_tokens: int | None = None,
    ) -> tuple[list[tuple[PendingRow, int]], list[PendingRow]]:
        """Find the rows of a request in the cache and in the table, and make new rows for the rest.

        Args:
            pending: The request; its vectors from the cache are filled in.
            keys: The key of each row; empty without a cache.
            stored: Vectors from the file of the cache.
            segment_tokens: Most tokens of a segment of packed rows; None makes no segments.

        Returns:
            Rows in flight to wait for, each with the index of an input, and new rows, which are not queued yet.
        """
        lane = pending.request.lane
        if self._cache is None:
            if isinstance(pending.rows, PackedRows) and segment_tokens is not None:
                return [], [
                    PendingRow(
                        tokens=len(rows.ids),
                        lane=lane,
                        ids=rows.ids,
                        key=b"",
                        waiters=[(pending, first)],
                        cu_seqlens=rows.cu_seqlens,
                        count=len(rows),
                    )
                    for first, rows in pending.rows.segments(segment_tokens)
                ]
            return [], [
                PendingRow(tokens=len(row.ids), lane=lane, ids=row.ids, key=b"", waiters=[(pending, index)])
                for index, row in enumerate(pending.rows)
            ]
        cached = {**stored, **self._cache.get(keys)}
        hits: list[int] = []
        joined: list[tuple[PendingRow, int]] = []
        new: dict[bytes, PendingRow] = {}
        for index, key in enumerate(keys):
            if key in cached:
                hits.append(index)
            elif key in new:
                new[key].waiters.append((pending, index))
            elif shared := [row for row in self._rows.get(key, ()) if lane in ("bulk", row.lane)]:
                joined.append((shared[0], index))
            else:
                ids = pending.rows[index].ids
                new[key] = PendingRow(tokens=len(ids), lane=lane, ids=ids, key=key, waiters=[(pending, index)])
        if hits:
            pending.vectors = np.empty((len(keys), len(cached[keys[hits[0]]])), dtype=np.float32)
            pending.vectors[hits] = [cached[keys[index]] for index in hits]
            pending.cached = hits
        return joined, list(new.values())

    def insert(
        self, pending: PendingRequest, joined: Sequence[tuple[PendingRow, int]], new: Sequence[PendingRow]
    ) -> None:
        """Let a request wait for rows in flight and for its new rows, both as `match` returned them.

        Then queue the new rows, or put a batch of them into `batches`.
        """
        pending.awaited = [*new, *(row for row, _ in joined)]  # first, because `abandon` needs it after an interrupt
        pending.missing -= len(pending.cached)
        for row, index in joined:
            row.waiters.append((pending, index))
        for row in new:
            if row.key:
                self._rows.setdefault(row.key, []).append(row)

    def drop_expired(self, rows: Sequence[PendingRow], now: float) -> tuple[list[PendingRequest], bool]:
        """Drop rows that the scheduler found expired.

        Returns:
            The requests whose deadline has passed, and whether a row was queued again because a request with a later
            deadline, or with none, waits for it.
        """
        late: dict[PendingRequest, None] = {}
        requeued = False
        for row in rows:
            remaining = []
            for request, _ in row.waiters:
                if request.request.deadline is not None and request.request.deadline <= now:
                    late[request] = None
                else:
                    remaining.append(request.request)
            if remaining:
                deadlines = [request.deadline for request in remaining if request.deadline is not None]
                deadline = max(deadlines) if len(deadlines) == len(remaining) else None
                self._scheduler.add([row], replace(remaining[0], lane=row.lane, deadline=deadline))
                requeued = True
            else:
                self._forget([row])
        return list(late), requeued

    def concerns_only_caller(self, batch: Batch) -> bool:
        """Return whether no request but `batch.caller` waits for a row of the batch, or for a row with the same key."""
        rows = [other for row in batch.rows for other in (row, *self._rows.get(row.key, ()))]
        return all(request is batch.caller for row in rows for request, _ in row.waiters)

    def settle(self, batch: Batch, outcome: Outcome) -> tuple[list[PendingRequest], Failures]:
        """End a batch: cache its vectors, and copy them to the requests that wait for them.

        Returns:
            The requests that have all their vectors now, and those that fail. Resolve them after the lock is released.
        """
        complete: list[PendingRequest] = []
        failures: Failures = []
        places: dict[PendingRequest, tuple[list[int], list[int]]] = {}
        if outcome.vectors is not None:
            if self._cache is not None:
                self._cache.put(zip([row.key for row in outcome.rows], outcome.vectors, strict=True))
            source = 0
            for computed in outcome.rows:
                count = computed.count
                for row in self._rows.pop(computed.key, (computed,)):
                    if row.queued:
                        self._scheduler.remove(row)
                    for request, index in row.waiters:
                        indices, sources = places.setdefault(request, ([], []))
                        if count == 1:
                            indices.append(index)
                            sources.append(source)
                        else:
                            indices += range(index, index + count)
                            sources += range(source, source + count)
                    row.waiters = []
                source += count
            for request, place in places.items():
                try:
                    if request.fill(outcome.vectors, *place):
                        complete.append(request)
                except MemoryError as no_room:  # the other requests of the batch have their vectors
                    failures.append((request, no_room))
        for rows, error in outcome.failed:
            self._forget(rows)
            failures += errors_by_request(rows, error)
        for request in places.keys() | dict(failures).keys():
            timing = request.timing
            timing.started_at = batch.started_at if timing.started_at is None else timing.started_at
            timing.ended_at = batch.ended_at
            timing.batches += 1
            timing.batch_rows += batch.row_count
            timing.batch_tokens += batch.tokens
        del self.batches[batch.lane]  # last, so that `abandon` finds the batch after an interrupt
        return complete, failures

    def remove(self, requests: Iterable[PendingRequest]) -> None:
        """Remove cancelled or failed requests, the rows that no request waits for then, and stop such a batch."""
        removed = set(requests)
        for row in dict.fromkeys(row for request in removed for row in request.awaited):
            row.waiters = [waiter for waiter in row.waiters if waiter[0] not in removed]
            if not row.waiters and row.queued:
                self._forget([row])
        for batch in self.batches.values():
            if not any(row.waiters for row in batch.rows):
                batch.cancel.cancel()
                self._forget(batch.rows)  # a later request for the same ids must not wait for a stopped batch

    def abandon(self, pending: PendingRequest, error: Exception) -> list[PendingRow]:
        """Clean up after a submitting thread that was interrupted, which may have happened at any line.

        A batch that this thread was computing gets an outcome that fails all its rows, for the lane's thread to settle.

        Returns:
            Rows of the request that are neither queued nor in a batch. The requests that wait for them have to fail.
        """
        if not pending.awaited:
            return []
        batch = self.batches.get(pending.request.lane)
        in_batches = {row for each in self.batches.values() for row in each.rows}
        lost = [row for row in pending.awaited if not row.queued and row not in in_batches]
        self._forget(lost)
        if batch is not None and batch.caller is pending and batch.outcome is None:
            batch.outcome = Outcome(failed=[(batch.rows, error)])
            self._forget(batch.rows)
        return lost

    def take_rest(self, lane: Lane) -> Sequence[PendingRow]:
        """Take rows of a lane whose thread has ended: those of a batch on a submitting thread, then the queued ones."""
        if (batch := self.batches.pop(lane, None)) is not None:
            return batch.rows
        return self._scheduler.next_batch(lane)

    def _forget(self, rows: Sequence[PendingRow]) -> None:
        """Take rows out of the table and out of the queue, so that later requests do not wait for them."""
        for row in rows:
            if row.queued:
                self._scheduler.remove(row)
            same_key = self._rows.get(row.key, [])
            if row in same_key:
                same_key.remove(row)
                if not same_key:
                    del self._rows[row.key]
