"""Every Python interface accepts the options of loading, with the same result as `Embedder`."""

import asyncio
import json
import shutil

import ggufs
import numpy as np
import pytest

from embergem import Embedder, EmbeddingModelBuilder, EmbeddingRequest, ModelDType, Runner, Which
from embergem.errors import NotReady, UnsupportedModel, UnsupportedOption
from embergem.sentence_transformers import SentenceTransformer

TEXTS = ["What is GRAPHENE?", "a lattice of carbon, " * 8]


def selector(path, **options):
    if "tokenizer" in options:
        options["tokenizer_json"] = options.pop("tokenizer")
    with Runner(Which.Embedding(str(path), **options)) as runner:
        return np.float32(runner.send_embedding_request(EmbeddingRequest(TEXTS)))


def builder(path, **options):
    made = EmbeddingModelBuilder(str(path))
    for name, value in options.items():
        method = {"tokenizer": "with_tokenizer_json", "allow_missing_dense": name}.get(name, f"with_{name}")
        getattr(made, method)(*([] if value is True else [value]))

    async def main():
        async with await made.build() as model:
            return await model.generate_embeddings(EmbeddingRequest(TEXTS))

    return asyncio.run(main())


def shim(path, **options):
    model = SentenceTransformer(path, **options)
    try:
        return model.encode(TEXTS)
    finally:
        model.close()


STYLES = [selector, builder, shim]


@pytest.fixture
def model(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def edit(path, change):
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value)))


@pytest.mark.parametrize("style", STYLES)
def test_window(style, model, embedder):
    edit(model / "config.json", lambda config: config | {"sliding_window": 9})
    assert not np.array_equal(style(model), embedder.embed(TEXTS))
    assert np.array_equal(style(model, window=16), embedder.embed(TEXTS))


@pytest.mark.parametrize("style", STYLES)
def test_dense_from(style, tiny, tmp_path, embedder):
    file = tmp_path / "model.gguf"
    file.write_bytes(ggufs.of_gemma(dense=None))
    shutil.copy(tiny / "tokenizer.json", tmp_path)
    with pytest.raises(UnsupportedModel, match="dense_from="):
        style(file)
    assert np.abs(style(file, dense_from=str(tiny)) - embedder.embed(TEXTS)).max() < 1e-6


@pytest.mark.parametrize("style", STYLES)
def test_allow_missing_dense(style, model):
    edit(model / "modules.json", lambda chain: [part for part in chain if not part["type"].endswith("Dense")])
    with pytest.raises(NotReady, match="dense_layers"):
        style(model)
    assert style(model, allow_missing_dense=True).shape == (2, 96)


@pytest.mark.parametrize("style", STYLES)
def test_tokenizer(style, tiny, tmp_path, embedder):
    own = shutil.copy(tiny / "tokenizer.json", tmp_path / "own.json")
    lower = {"type": "Lowercase"}
    edit(own, lambda value: value | {"normalizer": {"type": "Sequence", "normalizers": [lower, value["normalizer"]]}})
    assert np.array_equal(style(tiny, tokenizer=str(own)), embedder.embed([text.lower() for text in TEXTS]))
    with Embedder(tiny, tokenizer=own) as other:
        assert other.fingerprint != embedder.fingerprint


@pytest.mark.parametrize("style", [selector, builder])
def test_dtypes_by_member_and_by_name(style, tiny, embedder):
    assert np.array_equal(style(tiny, dtype=ModelDType.Auto), embedder.embed(TEXTS))
    for member, name in ((ModelDType.I16, "int16"), (ModelDType.I8, "int8")):
        with Embedder(tiny, dtype=name) as expected:
            vectors = expected.embed(TEXTS)
        assert np.array_equal(style(tiny, dtype=member), vectors)
        assert np.array_equal(style(tiny, dtype=name), vectors)
    with pytest.raises(UnsupportedOption, match=r"dtype='float17' is not available.*int16"):
        style(tiny, dtype="float17")


def test_sentence_transformer_takes_arch(tiny):
    assert shim(tiny, arch="embeddinggemma").shape == (2, 96)
    with pytest.raises(UnsupportedModel, match="leave out arch"):
        shim(tiny, arch="bert")
