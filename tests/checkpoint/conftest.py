"""A checkpoint that tests may change."""

import pytest
from goldens import copy_model


@pytest.fixture
def model(tmp_path):
    """The directory of a tiny EmbeddingGemma; a test may damage it."""
    return copy_model("gemma3_text", tmp_path / "tiny")
