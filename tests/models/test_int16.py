"""16-bit integers: near lossless on every family, and the same bits alone, in any batch, with any number of threads."""

import numpy as np
import pytest
from goldens import golden, pack
from test_goldens import FAMILIES as ALL

from embergem import Embedder
from embergem._native import instruction_sets
from embergem.checkpoint.location import Location
from embergem.engine import Engine, Request, exactness

FAMILIES = [name for name in ALL if name != "static"]  # which multiplies no matrices


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("name", FAMILIES)
def test_near_lossless(name, instruction_set):
    checkpoint = golden(name)
    vectors = checkpoint.native(dtype="int16", instruction_set=instruction_set).run(*pack(checkpoint.ids))
    assert (vectors * checkpoint.vectors).sum(axis=1).min() > 0.999999
    assert np.abs(vectors - checkpoint.vectors).max() > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_same_bits_alone_and_in_any_batch(name):
    checkpoint = golden(name)
    model, single = checkpoint.native(dtype="int16"), checkpoint.native(dtype="int16", threads=1)
    together = model.run(*pack(checkpoint.ids))
    random = np.random.default_rng(1)
    for _ in range(50):
        chosen = random.choice(len(checkpoint.ids), size=random.integers(1, 40))
        rows = [checkpoint.ids[i] for i in chosen]
        assert np.array_equal(model.run(*pack(rows)), together[chosen])
        assert np.array_equal(single.run(*pack(rows[:1]))[0], together[chosen[0]])


def test_real_weights(minilm, lee):
    documents = (lee / "lee.cor").read_text("latin-1").strip().split("\n")
    with Embedder(minilm) as exact, Embedder(minilm, dtype="int16") as integers:
        assert (exact.embed(documents) * integers.embed(documents)).sum(axis=1).min() > 0.99999


def test_full_size(random_gemma):
    checkpoint = golden("gemma300m_random", random_gemma)
    rows = [1, 3, 5, 8]
    vectors = checkpoint.native(dtype="int16").run(*pack([checkpoint.ids[row] for row in rows]))
    assert (vectors * checkpoint.vectors[rows]).sum(axis=1).min() > 0.99999


def test_auto_takes_integers_where_they_are_exact(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    location = Location("tiny", tiny)
    with Engine.load(location, dtype="auto") as engine:
        assert engine.dtype == "int16"
        assert 0.9999 < engine.cosine < 1
        first = engine.cosine
    monkeypatch.setattr(exactness.np.random, "default_rng", None)  # not needed again: it was remembered
    with Engine.load(location, dtype="auto") as engine:
        assert engine.cosine == first


def test_auto_goes_back_to_floats_where_they_are_not(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    monkeypatch.setattr("embergem.engine.engine.cosine", lambda *_: 0.99)
    with Engine.load(Location("tiny", tiny), dtype="auto") as engine, Embedder(tiny) as exact:
        assert (engine.dtype, engine.cosine) == ("float32", 1.0)
        assert np.array_equal(engine.embed(Request(texts=["a"])).vectors, exact.embed("a"))
    assert "cosine of only 0.990000" in caplog.text
    with Engine.load(Location("tiny", tiny), dtype="int16") as engine:
        assert (engine.dtype, engine.cosine) == ("int16", 0.99)
