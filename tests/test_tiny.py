"""A test that takes seconds and downloads nothing: from a text to a vector, with the tiny EmbeddingGemma.

pytest tests/test_tiny.py
"""

import numpy as np
from goldens import golden

from embergem import EmbeddingArchitecture, EmbeddingRequest, Runner, Which


def test_a_text_has_the_vector_of_the_published_library(embedder):
    checkpoint = golden("gemma3_text")
    texts = checkpoint.texts[:5]
    assert np.abs(embedder.embed(texts) - checkpoint.vectors[:5]).max() < 1e-6


def test_a_prompt_is_added_only_with_a_task(embedder):
    plain, prompted = embedder.embed("x"), embedder.embed("x", task="query")
    assert not np.array_equal(plain, prompted)
    assert np.array_equal(prompted, embedder.embed("task: search result | query: x"))


def test_the_runner_returns_the_same_vectors(tiny, embedder):
    runner = Runner(which=Which.Embedding(model_id=str(tiny), arch=EmbeddingArchitecture.EmbeddingGemma))
    vectors = runner.send_embedding_request(EmbeddingRequest(input=["x", "y"]))
    assert np.array_equal(np.array(vectors, dtype=np.float32), embedder.embed(["x", "y"]))
