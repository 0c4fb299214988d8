"""Dtypes other than float32: distance to float32, the same bits alone and in any batch, and the choice of "auto"."""

import numpy as np
import pytest
from goldens import TINY, golden, pack

from embergem import Embedder
from embergem._native import instruction_sets
from embergem.engine import Request
from embergem.errors import UnsupportedOption
from embergem.loader import load
from embergem.ops.bfloat16 import ROUNDING
from embergem.options import DTYPES, LoadOptions
from embergem.program.build import build

LEAST = {"bfloat16": 0.9999, "int16": 0.999999, "int8": 0.9985}
"""Least cosine to the vectors of the published library, for tiny checkpoints."""
LEAST_OF_GOLDEN = {
    ("t5", "bfloat16"): 0.9998,
    ("t5_gated", "bfloat16"): 0.9998,
    ("llama", "int8"): 0.997,
    ("mistral", "int8"): 0.996,
    ("modernbert", "int8"): 0.998,
    ("nomic_bert", "int8"): 0.998,
    ("qwen2", "int8"): 0.998,
    ("qwen3", "int8"): 0.9965,
    ("t5", "int8"): 0.997,
    ("t5_gated", "int8"): 0.985,
}
"""Goldens whose random weights make rounding more visible; T5 does not scale the attention scores."""
LEAST_OF_ROUNDED_ROWS = dict.fromkeys(["llama", "mistral", "nomic_bert", "qwen2", "qwen3"], 0.9997) | {
    "modernbert": 0.9998,
    "t5": 0.9996,
    "t5_gated": 0.999,
}
"""The same in bfloat16 on instruction sets that round rows too, which about doubles 1 - cosine."""
LEAST_FULL_SIZE = {"bfloat16": 0.9999, "int16": 0.99999, "int8": 0.997}
"""The same for the full size."""


def multiplies(name):
    """Return whether the program of a golden has matrix products, which are what a dtype changes."""
    checkpoint = golden(name)
    return any(step.op == "linear" for step in build(checkpoint.architecture, checkpoint.head).steps)


NAMES = [name for name in TINY if multiplies(name)]


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("name", NAMES)
def test_near_the_library(name, dtype, instruction_set):
    checkpoint = golden(name)
    vectors = checkpoint.native(dtype=dtype, instruction_set=instruction_set).run(*pack(checkpoint.ids))
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(checkpoint.vectors, axis=1)
    cosines = (vectors * checkpoint.vectors).sum(axis=1) / lengths
    least = LEAST_OF_GOLDEN.get((name, dtype), LEAST[dtype])
    if dtype == "bfloat16" and instruction_set in ROUNDING:
        least = LEAST_OF_ROUNDED_ROWS.get(name, least)
    assert cosines.min() > least
    assert np.abs(vectors - checkpoint.vectors).max() > 0


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_alone_and_in_any_batch(name, dtype):
    same_bits_alone_and_in_any_batch(name, dtype=dtype)


@pytest.mark.parametrize("instruction_set", [name for name in instruction_sets() if name in ROUNDING])
@pytest.mark.parametrize("name", ["gemma3_text", "bert_mean"])
def test_same_bits_with_instructions_for_bfloat16(name, instruction_set):
    same_bits_alone_and_in_any_batch(name, dtype="bfloat16", instruction_set=instruction_set)


def same_bits_alone_and_in_any_batch(name, **options):
    checkpoint = golden(name)
    model, single = checkpoint.native(**options), checkpoint.native(**options, threads=1)
    together = model.run(*pack(checkpoint.ids))
    random = np.random.default_rng(1)
    for _ in range(50):
        chosen = random.choice(len(checkpoint.ids), size=random.integers(1, 40))
        rows = [checkpoint.ids[i] for i in chosen]
        assert np.array_equal(model.run(*pack(rows)), together[chosen])
        assert np.array_equal(single.run(*pack(rows[:1]))[0], together[chosen[0]])


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.9999), ("int16", 0.99999), ("int8", 0.9995)])
def test_real_weights(minilm, lee, dtype, least):
    documents = (lee / "lee.cor").read_text("latin-1").strip().split("\n")[:25]
    with Embedder(minilm) as exact, Embedder(minilm, dtype=dtype) as other:
        assert (exact.embed(documents) * other.embed(documents)).sum(axis=1).min() > least


def test_int8_correlates_with_human_judgements_as_float32_does(minilm, lee):
    documents = (lee / "lee.cor").read_text("latin-1").strip().split("\n")
    judged = np.loadtxt(lee / "similarities0-1.txt")[np.triu_indices(50, 1)]

    def pearson(dtype):
        with Embedder(minilm, dtype=dtype) as embedder:
            vectors = embedder.embed(documents)
        return np.corrcoef((vectors @ vectors.T)[np.triu_indices(50, 1)], judged)[0, 1]

    assert abs(pearson("int8") - pearson("float32")) < 0.002


@pytest.mark.parametrize("dtype", LEAST_FULL_SIZE)
def test_full_size(random_gemma, dtype):
    checkpoint = golden("gemma300m_random", random_gemma)
    rows = [1, 3, 5, 8]
    vectors = checkpoint.native(dtype=dtype).run(*pack([checkpoint.ids[row] for row in rows]))
    assert (vectors * checkpoint.vectors[rows]).sum(axis=1).min() > LEAST_FULL_SIZE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_name_loads(tiny, dtype):
    with Embedder(tiny, dtype=dtype) as embedder:
        assert embedder.dtype == ("int16" if dtype == "auto" else dtype)


def test_half_precision_is_refused_with_the_reason(tiny):
    with pytest.raises(UnsupportedOption, match=r"65,504.*float32, bfloat16, int16, int8, auto"):
        Embedder(tiny, dtype="float16")


def test_auto_uses_int16_if_it_is_near_lossless(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    with load(LoadOptions(model=tiny, dtype="auto")) as engine:
        assert engine.dtype == "int16"
        assert 0.9999 < engine.cosine < 1
        first = engine.cosine
    [note] = (tmp_path / "exactness").iterdir()
    assert float(note.read_text()) == first
    note.write_text("0.99995")  # a later load reads it and measures nothing
    with load(LoadOptions(model=tiny, dtype="auto")) as engine:
        assert engine.cosine == 0.99995


def test_auto_uses_float32_if_int16_is_not_near_lossless(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    load(LoadOptions(model=tiny, dtype="auto")).close()
    [note] = (tmp_path / "exactness").iterdir()
    note.write_text("0.99")
    with load(LoadOptions(model=tiny, dtype="auto")) as engine, Embedder(tiny) as exact:
        assert (engine.dtype, engine.cosine) == ("float32", 1.0)
        assert np.array_equal(engine.embed(Request(texts=["a"])).vectors, exact.embed("a"))
    assert "cosine of only 0.990000" in caplog.text
    with load(LoadOptions(model=tiny, dtype="int16")) as engine:
        assert (engine.dtype, engine.cosine) == ("int16", 0.99)
