"""Seconds, nothing downloaded: the whole way from a text to a vector, on the tiny EmbeddingGemma.

pytest tests/test_tiny.py
"""

import numpy as np
from goldens import golden

from embergem import EmbeddingArchitecture, EmbeddingRequest, Runner, Which


def test_text_to_vector_is_the_published_librarys(embedder):
    checkpoint = golden("gemma3_text")
    texts = checkpoint.texts[:5]
    assert np.abs(embedder.embed(texts) - checkpoint.vectors[:5]).max() < 1e-6


def test_the_prompt_is_one_word_away_and_never_added_unasked(embedder):
    plain, prompted = embedder.embed("x"), embedder.embed("x", task="query")
    assert not np.array_equal(plain, prompted)
    assert np.array_equal(prompted, embedder.embed("task: search result | query: x"))


def test_the_selector_style_gives_the_same(tiny, embedder):
    runner = Runner(which=Which.Embedding(model_id=str(tiny), arch=EmbeddingArchitecture.EmbeddingGemma))
    vectors = runner.send_embedding_request(EmbeddingRequest(input=["x", "y"]))
    assert np.array_equal(np.array(vectors, dtype=np.float32), embedder.embed(["x", "y"]))
