"""Models and clients that are garbage-collected without `close` end their threads and free their memory."""

import asyncio
import gc
import threading

import pytest

from embergem import AsyncEmbedder, Client, Embedder, EmbeddingModelBuilder, Runner, Which
from embergem.engine import Request
from embergem.errors import InvalidTask
from embergem.sentence_transformers import SentenceTransformer


@pytest.fixture
def started():
    """Return a function that lists the threads of engines and clients that were started since the fixture."""
    before = set(threading.enumerate())

    def since():
        new = set(threading.enumerate()) - before
        return [thread for thread in new if thread.name.startswith(("embergem gemma3_text", "embergem client"))]

    return since


def ended(threads):
    gc.collect()
    for thread in threads:
        thread.join(timeout=60)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    "make",
    [
        Embedder,
        AsyncEmbedder,
        lambda path: AsyncEmbedder.sharing(Embedder(path)),
        SentenceTransformer,
        lambda path: Runner(Which.Embedding(str(path))),
        lambda path: asyncio.run(EmbeddingModelBuilder(str(path)).build()),
    ],
    ids=["Embedder", "AsyncEmbedder", "sharing", "SentenceTransformer", "Runner", "EmbeddingModel"],
)
def test_models(make, tiny, started):
    made = make(tiny)
    threads = started()
    assert len(threads) == 2
    del made
    assert ended(threads)


def test_models_that_were_used(tiny, started):
    embedder = Embedder(tiny)
    assert embedder.embed(["a", "graphene " * 10] * 50).shape == (100, 96)
    threads = started()
    del embedder
    assert ended(threads)


def test_requests_in_flight_keep_the_model(tiny, started):
    embedder = Embedder(tiny)
    future = embedder._backend.submit(Request(texts=[f"text {number}" for number in range(500)]))
    threads = started()
    del embedder
    gc.collect()
    assert future.result(timeout=60).vectors.shape == (500, 96)
    assert all(thread.is_alive() for thread in threads)
    del future
    assert ended(threads)


def test_a_model_whose_constructor_failed(tiny, started):
    with pytest.raises(InvalidTask, match="nonsense") as caught:
        SentenceTransformer(tiny, default_prompt_name="nonsense")
    assert ended(started())
    del caught


def test_clients(url, started):
    client = Client(url)
    client.embed("a")
    threads = started()
    assert [thread.name for thread in threads] == ["embergem client"]
    del client
    assert ended(threads)
