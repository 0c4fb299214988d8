"""Every golden: the specification and the executor give the stored vectors of the published library."""

import numpy as np
import pytest
from goldens import TINY, golden, pack

from embergem._native import instruction_sets
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare, text_pipeline


def off(found, expected):
    """Return the largest difference in any component; a vector longer than 1 is compared as if it had length 1."""
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    return (np.abs(found - expected) / np.maximum(lengths, 1)).max()


@pytest.mark.parametrize("name", TINY)
def test_reference_is_right(name):
    checkpoint = golden(name)
    assert off(checkpoint.reference(checkpoint.ids), checkpoint.vectors) < 1e-6


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("name", TINY)
def test_executor_is_right(name, instruction_set):
    checkpoint = golden(name)
    found = checkpoint.native(instruction_set=instruction_set).run(*pack(checkpoint.ids))
    assert off(found, checkpoint.vectors) < 1e-6


@pytest.mark.parametrize("name", TINY)
def test_same_bits_alone_and_in_any_batch(name):
    checkpoint = golden(name)
    model, single = checkpoint.native(), checkpoint.native(threads=1)
    together = model.run(*pack(checkpoint.ids))
    random = np.random.default_rng(0)
    for index, row in enumerate(checkpoint.ids):
        assert np.array_equal(model.run(*pack([row]))[0], together[index])
    for _ in range(50):
        chosen = random.choice(len(checkpoint.ids), size=random.integers(1, 40))
        rows = [checkpoint.ids[i] for i in chosen]
        assert np.array_equal(model.run(*pack(rows)), together[chosen])
        assert np.array_equal(single.run(*pack(rows)), together[chosen])


@pytest.mark.parametrize("name", TINY)
def test_texts_have_the_token_ids_of_the_library(name):
    checkpoint = read_checkpoint(Location(name, TINY[name]))
    texts, expected = golden(name).texts, golden(name).ids
    pipeline = text_pipeline(checkpoint, prepare(checkpoint, name))
    found = [ids.tolist() for ids, _ in pipeline.prepare(texts, truncate=True)]
    assert found == expected[: len(texts)]
