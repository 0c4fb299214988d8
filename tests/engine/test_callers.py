"""Tests of batches on submitting threads, which Ctrl-C may interrupt at any line."""

import contextlib
import linecache
import sys
import threading

import numpy as np
import pytest
from looping import answer, cut, hold, submit

from embergem.engine import bisect, inflight, pending
from embergem.engine import loop as loop_module
from embergem.engine.loop import Loop
from embergem.engine.scheduler import Limits
from embergem.engine.vector_cache import VectorCache
from embergem.errors import Cancelled


def test_a_small_blocking_request_is_computed_on_the_submitting_thread(compute):
    threads = []

    def spied(*arguments):
        threads.append(threading.current_thread())
        return compute(*arguments)

    with contextlib.closing(Loop(spied, cut, Limits(10), "test", large_tokens=10)) as loop:
        done = submit(loop, 3, 2, blocking=True)
        assert done.done()
        assert answer(done) == ([3, 2], [])
        assert answer(submit(loop, 4)) == ([4], [])
        submit(loop, 9, 9, blocking=True).result()  # large: bulk
        assert [thread is threading.current_thread() for thread in threads] == [True, False, False, False]


def test_rows_queued_while_a_caller_computes_are_computed_by_the_lane(make, compute):
    loop = make()
    compute.gates["interactive"].clear()
    answers = []
    caller = threading.Thread(target=lambda: answers.append(answer(submit(loop, 3, blocking=True))))
    caller.start()
    compute.started["interactive"].wait()
    second = submit(loop, 2, blocking=True)
    closing = threading.Thread(target=loop.close, kwargs={"drain": True})
    closing.start()
    compute.gates["interactive"].set()
    caller.join()
    closing.join()
    assert (answers, answer(second)) == ([([3], [])], ([2], []))
    assert compute.batches == [[3], [2]]


def test_an_interrupted_caller_fails_the_requests_that_share_its_rows(make, compute):
    loop = make(cache=VectorCache(10**6))
    compute.fail = KeyboardInterrupt()
    compute.gates["interactive"].clear()
    raised = []

    def call():
        try:
            submit(loop, 3, blocking=True)
        except KeyboardInterrupt as error:
            raised.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    compute.started["interactive"].wait()
    joined = submit(loop, 3)
    compute.gates["interactive"].set()
    caller.join()
    with pytest.raises(Cancelled, match="interrupted"):
        joined.result()
    assert raised == [compute.fail]
    compute.fail = None
    assert answer(submit(loop, 3, blocking=True)) == ([3], [])


def test_an_interrupt_while_resolving_leaves_no_request_pending(make, compute):
    """Ctrl-C interrupts the submitting thread after the batch, while it resolves the first of three requests."""

    def interrupted(vectors, dimensions):
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        return vectors

    loop = make(cache=VectorCache(2**16), cut=interrupted)
    hold(compute, loop, "bulk", 5)
    in_bulk = submit(loop, 3, lane="bulk")
    compute.gates["interactive"].clear()

    def call():
        with contextlib.suppress(KeyboardInterrupt):
            answers.append(answer(submit(loop, 3, dimensions=1, blocking=True)))

    answers = []
    caller = threading.Thread(target=call)
    caller.start()
    compute.started["interactive"].wait()
    joined = submit(loop, 3)
    compute.gates["interactive"].set()
    caller.join()
    assert answer(joined, timeout=30) == answer(in_bulk, timeout=30) == ([3], [])
    assert answers == [([3], [])]


class Interrupting:
    """Raises KeyboardInterrupt on this thread before the `number`th executed line of these modules."""

    def __init__(self, number):
        self.left = number
        self.files = {module.__file__ for module in (bisect, inflight, loop_module, pending)}

    def __enter__(self):
        sys.settrace(self.trace)

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _):
        if frame.f_code.co_filename not in self.files:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # Python handles no signal between leaving a `with` block and releasing its lock; tracing would interrupt there.
        if event == "line" and not line.startswith("with "):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self.trace


@pytest.mark.parametrize("shared", [True, False])
def test_an_interrupt_at_any_line_leaves_no_request_pending(shared):
    joined = []

    def computed(ids, cu_seqlens, cancel, lane):
        if threading.current_thread() is threading.main_thread() and shared:
            other = threading.Thread(target=lambda: joined.append(submit(loop, 3)))
            other.start()
            other.join()
        return np.diff(cu_seqlens).astype(np.float32)[:, None]

    number, interrupted = 0, True
    while interrupted:
        number += 1
        joined.clear()
        with contextlib.closing(Loop(computed, cut, Limits(10), "test", cache=VectorCache(2**16))) as loop:
            interrupted = False
            try:
                with Interrupting(number):
                    own = submit(loop, 3, blocking=True)
            except KeyboardInterrupt:
                interrupted = True
            else:
                assert answer(own, timeout=30)[0] == [3]
            for future in joined:
                with contextlib.suppress(Cancelled):
                    assert answer(future, timeout=30)[0] == [3], number
            assert answer(submit(loop, 3, 4), timeout=30)[0] == [3, 4], number
            assert answer(submit(loop, 5, blocking=True), timeout=30)[0] == [5], number
            assert loop.stats().queue_tokens["interactive"] == 0, number
    assert number > 50


def test_an_interrupt_after_a_batch_does_not_affect_the_next_one(make, compute):
    later = []

    def interrupted(vectors, dimensions):
        compute.gates["interactive"].clear()
        compute.started["interactive"].clear()
        later.append(submit(loop, 4))
        compute.started["interactive"].wait()  # the lane's thread is computing it
        raise KeyboardInterrupt

    loop = make(cut=interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit(loop, 3, dimensions=1, blocking=True)
    compute.gates["interactive"].set()
    assert answer(later[0], timeout=60)[0] == [4]
    assert answer(submit(loop, 5), timeout=60)[0] == [5]
