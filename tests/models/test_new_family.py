"""A family is one file and one golden directory: with these two, in a temporary directory, every check covers it.

The test adds a family that embergem does not have, changes no tracked file, and runs the tests of the repository.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from goldens import DATA, pack
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from embergem import models
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import UnsupportedModel
from embergem.models import architecture, require_arch
from embergem.ops import WeightLookup
from embergem.ops.reference import Batch, Reference

ROOT = Path(__file__).parents[2]

FAMILY = '''
"""Toy encoders: one causal attention and one gate a layer, between residuals."""

from dataclasses import dataclass

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="Toy",
    checkpoints="none",
    differs="made by a test",
    model_types=("toy",),
    spellings=(("toy_text", "toy"),),
    arch=("toyembedding",),
    special_tokens=("opening", "closing"),
    prefixes=("toy_model.",),
    fields=("vocab_size", "width", "layers"),
    inert=(Inert("dropout", (0.0,), "sets activations to zero"),),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    width: int
    layers: int


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    return Config(*(fields.need(name, int) for name in ("vocab_size", "width", "layers")))


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, width)."""
    width = config.width
    x = ops.embed(batch, weights("table", config.vocab_size, width))
    for layer in range(config.layers):
        w = weights.under(f"layers.{layer}.")
        h = ops.norm(x, w("norm", width), kind="rms", eps=1e-6)
        q, k, v, gate, up = (ops.linear(h, w(name, width, width)) for name in ("q", "k", "v", "gate", "up"))
        q, k = (ops.rope(batch, part, head_dim=8, theta=1e4) for part in (q, k))
        h = ops.attention(batch, q, k, v, heads=width // 8, kv_heads=width // 8, head_dim=8, scale=0.5, causal=True)
        x = ops.add(ops.add(x, h), ops.glu(gate, up, kind="silu"))
    return x
'''

WIDTH, LAYERS, VOCABULARY = 32, 2, 800

COVERED = {
    "models/test_families.py": (
        "test_the_declaration_in_the_source_is_the_one_of_the_module",
        "test_declared_fields_are_those_that_are_read",
        "test_another_value_of_an_inert_field_is_refused_with_the_reason",
        "test_every_name_of_a_family_selects_it_and_no_other",
    ),
    "models/test_goldens.py": (
        "test_reference_is_right",
        "test_executor_is_right",
        "test_same_bits_alone_and_in_any_batch",
        "test_texts_have_the_token_ids_of_the_library",
    ),
    "models/test_traps.py": ("test_saved_again_with_a_prefix_and_with_more_tensors",),
    "models/test_program.py": ("test_the_rewritten_program_computes_the_same_vectors",),
    "rust/test_rust_programs.py": (
        "test_a_golden_finds_its_card",
        "test_a_config_that_meets_the_conditions_describes_the_same_model",
    ),
    "selfcheck/test_every_golden.py": ("test_it_passes", "test_lost_special_tokens_are_found"),
    "test_models_page.py": ("test_a_family_has_a_row_in_the_parity_table",),
}
"""The checks of a family, by file."""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Return a directory with the file of a family, and with its golden, computed by the NumPy specification."""
    (tmp_path / "toy.py").write_text(FAMILY)
    golden = tmp_path / "goldens" / "toy_golden"
    (golden / "1_Pooling").mkdir(parents=True)
    config = {"model_type": "toy", "vocab_size": VOCABULARY, "width": WIDTH, "layers": LAYERS, "dropout": 0.0}
    module = "sentence_transformers.models."
    chain = [("", "Transformer"), ("1_Pooling", "Pooling"), ("", "Normalize")]
    content = {
        "config.json": config,
        "modules.json": [{"path": path, "type": module + kind} for path, kind in chain],
        "1_Pooling/config.json": {"embedding_dimension": WIDTH, "pooling_mode": "mean"},
        "sentence_bert_config.json": {"max_seq_length": 64},
        "tokenizer.json": json.loads((DATA / "bert_mean" / "tokenizer.json").read_text()),
    }
    for name, value in content.items():
        (golden / name).write_text(json.dumps(value))

    random, tensors = np.random.default_rng(0), {}

    def weight(name, shape):
        scale = shape[-1] ** -0.5 if name.startswith("layers.") and len(shape) > 1 else 1.0
        tensors[name] = random.normal(size=shape, scale=scale).astype(np.float32)
        return tensors[name]

    texts = ["", "What is graphene?", "a"]
    tokenizer = Tokenizer.from_file(str(golden / "tokenizer.json"))
    ids = [tokenizer.encode(text).ids for text in texts]
    ids += [random.integers(0, VOCABULARY, length).tolist() for length in (1, 2, 5, 17, 40, 64, 3, 9)]
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    head = read_checkpoint_of(golden).head
    vectors = architecture(config).vectors(head, Reference(), WeightLookup(weight), Batch(*pack(ids)))
    save_file({f"toy_model.{name}": value for name, value in tensors.items()}, golden / "model.safetensors")
    (golden / "inputs.json").write_text(json.dumps({"ids": ids, "texts": texts}))
    np.savez(golden / "expected.npz", vectors=vectors)
    yield tmp_path
    sys.modules.pop("embergem.models.toy", None)


def read_checkpoint_of(golden):
    (golden / "model.safetensors").touch()  # an empty file: the tensors are written once the head is known
    return read_checkpoint(Location("toy_golden", golden))


def test_a_family_in_another_directory_is_found_by_all_its_names(directory):
    config = json.loads((directory / "goldens" / "toy_golden" / "config.json").read_text())
    for arch in ("auto", "toy", "toy_text", "toyembedding"):
        assert architecture(config | {"model_type": "toy_text"}, arch=arch).model_type == "toy"
    with pytest.raises(UnsupportedModel, match="'toy', not bert"):
        require_arch("toy", "bert")


def test_every_check_covers_it(directory):
    files = [f"tests/{file}" for file in COVERED]
    environment = {**os.environ, "MORE_TEST_FAMILIES": str(directory)}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-k", "toy", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = set(re.findall(r"^PASSED tests/(\S+)::(\w+)\[\S*toy\S*\]", done.stdout, re.MULTILINE))
    assert passed == {(file, test) for file, tests in COVERED.items() for test in tests}
