"""`AsyncEmbedder` returns the results of `Embedder` and does not block the event loop."""

import asyncio
import inspect
import warnings

import numpy as np
import pytest

from embergem import AsyncEmbedder, Embedder, TruncationWarning
from embergem.async_embedder import run_in_thread
from embergem.errors import EngineClosed, InputTooLong, UnknownModel

TEXTS = [f"text {number}" for number in range(600)]
LONG = "graphene " * 300


@pytest.fixture
def shared(embedder):
    return AsyncEmbedder.sharing(embedder)


def test_the_methods_and_their_arguments_are_those_of_the_embedder():
    def public(cls):
        return {name: value for name, value in vars(cls).items() if not name.startswith("_")}

    ours, theirs = public(AsyncEmbedder), public(Embedder)
    assert set(ours) - set(theirs) == {"load", "sharing"}
    assert set(theirs) <= set(ours)
    for name, method in theirs.items():
        assert list(inspect.signature(method).parameters) == list(inspect.signature(ours[name]).parameters)


def test_results_are_those_of_the_embedder(shared, embedder):
    async def main():
        query, documents, ranked, tokens, few = await asyncio.gather(
            shared.embed_query(TEXTS),
            shared.embed_documents(["a", "b"], ["T", None], output="int8"),
            shared.rank("graphene", TEXTS[:5], top=3),
            shared.count_tokens(["a", "b"]),
            shared.embed("a", task="clustering"),
        )
        assert np.array_equal(query, embedder.embed_query(TEXTS))
        assert np.array_equal(documents, embedder.embed_documents(["a", "b"], ["T", None], output="int8"))
        assert ranked == embedder.rank("graphene", TEXTS[:5], top=3)
        assert tokens == embedder.count_tokens(["a", "b"])
        assert np.array_equal(few, embedder.embed("a", task="clustering"))

    asyncio.run(main())


def test_many_tasks_share_the_model(shared, embedder):
    async def main():
        return await asyncio.gather(*(shared.embed(text) for text in TEXTS[:100]))

    assert np.array_equal(np.concatenate(asyncio.run(main())), embedder.embed(TEXTS[:100]))


def test_streams_take_both_kinds_of_iterables(shared, embedder):
    async def arriving():
        for text in TEXTS:
            yield text

    async def main(texts):
        return np.stack([vector async for vector in shared.embed_stream(texts)])

    expected = embedder.embed(TEXTS)
    assert np.array_equal(asyncio.run(main(TEXTS)), expected)
    assert np.array_equal(asyncio.run(main(arriving())), expected)


def test_errors_and_warnings_reach_the_caller(shared):
    with pytest.raises(InputTooLong):
        asyncio.run(shared.embed([LONG]))

    async def cut():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await shared.embed([LONG], truncate=True)
        return caught

    [caught] = asyncio.run(cut())
    assert caught.category is TruncationWarning
    assert caught.filename == __file__


def test_a_cancelled_task_ends_its_work(shared):
    async def main():
        task = asyncio.create_task(shared.embed(TEXTS * 20))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await shared.embed("after")

    assert asyncio.run(main()).shape == (1, 96)


def test_a_cancelled_load_closes_the_model():
    undone = []

    async def main():
        started, release = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def load():
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
            return "made"

        task = asyncio.create_task(run_in_thread(load, undo=undone.append))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert undone == ["made"]


def test_loading_and_closing(tiny):
    async def main():
        async with await AsyncEmbedder.load(tiny, threads=1) as loaded:
            assert loaded.dimensions == 96
            assert repr(loaded) == "AsyncEmbedder('gemma3_text', dimensions=96, limit=128)"
        with pytest.raises(EngineClosed):
            await loaded.embed("a")
        with pytest.raises(UnknownModel):
            await AsyncEmbedder.load("minilmm")

    asyncio.run(main())
