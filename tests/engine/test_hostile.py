"""Tests of damaged and malicious checkpoints: one clear error, and the process continues."""

import json
import shutil
import struct

import numpy as np
import pytest
from goldens import DATA, golden
from safetensors.numpy import load_file, save_file

from embergem import Embedder
from embergem.engine import Request
from embergem.errors import (
    CorruptCheckpoint,
    InsufficientMemory,
    LoadError,
    MissingTensor,
    NonFiniteOutput,
    UnsupportedModel,
)
from embergem.loader import load
from embergem.options import LoadOptions


@pytest.fixture
def model(tmp_path, tiny, monkeypatch):
    """A copy of the tiny model to damage, with an empty cache directory."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny, tmp_path / "model")
    return tmp_path / "model"


def change(path, edit):
    """Edit the tensors of a safetensors file."""
    tensors = dict(load_file(path))
    edit(tensors)
    save_file(tensors, path)


def poison(name, value=np.nan):
    def edit(tensors):
        tensors[name] = tensors[name].copy()
        tensors[name].flat[-1] = value

    return edit


@pytest.mark.parametrize("name", ["embed_tokens.weight", "layers.0.mlp.down_proj.weight", "norm.weight"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(model, name, value):
    change(model / "model.safetensors", poison(name, value))
    for _ in range(2):  # a failed scan is not remembered
        with pytest.raises(MissingTensor, match=f"(?i){name}.*{value}"):
            Embedder(model)


def test_a_scan_is_remembered_until_the_file_changes(model):
    before = Embedder(model).embed("a")
    remembered = list((model.parent / "cache" / "scanned").iterdir())
    assert len(remembered) == 1
    assert np.array_equal(Embedder(model).embed("a"), before)
    change(model / "model.safetensors", poison("embed_tokens.weight"))
    with pytest.raises(MissingTensor, match="NaN"):
        Embedder(model)


def test_loading_works_without_a_writable_cache(model, monkeypatch):
    (model.parent / "file").write_text("")
    monkeypatch.setenv("EMBERGEM_CACHE", str(model.parent / "file"))
    assert Embedder(model).embed("a").shape == (1, 96)


def drop(tensors):
    del tensors["layers.1.self_attn.q_norm.weight"]


def reshape(tensors):
    tensors["layers.1.self_attn.q_norm.weight"] = np.ones(3, dtype=np.float32)


def retype(tensors):
    tensors["layers.1.self_attn.q_norm.weight"] = tensors["layers.1.self_attn.q_norm.weight"].astype(np.int32)


@pytest.mark.parametrize(("edit", "words"), [(drop, "does not contain it"), (reshape, r"\[3\]"), (retype, "I32")])
def test_the_error_names_a_missing_or_wrong_tensor(model, edit, words):
    change(model / "model.safetensors", edit)
    with pytest.raises(MissingTensor, match=rf"layers\.1\.self_attn\.q_norm\.weight.*{words}"):
        Embedder(model)


def header(data):
    """Split a safetensors file into its header and its data."""
    [length] = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(content, data):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def lying_offsets(data):
    content, values = header(data)
    content["norm.weight"]["data_offsets"] = [0, 2**60]
    return with_header(content, values)


def huge_shape(data):
    content, values = header(data)
    content["norm.weight"]["shape"] = [2**62, 2**62]
    return with_header(content, values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data[:8] + b"\xff" * 100 + data[108:],
        lambda data: b"PK\x03\x04" + data[4:],
        lying_offsets,
        huge_shape,
    ],
    ids=["empty", "7 bytes", "half", "cut", "longer", "huge header", "no json", "zip", "offsets", "shape"],
)
def test_the_error_names_a_corrupt_safetensors_file(model, damage):
    path = model / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors"):
        Embedder(model)


def test_random_damage_never_ends_the_process(model):
    path = model / "model.safetensors"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, 3000, size=4):  # bytes of the header
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            Embedder(model).close()
        except LoadError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("hidden_size", -1, CorruptCheckpoint),
        ("hidden_size", 10**9, LoadError),
        ("num_hidden_layers", 0, CorruptCheckpoint),
        ("num_attention_heads", "3", CorruptCheckpoint),
        ("vocab_size", 10**15, LoadError),
        ("head_dim", 7, LoadError),
        ("model_type", "gpt2", UnsupportedModel),
        ("model_type", None, UnsupportedModel),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4}, UnsupportedModel),
        ("hidden_activation", "relu6", UnsupportedModel),
        ("attn_logit_softcapping", 50.0, UnsupportedModel),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(model, field, value, error):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(error):
        Embedder(model)


def test_insufficient_memory_is_reported_before_loading():
    with pytest.raises(InsufficientMemory, match="MB"):
        golden("gemma3_text").native(memory_limit=1000)


def test_modules_json_that_points_outside(model):
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["path"] = "../elsewhere"
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CorruptCheckpoint, match=r'"\.\./elsewhere" leaves'):
        Embedder(model)


def test_a_vector_that_is_not_finite_names_the_input_of_the_request(tmp_path, monkeypatch):
    """The embedding of one token has finite numbers with an infinite norm; there are more inputs than fit a batch."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    directory = shutil.copytree(DATA / "bert_mean", tmp_path / "bert_mean")
    bad = 50

    def overflow(tensors):
        name = "embeddings.word_embeddings.weight"
        tensors[name] = tensors[name].copy()
        tensors[name][bad] = 3e38

    change(directory / "model.safetensors", overflow)
    with load(LoadOptions(model=directory, max_batch_tokens=8)) as engine:
        futures = [engine.submit(Request(ids=[[5, 6, 7], [8, 9], [4, 3], [8, bad]])), engine.submit(Request(ids=[[5]]))]
        with pytest.raises(NonFiniteOutput, match="Input 3 gave a vector that is not finite"):
            futures[0].result()
        assert np.isfinite(futures[1].result().vectors).all()
