"""Static models: the vectors of Model2Vec, and the settings of their directories."""

import json
import shutil

import numpy as np
import pytest
from goldens import DATA, golden
from safetensors.numpy import load_file, save_file

from embergem.embedder import Embedder
from embergem.errors import CorruptCheckpoint, EmptyInput, InputTooLong, UnsupportedModel
from embergem.ops.reference import Batch, Reference


@pytest.fixture
def model(tmp_path):
    shutil.copytree(DATA / "static", tmp_path / "static")
    return tmp_path / "static"


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_texts_are_tokenized_and_embedded_as_in_the_library():
    static = golden("static")
    with Embedder(DATA / "static") as embedder:
        with pytest.warns(UserWarning, match=r"1 of 12 inputs were cut to the limit of 512 tokens"):
            found = embedder.embed(static.texts, truncate=True)
        assert np.abs(found - static.vectors).max() < 1e-6
        assert np.array_equal(embedder.embed([""]), np.zeros((1, 48)))  # a batch of one empty text
        whole = [ids for ids in static.ids if ids]
        assert np.array_equal(embedder.embed(whole), found[[bool(ids) for ids in static.ids]])
        with pytest.raises(InputTooLong, match="512"):
            embedder.embed(static.texts)
        with pytest.raises(EmptyInput):
            embedder.embed([[]])


def test_the_mean_of_no_tokens_is_zero_in_the_specification():
    batch = Batch(np.zeros(0, dtype=np.uint32), np.array([0, 0], dtype=np.uint32))
    assert np.array_equal(Reference().pool(batch, np.ones((0, 3), dtype=np.float32), kind="mean"), np.zeros((1, 3)))


def test_the_config_determines_the_head(model):
    (model / "modules.json").unlink()
    expected = golden("static").vectors[2]
    assert np.abs(Embedder(model).embed("What is graphene?")[0] - expected).max() < 1e-6
    change(model / "config.json", normalize=False)
    mean = Embedder(model).embed("What is graphene?")[0]
    ids = golden("static").ids[2]
    assert np.abs(mean - load_file(model / "model.safetensors")["embeddings"][ids].mean(axis=0)).max() < 1e-6


def test_the_limit_comes_from_the_config(model):
    change(model / "config.json", max_length=None)
    assert Embedder(model).limit > 30_000
    change(model / "config.json", max_length=7)
    assert Embedder(model).limit == 7
    with pytest.raises(InputTooLong):
        Embedder(model).embed("What is graphene?")


def test_a_quantised_vocabulary_is_refused(model):
    change(model / "config.json", vocabulary_quantization=4096)
    with pytest.raises(UnsupportedModel, match="vocabulary_quantization is 4096"):
        Embedder(model)


def test_files_that_contradict_each_other_are_refused(model):
    change(model / "config.json", normalize=False)
    with pytest.raises(CorruptCheckpoint, match=r"modules\.json normalises"):
        Embedder(model)
    save_file({"other": np.zeros(3, dtype=np.float32)}, model / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match="a matrix called embeddings"):
        Embedder(model)
    (model / "model.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(CorruptCheckpoint, match="not a valid safetensors file"):
        Embedder(model)


def test_a_static_embedding_without_a_config_is_refused_with_a_remedy(model):
    (model / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match="from_sentence_transformers"):
        Embedder(model)
