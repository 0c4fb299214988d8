"""Scheduler, loop and engine: packing, order, cancelling, closing, Matryoshka."""

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embergem.checkpoint.location import Location
from embergem.engine import Engine, Request
from embergem.engine.engine import cut, in_words
from embergem.engine.loop import Loop
from embergem.engine.request import Row
from embergem.engine.scheduler import Scheduler
from embergem.errors import Cancelled, EngineClosed, InvalidDimensions, NonFiniteOutput


def rows(*lengths):
    return [Row(np.full(length, length, dtype=np.uint32), length) for length in lengths]


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=8), max_size=8), st.integers(1, 60))
@settings(derandomize=True, deadline=None)
def test_batches_keep_order_and_budget(requests, budget):
    scheduler = Scheduler(budget, clock=lambda: 0.0)
    for key, lengths in enumerate(requests):
        scheduler.add(key, rows(*lengths))
    taken = []
    while batch := scheduler.next_batch():
        assert len(batch) == 1 or sum(len(item.row.ids) for item in batch) <= budget
        taken += [(item.key, item.index) for item in batch]
    assert taken == [(key, index) for key, lengths in enumerate(requests) for index in range(len(lengths))]
    assert scheduler.waiting_tokens == 0


def test_a_dropped_request_leaves_the_queue():
    scheduler = Scheduler(100, clock=lambda: 7.0)
    scheduler.add("a", rows(3, 4))
    scheduler.add("b", rows(5))
    scheduler.drop("a")
    [item] = scheduler.next_batch()
    assert (item.key, item.index, item.since) == ("b", 0, 7.0)


class Compute:
    """A stand-in for the executor: each vector is its row's length; holds while `gate` is shut."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.fail = None

    def __call__(self, ids, cu_seqlens, cancel):
        self.started.set()
        self.gate.wait()
        if self.fail:
            raise self.fail
        return np.diff(cu_seqlens).astype(np.float32)[:, None]


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def loop(compute):
    made = Loop(compute, 1, 10, "test")
    yield made
    compute.gate.set()
    made.close()


def test_each_request_gets_its_own(loop):
    futures = [loop.submit(rows(*range(1, n))) for n in range(2, 9)]
    for n, future in zip(range(2, 9), futures, strict=True):
        assert future.result().ravel().tolist() == list(range(1, n))


def test_a_failure_belongs_to_its_batch_and_the_loop_goes_on(loop, compute):
    compute.fail = NonFiniteOutput("bad")
    with pytest.raises(NonFiniteOutput):
        loop.submit(rows(3, 9, 9)).result()
    compute.fail = None
    assert loop.submit(rows(3)).result() == [[3]]


def test_a_cancelled_request_neither_runs_nor_holds_up_others(loop, compute):
    compute.gate.clear()
    first = loop.submit(rows(10))
    compute.started.wait()
    second, third = loop.submit(rows(10)), loop.submit(rows(4))
    assert second.cancel()
    compute.gate.set()
    assert first.result() == [[10]]
    assert third.result() == [[4]]
    with pytest.raises(CancelledError):
        second.result()


def test_closing_fails_what_waits(compute):
    loop = Loop(compute, 1, 10, "test")
    compute.gate.clear()
    running, waiting = loop.submit(rows(10)), loop.submit(rows(10))
    compute.started.wait()
    closer = threading.Thread(target=loop.close)
    closer.start()
    compute.fail = Cancelled("stopped")
    compute.gate.set()
    closer.join()
    for future in (running, waiting):
        with pytest.raises(EngineClosed):
            future.result()
    with pytest.raises(EngineClosed):
        loop.submit(rows(1))


def test_a_run_is_stopped_at_a_step(tiny):
    with Engine.load(Location("tiny", tiny)) as engine:
        future = engine.submit(Request(ids=[[5] * 128] * 2000))
        assert future.cancel()
        assert engine.embed(Request(texts=["a"])).vectors.shape == (1, 96)


def test_the_cut_is_the_start_scaled_to_length_one():
    vectors = np.array([[3, 4, 12], [0, 0, 5]], dtype=np.float32)
    assert np.allclose(cut(vectors, 2, False), [[0.6, 0.8], [0, 0]])
    assert cut(vectors, 3, False) is vectors
    layer = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    expected = layer[:, :2] / np.linalg.norm(layer[:, :2], axis=1, keepdims=True)
    assert np.allclose(cut(vectors, 2, True), expected)


def test_sizes_of_a_model_that_takes_any(tiny):
    with Engine.load(Location("qwen3", tiny.parent / "qwen3")) as engine:
        assert list(engine.allowed_dimensions) == list(range(64, 31, -1))
        assert engine.embed(Request(texts=["a"], dimensions=37)).vectors.shape == (1, 37)
        with pytest.raises(InvalidDimensions, match="allows: 32 to 64"):
            engine.submit(Request(texts=["a"], dimensions=31))
    assert in_words((768, 512, 256, 128)) == "768, 512, 256, 128"


def test_positions_end_where_their_table_does(tiny):
    with Engine.load(Location("mpnet", tiny.parent / "mpnet")) as engine:
        assert engine.limit == 128
