"""The threads of an engine: one a lane takes batches from the scheduler, runs them, and resolves the requests.

Native code decides which lane computes, and pauses a bulk batch for an interactive one, between two steps and for all
models of the process (crates/core/src/arbiter.rs). So each lane needs only one thread, which may block in native code.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from embergem._native import CancelToken
from embergem.engine import bisect
from embergem.engine.bisect import Batch, Outcome
from embergem.engine.inflight import InflightTable
from embergem.engine.pending import Cut, PendingRequest, PendingRow, pack_segments, waiting_requests
from embergem.engine.scheduler import Limits, Scheduler
from embergem.engine.stats import Compute, Counters, Stats
from embergem.engine.vector_cache import VectorCache, row_keys
from embergem.errors import Cancelled, DeadlineExceeded, EmbergemError, EngineClosed, Overloaded
from embergem.packed_rows import PackedRows
from embergem.types import LANES, Lane, Request, Row, Vectors

LARGE_TOKENS = 1024
"""A request with more tokens is moved to the bulk lane, because no user expects an immediate answer to it."""

CALLER_TOKENS = 256
"""Most tokens that a submitting thread computes itself; Ctrl-C has no effect during that time."""

log = logging.getLogger(__name__)

LONGEST_SLEEP = 60.0
"""Seconds after which a lane's thread wakes without work. A request with a later deadline need not wake the thread of
the other lane, which costs as much as the rest of a small request."""


class Loop:
    """Runs requests on two threads of its own until it is closed. Thread-safe.

    Cancelling the future of a request takes its rows out of the queue, and stops a batch at its next step once no
    request waits for any of its rows. With a cache, known rows are answered at once, and a row that is in flight for
    another request is not computed again; see `InflightTable`.

    The best size of a batch only matters to a queue that is larger than the smallest size. So it is measured when the
    bulk lane first has such a queue, and not while the model is loaded. The interactive lane is never kept waiting.

    Args:
        compute: Computes a batch.
        cut: Cuts vectors to `Request.dimensions`.
        limits: Limits of batches and queues.
        name: Name of the model, for the names of the threads.
        large_tokens: A request with more tokens is moved to the bulk lane.
        measure_budget: Measures the best `max_batch_tokens`; None if `limits` has it.
        cache: Keeps vectors; None disables caching and the sharing of rows.
        space: Prefix of all cache keys: identifies everything that the bits of a vector depend on besides its ids.
        clock: Returns seconds; `Request.deadline` is a time of this clock.
    """

    def __init__(
        self,
        compute: Compute,
        cut: Cut,
        limits: Limits,
        name: str,
        *,
        large_tokens: int = LARGE_TOKENS,
        measure_budget: Callable[[CancelToken], int] | None = None,
        cache: VectorCache | None = None,
        space: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = Counters()
        self._compute = compute
        self._cut = cut
        self._large_tokens = large_tokens
        self._name = name
        self.limits = limits
        self._cache = cache
        self._space = space
        self._clock = clock
        self._scheduler: Scheduler[PendingRow] = Scheduler(limits, clock=clock)
        self._table = InflightTable(self._scheduler, cache)
        self._segment_tokens = _segment_tokens(limits)
        self._lock = threading.Lock()  # of all that follows, and of the limits, the scheduler and the table
        self._measure_budget = measure_budget
        self._stop_measuring = CancelToken()
        self._wake = {lane: threading.Condition(self._lock) for lane in LANES}
        self._wakes_at = dict.fromkeys(LANES, 0.0)  # when the lane's waiting thread wakes up by itself
        self._closed = False
        self._draining = False
        self._threads = [
            threading.Thread(target=self._run_lane, args=(lane,), name=f"embergem {name} {lane}", daemon=True)
            for lane in LANES
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, rows: Sequence[Row]) -> PendingRequest:
        """Queue the tokenized inputs of a request, and return the future of its result.

        A small request with `blocking` set is computed on this thread if its lane is idle. That saves two switches
        between threads; each takes up to 5 ms when another thread holds the interpreter.

        Raises:
            EngineClosed: The loop is closed or draining.
            Overloaded: The queue of the lane is full.
            DeadlineExceeded: The deadline has passed already.
            Exception: `request.admit` raised it.
        """
        tokens = len(rows.ids) if isinstance(rows, PackedRows) else sum([len(row.ids) for row in rows])
        if tokens > self._large_tokens:
            request = replace(request, lane="bulk")
        lane = request.lane
        now = self._clock()
        if request.deadline is not None and request.deadline <= now:
            raise _deadline_exceeded()
        keys = [] if self._cache is None else row_keys(self._space, rows)
        stored = self._cache.load(keys) if self._cache is not None and self._cache.persistent else {}  # reads a file
        pending = PendingRequest(request, rows, self._remove, now)
        batch = None
        try:
            with self._lock:
                if self._draining:
                    raise EngineClosed("The engine was closed. Load the model again.")
                joined, new = self._table.match(pending, keys, stored, self._segment_tokens)
                new_tokens = sum(row.tokens for row in new)
                if new and (excess := self._scheduler.excess(new_tokens, request)):
                    raise self._overloaded(request, new_tokens, excess)
                if request.admit is not None:
                    request.admit(tokens)
                self._table.insert(pending, joined, new)
                if request.blocking and new and not joined and self._fits_caller(lane, len(new), new_tokens):
                    batch = self._table.batches[lane] = Batch(lane, new, self._clock(), pending)
                elif new:
                    self._scheduler.add(new, request)
                    self._wake[lane].notify()
                    if request.deadline is not None:
                        self._wake_sleepers(request.deadline)
                complete = pending.settled = pending.missing == 0
            self.counters.accepted(pending, tokens, cached=self._cache is not None)
            if complete:
                pending.resolve(self._cut)
            if batch is not None:
                self._compute_here(batch)
        except BaseException:
            self._abandon(pending)
            raise
        return pending

    def stats(self) -> Stats:
        """Return the counters, and the gauges of this moment."""
        stats = self.counters.snapshot()
        stats.max_batch_tokens = self.limits.max_batch_tokens
        stats.cache_bytes = 0 if self._cache is None else self._cache.used
        stats.queue_tokens = {lane: self._scheduler.queued_tokens(lane) for lane in LANES}
        return stats

    def close(self, *, drain: bool = False) -> None:
        """Stop the threads. Closing twice is harmless.

        Pending requests fail with `EngineClosed`. With `drain` they are completed first; new ones are refused.
        """
        with self._lock:
            self._draining = True
            if not drain:
                self._closed = True
                self._stop_measuring.cancel()
                for batch in self._table.batches.values():
                    batch.cancel.cancel()
            self._wake_all()
        for thread in self._threads:
            thread.join()
        self._fail_rest()

    def _fits_caller(self, lane: Lane, rows: int, tokens: int) -> bool:
        """Return whether new rows are one small batch in an idle interactive lane."""
        max_rows = self.limits.max_batch_rows
        return (
            lane == "interactive"
            and tokens <= min(CALLER_TOKENS, self.limits.max_batch_tokens)
            and (max_rows is None or rows <= max_rows)
            and lane not in self._table.batches
            and self._scheduler.queued_rows(lane) == 0
        )

    def _overloaded(self, request: Request, tokens: int, excess: int) -> Overloaded:
        rate = self.counters.rate(request.lane) or self.limits.max_batch_tokens
        seconds = max(1.0, math.ceil(excess / rate))
        return Overloaded(
            f"{self._scheduler.queued_tokens(request.lane)} tokens wait in the {request.lane} lane, and {tokens} more "
            f"exceed the limit of {self.limits.max_queue_tokens}; try again in {seconds:.0f} s",
            retry_after=seconds,
        )

    def _wake_sleepers(self, deadline: float) -> None:
        """Wake the threads that would sleep past a new deadline, while the other thread may be busy computing."""
        for lane, wakes_at in self._wakes_at.items():
            if wakes_at > deadline:
                self._wake[lane].notify()

    def _wake_all(self) -> None:
        for condition in self._wake.values():
            condition.notify()

    def _remove(self, requests: Iterable[PendingRequest]) -> None:
        with self._lock:
            self._table.remove(requests)

    def _run_lane(self, lane: Lane) -> None:
        """Compute the batches of a lane until the loop is closed: the target of the lane's thread."""
        while (batch := self._next_batch(lane)) is not None:
            try:
                self._settle(batch, batch.outcome or bisect.compute(batch, batch.rows, self._run))
            except Exception as error:  # any other end of this thread would leave the lane without one
                self._lose(batch, error)

    def _lose(self, batch: Batch, error: Exception) -> None:
        """Fail the requests of a batch that could not be settled.

        Without memory even that can fail at first. The requests are failed before anything else, so that their callers
        go on and free memory.
        """
        while True:
            try:
                requests = waiting_requests(batch.rows)
                for pending in requests:
                    if pending.fail(error):
                        self.counters.failed(error.code if isinstance(error, EmbergemError) else EmbergemError.code)
                self._settle(batch, bisect.Outcome(failed=[(batch.rows, error)]))  # nothing if the batch was settled
                self._remove(requests)
                log.error("%s: a batch could not be settled: %r", self._name, error)
                return
            except MemoryError:
                time.sleep(0.01)

    def _next_batch(self, lane: Lane) -> Batch | None:
        """Wait for the next batch of a lane, or for a computed one that a submitting thread left to be settled.

        Returns None when the thread has to end.
        """
        while True:
            measure = None
            with self._lock:
                late: Sequence[PendingRequest] = ()
                if expired := self._scheduler.expire():
                    late, requeued = self._table.drop_expired(expired, self._clock())
                    if requeued:
                        self._wake_all()
                if not late:
                    running = self._table.batches.get(lane)
                    if running is not None and running.outcome is not None:
                        return running
                    if self._closed:
                        return None
                    if lane == "bulk" and running is None and self._measure_budget is not None:
                        measure = self._measurement()
                    if running is None and measure is None:
                        if rows := self._scheduler.next_batch(lane):
                            batch = self._table.batches[lane] = Batch(lane, rows, self._clock())
                            return batch
                        if self._draining:
                            return None
                    if measure is None:
                        now, deadline = self._clock(), self._scheduler.next_deadline()
                        wakes_at = now + LONGEST_SLEEP if deadline is None else min(deadline, now + LONGEST_SLEEP)
                        self._wakes_at[lane] = wakes_at
                        self._wake[lane].wait(max(0.0, wakes_at - now))
                        self._wakes_at[lane] = 0.0
                        continue
            if late:
                self._fail(late, _deadline_exceeded())
            elif measure is not None:
                self._set_budget(measure)

    def _measurement(self) -> Callable[[CancelToken], int] | None:
        """Return the measurement of the best size of a batch, once, if the queue of the bulk lane needs it."""
        if self._scheduler.queued_tokens("bulk") <= self.limits.max_batch_tokens:
            return None
        measure, self._measure_budget = self._measure_budget, None
        return measure

    def _set_budget(self, measure: Callable[[CancelToken], int]) -> None:
        """Measure the best size of a batch and use it. If that fails, batches keep the size that they have."""
        try:
            tokens = measure(self._stop_measuring)
        except Cancelled:  # the loop is being closed
            return
        except Exception as error:  # any other end of this thread would leave the lane without one
            log.warning("%s: the best size of a batch could not be measured: %s", self._name, error)
            return
        with self._lock:
            self.limits = self._scheduler.limits = replace(self.limits, max_batch_tokens=tokens)
            self._segment_tokens = _segment_tokens(self.limits)

    def _run(self, batch: Batch, rows: Sequence[PendingRow]) -> Vectors:
        """Run rows of a batch in one native call."""
        start = self._clock()
        ids, cu_seqlens = pack_segments(rows)
        try:
            vectors = self._compute(ids, cu_seqlens, batch.cancel, batch.lane)
        finally:
            batch.ended_at = self._clock()
        batch.seconds += batch.ended_at - start
        batch.tokens += len(ids)
        batch.runs += 1
        return vectors

    def _compute_here(self, batch: Batch) -> None:
        """Compute a batch on the submitting thread, which Ctrl-C may interrupt at any line.

        Rows that are queued meanwhile are left to the lane's thread. So is the outcome if other requests wait for it:
        an interrupt after the first request is resolved would leave the others pending for ever. No interrupt reaches
        the lane's thread.
        """
        try:
            self._settle(batch, bisect.compute(batch, batch.rows, self._run))
        finally:
            with self._lock:  # wake the lane's thread only if it has something to do
                if self._draining or batch.outcome is not None or self._scheduler.queued_rows(batch.lane):
                    self._wake[batch.lane].notify()

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        """Resolve the requests that a batch completes, and fail those that it fails.

        On a submitting thread, leave that to the lane's thread if other requests wait for the batch.
        """
        with self._lock:
            if self._table.batches.get(batch.lane) is not batch:  # the loop was closed, and the requests failed
                return
            here = batch.caller is not None and batch.outcome is None
            if here and not self._table.concerns_only_caller(batch):
                batch.outcome = outcome
                return
            complete, failures = self._table.settle(batch, outcome)
        self.counters.computed(batch)
        to_save: list[tuple[bytes, Vectors]] = []
        if self._cache is not None and self._cache.persistent and outcome.vectors is not None:
            # Copies, because a caller may write to the vectors of its result.
            to_save = list(zip([row.key for row in outcome.rows], outcome.vectors.copy(), strict=True))
        for pending in complete:
            pending.resolve(self._cut)
        for pending, error in failures:
            self._fail([pending], _engine_closed() if isinstance(error, Cancelled) and self._closed else error)
        if self._cache is not None and to_save:
            self._cache.save(to_save)

    def _fail(self, requests: Sequence[PendingRequest], error: Exception) -> None:
        """Fail the requests that no other thread is settling."""
        with self._lock:
            unsettled = [pending for pending in requests if not pending.settled]
            for pending in unsettled:
                pending.settled = True
        try:
            self._remove(unsettled)
        finally:  # also if there is no memory for the removal: nothing else would end these requests
            for pending in unsettled:
                if pending.fail(error):
                    self.counters.failed(error.code if isinstance(error, EmbergemError) else EmbergemError.code)

    def _abandon(self, pending: PendingRequest) -> None:
        """Clean up after a submit that an error or an interrupt ended, at whatever line.

        The lane's thread settles a batch that this thread was computing, and computes rows that are queued.
        """
        while True:
            try:
                with self._lock:
                    lost = self._table.abandon(pending, _interrupted())
                    self._wake[pending.request.lane].notify()
                self._fail(waiting_requests(lost), _interrupted())
                self._remove([pending])
                return
            except KeyboardInterrupt:  # a second Ctrl-C: continue the cleanup; the first one is already propagating
                continue

    def _fail_rest(self) -> None:
        """Fail the pending requests after the threads have ended."""
        for lane in LANES:
            while True:
                with self._lock:  # another thread may be closing the loop, too
                    rows = self._table.take_rest(lane)
                if not rows:
                    break
                self._fail(waiting_requests(rows), _engine_closed())


def _segment_tokens(limits: Limits) -> int | None:
    """Return the most tokens of packed rows that are queued as one; None if the scheduler has to count each row."""
    return None if limits.max_batch_rows is not None else limits.max_batch_tokens


def _deadline_exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("The deadline passed before the request was done. Allow more time, or send fewer inputs.")


def _interrupted() -> Cancelled:
    return Cancelled("The thread that computed this row was interrupted. Send the request again.")


def _engine_closed() -> EngineClosed:
    return EngineClosed("The engine was closed before the request was done. Load the model again.")
