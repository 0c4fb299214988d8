"""Static models: the vectors of Model2Vec, and the settings of their directories."""

import json
import shutil
import warnings

import numpy as np
import pytest
from goldens import DATA, copy_model, golden
from safetensors.numpy import load_file, save_file

from embergem.embedder import Embedder
from embergem.errors import CorruptCheckpoint, EmptyInput, InputTooLong, LoadError, TruncationWarning
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


@pytest.mark.parametrize("name", ["static_quantised", "static_int8", "static_embedding"])
def test_texts_are_embedded_as_in_the_library_by_tables_of_every_kind(name):
    """Mapped rows and weights; whole numbers with float64 weights; unknown tokens, and a cut by the tokenizer."""
    static = golden(name)
    longest = np.maximum(np.linalg.norm(static.vectors, axis=1, keepdims=True), 1e-9)
    with Embedder(DATA / name) as embedder, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        found = embedder.embed(static.texts, truncate=True)
    assert (np.abs(found - static.vectors) / longest).max() < 2e-6


@pytest.mark.parametrize("rows", [None, 61])
def test_a_mapping_must_be_the_one_that_the_config_describes(tmp_path, rows):
    path = copy_model("static_quantised", tmp_path / "model")
    change(path / "config.json", vocabulary_quantization=rows)
    if rows is None:  # older files do not say it
        assert np.array_equal(Embedder(path).embed("carbon"), Embedder(DATA / "static_quantised").embed("carbon"))
        return
    with pytest.raises(CorruptCheckpoint, match="vocabulary_quantization is 61, and the weights have a mapping to 60"):
        Embedder(path)


def test_a_quantised_vocabulary_without_a_mapping_is_refused(model):
    change(model / "config.json", vocabulary_quantization=4096)
    with pytest.raises(CorruptCheckpoint, match="vocabulary_quantization is 4096, and the weights have a mapping to 0"):
        Embedder(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mapping": lambda found: found + 60}, "mapping.*it contains 6[0-9]|mapping.*it contains 1[0-9][0-9]"),
        ({"mapping": lambda found: -1 - found}, "mapping.*it contains -"),
        ({"mapping": lambda found: found.astype(np.float32)}, "mapping.*should contain whole numbers"),
        ({"weights": lambda found: found[:-1]}, "weights has .* numbers for .* ids"),
        ({"weights": lambda found: found[:, None]}, "weights should have one number for each id"),
    ],
)
def test_a_damaged_mapping_is_refused(tmp_path, changes, message):
    path = copy_model("static_quantised", tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    tensors |= {name: np.ascontiguousarray(changed(tensors[name])) for name, changed in changes.items()}
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(LoadError, match=message):
        Embedder(path)


def test_a_static_embedding_may_lie_in_a_directory_of_its_own(tmp_path):
    path = copy_model("static_embedding", tmp_path / "model")
    (path / "0_StaticEmbedding").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (path / name).rename(path / "0_StaticEmbedding" / name)
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = "0_StaticEmbedding"
    (path / "modules.json").write_text(json.dumps(modules))
    text = "a carbon lattice 文"
    with Embedder(path) as moved, Embedder(DATA / "static_embedding") as original:
        assert np.array_equal(moved.embed(text), original.embed(text))
        assert moved.limit == original.limit == 300


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


def test_a_model2vec_table_without_a_config_is_a_static_embedding(model):
    """As sentence-transformers reads it: unknown tokens are kept."""
    (model / "config.json").unlink()
    known = golden("static").vectors[2]
    with Embedder(model) as embedder:
        assert np.abs(embedder.embed("What is graphene?")[0] - known).max() < 1e-6
        assert embedder.embed("文").any()
