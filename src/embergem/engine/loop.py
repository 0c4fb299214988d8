"""The engine's threads: one a lane takes batches from the scheduler, runs them, and gives the vectors to who waits.

Which lane computes, and when a bulk batch pauses for an interactive one, is decided inside the native call, between two
steps and for all models of the process at once (crates/core/src/arbiter.rs). So a lane needs no more than a thread that
is willing to wait.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from embergem._native import CancelToken
from embergem.engine.cache import Cache, key
from embergem.engine.request import LANES, Lane, Row, Vectors
from embergem.engine.scheduler import Scheduler
from embergem.engine.stats import Counters, Stats
from embergem.engine.work import Cell, Finish, Work, deliver, waiting_on
from embergem.errors import Cancelled, DeadlineExceeded, EmbergemError, EngineClosed, Overloaded
from embergem.program.batch import Ids, packed

Compute = Callable[[Ids, Ids, CancelToken, Lane], Vectors]
"""(ids, cu_seqlens, cancel, lane) -> (rows, dimensions); raises `Cancelled` when the token was set."""


LARGE_TOKENS = 1024
"""Tokens that a request may have and still be interactive: nobody waits interactively for more."""


class Loop:
    """Runs requests on two threads of its own until closed. Safe from many threads.

    A request whose future is cancelled leaves the queue; a batch in work is stopped at its next step once nobody waits
    for any of its rows. With a cache, rows that are known are answered at once, and a row that is in work already is
    waited for instead of computed again, except that an interactive request does not wait for a bulk one.

    Args:
        compute: Makes vectors of a batch.
        dimensions: Width of these vectors.
        max_batch_tokens: Most tokens of a batch.
        name: For the threads.
        large_tokens: A request of more tokens is bulk, whatever it says.
        max_queue_tokens: Most tokens that wait in a lane; None for no bound. What is larger goes in when nothing waits.
        cache: Where vectors are looked up and kept, under keys that begin with `space`.
    """

    def __init__(
        self,
        compute: Compute,
        dimensions: int,
        max_batch_tokens: int,
        name: str,
        *,
        large_tokens: int = LARGE_TOKENS,
        max_queue_tokens: int | None = None,
        cache: Cache | None = None,
        space: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = Counters()
        self._compute = compute
        self._dimensions = dimensions
        self._large_tokens = large_tokens
        self._max_queue_tokens = max_queue_tokens
        self._cache = cache
        self._space = space
        self._clock = clock
        self._scheduler: Scheduler[Cell] = Scheduler(max_batch_tokens, clock=clock)
        self._lock = threading.Lock()
        self._wake = {lane: threading.Condition(self._lock) for lane in LANES}
        self._closed = False
        self._draining = False
        self._flights: dict[tuple[Lane, bytes], Cell] = {}
        self._working: dict[Lane, tuple[CancelToken, Sequence[Cell]]] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"embergem {name} {lane}", daemon=True)
            for lane in LANES
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        rows: Sequence[Row],
        finish: Finish,
        *,
        lane: Lane = "interactive",
        tenant: str = "",
        deadline: float | None = None,
    ) -> "Future[Any]":
        """Queue rows; the future gives `finish(vectors, indices that were cached)`, vectors in the order of the rows.

        Raises:
            EngineClosed: After `close`.
            Overloaded: The lane's queue is full.
            DeadlineExceeded: The deadline has passed already.
        """
        tokens = sum(len(row.ids) for row in rows)
        if tokens > self._large_tokens:
            lane = "bulk"
        if deadline is not None and deadline <= self._clock():
            raise _late()
        names = [] if self._cache is None else [key(self._space, row.ids) for row in rows]
        known = {} if self._cache is None else self._cache.find(names)  # may read a file: not under the lock
        work = Work(
            np.empty((len(rows), self._dimensions), dtype=np.float32),
            finish,
            self._leave,
            tenant=tenant,
            deadline=deadline,
        )
        with self._lock:
            if self._closed or self._draining:
                raise EngineClosed("the engine was closed; make a new one")
            joined, new = self._split(work, rows, lane, names, known)
            self._require_room(sum(len(cell.ids) for cell in new), lane)
            self._enqueue(work, joined, new)
            complete = work.settled = work.missing == 0  # else it is the loop that completes it, once the lock is free
        if self._cache is not None:
            self.counters.looked_up(len(work.cached), len(rows) - len(work.cached))
        self.counters.accepted(len(rows), tokens, sum(row.truncated for row in rows))
        if complete:
            work.answer()
        return work

    def stats(self) -> Stats:
        """Return the counters, and the gauges of this moment."""
        stats = self.counters.snapshot()
        stats.max_batch_tokens = self._scheduler.max_batch_tokens
        stats.cache_bytes = 0 if self._cache is None else self._cache.used
        stats.queue_tokens = {lane: self._scheduler.waiting_tokens(lane) for lane in LANES}
        return stats

    def close(self, *, drain: bool = False) -> None:
        """Stop the threads; requests that are not done fail with `EngineClosed`. Closing twice is harmless.

        With `drain` nothing new is taken, and what was taken is done first.
        """
        with self._lock:
            self._draining = True
            if not drain:
                self._closed = True
                for token, _ in self._working.values():
                    token.cancel()
            self._notify()
        for thread in self._threads:
            thread.join()
        self._fail_rest()

    def _split(
        self, work: Work, rows: Sequence[Row], lane: Lane, names: Sequence[bytes], known: Mapping[bytes, Vectors]
    ) -> tuple[list[tuple[Cell, int]], list[Cell]]:
        """Fill in what is known; return the cells in work that can be waited for, and new ones for the rest."""
        joined: list[tuple[Cell, int]] = []
        if self._cache is None:
            return joined, [Cell(row.ids, lane, None, [(work, index)]) for index, row in enumerate(rows)]
        new: dict[bytes, Cell] = {}
        for index, (row, name) in enumerate(zip(rows, names, strict=True)):
            vector = known.get(name)
            if vector is None:
                vector = self._cache.get(name)  # it may have come in meanwhile
            if vector is not None:
                work.vectors[index] = vector
                work.cached.append(index)
            elif name in new:
                new[name].waiters.append((work, index))
            elif (cell := self._flights.get(("interactive", name)) or self._flights.get((lane, name))) is not None:
                joined.append((cell, index))
            else:
                new[name] = Cell(row.ids, lane, name, [(work, index)])
        return joined, list(new.values())

    def _require_room(self, tokens: int, lane: Lane) -> None:
        waiting = self._scheduler.waiting_tokens(lane)
        bound = self._max_queue_tokens
        if bound is None or not waiting or waiting + tokens <= bound:
            return
        rate = self.counters.rate(lane) or self._scheduler.max_batch_tokens
        seconds = max(1.0, math.ceil((waiting + tokens - bound) / rate))
        raise Overloaded(
            f"{waiting} tokens wait in the {lane} lane, and {tokens} more would pass the bound of {bound}; ask again "
            f"in {seconds:.0f} s",
            retry_after=seconds,
        )

    def _enqueue(self, work: Work, joined: Sequence[tuple[Cell, int]], new: Sequence[Cell]) -> None:
        for cell, index in joined:
            cell.waiters.append((work, index))
        for cell in new:
            if cell.key is not None:
                self._flights[cell.lane, cell.key] = cell
        if new:
            rows = [(cell, len(cell.ids)) for cell in new]
            items = self._scheduler.add(rows, lane=new[0].lane, tenant=work.tenant, deadline=work.deadline)
            for cell, item in zip(new, items, strict=True):
                cell.item = item
            self._notify()
        work.cells = [*new, *(cell for cell, _ in joined)]
        work.missing = len(work.vectors) - len(work.cached)

    def _notify(self) -> None:
        for condition in self._wake.values():
            condition.notify()

    def _leave(self, works: Sequence[Work]) -> None:
        """Take requests that were cancelled or failed out of everything."""
        gone = set(map(id, works))
        with self._lock:
            for cell in {id(cell): cell for work in works for cell in work.cells}.values():
                cell.waiters = [waiter for waiter in cell.waiters if id(waiter[0]) not in gone]
                if not cell.waiters and cell.item is not None and cell.item.waiting:
                    self._forget(cell)
            for token, cells in self._working.values():
                if not any(cell.waiters for cell in cells):
                    token.cancel()
                    for cell in cells:  # nobody is to join what will not come
                        self._forget(cell)

    def _forget(self, cell: Cell) -> None:
        """Nobody waits for this row any more, or its vector is there."""
        if cell.item is not None:
            self._scheduler.drop(cell.item)
        if cell.key is not None and self._flights.get((cell.lane, cell.key)) is cell:
            del self._flights[cell.lane, cell.key]

    def _run(self, lane: Lane) -> None:
        while (batch := self._next(lane)) is not None:
            self._work(lane, *batch)

    def _next(self, lane: Lane) -> tuple[CancelToken, list[Cell]] | None:
        """Wait for the next batch of a lane; None when the thread is to end."""
        while True:
            with self._lock:
                late = self._expire()
                if not late:
                    if self._closed:
                        return None
                    if items := self._scheduler.next_batch(lane):
                        now = self._clock()
                        self.counters.left_queue(lane, len(items), sum(now - item.since for item in items))
                        batch = CancelToken(), [item.owner for item in items]
                        self._working[lane] = batch
                        return batch
                    if self._draining:
                        return None
                    self._wake[lane].wait(self._scheduler.until_deadline())
            self._fail(late, _late())

    def _expire(self) -> list[Work]:
        """Drop rows whose deadline has passed, and return the requests to fail; who else waits for a row keeps it."""
        now = self._clock()
        late: dict[int, Work] = {}
        for cell in self._scheduler.expire():
            gone = [work for work, _ in cell.waiters if work.deadline is not None and work.deadline <= now]
            late |= {id(work): work for work in gone}
            if rest := [work for work, _ in cell.waiters if work not in gone]:
                deadlines = [work.deadline for work in rest if work.deadline is not None]
                deadline = max(deadlines) if len(deadlines) == len(rest) else None
                [cell.item] = self._scheduler.add(
                    [(cell, len(cell.ids))], lane=cell.lane, tenant=rest[0].tenant, deadline=deadline
                )
        return list(late.values())

    def _work(self, lane: Lane, token: CancelToken, cells: list[Cell]) -> None:
        start = self._clock()
        try:
            ids, cu_seqlens = packed([cell.ids for cell in cells])
            vectors = self._compute(ids, cu_seqlens, token, lane)
        except Exception as error:  # whatever it is, it belongs to the callers, and the loop goes on
            with self._lock:
                del self._working[lane]
                for cell in cells:
                    self._forget(cell)
                works = waiting_on(cells)
            if isinstance(error, Cancelled) and self._closed:
                error = _closed()
            self._fail(works, error)
            return
        self.counters.computed(lane, len(ids), self._clock() - start)
        with self._lock:
            del self._working[lane]
            complete = deliver(self._settle(cells, vectors), vectors)
        for work in complete:
            work.answer()
        if self._cache is not None:
            self._cache.save(
                (cell.key, vector) for cell, vector in zip(cells, vectors, strict=True) if cell.key is not None
            )

    def _settle(self, cells: Sequence[Cell], vectors: Vectors) -> list[tuple[Cell, int]]:
        """Keep the vectors, and return the cells they answer: also a row that waits in the other lane for its turn."""
        settled = list(zip(cells, range(len(cells)), strict=True))
        if self._cache is not None:
            self._cache.put((cell.key, vectors[place]) for cell, place in settled if cell.key is not None)
            for cell, place in list(settled):
                for lane in LANES:
                    twin = self._flights.get((lane, cell.key or b""))
                    if twin is not None and twin is not cell:
                        settled.append((twin, place))
        for cell, _ in settled:
            self._forget(cell)
        return settled

    def _fail(self, works: Sequence[Work], error: Exception) -> None:
        with self._lock:
            mine = [work for work in works if not work.settled]
            for work in mine:
                work.settled = True
        self._leave(mine)
        for work in mine:
            if work.fail(error):
                self.counters.failed(error.code if isinstance(error, EmbergemError) else EmbergemError.code)

    def _fail_rest(self) -> None:
        """Nothing runs any more: what still waits will not be done."""
        for lane in LANES:
            while batch := self._scheduler.next_batch(lane):
                self._fail(waiting_on([item.owner for item in batch]), _closed())


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the request was done; give it more time, or send less at once")


def _closed() -> EngineClosed:
    return EngineClosed("the engine was closed before the request was done")
