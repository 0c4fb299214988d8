"""Searches in stored vectors, compared with a search that sorts all scores."""

import numpy as np
import pytest

from embergem.errors import UnsupportedOption
from embergem.evaluate import STORAGE
from embergem.evaluate import storage as storage_module
from embergem.evaluate.storage import pair_similarities, search, storage_named
from embergem.sdk.outputs import convert, similarity


def vectors(count, dimensions=24, seed=0):
    found = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(params=[1 << 24, 500], ids=["one block", "blocks"])
def block(request, monkeypatch):
    monkeypatch.setattr(storage_module, "BLOCK_VALUES", request.param)


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "binary"])
def test_a_search_sorts_by_the_cosine_of_the_stored_forms(block, name):
    queries, documents = vectors(7), vectors(90, seed=1)
    form = STORAGE[name].form
    scores = similarity(convert(queries, form), convert(documents, form))
    for found, row in zip(search(queries, documents, STORAGE[name], 30, 1), scores, strict=True):
        assert len(set(found.tolist())) == 30
        assert np.abs(row[found] - np.sort(row)[::-1][:30]).max() < 1e-6


def test_documents_with_equal_scores_stay_in_order(block):
    documents = np.tile(vectors(3), (20, 1))
    for found in search(vectors(3), documents, STORAGE["binary"], 25, 1):
        groups = [found[:20], found[20:]]
        assert all((np.diff(group) > 0).all() for group in groups)
        assert all(len(set((group % 3).tolist())) == 1 for group in groups)


def test_candidates_are_scored_again_with_the_kept_vectors(block):
    queries, documents = vectors(5), vectors(80, seed=1)
    everything = search(queries, documents, STORAGE["binary+float32"], 10, 80)
    assert np.array_equal(everything, search(queries, documents, STORAGE["float32"], 10, 1))
    candidates = search(queries, documents, STORAGE["binary"], 20, 1)
    exact = queries @ documents.T
    for query, found in enumerate(search(queries, documents, STORAGE["binary+float32"], 10, 20)):
        best = candidates[query][np.argsort(-exact[query, candidates[query]])][:10]
        assert np.array_equal(found, best)
    rescored = search(queries, documents, STORAGE["binary+int8"], 10, 20)
    assert np.mean([len(set(a) & set(b[:10])) for a, b in zip(rescored, candidates, strict=True)]) < 10


def test_fewer_documents_than_asked_for_are_all_returned():
    for name in STORAGE:
        [found] = search(vectors(1), vectors(4, seed=1), STORAGE[name], 10, 20)
        assert sorted(found.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "binary"])
def test_similarities_of_pairs_are_the_cosines_of_the_stored_forms(block, name):
    stored = vectors(30)
    first, second = np.arange(29), np.arange(1, 30)
    form = STORAGE[name].form
    expected = similarity(convert(stored, form), convert(stored, form))[first, second]
    assert np.abs(pair_similarities(stored, first, second, form) - expected).max() < 1e-6


def test_bytes_of_a_vector():
    sizes = {name: (form.searched_bytes(100), form.kept_bytes(100)) for name, form in STORAGE.items()}
    assert sizes == {
        "float32": (400, 0),
        "float16": (200, 0),
        "int8": (100, 0),
        "binary": (13, 0),
        "binary+int8": (13, 100),
        "binary+float32": (13, 400),
    }
    for form in STORAGE.values():
        assert np.asarray(convert(vectors(1, 100), form.form)).nbytes == form.searched_bytes(100)


def test_an_unknown_form_is_refused_with_the_one_that_was_meant():
    with pytest.raises(UnsupportedOption, match=r"storage=binry is no form of stored vectors. Did you mean 'binary'"):
        storage_named("binry")
