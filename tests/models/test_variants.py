"""Golden checkpoints with other fields, tensor names or modules have the vectors that the published library computes.

`scripts/variants.py` made the vectors.
"""

import json
import sys

import numpy as np
import pytest
from goldens import DATA, TINY, copy_model, edit, golden, pack
from safetensors.numpy import load_file, save_file

from embergem.embedder import Embedder
from embergem.engine import Request
from embergem.loader import load
from embergem.ops.reference import Batch
from embergem.options import LoadOptions

sys.path.insert(0, str(DATA.parents[2] / "scripts"))
from variants import VARIANTS, VECTORS, rows_of, write

EXPECTED = np.load(VECTORS)
NAMED = {variant["name"]: variant for variant in VARIANTS}


def difference(found, expected):
    """Return the largest difference of a component, for vectors of length 1."""
    return (np.abs(found - expected) / np.linalg.norm(expected, axis=1, keepdims=True)).max()


@pytest.mark.parametrize("name", NAMED)
def test_a_variant_has_the_vectors_of_the_library(tmp_path, name):
    variant = NAMED[name]
    rows = rows_of(variant)
    described = golden(variant["golden"], write(variant, tmp_path / name))
    assert difference(described.reference(rows), EXPECTED[name]) < 1e-5
    assert difference(described.native().run(*pack(rows)), EXPECTED[name]) < 1e-5


def test_padding_tokens_are_not_counted():
    batch = Batch(*pack([[0, 50, 1, 60, 70, 2], [1, 1, 5]]))
    assert (2 + batch.positions(padding=1)).tolist() == [2, 3, 1, 4, 5, 6, 1, 1, 2]


@pytest.mark.parametrize("name", ["roberta_mean", "xlm_roberta", "camembert", "mpnet"])
def test_a_padding_token_in_a_text_is_not_counted(name):
    with load(LoadOptions(model=TINY[name])) as engine:
        found = engine.embed(Request(texts=["What is <pad> graphene?"]))
    [row] = found.rows
    assert 1 in row.ids
    assert difference(found.vectors, golden(name).reference([row.ids])) < 1e-5


def test_the_self_check_expects_no_unit_vectors_where_a_dense_layer_ends_the_head(tmp_path):
    path = write(NAMED["normalise before dense"], tmp_path / "model")
    with Embedder(path) as embedder:
        assert abs(np.linalg.norm(embedder.embed("graphene")) - 1) > 1e-3


def test_sizes_may_be_written_as_floats(tmp_path):
    path = copy_model("nomic_bert", tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    edit(path / "config.json", **{key: float(value) for key, value in config.items() if type(value) is int})
    assert golden("nomic_bert", path).architecture.config == golden("nomic_bert").architecture.config


def test_names_may_begin_as_in_a_module_of_sentence_transformers(tmp_path):
    path = copy_model("bert_mean", tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    save_file({f"0.auto_model.{name}": value for name, value in tensors.items()}, path / "model.safetensors")
    rows = golden("bert_mean").ids[:3]
    found = golden("bert_mean", path).native().run(*pack(rows))
    assert np.array_equal(found, golden("bert_mean").native().run(*pack(rows)))
