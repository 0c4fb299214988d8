"""Tensors that no layer reads: those known to change no vector are ignored, any other one is refused by name."""

import json
import shutil

import numpy as np
import pytest
from goldens import TINY, edit, golden
from safetensors.numpy import load_file, save_file

from embergem import _native
from embergem.errors import CorruptCheckpoint, MissingTensor, UnsupportedModel
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.program.build import build

KNOWN = (
    "embeddings.position_ids",
    "layers.0.self_attn.rotary_emb.inv_freq",
    "pooler.dense.weight",
    "lm_head.weight",
    "cls.predictions.bias",
    "classifier.out_proj.weight",
    "score.weight",
    "vocab_projector.bias",
    "vision_tower.blocks.0.weight",
)
UNKNOWN = ("linear.weight", "layers.99.norm.weight", "embeddings.more.weight", "pooled.weight", "lm_heads.weight")
NAMES = [name for name, path in TINY.items() if (path / "model.safetensors").exists()]


@pytest.fixture
def check(tmp_path):
    """Return a function that checks the weights of a golden after `change` edited its tensors."""

    def run(name, change):
        checkpoint = golden(name)
        (prefix, path), *others = checkpoint.files
        tensors = change(load_file(path))
        save_file(tensors, tmp_path / "model.safetensors")
        program = build(checkpoint.architecture, checkpoint.head).to_json()
        _native.require_all_read(program, [(prefix, str(tmp_path / "model.safetensors")), *others])

    return run


def more(*names):
    return lambda tensors: tensors | {name: np.zeros((2, 3), np.float32) for name in names}


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_change_nothing_are_ignored(check, name):
    check(name, more())
    prefixes = ("", "model.", *golden(name).architecture.family.prefixes)
    check(name, more(*(prefix + known for prefix in prefixes for known in KNOWN)))


@pytest.mark.parametrize("name", NAMES)
def test_another_tensor_is_refused_by_name(check, name):
    for unknown in UNKNOWN:
        with pytest.raises(UnsupportedModel, match=rf"model\.safetensors: the tensor model\.{unknown} is not part"):
            check(name, more(f"model.{unknown}"))


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_under_two_names_is_refused(check, name):
    def twice(tensors):
        first = min(tensors)
        return tensors | {f"language_model.{first}": tensors[first]}

    with pytest.raises(UnsupportedModel, match=r"the tensor \S+ is not part"):
        check(name, twice)


@pytest.mark.parametrize("name", NAMES)
def test_a_renamed_tensor_is_missing(check, name):
    def renamed(tensors):
        first = max(key for key in tensors if "norm" in key.lower() or "embed" in key)
        tensors[f"{first}s"] = tensors.pop(first)
        return tensors

    with pytest.raises(MissingTensor, match="does not contain it"):
        check(name, renamed)


def test_a_projection_among_the_weights_is_not_dropped(tmp_path):
    """As voyage-4-nano: `linear.weight` beside the model, run by the code that `auto_map` names."""
    path = shutil.copytree(TINY["qwen3"], tmp_path / "model")
    tensors = {f"model.{name}": value for name, value in load_file(path / "model.safetensors").items()}
    projection = {"linear.weight": np.zeros((48, 64), np.float32)}
    save_file(tensors | projection, path / "model.safetensors")
    edit(path / "config.json", num_labels=48, auto_map={"AutoModel": "modeling_own.OwnModel"})
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 48, "pooling_mode": "lasttoken"})
    )
    steps = (
        (UnsupportedModel, "auto_map names code", lambda: edit(path / "config.json", auto_map=None)),
        (
            CorruptCheckpoint,
            "vectors of 48 numbers, and by config.json it makes 64",
            lambda: edit(path / "1_Pooling" / "config.json", embedding_dimension=64),
        ),
    )
    for error, message, repair in steps:
        with pytest.raises(error, match=message):
            load(LoadOptions(model=path))
        repair()
    checkpoint = golden("qwen3")
    program = build(checkpoint.architecture, checkpoint.head).to_json()
    with pytest.raises(UnsupportedModel, match=r"the tensor linear\.weight is not part"):
        _native.require_all_read(program, [("", str(path / "model.safetensors"))])
