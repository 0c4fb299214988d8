"""Tests of the space fingerprint: changes that must not change it, and changes that must."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from goldens import DATA
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from embergem import Embedder
from embergem.checkpoint.checkpoint import Location
from embergem.cli.app import app
from embergem.engine.load import fingerprint_of
from embergem.errors import CorruptCheckpoint
from embergem.loader import load
from embergem.options import LoadOptions

PINNED = {
    "gemma3_text": "87d1428dc8bdf577ca237d3d3b493d6eca8f4dc5b23c522974ec51c437187427",
    "bert_mean": "43aef0191f77f6c452ed4a54b052d0e41553a84d131d27c640060d86e7a87aea",
}
"""Users store fingerprints beside their indexes: if one of these changes, every index has to be rebuilt."""


def of(directory):
    return fingerprint_of(Location("model", directory))


def edit(file, change):
    """Apply `change` to the content of a JSON file."""
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document, indent=3, ensure_ascii=True))


def edit_weights(file, change):
    """Apply `change` to the tensors of a safetensors file."""
    tensors = {name: np.array(value) for name, value in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A copy of the tiny EmbeddingGemma, with a cache directory of its own."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(DATA / "gemma3_text", tmp_path / "model")


@pytest.mark.parametrize("name", PINNED)
def test_the_fingerprint_is_stable(name, model):
    assert of(DATA / name) == PINNED[name]


def test_the_layout_of_the_weights_does_not_matter(model):
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors, reverse=True)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({f"language_model.{name}": tensors[name] for name in part}, model / file)
    unread = {"vision_tower.patches.weight": np.ones((3, 3), np.float32)}
    save_file(unread, model / "vision.safetensors")
    where = {f"language_model.{name}": file for file, part in parts.items() for name in part}
    where |= dict.fromkeys(unread, "vision.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (model / "model.safetensors").unlink()
    assert of(model) == PINNED["gemma3_text"]


def test_files_without_influence_on_vectors_do_not_matter(model):
    edit(model / "config.json", lambda config: config.update(transformers_version="99", torch_dtype="bfloat16"))
    edit(model / "tokenizer.json", lambda tokenizer: tokenizer.update(padding=None, version="2.0"))
    edit(model / "sentence_bert_config.json", lambda settings: settings.update(max_seq_length=64))
    (model / "config_sentence_transformers.json").unlink()
    assert of(model) == PINNED["gemma3_text"]


def one_bit(tensors):
    tensors["norm.weight"].view(np.uint32)[7] ^= 1


def another_name(tensors):
    a, b = "layers.0.input_layernorm.weight", "layers.1.input_layernorm.weight"
    tensors[a], tensors[b] = tensors[b], tensors[a]


def another_type(tensors):
    tensors["norm.weight"] = tensors["norm.weight"].astype(np.float16)


@pytest.mark.parametrize("change", [one_bit, another_name, another_type])
def test_weights_matter(model, change):
    edit_weights(model / "model.safetensors", change)
    assert of(model) != PINNED["gemma3_text"]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", lambda tokenizer: tokenizer["model"]["merges"].pop()),
        ("tokenizer.json", lambda tokenizer: tokenizer["added_tokens"].pop()),
        ("1_Pooling/config.json", lambda pooling: pooling.update(pooling_mode="cls")),
        ("2_Dense/config.json", lambda dense: dense.update(activation_function="torch.nn.modules.activation.Tanh")),
        ("modules.json", lambda modules: modules.pop()),
        ("config.json", lambda config: config.update(sliding_window=config["sliding_window"] // 2)),
        ("config.json", lambda config: config.update(rms_norm_eps=1e-5)),
    ],
    ids=["merge", "added token", "pooling", "dense", "normalize", "window", "eps"],
)
def test_tokenizer_head_and_config_matter(model, file, change):
    edit(model / file, change)
    assert of(model) != PINNED["gemma3_text"]


def test_the_fingerprint_is_remembered_by_the_state_of_the_files(model):
    weights = model / "model.safetensors"
    edit_weights(weights, lambda tensors: None)  # now in the layout of this library, so that later edits keep the size
    first, before = of(model), weights.stat()
    for note in (model.parent / "cache" / "fingerprint").iterdir():
        remembered = note.read_text()
        note.write_text("0" * 64)
    assert remembered == first
    assert of(model) == "0" * 64, "the weights were read again"
    edit_weights(weights, one_bit)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    assert of(model) not in (first, "0" * 64), "a file with its old size and time is not read again"
    for note in (model.parent / "cache" / "fingerprint").iterdir():
        note.write_text("not a hash")
    assert of(model) not in (first, "not a hash")


def test_embedder_and_command_agree(model):
    with Embedder(model) as embedder:
        assert embedder.fingerprint == PINNED["gemma3_text"]
    run = CliRunner().invoke
    assert run(app, ["fingerprint", str(model)]).output == PINNED["gemma3_text"] + "\n"
    assert json.loads(run(app, ["fingerprint", "--json", str(model)]).output) == {
        "model": "model",
        "fingerprint": PINNED["gemma3_text"],
    }


def test_damaged_files_are_refused_by_name(model):
    (model / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(CorruptCheckpoint, match=r"tokenizer\.json"):
        of(model)


def test_another_tokenizer_changes_the_space(model, tmp_path):
    own = Path(shutil.copy(model / "tokenizer.json", tmp_path / "tokenizer.json"))
    with load(LoadOptions(model=model, tokenizer=own)) as engine:
        assert engine.fingerprint == PINNED["gemma3_text"]
    edit(own, lambda tokenizer: tokenizer["model"]["merges"].pop())
    with load(LoadOptions(model=model, tokenizer=own)) as engine:
        assert engine.fingerprint != PINNED["gemma3_text"]
