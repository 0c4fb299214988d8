"""Tests of the loop with a fake executor: results, cancelling, errors, closing, shared rows, deadlines."""

import contextlib
import gc
import os
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError

import numpy as np
import pytest
from looping import Compute, answer, cut, hold, rows, submit

from embergem.engine.loop import Loop
from embergem.engine.scheduler import Limits
from embergem.engine.vector_cache import VectorCache
from embergem.errors import Cancelled, DeadlineExceeded, EmbergemError, EngineClosed, NonFiniteOutput, Overloaded
from embergem.types import Request


def test_each_request_gets_its_own_vectors(loop):
    futures = [submit(loop, *range(1, n)) for n in range(2, 9)]
    for n, future in zip(range(2, 9), futures, strict=True):
        assert answer(future) == (list(range(1, n)), [])


def test_an_error_fails_only_its_batch(loop, compute):
    compute.fail = NonFiniteOutput("bad")
    with pytest.raises(NonFiniteOutput):
        submit(loop, 3, 9, 9).result()
    compute.fail = None
    assert answer(submit(loop, 3)) == ([3], [])
    assert loop.stats().errors == {"non_finite_output": 1}


class Spoiling(Compute):
    """Raises `NonFiniteOutput` for a batch that has a row of 7 tokens."""

    def __call__(self, ids, cu_seqlens, cancel, lane):
        vectors = super().__call__(ids, cu_seqlens, cancel, lane)
        if (vectors == 7).any():
            error = NonFiniteOutput("bad")
            error.row = int((vectors == 7).argmax())
            raise error
        return vectors


@pytest.mark.parametrize("cache", [None, 2**16])
def test_a_row_that_is_not_finite_fails_only_its_requests(cache):
    compute = Spoiling()
    loop = Loop(compute, cut, Limits(100), "test", cache=None if cache is None else VectorCache(cache))
    with contextlib.closing(loop):
        hold(compute, loop)
        good = [submit(loop, 1, 2), submit(loop, 3), submit(loop, 4, 5)]
        bad = [submit(loop, 6, 7), submit(loop, 7)]
        last = submit(loop, 8)
        compute.gates["interactive"].set()
        assert [answer(future)[0] for future in (*good, last)] == [[1, 2], [3], [4, 5], [8]]
        for future, index in zip(bad, (1, 0), strict=True):
            with pytest.raises(NonFiniteOutput, match=f"Input {index} gave a vector that is not finite"):
                future.result()
        assert loop.stats().errors == {"non_finite_output": 2}
        assert loop.stats().queue_tokens == {"interactive": 0, "bulk": 0}
        assert answer(submit(loop, 9))[0] == [9]


def test_a_batch_of_one_request_that_is_not_finite_is_not_computed_twice():
    compute = Spoiling()
    with contextlib.closing(Loop(compute, cut, Limits(100), "test")) as loop:
        with pytest.raises(NonFiniteOutput, match="Input 1 "):
            submit(loop, 1, 7, 3).result()
        assert compute.batches == [[1, 7, 3]]


def test_the_error_of_a_row_that_is_not_finite_has_the_input_index_of_the_request():
    compute = Spoiling()
    with contextlib.closing(Loop(compute, cut, Limits(10), "test", cache=VectorCache(2**16))) as loop:
        with pytest.raises(NonFiniteOutput, match="Input 2 "):
            submit(loop, 9, 8, 7, 3).result()
        assert answer(submit(loop, 9)) == ([9], [0])
        hold(compute, loop, "interactive", 10)
        counts = [(submit(loop, *lengths), index) for lengths, index in [((9, 7), 1), ((7,), 0), ((6, 5, 7, 7), 2)]]
        compute.gates["interactive"].set()
        for future, index in counts:
            with pytest.raises(NonFiniteOutput, match=f"Input {index} "):
                future.result()


def test_a_row_that_is_not_finite_and_has_no_request_fails_no_request():
    class Leaving(Spoiling):
        left = None

        def __call__(self, *batch):
            if self.left is not None:
                self.left.cancel()
            return super().__call__(*batch)

    compute = Leaving()
    with contextlib.closing(Loop(compute, cut, Limits(100), "test")) as loop:
        hold(compute, loop)
        compute.left, stays = submit(loop, 7), submit(loop, 3, 4)
        compute.gates["interactive"].set()
        assert answer(stays) == ([3, 4], [])


def test_a_cancelled_request_is_not_computed(loop, compute):
    first = hold(compute, loop)
    second, third = submit(loop, 10), submit(loop, 4)
    assert second.cancel()
    compute.gates["interactive"].set()
    assert answer(first) == ([10], [])
    assert answer(third) == ([4], [])
    assert compute.batches == [[10], [4]]
    with pytest.raises(CancelledError):
        second.result()


def test_a_large_request_is_bulk_and_does_not_delay_a_small_one(loop, compute):
    large = hold(compute, loop, "bulk", 10, 9, 8)
    assert answer(submit(loop, 3)) == ([3], [])
    assert not large.done()
    compute.gates["bulk"].set()
    assert answer(large) == ([10, 9, 8], [])


def test_closing_fails_pending_requests(make, compute):
    loop = make()
    running, waiting = hold(compute, loop), submit(loop, 10)
    closer = threading.Thread(target=loop.close)
    closer.start()
    compute.fail = Cancelled("stopped")
    compute.gates["interactive"].set()
    closer.join()
    for future in (running, waiting):
        with pytest.raises(EngineClosed):
            future.result()
    with pytest.raises(EngineClosed):
        submit(loop, 1)


def test_draining_completes_pending_requests_and_refuses_new_ones(make, compute):
    loop = make()
    taken = [hold(compute, loop), submit(loop, 10), submit(loop, 5, 6, 7)]
    closer = threading.Thread(target=loop.close, kwargs={"drain": True})
    closer.start()
    while closer.is_alive() and not loop._draining:
        closer.join(0.001)
    with pytest.raises(EngineClosed):
        submit(loop, 1)
    compute.gates["interactive"].set()
    closer.join()
    assert [answer(future)[0] for future in taken] == [[10], [10], [5, 6, 7]]


def test_a_request_past_its_deadline_is_not_computed(make, compute):
    now = [0.0]
    loop = make(clock=lambda: now[0])
    first = hold(compute, loop)
    late, other = submit(loop, 10, deadline=5.0), submit(loop, 4, deadline=50.0)
    now[0] = 6.0
    compute.gates["interactive"].set()
    assert answer(first) == ([10], [])
    with pytest.raises(DeadlineExceeded):
        late.result()
    assert answer(other) == ([4], [])
    assert compute.batches == [[10], [4]]
    with pytest.raises(DeadlineExceeded):
        submit(loop, 1, deadline=6.0)


def test_a_deadline_passes_while_the_lane_computes(loop, compute):
    """The thread of the other lane sleeps until the earliest deadline, and wakes up for an earlier one."""
    hold(compute, loop)
    far = submit(loop, 4, deadline=time.monotonic() + 600)
    near = submit(loop, 5, deadline=time.monotonic() + 0.01)
    assert isinstance(near.exception(timeout=60), DeadlineExceeded)
    assert not far.done()
    compute.gates["interactive"].set()
    assert answer(far) == ([4], [])


def test_each_lane_has_a_queue_limit_in_tokens(make, compute):
    loop = make(max_queue_tokens=20)
    hold(compute, loop)
    submit(loop, 10), submit(loop, 9)
    with pytest.raises(Overloaded, match="19 tokens wait in the interactive lane") as refused:
        submit(loop, 2)
    assert refused.value.retry_after >= 1.0
    assert submit(loop, 1).cancel()
    assert answer(submit(loop, 9, lane="bulk")) == ([9], [])
    assert loop.stats().queue_tokens == {"interactive": 19, "bulk": 0}


def test_a_tenant_that_fills_a_lane_does_not_lock_out_another(make, compute):
    loop = make(max_queue_tokens=20)
    hold(compute, loop, "bulk")
    greedy = submit(loop, *[10] * 20, tenant="greedy")
    with pytest.raises(Overloaded, match="200 tokens wait in the bulk lane"):
        submit(loop, 11, tenant="greedy")
    modest = submit(loop, 11, tenant="modest")
    compute.gates["bulk"].set()
    assert answer(modest) == ([11], [])
    assert answer(greedy) == ([10] * 20, [])


def test_admit_is_called_with_the_tokens_of_accepted_requests_only(make, compute):
    loop = make(max_queue_tokens=10)
    told = []
    hold(compute, loop)
    cancelled = submit(loop, 4, 5, admit=told.append)
    with pytest.raises(Overloaded):
        submit(loop, 5, admit=told.append)

    def refuse(tokens):
        raise Overloaded(f"not {tokens}", retry_after=1)

    with pytest.raises(Overloaded, match="not 1"):
        submit(loop, 1, admit=refuse)
    assert loop.stats().queue_tokens["interactive"] == 9
    assert cancelled.cancel()
    assert told == [9]


def test_cached_rows_are_resolved_at_once(caching, compute):
    assert answer(submit(caching, 3, 4, 3)) == ([3, 4, 3], [])
    assert compute.batches == [[3, 4]]
    known = submit(caching, 4, 3)
    assert known.done()
    assert answer(known) == ([4, 3], [0, 1])
    assert answer(submit(caching, 4, 5)) == ([4, 5], [0])
    stats = caching.stats()
    assert (stats.cache_hits, stats.cache_misses, stats.computed_tokens) == (3, 4, 12)


def test_cancelling_a_request_does_not_cancel_shared_rows(caching, compute):
    first = hold(compute, caching, "interactive", 5)
    queued = submit(caching, 4, 3)
    second, third = submit(caching, 5, 4), submit(caching, 3)
    assert first.cancel()
    assert queued.cancel()
    compute.gates["interactive"].set()
    assert answer(second) == ([5, 4], [])
    assert answer(third) == ([3], [])
    assert sorted(row for batch in compute.batches for row in batch) == [3, 4, 5]


def test_a_batch_without_requests_is_stopped(caching, compute):
    first, second = hold(compute, caching, "interactive", 5), submit(caching, 5)
    assert first.cancel()
    [token] = compute.tokens
    assert not token.cancelled
    assert second.cancel()
    assert token.cancelled
    third = submit(caching, 5)  # submitted before the stopped batch has ended
    compute.fail = None
    compute.gates["interactive"].set()
    assert answer(third) == ([5], [])


def test_an_interactive_request_does_not_wait_for_the_same_row_in_bulk(caching, compute):
    bulk = hold(compute, caching, "bulk", 5)
    queued = submit(caching, 4, lane="bulk")
    assert answer(submit(caching, 5, 4)) == ([5, 4], [])
    assert answer(bulk) == ([5], [])
    assert answer(queued) == ([4], [])
    compute.gates["bulk"].set()
    assert compute.batches == [[5], [5, 4]]


def test_a_shared_row_is_queued_again_when_its_first_request_expires(make, compute):
    now = [0.0]
    loop = make(cache=VectorCache(2**16), clock=lambda: now[0])
    hold(compute, loop)
    late, patient = submit(loop, 7, deadline=5.0), submit(loop, 7)
    now[0] = 6.0
    compute.gates["interactive"].set()
    with pytest.raises(DeadlineExceeded):
        late.result()
    assert answer(patient) == ([7], [])


def test_a_resolved_request_is_freed_without_the_garbage_collector(make):
    """No reference cycle keeps its vectors in memory."""
    loop = make(cache=VectorCache(2**16))
    futures = [submit(loop, 3), submit(loop, 4), submit(loop, 3)]
    assert [answer(future)[0] for future in futures] == [[3], [4], [3]]
    loop.close()
    left = [weakref.ref(future) for future in futures]
    gc.disable()
    try:
        del futures
        assert [reference() for reference in left] == [None] * 3
    finally:
        gc.enable()


def test_the_loop_keeps_nothing_of_a_resolved_request_with_a_far_deadline(make):
    loop = make(cache=VectorCache(2**16), clock=lambda: 0.0)
    left = []
    for length in range(1, 30):
        [row] = rows(length)
        left.append(weakref.ref(row.ids))
        loop.submit(Request(deadline=600.0), [row]).result()
        del row
    loop.close()
    gc.collect()
    assert [reference for reference in left if reference() is not None] == []


class Careless:
    """Computes with random thread switches, errors and cancellations, from a fixed seed."""

    def __init__(self):
        self.random = random.Random(1)

    def __call__(self, ids, cu_seqlens, cancel, lane):
        for _ in range(self.random.randrange(4)):
            os.sched_yield()
        if cancel.cancelled:
            raise Cancelled("stopped")
        if self.random.random() < 0.1:
            raise NonFiniteOutput("bad")
        return np.diff(cu_seqlens).astype(np.float32)[:, None]


@pytest.mark.parametrize("cache", [None, 2**12])
def test_random_use_resolves_each_request_once_with_its_own_vectors(cache):
    """Four threads submit the same few rows in both lanes, cancel some requests, and give some a short deadline."""
    loop = Loop(
        Careless(), cut, Limits(20), "test", large_tokens=30, cache=None if cache is None else VectorCache(cache)
    )
    ended, errors = [], []
    threading.excepthook, before = lambda failure: errors.append(failure.exc_value), threading.excepthook

    def client(seed):
        own = random.Random(seed)
        for _ in range(150):
            lengths = [own.randint(1, 12) for _ in range(own.randint(1, 4))]
            lane, deadline = own.choice(["interactive", "bulk"]), own.choice([None, None, time.monotonic() + 0.001])
            answered = []
            try:
                future = submit(loop, *lengths, lane=lane, tenant=own.choice("ab"), deadline=deadline)
            except DeadlineExceeded:  # a slow machine passed the deadline before `submit`
                continue
            future.add_done_callback(answered.append)
            if own.random() < 0.2:
                future.cancel()
            ended.append((future, lengths, answered))

    try:
        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        right = 0
        for future, lengths, _ in ended:
            with contextlib.suppress(CancelledError, NonFiniteOutput, DeadlineExceeded):
                assert answer(future, timeout=60)[0] == lengths
                right += 1
        assert right > len(ended) / 4
        for lane in ("interactive", "bulk"):  # both threads still run
            assert any(submit(loop, 1, lane=lane).exception(timeout=60) is None for _ in range(20))
        assert loop.stats().queue_tokens == {"interactive": 0, "bulk": 0}
    finally:
        threading.excepthook = before
        loop.close()
    assert all(answered == [future] for future, _, answered in ended)
    assert errors == []


def test_a_row_dropped_at_its_deadline_is_computed_for_the_next_request(make, compute):
    now = [0.0]
    loop = make(cache=VectorCache(2**16), clock=lambda: now[0])
    compute.gates["interactive"].clear()
    busy = submit(loop, 5)
    compute.started["interactive"].wait()
    late = submit(loop, 3, deadline=1.0)
    now[0] = 2.0
    submit(loop, 2, lane="bulk").result()  # the thread of this lane finds the expired row
    assert isinstance(late.exception(timeout=60), DeadlineExceeded)
    again = submit(loop, 3)
    compute.gates["interactive"].set()
    assert answer(busy)[0] == [5]
    assert answer(again, timeout=60)[0] == [3]


def test_a_panic_of_native_code_fails_only_its_requests(make, compute):
    class PanicException(BaseException):
        __module__ = "pyo3_runtime"

    loop = make()
    compute.fail = PanicException("index out of bounds")
    for options in ({}, {"blocking": True}, {"lane": "bulk"}):
        with pytest.raises(EmbergemError, match="index out of bounds"):
            submit(loop, 3, **options).result(timeout=30)
    compute.fail = None
    for options in ({}, {"blocking": True}, {"lane": "bulk"}):
        assert answer(submit(loop, 3, **options), timeout=30) == ([3], [])


def test_a_row_without_tokens_queued_while_a_caller_computes_is_computed(make, compute):
    """A static model makes no tokens of an empty text."""
    loop = make()
    compute.gates["interactive"].clear()
    caller = threading.Thread(target=lambda: submit(loop, 3, blocking=True))
    caller.start()
    compute.started["interactive"].wait()
    empty = submit(loop, 0)
    compute.gates["interactive"].set()
    caller.join()
    assert answer(empty, timeout=60) == ([0], [])


def test_a_full_lane_accepts_a_request_whose_vectors_are_cached(make, compute):
    loop = make(cache=VectorCache(2**16), max_queue_tokens=10)
    assert answer(submit(loop, 3)) == ([3], [])
    hold(compute, loop)
    queued = submit(loop, 9)
    with pytest.raises(Overloaded):
        submit(loop, 2)
    assert answer(submit(loop, 3)) == ([3], [0])
    compute.gates["interactive"].set()
    assert answer(queued) == ([9], [])


def test_a_caller_that_writes_to_its_vectors_does_not_change_the_cache_file(make, tmp_path):
    def write(vectors, dimensions):
        vectors[:] = 7  # as the caller may do once it has the result
        return vectors

    with contextlib.closing(VectorCache(2**16, tmp_path / "vectors.db")) as cache:
        make(cache=cache, cut=write).submit(Request(blocking=True, dimensions=1), rows(3))
    with contextlib.closing(VectorCache(2**16, tmp_path / "vectors.db")) as cache:
        assert answer(submit(make(cache=cache), 3)) == ([3], [0])


def test_a_request_knows_when_its_batches_began_and_ended(loop, compute):
    held = hold(compute, loop)
    first, second = submit(loop, 3, 4), submit(loop, 2)
    compute.gates["interactive"].set()
    for future in (held, first, second):
        future.result()
    assert (first.timing.batches, first.timing.batch_rows, first.timing.batch_tokens) == (1, 3, 9)
    assert first.timing.started_at == second.timing.started_at >= held.timing.ended_at
    assert first.timing.queued_at <= held.timing.ended_at  # it was queued while the first batch ran
    assert first.timing.started_at <= first.timing.ended_at


def test_the_timing_of_a_request_sums_its_batches_and_counts_failed_ones(make, compute):
    loop = make()
    many = submit(loop, 6, 7, 8)
    many.result()
    assert (many.timing.batches, many.timing.batch_rows, many.timing.batch_tokens) == (3, 3, 21)
    compute.fail = NonFiniteOutput("bad")
    failed = submit(loop, 3)
    with pytest.raises(NonFiniteOutput):
        failed.result()
    assert (failed.timing.batches, failed.timing.batch_rows, failed.timing.batch_tokens) == (1, 1, 0)


def test_a_cached_request_has_no_batch(caching):
    submit(caching, 3).result()
    cached = submit(caching, 3)
    assert cached.result().cached == [0]
    assert (cached.timing.started_at, cached.timing.batches) == (None, 0)
