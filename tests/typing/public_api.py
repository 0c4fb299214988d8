"""The types of the public API. `make check` (mypy) and `make pyright` check this module; it never runs."""

# pyright: strict

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from embergem import (
    AsyncClient,
    AsyncEmbedder,
    Client,
    Embedder,
    EmbeddingModel,
    EmbeddingModelBuilder,
    EmbeddingRequest,
    MultiModelBuilder,
    Ranked,
    Runner,
    Task,
    Which,
)

Float32 = NDArray[np.float32]


def everyday(embedder: Embedder) -> None:
    """Each value of `output` has its own return type, in every method."""
    assert_type(embedder.embed("a"), Float32)
    assert_type(embedder.embed(["a"], task=Task.QUERY, dimensions=256, truncate=True, progress=False), Float32)
    assert_type(embedder.embed([[1, 2]], output="array"), Float32)
    assert_type(embedder.embed(["a"], output="list"), list[list[float]])
    assert_type(embedder.embed(["a"], output="float16"), NDArray[np.float16])
    assert_type(embedder.embed(["a"], output="int8"), NDArray[np.int8])
    assert_type(embedder.embed(["a"], output="binary"), NDArray[np.uint8])
    assert_type(embedder.embed_query("a"), Float32)
    assert_type(embedder.embed_query("a", output="list", dimensions=256), list[list[float]])
    assert_type(embedder.embed_documents(["a"], ["T"]), Float32)
    assert_type(embedder.embed_documents(["a"], titles=[None], output="int8"), NDArray[np.int8])
    assert_type(embedder.embed_stream(["a"]), Iterator[Float32])
    assert_type(embedder.embed_stream(["a"], task="query", output="list"), Iterator[list[float]])
    assert_type(embedder.embed_stream(["a"], output="int8"), Iterator[NDArray[Any]])
    assert_type(embedder.similarity([1.0], embedder.embed("a")), Float32)
    assert_type(embedder.rank("a", ["b"], top=3), list[Ranked])
    assert_type(embedder.count_tokens(["a"]), list[int])
    assert_type(Embedder("minilm", revision="v1", hf_cache_path=Path("hub"), token_source="env:MINE"), Embedder)
    with embedder as entered:
        assert_type(entered, Embedder)


async def awaited(embedder: AsyncEmbedder) -> None:
    """The asynchronous methods return the same types."""
    assert_type(await AsyncEmbedder.load("minilm"), AsyncEmbedder)
    assert_type(await embedder.embed("a"), Float32)
    assert_type(await embedder.embed_query(["a"], output="binary"), NDArray[np.uint8])
    assert_type(await embedder.embed_documents(["a"], output="list"), list[list[float]])
    assert_type(embedder.embed_stream(["a"]), AsyncIterator[Float32])
    assert_type(await embedder.rank("a", ["b"]), list[Ranked])


async def clients() -> None:
    """A client can be used as an embedder."""
    with Client("http://localhost:1234", model="default", retries=2) as client:
        assert_type(client.embed("a"), Float32)
        assert_type(client.models(), list[str])
    async with await AsyncClient.connect("http://localhost:1234") as connected:
        assert_type(connected, AsyncClient)
        assert_type(await connected.embed_query("a"), Float32)


def selector() -> None:
    """The mistral.rs classes return lists."""
    which = Which.Embedding("minilm", hf_cache_path="hub", revision="v1")
    runner = Runner(which=which, token_source="none")
    assert_type(runner.send_embedding_request(EmbeddingRequest(["a"])), list[list[float]])

    assert_type(runner.list_models_with_status(), list[tuple[str, str]])
    assert_type(runner.tokenize_text("a", True, model_id="default"), list[int])
    assert_type(runner.get_model_status("minilm"), str | None)


async def builder() -> None:
    """The builder classes return arrays."""
    one = EmbeddingModelBuilder("minilm").with_task(Task.QUERY).with_dimensions(256).with_logging()
    assert_type(one, EmbeddingModelBuilder)
    two = EmbeddingModelBuilder("minilm").with_hf_revision("v1").from_hf_cache_path(Path("hub"))
    assert_type(two.with_token_source("none").with_max_num_seqs(8).with_throughput_logging(), EmbeddingModelBuilder)
    async with await MultiModelBuilder().add_model(one).build() as model:
        assert_type(model, EmbeddingModel)
        assert_type(
            await model.generate_embeddings(EmbeddingRequest.builder().add_prompt("a").add_tokens([1])), Float32
        )
        assert_type(await model.generate_embedding("a"), Float32)


def mistakes(embedder: Embedder) -> None:
    """Calls that a type checker must refuse. mypy reports an ignore that is not needed."""
    embedder.embed(["a"], output="int4")  # type: ignore[call-overload]
    embedder.embed(["a"], taks="query")  # type: ignore[call-overload]
    embedder.embed(5)  # type: ignore[call-overload]
    embedder.rank("a", [[1]])  # type: ignore[list-item]
    Embedder("minilm", revision=1)  # type: ignore[arg-type]
