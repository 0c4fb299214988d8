"""The output forms of vectors, and the cosine between vectors of any form."""

import numpy as np
import pytest

from embergem.errors import InvalidRequest, UnsupportedOption
from embergem.sdk.outputs import convert, similarity

VECTORS = np.random.default_rng(7).standard_normal((40, 96)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def test_each_form_of_the_embedder(embedder):
    texts = ["graphene", "apples", "a longer text about graphene"]
    plain = embedder.embed(texts)
    assert embedder.embed(texts, output="list") == plain.tolist()
    for output, dtype, width in (("float16", np.float16, 96), ("int8", np.int8, 96), ("binary", np.uint8, 12)):
        converted = embedder.embed(texts, output=output)
        assert converted.dtype == dtype
        assert converted.shape == (3, width)
        assert np.array_equal(converted, convert(plain, output))
        assert np.array_equal(
            embedder.embed_query(texts, output=output), embedder.embed(texts, task="query", output=output)
        )
    with pytest.raises(UnsupportedOption, match="output='int4' is not a form of vectors"):
        embedder.embed(texts, output="int4")


def test_a_row_is_converted_by_itself():
    for output in ("float16", "int8", "binary"):
        alone = np.concatenate([convert(VECTORS[index : index + 1], output) for index in range(len(VECTORS))])
        assert np.array_equal(convert(VECTORS, output), alone)


def test_int8_keeps_cosines():
    numbers = convert(VECTORS, "int8")
    assert set(np.abs(numbers.astype(int)).max(axis=1)) == {127}
    assert np.abs(similarity(numbers, numbers) - similarity(VECTORS, VECTORS)).max() < 0.01


def test_bits_are_signs_and_their_similarity_the_cosine_of_signs():
    bits = convert(VECTORS, "binary")
    assert np.array_equal(np.unpackbits(bits, axis=1), VECTORS > 0)
    signs = np.where(VECTORS > 0, 1, -1)
    assert np.allclose(similarity(bits, bits), signs @ signs.T / 96, atol=1e-6)
    with pytest.raises(InvalidRequest, match=r"packed bits .* and the other is not"):
        similarity(bits, VECTORS)


def test_zeros_stay_zeros():
    assert not convert(np.zeros((1, 8), np.float32), "int8").any()
