"""The builder classes: their names are those of the Rust crate, and their methods are coroutines."""

import asyncio
import logging
import re
import subprocess
import sys

import numpy as np
import pytest

from embergem import (
    EmbeddingArchitecture,
    EmbeddingModelBuilder,
    EmbeddingRequest,
    ModelDType,
    MultiModelBuilder,
    TruncationWarning,
)
from embergem.errors import EmptyInput, EngineClosed, InvalidTask, UnknownModel, UnsupportedModel, UnsupportedOption


def test_vectors_are_those_of_the_embedder(tiny, embedder):
    async def main():
        builder = EmbeddingModelBuilder(str(tiny)).with_logging().with_force_cpu().with_threads(1)
        async with await builder.with_dtype(ModelDType.Auto).with_token_source("cache").build() as model:
            request = EmbeddingRequest.builder().add_prompt("a").add_tokens([5, 6]).add_prompts(["b", "c"])
            mixed = await model.generate_embeddings(request.add_tokens_batch([[7], [8, 9]]))
            expected = [embedder.embed(value)[0] for value in ("a", [[5, 6]], "b", "c", [[7]], [[8, 9]])]
            assert np.array_equal(mixed, expected)
            assert np.array_equal(await model.generate_embedding("a"), expected[0])
            assert np.array_equal(await model.generate_embeddings(EmbeddingRequest(["a"])), expected[:1])
            many = await asyncio.gather(*(model.generate_embedding(f"text {number}") for number in range(50)))
            assert np.array_equal(many, embedder.embed([f"text {number}" for number in range(50)]))
        with pytest.raises(EngineClosed):
            await model.generate_embedding("a")

    asyncio.run(main())
    assert logging.getLogger("embergem").level == logging.INFO


def test_task_dimensions_and_truncation(tiny, embedder):
    async def main():
        model = await EmbeddingModelBuilder(str(tiny)).with_task("query").with_dimensions(96).build()
        plain = EmbeddingRequest.builder().add_prompt("a")
        assert np.array_equal(await model.generate_embeddings(plain), embedder.embed_query("a"))
        own = EmbeddingRequest.builder().add_prompt("a").with_task("clustering").with_dimensions(96)
        assert np.array_equal(await model.generate_embeddings(own), embedder.embed("a", task="clustering"))
        mixed = EmbeddingRequest.builder().add_prompt("a").add_tokens([5])
        expected = np.concatenate([embedder.embed_query("a"), embedder.embed([[5]])])
        assert np.array_equal(await model.generate_embeddings(mixed), expected)
        with pytest.raises(InvalidTask, match="token ids"):
            await model.generate_embeddings(mixed.with_task("query"))
        long = EmbeddingRequest.builder().add_prompt("graphene " * 300)
        with pytest.raises(ValueError, match="128"):
            await model.generate_embeddings(long)
        mixed = long.add_tokens([7]).add_prompt("b").add_tokens([9] * 200).with_truncate_sequence(True)
        words = "2 of 4 inputs were cut to the limit of 128 tokens: indices 0, 3 of "
        with pytest.warns(TruncationWarning, match=words) as caught:
            vectors = await model.generate_embeddings(mixed)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert np.array_equal(vectors[[1, 3]], embedder.embed([[7], [9] * 128]))
        assert np.array_equal(vectors[2], embedder.embed_query("b")[0])
        model.close()

    asyncio.run(main())


def test_several_models(tiny):
    async def main():
        gemma, bert = EmbeddingModelBuilder(str(tiny)), EmbeddingModelBuilder(str(tiny.parent / "bert_mean"))
        builder = MultiModelBuilder().add_model(gemma).add_model_with_alias("bert", bert.with_task("query"))
        with pytest.raises(UnknownModel, match="'other' is not served"):
            await builder.with_default_model("other").build()
        async with await builder.with_default_model("bert").build() as model:
            assert model.get_default_model_id() == "bert"
            assert model.list_models() == [str(tiny), "bert"]
            with pytest.raises(InvalidTask, match="declares no prompts"):
                await model.generate_embedding("a")
            request = EmbeddingRequest.builder().add_prompt("a")
            assert (await model.generate_embeddings_with_model(request, str(tiny))).shape == (1, 96)
            await model.unload_model("gemma3_text")
            assert model.list_models_with_status() == [(str(tiny), "unloaded"), ("bert", "loaded")]
            assert (await model.generate_embedding_with_model("a", str(tiny))).shape == (96,)
            await model.reload_model("bert")
            await model.remove_model("bert")
            with pytest.raises(UnsupportedOption, match="last model"):
                await model.remove_model(str(tiny))
            assert (await model.generate_embedding("a")).shape == (96,)

    asyncio.run(main())


def test_one_model_with_two_tasks(tiny, embedder):
    async def main():
        builder = MultiModelBuilder()
        for alias, task in (("queries", "query"), ("documents", "document")):
            builder.add_model_with_alias(alias, EmbeddingModelBuilder(str(tiny)).with_task(task))
        async with await builder.build() as model:
            assert model.list_models() == ["queries", "documents"]
            for name, task in (("queries", "query"), ("documents", "document"), (str(tiny), "query")):
                vector = await model.generate_embedding_with_model("a", name)
                assert np.array_equal(vector, embedder.embed("a", task=task)[0])
        twice = MultiModelBuilder().add_model(EmbeddingModelBuilder(str(tiny)))
        with pytest.raises(UnsupportedOption, match="is taken; add this model under another alias"):
            await twice.add_model(EmbeddingModelBuilder(str(tiny))).build()

    asyncio.run(main())


def test_max_num_seqs_bounds_a_batch_and_throughput_is_logged(tiny, embedder, caplog):
    async def main():
        builder = EmbeddingModelBuilder(str(tiny)).with_max_num_seqs(2).with_throughput_logging()
        async with await builder.build() as model:
            vectors = await model.generate_embeddings(EmbeddingRequest(["a", "b", "c", "d", "e"]))
            with model._use(None) as engine:
                return vectors, engine.stats().batches

    with caplog.at_level(logging.INFO, "embergem.engine.throughput"):
        vectors, batches = asyncio.run(main())
    assert batches == 3
    assert np.array_equal(vectors, embedder.embed(["a", "b", "c", "d", "e"]))
    first, rest = (record.getMessage() for record in caplog.records if "texts/s" in record.getMessage())
    assert first.startswith("gemma3_text: 2 texts, ")
    assert rest.startswith("gemma3_text: 3 texts, ")
    assert first.endswith(" tokens/s")


def test_the_builders_have_the_names_of_the_crate():
    expected = {
        "with_throughput_logging", "with_topology", "with_topology_from_path", "with_tokenizer_json",
        "with_loader_type", "with_dtype", "with_force_cpu", "with_token_source", "with_hf_revision", "with_isq",
        "with_auto_isq", "with_imatrix", "with_calibration_file", "with_max_num_seqs", "with_logging",
        "with_device_mapping", "with_device", "from_hf_cache_path", "write_uqff", "from_uqff", "build", "with_task",
        "with_dimensions", "with_window", "with_dense_from", "allow_missing_dense",
    }  # fmt: skip
    assert expected <= set(vars(EmbeddingModelBuilder))


def test_invalid_builders_are_refused(tiny):
    for builder, error in (
        (EmbeddingModelBuilder("nonsense"), UnknownModel),
        (EmbeddingModelBuilder(str(tiny)).with_loader_type(EmbeddingArchitecture.Qwen3Embedding), UnsupportedModel),
        (MultiModelBuilder(), EmptyInput),
    ):
        with pytest.raises(error):
            asyncio.run(builder.build())
    for call in (
        lambda: EmbeddingModelBuilder("x").with_dtype(ModelDType.F16),
        lambda: EmbeddingModelBuilder("x").with_device("cuda"),
        lambda: EmbeddingModelBuilder("x").with_token_source("file:X"),
        lambda: EmbeddingModelBuilder("x").with_max_num_seqs(0),
        lambda: EmbeddingRequest.builder().build(),
        lambda: EmbeddingRequest.builder().add_tokens([]),
    ):
        with pytest.raises(ValueError, match=r"65,504|on the CPU|path:FILE|1 or more|no input|empty"):
            call()
    for call in (
        lambda: EmbeddingRequest.builder().add_prompts("ab"),
        lambda: EmbeddingRequest.builder().add_prompt(5),
        lambda: EmbeddingRequest.builder().add_tokens(["a"]),
    ):
        with pytest.raises(TypeError):
            call()


def test_with_logging_shows_a_line_for_a_loaded_model(tiny):
    code = """
import asyncio, sys
from embergem import EmbeddingModelBuilder
async def main():
    with await EmbeddingModelBuilder(sys.argv[1]).with_logging().build():
        pass
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, str(tiny)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert re.search(r"loaded in [\d.]+ s: 96 dimensions, up to 128 tokens, float32 on \w+", shown)
