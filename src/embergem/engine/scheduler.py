"""Packs waiting rows into batches by a budget of tokens. A plain class: no I/O, no threads, no tensors.

Rows wait in two lanes, each with a thread that asks for its batches. Which lane computes is decided where the computing
is, step by step and for all models at once (crates/core/src/arbiter.rs); who is next within a lane is decided here.

Tenants share a lane by tokens. Each has a mark, the tokens it was given so far; the one with the lowest mark is served,
and its mark moves on by what it got. A tenant that comes back after a pause starts at the mark being served, so that it
gains nothing from having been away (start-time fair queueing).
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from embergem.types import LANES, Lane

Owner = TypeVar("Owner")


@dataclass(slots=True, eq=False)
class Item(Generic[Owner]):
    """One row: whose it is, its length, its lane, and since when it waits (seconds of the scheduler's clock)."""

    owner: Owner
    tokens: int
    lane: Lane
    since: float
    tenant: str = ""
    due: "_Due[Owner] | None" = None
    waiting: bool = True


@dataclass(slots=True, eq=False)
class _Due(Generic[Owner]):
    """Rows that have one deadline; `left` of them wait. With none left it holds none: they would outlive their use."""

    items: Sequence[Item[Owner]]
    left: int


@dataclass(slots=True, eq=False)
class _Tenant(Generic[Owner]):
    """Rows of one tenant in one lane, oldest first; `mark` is where its next row starts."""

    mark: float
    items: deque[Item[Owner]] = field(default_factory=deque)


class _Queue(Generic[Owner]):
    """One lane."""

    def __init__(self) -> None:
        self.tokens = 0
        self.tokens_of: dict[str, int] = {}
        self._tenants: dict[str, _Tenant[Owner]] = {}
        self._order: list[tuple[float, int, _Tenant[Owner]]] = []
        self._mark = 0.0
        self._number = count()

    def add(self, tenant: str, items: Sequence[Item[Owner]]) -> None:
        """Put items behind those that the tenant has waiting."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(self._mark)
        if not found.items:
            found.mark = max(found.mark, self._mark)
            heapq.heappush(self._order, (found.mark, next(self._number), found))
        found.items.extend(items)
        tokens = sum(item.tokens for item in items)
        self.tokens += tokens
        self.tokens_of[tenant] = self.tokens_of.get(tenant, 0) + tokens

    def left(self, item: Item[Owner]) -> None:
        """Note that an item does not wait any more."""
        item.waiting = False
        self.tokens -= item.tokens
        if rest := self.tokens_of.get(item.tenant, 0) - item.tokens:
            self.tokens_of[item.tenant] = rest
        else:
            self.tokens_of.pop(item.tenant, None)  # a row may have no tokens, so it may be gone already

    def take(self, room: int | None) -> Item[Owner] | None:
        """Take the next item if it fits `room` tokens (None: whatever its size)."""
        while self._order:
            _, _, tenant = self._order[0]
            while tenant.items and not tenant.items[0].waiting:
                tenant.items.popleft()
            if not tenant.items:
                heapq.heappop(self._order)
                continue
            if room is not None and tenant.items[0].tokens > room:
                return None
            item = tenant.items.popleft()
            self.left(item)
            self._mark = tenant.mark
            tenant.mark += item.tokens
            if tenant.items:
                heapq.heapreplace(self._order, (tenant.mark, next(self._number), tenant))
            else:
                heapq.heappop(self._order)
            return item
        self._tenants.clear()  # an idle lane owes nobody
        return None


class Scheduler(Generic[Owner]):
    """Rows that wait; `next_batch` takes as many as fit `max_batch_tokens`, and always at least one.

    With `max_batch_rows` it takes no more rows than that, however short they are.
    """

    def __init__(
        self,
        max_batch_tokens: int,
        max_batch_rows: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_rows = max_batch_rows
        self._clock = clock
        self._queues: dict[Lane, _Queue[Owner]] = {lane: _Queue() for lane in LANES}
        self._deadlines: list[tuple[float, int, _Due[Owner]]] = []
        self._over = 0  # entries of these that hold nothing
        self._number = count()

    def add(
        self,
        rows: Sequence[tuple[Owner, int]],
        *,
        lane: Lane = "interactive",
        tenant: str = "",
        deadline: float | None = None,
    ) -> list[Item[Owner]]:
        """Queue rows, given as (owner, tokens), in this order; `deadline` is a time of the clock."""
        now = self._clock()
        items = [Item(owner, tokens, lane, now, tenant) for owner, tokens in rows]
        self._queues[lane].add(tenant, items)
        if deadline is not None and items:
            due = _Due(items, len(items))
            for item in items:
                item.due = due
            heapq.heappush(self._deadlines, (deadline, next(self._number), due))
        return items

    def excess(self, tokens: int, bound: int, *, lane: Lane, tenant: str) -> int:
        """Tokens that must leave a lane before `tenant` may add so many; 0 when it may now.

        Whatever the lane has room for goes in. In a full lane each tenant that waits, or would, has an equal share of
        `bound`, and one request if it has none waiting: who fills the lane stands in nobody's way but its own.
        """
        queue = self._queues[lane]
        mine = queue.tokens_of.get(tenant, 0)
        tenants = len(queue.tokens_of.keys() | {tenant})
        if not mine or queue.tokens + tokens <= bound or (mine + tokens) * tenants <= bound:
            return 0
        return min(queue.tokens + tokens - bound, (mine + tokens) * tenants - bound, mine * tenants)

    def drop(self, item: Item[Owner]) -> None:
        """Forget a row; nothing happens if it does not wait any more."""
        if item.waiting:
            self._queues[item.lane].left(item)
            self._settle(item)

    def expire(self) -> list[Owner]:
        """Drop the rows whose deadline has passed, and say whose they were."""
        late: list[Owner] = []
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            for item in self._deadlines[0][2].items:
                if item.waiting:
                    self.drop(item)
                    late.append(item.owner)
            self._forget_settled()
        return late

    def next_batch(self, lane: Lane) -> list[Item[Owner]]:
        """Take the next rows of a lane; empty when nothing waits there. Call `expire` first."""
        queue = self._queues[lane]
        batch: list[Item[Owner]] = []
        room = self.max_batch_tokens
        while len(batch) != self.max_batch_rows and (item := queue.take(room if batch else None)):
            batch.append(item)
            room -= item.tokens
            self._settle(item)
        return batch

    def waiting_tokens(self, lane: Lane) -> int:
        """Tokens that wait in a lane."""
        return self._queues[lane].tokens

    def until_deadline(self) -> float | None:
        """Seconds until the next deadline; None when there is none."""
        self._forget_settled()
        return max(0.0, self._deadlines[0][0] - self._clock()) if self._deadlines else None

    def _settle(self, item: Item[Owner]) -> None:
        """Take an item out of what has its deadline; now and then throw away the entries of which nothing is left."""
        due, item.due = item.due, None
        if due is None:
            return
        due.left -= 1
        if not due.left:
            due.items = ()
            self._over += 1
            if 2 * self._over > len(self._deadlines) + 16:
                self._deadlines = [entry for entry in self._deadlines if entry[2].left]
                heapq.heapify(self._deadlines)
                self._over = 0

    def _forget_settled(self) -> None:
        """Nobody need wake for a deadline that nothing waits for."""
        while self._deadlines and not self._deadlines[0][2].left:
            heapq.heappop(self._deadlines)
            self._over -= 1
