"""EmbeddingGemma-300m with random weights and the real MiniLM: vectors, bits, Matryoshka, and the Lee corpus."""

import numpy as np
import pytest
from goldens import DATA, golden, pack

from embergem import Embedder, TruncationWarning
from embergem._native import instruction_sets

ALONE = [2, 6, 8, 10]
"""Rows run alone in `make test`: 3, 256, 258 and 513 ids; `make parity-full` runs all."""


@pytest.fixture(scope="module")
def gemma(random_gemma):
    return golden("gemma300m_random", random_gemma)


@pytest.fixture(scope="module")
def native(gemma):
    return gemma.native()


@pytest.fixture(scope="module")
def mixed(gemma, native):
    """All rows in one batch."""
    return native.run(*pack(gemma.ids))


def test_gemma_in_one_batch(gemma, mixed):
    assert [len(row) for row in gemma.ids][-2:] == [2047, 2048]
    assert np.abs(mixed - gemma.vectors).max() < 1e-6


@pytest.mark.parametrize("index", ALONE)
def test_gemma_alone(gemma, native, mixed, index):
    assert np.array_equal(native.run(*pack([gemma.ids[index]]))[0], mixed[index])


@pytest.mark.parity_full
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("index", range(16))
def test_gemma_every_row_alone(gemma, index, instruction_set):
    vector = gemma.native(instruction_set=instruction_set).run(*pack([gemma.ids[index]]))[0]
    assert np.abs(vector - gemma.vectors[index]).max() < 1e-6


@pytest.mark.parity_full
def test_gemma_by_the_specification(gemma):
    rows = [0, 2, 5, 7, 10]
    assert np.abs(gemma.reference([gemma.ids[row] for row in rows]) - gemma.vectors[rows]).max() < 1e-5


def test_gemma_from_text_with_the_real_tokenizer(random_gemma, gemma_tokenizer):
    with Embedder(random_gemma) as embedder:
        vectors = embedder.embed(["What is graphene?", "東京"], task="query")
        prompted = ["task: search result | query: What is graphene?", "task: search result | query: 東京"]
        assert np.array_equal(vectors, embedder.embed(prompted))
        assert embedder.allowed_dimensions == (768, 512, 256, 128)
        for size in embedder.allowed_dimensions:
            cut = embedder.embed(prompted, dimensions=size)
            kept = vectors[:, :size].astype(np.float64)
            assert cut.shape == (2, size)
            assert np.abs(cut - kept / np.linalg.norm(kept, axis=1, keepdims=True)).max() < 1e-7


def test_minilm_rows(minilm):
    checkpoint = golden("minilm", minilm)
    model = checkpoint.native()
    together = model.run(*pack(checkpoint.ids))
    assert np.abs(together - checkpoint.vectors).max() < 1e-6
    for index, row in enumerate(checkpoint.ids):
        assert np.array_equal(model.run(*pack([row]))[0], together[index])


def test_minilm_texts(minilm):
    texts = golden("minilm", minilm).texts
    with Embedder(minilm) as embedder, pytest.warns(TruncationWarning, match="1 of 5 inputs .* limit of 256"):
        vectors = embedder.embed(texts, truncate=True)
    assert np.abs(vectors - np.load(DATA / "minilm" / "expected.npz")["text_vectors"]).max() < 1e-6


def test_minilm_correlates_with_human_judgements_as_in_the_library(minilm, lee):
    documents = (lee / "lee.cor").read_text("latin-1").strip().split("\n")
    judged = np.loadtxt(lee / "similarities0-1.txt")
    pairs = np.triu_indices(50, 1)
    assert judged.shape == (50, 50)
    assert len(pairs[0]) == 1225
    with Embedder(minilm) as embedder:
        vectors = embedder.embed(documents)
        found = embedder.similarity(vectors, vectors)
    assert np.corrcoef(judged[pairs], found[pairs])[0, 1] == pytest.approx(0.6564, abs=0.0005)
