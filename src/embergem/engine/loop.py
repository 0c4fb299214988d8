"""The engine's threads: one a lane takes batches from the scheduler, runs them, and gives the vectors to who waits.

Which lane computes, and when a bulk batch pauses for an interactive one, is decided inside the native call, between two
steps and for all models of the process at once (crates/core/src/arbiter.rs). So a lane needs no more than a thread that
is willing to wait.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from embergem._native import CancelToken
from embergem.engine.apart import Batch, Outcome, blamed, compute_apart
from embergem.engine.cache import Cache
from embergem.engine.known import Known
from embergem.engine.request import LANES, Lane, Row, Vectors
from embergem.engine.scheduler import Scheduler
from embergem.engine.stats import Counters, Stats
from embergem.engine.throughput import Compute
from embergem.engine.work import Cell, Finish, Work, deliver, waiting_on
from embergem.errors import Cancelled, DeadlineExceeded, EmbergemError, EngineClosed, Overloaded, without_panic
from embergem.program.batch import packed

LARGE_TOKENS = 1024
"""Tokens that a request may have and still be interactive: nobody waits interactively for more."""

HERE_TOKENS = 256
"""Tokens that a caller's own thread computes, if it waits for nothing else: Ctrl-C has to wait for them."""


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
        max_batch_rows: Most rows of a batch; None leaves it to the tokens.
        max_queue_tokens: Most tokens that wait in a lane, or None; see `Scheduler.excess` for who is refused.
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
        max_batch_rows: int | None = None,
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
        self._known = Known(cache, space)
        self._clock = clock
        self._scheduler: Scheduler[Cell] = Scheduler(max_batch_tokens, max_batch_rows, clock=clock)
        self._lock = threading.Lock()
        self._wake = {lane: threading.Condition(self._lock) for lane in LANES}
        self._closed = False
        self._draining = False
        self._working: dict[Lane, Batch] = {}  # who takes a batch out of this answers those who wait for it
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
        blocking: bool = False,
        admit: Callable[[int], None] | None = None,
    ) -> "Future[Any]":
        """Queue rows; the future gives `finish(vectors, indices that were cached)`, vectors in the order of the rows.

        A few rows of a caller that is `blocking` are computed on its thread when nothing else waits: then no other
        thread has to get its turn of the interpreter, which beside a busy one takes 5 ms each time.

        `admit` is told the tokens when nothing else refuses them any more, and refuses them by raising. It must be
        quick and ask nothing of the loop.

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
        names = self._known.names(rows)
        found = self._known.look_up(names)  # may read a file: not under the lock
        work = Work(
            np.empty((len(rows), self._dimensions), dtype=np.float32),
            finish,
            self._leave,
            tenant=tenant,
            deadline=deadline,
        )
        try:
            with self._lock:
                if self._closed or self._draining:
                    raise EngineClosed("the engine was closed; make a new one")
                joined, new = self._known.split(work, rows, lane, names, found)
                waiting = sum(len(cell.ids) for cell in new)
                self._require_room(waiting, lane, tenant)
                if admit is not None:
                    admit(tokens)
                self._enqueue(work, joined, new)
                alone = lane == "interactive" and not joined and self._scheduler.waiting_tokens(lane) == waiting
                batch = self._take(lane, work) if blocking and alone and waiting <= HERE_TOKENS else None
                if new and batch is None:
                    self._notify(lane if deadline is None else None)  # the idle lane's sees to a deadline, too
                complete = work.settled = work.missing == 0  # else the loop completes it, once the lock is free
            if names:
                self.counters.looked_up(len(work.cached), len(rows) - len(work.cached))
            self.counters.accepted(len(rows), tokens, sum(row.truncated for row in rows))
            if complete:
                work.answer()
            if batch is not None:
                self._work_here(lane, batch, work)
        except BaseException:
            self._abandon(lane, work)
            raise
        return work

    def stats(self) -> Stats:
        """Return the counters, and the gauges of this moment."""
        stats = self.counters.snapshot()
        stats.max_batch_tokens = self._scheduler.max_batch_tokens
        stats.cache_bytes = self._known.used
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
                for batch in self._working.values():
                    batch.token.cancel()
            self._notify()
        for thread in self._threads:
            thread.join()
        self._fail_rest()

    def _require_room(self, tokens: int, lane: Lane, tenant: str) -> None:
        bound = self._max_queue_tokens
        if bound is None or not (excess := self._scheduler.excess(tokens, bound, lane=lane, tenant=tenant)):
            return
        rate = self.counters.rate(lane) or self._scheduler.max_batch_tokens
        seconds = max(1.0, math.ceil(excess / rate))
        raise Overloaded(
            f"{self._scheduler.waiting_tokens(lane)} tokens wait in the {lane} lane, and {tokens} more would pass the "
            f"bound of {bound}; ask again in {seconds:.0f} s",
            retry_after=seconds,
        )

    def _enqueue(self, work: Work, joined: Sequence[tuple[Cell, int]], new: Sequence[Cell]) -> None:
        work.cells = [*new, *(cell for cell, _ in joined)]  # first: an interrupt may come before the rest is done
        for cell, index in joined:
            cell.waiters.append((work, index))
        for cell in new:
            self._known.begin(cell)
        if new:
            rows = [(cell, len(cell.ids)) for cell in new]
            items = self._scheduler.add(rows, lane=new[0].lane, tenant=work.tenant, deadline=work.deadline)
            for cell, item in zip(new, items, strict=True):
                cell.item = item
        work.missing = len(work.vectors) - len(work.cached)

    def _notify(self, lane: Lane | None = None) -> None:
        """Wake the thread of a lane, or of all."""
        for each in LANES if lane is None else (lane,):
            self._wake[each].notify()

    def _leave(self, works: Sequence[Work]) -> None:
        """Take requests that were cancelled or failed out of everything."""
        gone = set(map(id, works))
        with self._lock:
            for cell in {id(cell): cell for work in works for cell in work.cells}.values():
                cell.waiters = [waiter for waiter in cell.waiters if id(waiter[0]) not in gone]
                if not cell.waiters and cell.item is not None and cell.item.waiting:
                    self._forget(cell)
            for batch in self._working.values():
                if not any(cell.waiters for cell in batch.cells):
                    batch.token.cancel()
                    for cell in batch.cells:  # nobody is to join what will not come
                        self._forget(cell)

    def _forget(self, cell: Cell) -> None:
        """Nobody waits for this row any more, or its vector is there."""
        if cell.item is not None:
            self._scheduler.drop(cell.item)
        self._known.end(cell)

    def _run(self, lane: Lane) -> None:
        while (batch := self._next(lane)) is not None:
            self._give_out(lane, batch, batch.outcome or self._computed(lane, batch))

    def _next(self, lane: Lane) -> Batch | None:
        """Wait for a lane's next batch, or for one that a caller's thread has left; None when the thread is to end."""
        while True:
            with self._lock:
                late = self._expire()
                if not late:
                    working = self._working.get(lane)
                    if working is not None and working.outcome is not None:
                        return working
                    if self._closed:
                        return None
                    if batch := self._take(lane):
                        return batch
                    if self._draining and working is None:
                        return None
                    self._wake[lane].wait(self._scheduler.until_deadline())
            self._fail(late, _late())

    def _take(self, lane: Lane, caller: Work | None = None) -> Batch | None:
        """Take the next batch of a lane where none is in work; None where nothing waits. Under the lock."""
        if lane in self._working or not (items := self._scheduler.next_batch(lane)):
            return None
        now = self._clock()
        self.counters.left_queue(lane, len(items), sum(now - item.since for item in items))
        batch = self._working[lane] = Batch(CancelToken(), [item.owner for item in items], caller)
        return batch

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
                self._notify()
            else:
                self._known.end(cell)  # it will not be computed: whoever asks for it next must not wait for it
        return list(late.values())

    def _computed(self, lane: Lane, batch: Batch) -> Outcome:
        """Compute a batch. Whatever goes wrong belongs to those who wait for it, and the loop goes on."""

        def compute(cells: Sequence[Cell]) -> Vectors:
            start = self._clock()
            ids, cu_seqlens = packed([cell.ids for cell in cells])
            vectors = self._compute(ids, cu_seqlens, batch.token, lane)
            self.counters.computed(lane, len(ids), self._clock() - start)
            return vectors

        try:
            return compute_apart(compute, batch.cells)
        except BaseException as error:
            reason = without_panic(error)
            if not isinstance(reason, Exception):  # Ctrl-C, on a caller's thread
                raise
            return Outcome(spoilt=[(batch.cells, reason)])

    def _work_here(self, lane: Lane, batch: Batch, work: Work) -> None:
        """Compute on a thread that Ctrl-C may interrupt anywhere; what came meanwhile is left to the lane's.

        So is the outcome where others wait for it, too: where one thread answers them all, an interrupt after the first
        would leave the rest unanswered for ever. No interrupt reaches the lane's thread.
        """
        try:
            self._give_out(lane, batch, self._computed(lane, batch), only=work)
        finally:
            with self._lock:  # a thread that wakes takes the lock before its turn of the interpreter: never for nothing
                if self._draining or batch.outcome is not None or self._scheduler.waiting_tokens(lane):
                    self._notify()

    def _abandon(self, lane: Lane, work: Work) -> None:
        """Leave to the lane's thread what this one had in work: its submit was ended by an error, or by an interrupt.

        That may have been at any step, so what is to be done follows from where the rows are.
        """
        while True:
            try:
                with self._lock:
                    lost = self._lost(lane, work)
                    self._notify(lane)  # of what others wait for, too, and of rows that nobody was told of yet
                self._fail(waiting_on(lost), _interrupted())
                self._leave([work])
                return
            except KeyboardInterrupt:  # once more; the first one is on its way to the caller
                continue

    def _lost(self, lane: Lane, work: Work) -> list[Cell]:
        """Hand over the batch of a caller that will not finish it, and return what rows are nowhere now."""
        batch = self._working.get(lane)
        mine = batch if batch is not None and batch.caller is work and batch.outcome is None else None
        if mine is not None:
            mine.outcome = Outcome(spoilt=[(mine.cells, _interrupted())])
        known = {id(cell) for each in self._working.values() for cell in each.cells}
        known |= {id(cell) for cell in work.cells if cell.item is not None and cell.item.waiting}
        lost = [cell for cell in work.cells if id(cell) not in known]
        for cell in lost if mine is None else [*lost, *mine.cells]:  # nobody is to join what will not come
            self._forget(cell)
        return lost

    def _give_out(self, lane: Lane, batch: Batch, outcome: Outcome, *, only: Work | None = None) -> None:
        """Give vectors and errors to those who wait; with `only` leave that to the lane's thread where others do."""
        vectors = outcome.stacked(self._dimensions)
        with self._lock:
            if self._working.get(lane) is not batch:  # closed meanwhile, and answered with that
                return
            if only is not None and any(each is not only for each in self._concerned(batch, outcome)):
                batch.outcome = outcome
                return
            complete = deliver(self._settle(outcome.cells, vectors), vectors)
            failed = [each for cells, reason in outcome.spoilt for each in self._give_up(cells, reason)]
            del self._working[lane]
        for work in complete:
            work.answer()
        for failing, reason in failed:
            self._fail([failing], _closed() if isinstance(reason, Cancelled) and self._closed else reason)
        self._known.save(outcome.cells, vectors)

    def _concerned(self, batch: Batch, outcome: Outcome) -> list[Work]:
        """Return the requests that wait for a batch, those of the same rows in the other lane included."""
        return waiting_on([*batch.cells, *(twin for twin, _ in self._known.twins(outcome.cells))])

    def _give_up(self, cells: Sequence[Cell], reason: Exception) -> list[tuple[Work, Exception]]:
        """Return the requests that wait for rows which will not be computed, with what to tell them. Under the lock."""
        for cell in cells:
            self._forget(cell)
        return blamed(cells, reason)

    def _settle(self, cells: Sequence[Cell], vectors: Vectors) -> list[tuple[Cell, int]]:
        settled = self._known.keep(cells, vectors)
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
        """No thread of the loop runs any more: what still waits will not be done."""
        for lane in LANES:
            while cells := self._left(lane):
                self._fail(waiting_on(cells), _closed())

    def _left(self, lane: Lane) -> Sequence[Cell]:
        """Take rows that nobody will compute, or give out: those a caller's thread has in work, and those queued."""
        with self._lock:  # two threads may close at once, the second in less patience than the first
            if (batch := self._working.pop(lane, None)) is not None:
                return batch.cells
            return [item.owner for item in self._scheduler.next_batch(lane)]


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the request was done; give it more time, or send less at once")


def _interrupted() -> Cancelled:
    return Cancelled("the thread that computed this was interrupted; ask again")


def _closed() -> EngineClosed:
    return EngineClosed("the engine was closed before the request was done")
