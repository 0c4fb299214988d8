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

from embergem.engine.bisect import Batch, Outcome, compute_apart
from embergem.engine.inflight import Ledger
from embergem.engine.known import Known
from embergem.engine.scheduler import Scheduler
from embergem.engine.stats import Compute, Counters, Stats
from embergem.engine.vector_cache import VectorCache
from embergem.engine.work import Cell, Finish, Work, waiting_on
from embergem.errors import Cancelled, DeadlineExceeded, EmbergemError, EngineClosed, Overloaded, without_panic
from embergem.types import LANES, Lane, Row, Vectors, pack

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
        cache: VectorCache | None = None,
        space: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = Counters()
        self._compute = compute
        self._dimensions = dimensions
        self._large_tokens = large_tokens
        self._max_queue_tokens = max_queue_tokens
        self._clock = clock
        self._scheduler: Scheduler[Cell] = Scheduler(max_batch_tokens, max_batch_rows, clock=clock)
        self._known = Known(cache, space)
        self._ledger = Ledger(self._scheduler, self._known, self.counters, clock)
        self._lock = threading.Lock()
        self._wake = {lane: threading.Condition(self._lock) for lane in LANES}
        self._closed = False
        self._draining = False
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
                self._ledger.enter(work, joined, new)
                alone = lane == "interactive" and not joined and self._scheduler.waiting_tokens(lane) == waiting
                batch = self._ledger.take(lane, work) if blocking and alone and waiting <= HERE_TOKENS else None
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
                for batch in self._ledger.working.values():
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

    def _notify(self, lane: Lane | None = None) -> None:
        """Wake the thread of a lane, or of all."""
        for each in LANES if lane is None else (lane,):
            self._wake[each].notify()

    def _leave(self, works: Sequence[Work]) -> None:
        with self._lock:
            self._ledger.leave(works)

    def _run(self, lane: Lane) -> None:
        while (batch := self._next(lane)) is not None:
            self._give_out(lane, batch, batch.outcome or self._computed(lane, batch))

    def _next(self, lane: Lane) -> Batch | None:
        """Wait for a lane's next batch, or for one that a caller's thread has left; None when the thread is to end."""
        while True:
            with self._lock:
                late, moved = self._ledger.expire()
                if moved:
                    self._notify()
                if not late:
                    working = self._ledger.working.get(lane)
                    if working is not None and working.outcome is not None:
                        return working
                    if self._closed:
                        return None
                    if batch := self._ledger.take(lane):
                        return batch
                    if self._draining and working is None:
                        return None
                    self._wake[lane].wait(self._scheduler.until_deadline())
            self._fail(late, _late())

    def _computed(self, lane: Lane, batch: Batch) -> Outcome:
        """Compute a batch. Whatever goes wrong belongs to those who wait for it, and the loop goes on."""

        def compute(cells: Sequence[Cell]) -> Vectors:
            start = self._clock()
            ids, cu_seqlens = pack([cell.ids for cell in cells])
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
                    lost = self._ledger.lost(lane, work, _interrupted())
                    self._notify(lane)  # of what others wait for, too, and of rows that nobody was told of yet
                self._fail(waiting_on(lost), _interrupted())
                self._leave([work])
                return
            except KeyboardInterrupt:  # once more; the first one is on its way to the caller
                continue

    def _give_out(self, lane: Lane, batch: Batch, outcome: Outcome, *, only: Work | None = None) -> None:
        """Give vectors and errors to those who wait; with `only` leave that to the lane's thread where others do."""
        vectors = outcome.stacked(self._dimensions)
        with self._lock:
            if self._ledger.working.get(lane) is not batch:  # closed meanwhile, and answered with that
                return
            if only is not None and any(each is not only for each in self._ledger.concerned(batch, outcome)):
                batch.outcome = outcome
                return
            complete, failed = self._ledger.settle(lane, outcome, vectors)
        for work in complete:
            work.answer()
        for failing, reason in failed:
            self._fail([failing], _closed() if isinstance(reason, Cancelled) and self._closed else reason)
        self._known.save(outcome.cells, vectors)

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
            while True:
                with self._lock:  # two threads may close at once, the second in less patience than the first
                    cells = self._ledger.rest(lane)
                if not cells:
                    break
                self._fail(waiting_on(cells), _closed())


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the request was done; give it more time, or send less at once")


def _interrupted() -> Cancelled:
    return Cancelled("the thread that computed this was interrupted; ask again")


def _closed() -> EngineClosed:
    return EngineClosed("the engine was closed before the request was done")
