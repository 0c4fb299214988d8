"""Tests of `Engine` with tiny models: cancelling, Matryoshka, limits, the cache."""

import numpy as np
import pytest
from goldens import copy_model, edit, golden, pack

from embergem.engine import Request
from embergem.engine.engine import cut, describe_sizes
from embergem.engine.vector_cache import VectorCache
from embergem.errors import (
    DeadlineExceeded,
    EngineClosed,
    InvalidDimensions,
    InvalidRequest,
    Overloaded,
    UnsupportedOption,
)
from embergem.loader import load
from embergem.options import LoadOptions


def test_cancelling_stops_a_run_at_a_step(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        future = engine.submit(Request(ids=[[5] * 128] * 2000))
        assert future.cancel()
        assert engine.embed(Request(texts=["a"])).vectors.shape == (1, 96)


def test_cut_keeps_the_first_numbers_and_normalises():
    vectors = np.array([[3, 4, 12], [0, 0, 5]], dtype=np.float32)
    assert np.allclose(cut(vectors, 2, False), [[0.6, 0.8], [0, 0]])
    assert cut(vectors, 3, False) is vectors
    layer = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    expected = layer[:, :2] / np.linalg.norm(layer[:, :2], axis=1, keepdims=True)
    assert np.allclose(cut(vectors, 2, True), expected)


def test_dimensions_of_a_model_that_allows_a_range(tiny, tmp_path):
    path = copy_model("qwen3", tmp_path / "qwen3")
    edit(path / "config.json", matryoshka_dimensions=list(range(32, 65)))
    with load(LoadOptions(model=path)) as engine:
        assert list(engine.allowed_dimensions) == list(range(64, 31, -1))
        assert engine.embed(Request(texts=["a"], dimensions=37)).vectors.shape == (1, 37)
        with pytest.raises(InvalidDimensions, match=r"one of: 32 to 64\."):
            engine.submit(Request(texts=["a"], dimensions=31))
    assert describe_sizes((768, 512, 256, 128)) == "768, 512, 256, 128"
    assert describe_sizes(range(17, 0, -1)) == "1 to 17"
    assert describe_sizes(range(16, 0, -1)) == ", ".join(map(str, range(16, 0, -1)))


def test_a_closed_engine_refuses_requests(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        engine.embed(Request(texts=["a"]))
    with pytest.raises(EngineClosed):
        engine.submit(Request(texts=["a"]))


def test_texts_become_ids_and_ids_texts(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        ids = engine.tokenize("a text")
        assert ids[1:-1] == engine.tokenize("a text", special=False)
        assert engine.detokenize(ids) == engine.detokenize(ids[1:-1])
        assert len(engine.detokenize(ids, skip_special=False)) > len(engine.detokenize(ids))


def test_a_text_that_is_cut_is_counted_only_if_that_is_asked_for(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        long = Request(texts=["What is graphene? " * 5000], truncate=True)
        (row,), (counted,) = engine.prepare(long), engine.prepare(long, count=True)
        assert engine.limit < row.length < counted.length
        assert row.ids.tolist() == counted.ids.tolist()


def test_an_engine_without_a_cache_reports_none(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        engine.embed(Request(texts=["a"]))
        assert engine.stats().cache_bytes == 0


def test_the_limit_is_the_size_of_the_position_table(tiny):
    with load(LoadOptions(model=tiny.parent / "mpnet")) as engine:
        assert engine.limit == 128


def test_a_cached_result_is_done_at_once_and_has_the_same_bits(tiny):
    cache = VectorCache(2**20)
    with load(LoadOptions(model=tiny), cache=cache) as engine:
        first = engine.embed(Request(texts=["a", "b", "a"]))
        future = engine.submit(Request(texts=["b", "new", "a"]))
        again = future.result()
        assert first.cached == []
        assert again.cached == [0, 2]
        assert np.array_equal(again.vectors[[0, 2]], first.vectors[[1, 0]])
        assert engine.submit(Request(texts=["new"], dimensions=96)).done()
        stats = engine.stats()
    assert (stats.requests, stats.rows, stats.cache_hits, stats.cache_misses) == (3, 7, 3, 4)
    assert stats.cache_bytes == cache.used > 3 * 96 * 4
    with load(LoadOptions(model=tiny.parent / "embedding_gemma2"), cache=cache) as other:
        assert other.embed(Request(texts=["a"])).cached == []  # another space


def test_refused_requests_are_counted_by_error_code(tiny):
    with load(LoadOptions(model=tiny)) as engine:
        with pytest.raises(InvalidDimensions):
            engine.submit(Request(texts=["a"], dimensions=7))
        with pytest.raises(InvalidRequest, match="Choose one of: interactive, bulk"):
            engine.submit(Request(texts=["a"], lane="slow"))
        with pytest.raises(DeadlineExceeded):
            engine.submit(Request(texts=["a"], deadline=0.0))
        assert engine.stats().errors == {"invalid_dimensions": 1, "invalid_request": 1, "deadline_exceeded": 1}


def test_limits_below_one_are_refused(tiny):
    for bound in ("max_batch_tokens", "max_queue_tokens"):
        with pytest.raises(UnsupportedOption, match=f"{bound}=0"):
            load(LoadOptions(model=tiny, **{bound: 0}))


def test_a_full_queue_refuses_with_retry_after(tiny):
    with load(LoadOptions(model=tiny, max_batch_tokens=64, max_queue_tokens=100)) as engine:
        large = engine.submit(Request(ids=[[5] * 128] * 2000))  # larger than the limit, but the queue is empty
        with pytest.raises(Overloaded, match="bulk lane") as refused:
            engine.submit(Request(ids=[[5] * 100], lane="bulk"))
        assert refused.value.retry_after >= 1
        assert engine.embed(Request(texts=["a"])).vectors.shape == (1, 96)  # the other lane is free
        assert large.cancel()


def test_a_paused_bulk_batch_has_the_same_bits(tiny):
    """Queries of two models pause a bulk request between its steps."""
    random = np.random.default_rng(3)
    rows = [random.integers(5, 500, length).tolist() for length in random.integers(1, 128, 150)]
    query = Request(ids=[[7, 8, 9]])
    with (
        load(LoadOptions(model=tiny)) as engine,
        load(LoadOptions(model=tiny.parent / "bert_mean")) as other,
    ):
        quiet = engine.embed(Request(ids=rows, lane="bulk")).vectors
        expected = [model.embed(query).vectors for model in (engine, other)]
        large = engine.submit(Request(ids=rows))
        while not large.done():
            for model, vectors in zip((engine, other), expected, strict=True):
                assert np.array_equal(model.embed(query).vectors, vectors)
        assert np.array_equal(large.result().vectors, quiet)


def test_the_executor_knows_two_lanes():
    with pytest.raises(UnsupportedOption, match="must be interactive or bulk"):
        golden("gemma3_text").native().run(*pack([[5, 6]]), lane="slow")


def test_the_size_of_a_batch_is_measured_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    with load(LoadOptions(model=tiny)) as engine:
        engine.embed(Request(texts=["a"]))
        assert engine.stats().max_batch_tokens == engine.max_batch_tokens == 1024
        assert not (tmp_path / "budget").exists()
        engine.embed(Request(ids=[[5] * 100] * 11))
        measured = engine.max_batch_tokens
        assert engine.stats().max_batch_tokens == measured in (1024, 2048, 4096)
    [note] = (tmp_path / "budget").iterdir()
    assert int(note.read_text()) == measured
    note.write_text("640")
    with load(LoadOptions(model=tiny)) as engine:
        assert engine.stats().max_batch_tokens == 640
    with load(LoadOptions(model=tiny, max_batch_tokens=77)) as engine:
        assert engine.stats().max_batch_tokens == 77
