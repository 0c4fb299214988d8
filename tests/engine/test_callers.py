"""Callers that compute a few rows on their own threads, which Ctrl-C may interrupt anywhere."""

import contextlib
import linecache
import sys
import threading

import numpy as np
import pytest
from looping import hold, rows, submit

from embergem.engine import bisect, inflight, known, work
from embergem.engine import loop as loop_module
from embergem.engine.loop import Loop
from embergem.engine.vector_cache import VectorCache
from embergem.errors import Cancelled


def test_a_caller_that_waits_computes_a_few_rows_itself(compute):
    threads = []

    def spied(*arguments):
        threads.append(threading.current_thread())
        return compute(*arguments)

    with contextlib.closing(Loop(spied, 1, 10, "test", large_tokens=10)) as loop:
        done = loop.submit(rows(3, 2), lambda vectors, _: vectors.tolist(), blocking=True)
        assert done.done()
        assert done.result() == [[3.0], [2.0]]
        assert loop.submit(rows(4), lambda vectors, _: vectors.tolist()).result() == [[4.0]]
        loop.submit(rows(9, 9), lambda vectors, _: vectors.tolist(), blocking=True).result()  # large: bulk
        assert [thread is threading.current_thread() for thread in threads] == [True, False, False, False]


def test_what_comes_while_a_caller_computes_is_done_by_the_loop(make, compute):
    loop = make()
    compute.gates["interactive"].clear()
    answers = []
    caller = threading.Thread(
        target=lambda: answers.append(loop.submit(rows(3), lambda vectors, _: vectors.tolist(), blocking=True).result())
    )
    caller.start()
    compute.started["interactive"].wait()
    second = loop.submit(rows(2), lambda vectors, _: vectors.tolist(), blocking=True)
    closing = threading.Thread(target=loop.close, kwargs={"drain": True})
    closing.start()
    compute.gates["interactive"].set()
    caller.join()
    closing.join()
    assert (answers, second.result()) == ([[[3.0]]], [[2.0]])
    assert compute.batches == [[3], [2]]


def test_an_interrupted_caller_leaves_nobody_waiting(make, compute):
    loop = make(cache=VectorCache(10**6))
    compute.fail = KeyboardInterrupt()
    compute.gates["interactive"].clear()
    raised = []

    def call():
        try:
            loop.submit(rows(3), lambda vectors, _: vectors.tolist(), blocking=True)
        except KeyboardInterrupt as error:
            raised.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    compute.started["interactive"].wait()
    joined = loop.submit(rows(3), lambda vectors, _: vectors.tolist())
    compute.gates["interactive"].set()
    caller.join()
    with pytest.raises(Cancelled, match="interrupted"):
        joined.result()
    assert raised == [compute.fail]
    compute.fail = None
    assert loop.submit(rows(3), lambda vectors, _: vectors.tolist(), blocking=True).result() == [[3.0]]


def test_an_interrupt_before_all_are_answered_leaves_nobody_waiting(make, compute):
    """Ctrl-C reaches the caller's thread when the rows are settled, and the first of three requests is answered."""
    loop = make(cache=VectorCache(2**16))
    hold(compute, loop, "bulk", 5)
    in_bulk = submit(loop, 3, lane="bulk")
    compute.gates["interactive"].clear()

    def call():
        def finish(vectors, cached):
            if threading.current_thread() is caller:
                raise KeyboardInterrupt
            return vectors.ravel().tolist()

        with contextlib.suppress(KeyboardInterrupt):
            answers.append(loop.submit(rows(3), finish, blocking=True).result())

    answers = []
    caller = threading.Thread(target=call)
    caller.start()
    compute.started["interactive"].wait()
    joined = submit(loop, 3)
    compute.gates["interactive"].set()
    caller.join()
    assert joined.result(timeout=30) == in_bulk.result(timeout=30) == ([3], [])
    assert answers == [[3]]


class Interrupting:
    """Raises KeyboardInterrupt on this thread before the `number`th line of these modules, as Ctrl-C may."""

    def __init__(self, number):
        self.left = number
        self.files = {module.__file__ for module in (bisect, known, inflight, loop_module, work)}

    def __enter__(self):
        sys.settrace(self.trace)

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _):
        if frame.f_code.co_filename not in self.files:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # Leaving a `with` is a step of it, which Python does not interrupt before the lock is free, as tracing would.
        if event == "line" and not line.startswith("with "):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self.trace


@pytest.mark.parametrize("shared", [True, False])
def test_wherever_an_interrupt_comes_the_others_are_answered_and_the_loop_goes_on(shared):
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
        with contextlib.closing(Loop(computed, 1, 10, "test", cache=VectorCache(2**16))) as loop:
            interrupted = False
            try:
                with Interrupting(number):
                    own = submit(loop, 3, blocking=True)
            except KeyboardInterrupt:
                interrupted = True
            else:
                assert own.result(timeout=30)[0] == [3]
            for future in joined:
                with contextlib.suppress(Cancelled):
                    assert future.result(timeout=30)[0] == [3], number
            assert submit(loop, 3, 4).result(timeout=30)[0] == [3, 4], number
            assert submit(loop, 5, blocking=True).result(timeout=30)[0] == [5], number
            assert loop.stats().queue_tokens["interactive"] == 0, number
    assert number > 50


def test_an_interrupt_after_the_batch_leaves_the_next_one_alone(loop, compute):
    later = []

    def interrupted(vectors, cached):
        compute.gates["interactive"].clear()
        compute.started["interactive"].clear()
        later.append(submit(loop, 4))
        compute.started["interactive"].wait()  # the lane's thread has it in work
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.submit(rows(3), interrupted, blocking=True)
    compute.gates["interactive"].set()
    assert later[0].result(timeout=60)[0] == [4]
    assert submit(loop, 5).result(timeout=60)[0] == [5]
