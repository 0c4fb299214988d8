"""Queues rows, shares each lane fairly between tenants, and packs batches by a token budget.

The scheduler does no I/O and has no threads or tensors. Rows wait in two lanes, and the thread of a lane takes its next
batch. Native code decides which lane computes, step by step and for all models of the process
(crates/core/src/arbiter.rs); this module decides the order within a lane.

Tenants share a lane by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996) with equal
weights. Each row has a virtual start time: the virtual time at which the tenant's previous row finished, and at least
the lane's virtual time when the tenant's queue was last empty. A row finishes `tokens` after its start. The row with
the least start time is next, and the lane's virtual time becomes that start time. So a tenant that was idle has no
advantage over the others.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Generic, TypeVar

import msgspec

from embergem.types import LANES, Lane, Request


class QueuedRow(msgspec.Struct, eq=False, kw_only=True):
    """A row for the scheduler, which sets all fields but `tokens`. A subclass holds the data of the row.

    Attributes:
        tokens: Length of the row.
        lane, tenant: The queue that the row is in.
        queued_at: When the row entered the queue, in seconds of the scheduler's clock.
        queued: Whether the row is in the queue.
        deadline_group: The rows of the same deadline; None for a row without a deadline or out of the queue.
    """

    tokens: int
    lane: Lane = "interactive"
    tenant: str = ""
    queued_at: float = 0.0
    queued: bool = False
    deadline_group: "_DeadlineGroup[Any] | None" = None


RowT = TypeVar("RowT", bound=QueuedRow)


class Limits(msgspec.Struct, frozen=True):
    """Limits of batches and queues.

    Attributes:
        max_batch_tokens: Most tokens of a batch; a longer row is a batch of its own.
        max_batch_rows: Most rows of a batch; None sets no limit.
        max_queue_tokens: Most tokens in the queue of a lane; None sets no limit. See `Scheduler.excess`.
    """

    max_batch_tokens: int
    max_batch_rows: int | None = None
    max_queue_tokens: int | None = None


class _DeadlineGroup(msgspec.Struct, Generic[RowT], eq=False):
    """Rows that were queued together with one deadline; `queued` counts those that are still queued.

    `rows` is emptied when none is queued, so that an entry of the deadline heap keeps no vectors or ids in memory.
    """

    rows: Sequence[RowT]
    queued: int


class _TenantQueue(msgspec.Struct, Generic[RowT], eq=False):
    """Queued rows of one tenant in one lane, oldest first, and the virtual start time of the first."""

    start_time: float
    rows: deque[RowT]


class _LaneQueue(Generic[RowT]):
    """The queue of one lane.

    Attributes:
        row_count, tokens: Number of queued rows, and their tokens.
        tenant_tokens: Queued tokens by tenant; a tenant with none has no entry.
    """

    def __init__(self) -> None:
        self.row_count = 0
        self.tokens = 0
        self.tenant_tokens: dict[str, int] = {}
        self._tenants: dict[str, _TenantQueue[RowT]] = {}
        self._heap: list[tuple[float, int, _TenantQueue[RowT]]] = []  # of tenants with rows, by start time
        self._virtual_time = 0.0
        self._entry_number = count()  # breaks ties in the heap: first come, first served

    def add(self, tenant: str, rows: Sequence[RowT]) -> None:
        """Append rows to the tenant's queue."""
        queue = self._tenants.get(tenant)
        if queue is None:
            queue = self._tenants[tenant] = _TenantQueue(self._virtual_time, deque())
        if not queue.rows:
            queue.start_time = max(queue.start_time, self._virtual_time)
            heapq.heappush(self._heap, (queue.start_time, next(self._entry_number), queue))
        queue.rows.extend(rows)
        tokens = sum(row.tokens for row in rows)
        self.row_count += len(rows)
        self.tokens += tokens
        self.tenant_tokens[tenant] = self.tenant_tokens.get(tenant, 0) + tokens

    def mark_removed(self, row: RowT) -> None:
        """Count a row as not queued. Its entry in the tenant's queue is skipped later."""
        row.queued = False
        self.row_count -= 1
        self.tokens -= row.tokens
        if rest := self.tenant_tokens.get(row.tenant, 0) - row.tokens:
            self.tenant_tokens[row.tenant] = rest
        else:
            self.tenant_tokens.pop(row.tenant, None)  # already gone if all other rows of the tenant have no tokens

    def pop_batch(self, limits: Limits) -> list[RowT]:
        """Remove and return the next rows that fit, but at least one if any is queued."""
        batch: list[RowT] = []
        room = limits.max_batch_tokens
        while self._heap and len(batch) != limits.max_batch_rows:
            queue = self._heap[0][2]
            rows = queue.rows
            while rows and not rows[0].queued:
                rows.popleft()
            if not rows:
                heapq.heappop(self._heap)
                continue
            if batch and rows[0].tokens > room:
                break
            row = rows.popleft()
            self.mark_removed(row)
            batch.append(row)
            room -= row.tokens
            self._virtual_time = queue.start_time
            queue.start_time += row.tokens
            if rows:
                heapq.heapreplace(self._heap, (queue.start_time, next(self._entry_number), queue))
            else:
                heapq.heappop(self._heap)
        if not self._heap:
            self._tenants.clear()  # no tenant is ahead of another in an empty lane
        return batch


class Scheduler(Generic[RowT]):
    """The queues of both lanes, and the deadlines of the rows in them.

    Args:
        limits: Limits of batches and of each lane's queue.
        clock: Returns seconds. Deadlines are times of this clock.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._lanes: dict[Lane, _LaneQueue[RowT]] = {lane: _LaneQueue() for lane in LANES}
        self._deadlines: list[tuple[float, int, _DeadlineGroup[RowT]]] = []
        self._empty_groups = 0  # entries of the heap `_deadlines` without queued rows
        self._entry_number = count()

    def add(self, rows: Sequence[RowT], request: Request) -> None:
        """Queue rows in this order, with the lane, tenant and deadline of the request."""
        now = self._clock()
        for row in rows:
            row.lane = request.lane
            row.tenant = request.tenant
            row.queued_at = now
            row.queued = True
        self._lanes[request.lane].add(request.tenant, rows)
        if request.deadline is not None and rows:
            group = _DeadlineGroup(rows, len(rows))
            for row in rows:
                row.deadline_group = group
            heapq.heappush(self._deadlines, (request.deadline, next(self._entry_number), group))

    def excess(self, tokens: int, request: Request) -> int:
        """Return how many tokens must leave the lane before the request may queue `tokens` more; 0 if it may now.

        A request is accepted if the lane then has at most `max_queue_tokens`. In a full lane each tenant with queued
        rows, and the tenant of the request, may have an equal share of this limit; a tenant with nothing queued may
        always queue one request. So a tenant that fills the lane only delays its own requests.
        """
        bound = self.limits.max_queue_tokens
        lane = self._lanes[request.lane]
        own = lane.tenant_tokens.get(request.tenant, 0)
        if bound is None or not own or lane.tokens + tokens <= bound:
            return 0
        tenants = len(lane.tenant_tokens)
        if (own + tokens) * tenants <= bound:
            return 0
        return min(lane.tokens + tokens - bound, (own + tokens) * tenants - bound, own * tenants)

    def remove(self, row: RowT) -> None:
        """Take a row out of the queue, if it is queued."""
        if row.queued:
            self._lanes[row.lane].mark_removed(row)
            if row.deadline_group is not None:
                self._leave_deadline_group(row, row.deadline_group)

    def expire(self) -> list[RowT]:
        """Take the rows whose deadline has passed out of the queue, and return them."""
        expired: list[RowT] = []
        if not self._deadlines:
            return expired
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            for row in self._deadlines[0][2].rows:
                if row.queued:
                    self.remove(row)
                    expired.append(row)
            self._pop_empty_groups()
        return expired

    def next_batch(self, lane: Lane) -> list[RowT]:
        """Take the next batch of a lane out of the queue; an empty list if the lane is empty. Call `expire` first."""
        batch = self._lanes[lane].pop_batch(self.limits)
        for row in batch:
            if row.deadline_group is not None:
                self._leave_deadline_group(row, row.deadline_group)
        return batch

    def queued_rows(self, lane: Lane) -> int:
        """Return the number of rows in the queue of a lane."""
        return self._lanes[lane].row_count

    def queued_tokens(self, lane: Lane) -> int:
        """Return the number of tokens in the queue of a lane."""
        return self._lanes[lane].tokens

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of all queued rows, as a time of the clock; None if no row has one."""
        self._pop_empty_groups()
        return self._deadlines[0][0] if self._deadlines else None

    def _leave_deadline_group(self, row: RowT, group: _DeadlineGroup[RowT]) -> None:
        """Take a row out of its group. When too many groups are empty, remove their entries from the heap."""
        row.deadline_group = None
        group.queued -= 1
        if group.queued == 0:
            group.rows = ()
            self._empty_groups += 1
            if 2 * self._empty_groups > len(self._deadlines) + 16:
                self._deadlines = [entry for entry in self._deadlines if entry[2].queued]
                heapq.heapify(self._deadlines)
                self._empty_groups = 0

    def _pop_empty_groups(self) -> None:
        """Remove empty groups from the front of the heap, so that a thread does not wake up for them."""
        while self._deadlines and not self._deadlines[0][2].queued:
            heapq.heappop(self._deadlines)
            self._empty_groups -= 1
