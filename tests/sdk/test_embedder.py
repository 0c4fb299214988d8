"""`Embedder` on the tiny EmbeddingGemma."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from goldens import golden

from embergem import Embedder, Task, TruncationWarning
from embergem.errors import (
    EmptyInput,
    EngineClosed,
    InputTooLong,
    InvalidDimensions,
    InvalidRequest,
    InvalidTask,
    InvalidText,
    TokenOutOfRange,
    UnknownModel,
    UnsupportedOption,
)


def test_vectors_are_those_of_the_published_library(embedder):
    checkpoint = golden("gemma3_text")
    assert np.abs(embedder.embed(checkpoint.ids) - checkpoint.vectors).max() < 1e-6
    count = len(checkpoint.texts)
    with pytest.warns(TruncationWarning):
        vectors = embedder.embed(checkpoint.texts, truncate=True)
    assert np.abs(vectors - checkpoint.vectors[:count]).max() < 1e-6


def test_shape_type_and_order(embedder):
    vectors = embedder.embed(["a", "b", "", "a"])
    assert vectors.shape == (4, 96)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.array_equal(vectors[0], vectors[3])
    assert np.array_equal(embedder.embed("a"), vectors[:1])
    assert np.array_equal(embedder.embed(text for text in ("a", "b")), vectors[:2])


def test_queries_and_documents(embedder):
    assert np.array_equal(embedder.embed_query(["x"]), embedder.embed(["task: search result | query: x"]))
    assert np.array_equal(embedder.embed_documents(["x"]), embedder.embed(["title: none | text: x"]))
    titled = embedder.embed_documents(["x", "y"], titles=["T", None])
    assert np.array_equal(titled, embedder.embed(["title: T | text: x", "title: none | text: y"]))
    assert np.array_equal(embedder.embed(["x"], task=Task.QUERY), embedder.embed_query("x"))


def test_a_model_without_prompts_takes_texts_as_given(tiny):
    with Embedder(tiny.parent / "bert_mean") as plain:
        assert plain.tasks == ()
        assert np.array_equal(plain.embed_query("x"), plain.embed("x"))
        assert np.array_equal(plain.embed_documents(["x"]), plain.embed("x"))
        for call in (lambda: plain.embed("x", task="query"), lambda: plain.embed_documents(["x"], titles=["T"])):
            with pytest.raises(InvalidTask, match="declares no prompts"):
                call()


def test_similarity_is_the_cosine(embedder):
    found = embedder.similarity([[3, 0], [0, 2]], [[1, 0], [1, 1], [-5, 0]])
    assert np.allclose(found, [[1, 0.5**0.5, -1], [0, 0.5**0.5, 0]])
    assert embedder.similarity([1, 2, 3], [1, 2, 3]).shape == (1, 1)
    with pytest.raises(InvalidRequest, match="size 2 and b of size 3"):
        embedder.similarity([[1, 2]], [[1, 2, 3]])
    with pytest.raises(InvalidRequest, match="all zeros"):
        embedder.similarity([[0, 0]], [[1, 2]])


def test_truncation_is_one_warning_with_indices_lengths_and_limit(embedder):
    texts = ["short", "graphene " * 300, "a", "b " * 300]
    with pytest.warns(TruncationWarning, match="2 of 4 inputs.*limit of 128 tokens: indices 1, 3 of") as caught:
        vectors = embedder.embed(texts, truncate=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(embedder.embed(["short", "a"], truncate=True), vectors[[0, 2]])
    with pytest.warns(TruncationWarning, match="indices 0 of 200 tokens"):
        cut = embedder.embed([list(range(3, 203))], truncate=True)
    assert np.array_equal(cut, embedder.embed([list(range(3, 131))]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"texts": [], "task": "sing"}, InvalidTask, "clustering"),
        ({"texts": [], "dimensions": 95}, InvalidDimensions, "of: 96."),
        ({"texts": [[]]}, EmptyInput, "Input 0 is a list without token ids"),
        ({"texts": [[5, 5000]]}, TokenOutOfRange, "5000"),
        ({"texts": ["graphene " * 300]}, InputTooLong, "128"),
        ({"texts": ["\ud800"]}, InvalidText, "surrogate"),
        ({"texts": ["a"], "task": "sing"}, InvalidTask, "clustering"),
        ({"texts": [[5]], "task": "query"}, InvalidTask, "token ids"),
        ({"texts": [[5]], "title": "T"}, InvalidTask, "token ids"),
        ({"texts": ["a"], "title": "T"}, InvalidTask, "document"),
        ({"texts": ["a"], "task": "document", "title": ["T", "U"]}, InvalidTask, "2 titles for 1 texts"),
        ({"texts": ["a"], "dimensions": 95}, InvalidDimensions, "of: 96."),
        ({"texts": b"a"}, InvalidRequest, "bytes"),
        ({"texts": 5}, InvalidRequest, "int"),
        ({"texts": ["a", 5]}, InvalidRequest, "Input 1 is of type int"),
        ({"texts": [5, 6]}, InvalidRequest, "a list in a list"),
        ({"texts": [["a"]]}, TypeError, "Input 0 is a list of strings"),
        ({"texts": [[5, "a"]]}, TypeError, "Input 0 has a value of type str at position 1"),
    ],
)
def test_bad_input(embedder, arguments, error, words):
    with pytest.raises(error, match=words):
        embedder.embed(**arguments)
    assert embedder.embed("a").shape == (1, 96)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dtype": "float16"}, UnsupportedOption, "float16"),
        ({"device": "cuda"}, UnsupportedOption, "cuda"),
        ({"threads": 0}, UnsupportedOption, "threads=0"),
        ({"model": "minilmm"}, UnknownModel, "minilm"),
    ],
)
def test_bad_options(tiny, options, error, words):
    with pytest.raises(error, match=words):
        Embedder(**{"model": tiny} | options)


def test_an_open_backend(embedder):
    other = Embedder(embedder._backend)
    assert np.array_equal(other.embed("a"), embedder.embed("a"))
    with pytest.raises(UnsupportedOption, match="dtype is an option for loading a model, and this Engine is open"):
        Embedder(embedder._backend, dtype="int8")
    with pytest.raises(TypeError, match="model is of type int"):
        Embedder(5)


def test_many_threads(embedder):
    texts = [f"text {number}" for number in range(200)]
    expected = embedder.embed(texts)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        return all(
            np.array_equal(embedder.embed(texts[start : start + 1 + number]), expected[start : start + 1 + number])
            for start in range(0, 180, 7)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_fingerprint(tiny, embedder):
    assert len(bytes.fromhex(embedder.fingerprint)) == 32
    with Embedder(tiny, threads=1) as same, Embedder(tiny.parent / "bert_mean") as other:
        assert same.fingerprint == embedder.fingerprint
        assert other.fingerprint != embedder.fingerprint


def test_closed(tiny):
    embedder = Embedder(tiny)
    embedder.close()
    embedder.close()
    with pytest.raises(EngineClosed):
        embedder.embed("a")


def test_threads_do_not_change_a_bit(tiny, embedder):
    with Embedder(tiny, threads=1) as single:
        assert np.array_equal(single.embed(["a", "graphene"]), embedder.embed(["a", "graphene"]))
