"""Pickled and copied embedders load their model again, with the same options."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

from embergem import AsyncEmbedder, Client, Embedder
from embergem.sentence_transformers import SentenceTransformer


def embed_in_a_worker(embedder):
    """Run in a process that was started with spawn."""
    return embedder.embed(["a", "graphene"])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("kind", [Embedder, AsyncEmbedder])
def test_options_are_kept(tiny, kind, again):
    before = kind(tiny, dtype="int16", threads=1)
    after = again(before)
    assert type(after) is kind
    assert after.dtype == "int16"
    assert after._backend is not before._backend
    assert repr(after) == repr(before)


def test_a_spawned_worker_gives_the_same_bits(tiny):
    with Embedder(tiny) as embedder, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(embed_in_a_worker, (embedder,)), embedder.embed(["a", "graphene"]))


def test_clients_connect_again(url):
    with Client(url, timeout=5.0) as client, pickle.loads(pickle.dumps(client)) as again:
        assert np.array_equal(again.embed("a"), client.embed("a"))
        assert again._remote is not client._remote


def test_sentence_transformers_keep_their_settings(tiny):
    model = SentenceTransformer(tiny, prompts={"query": "q: "}, truncate_dim=32, dtype="int16")
    model.max_seq_length = 16
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.encode_query(["a b"]), model.encode_query(["a b"]))
    assert (again.max_seq_length, again.truncate_dim, again.dtype) == (16, 32, "int16")


def test_what_cannot_be_pickled_says_so(tiny, embedder, url):
    for value, words in [
        (Embedder(embedder._backend), "made from an open backend, which cannot be pickled"),
        (AsyncEmbedder.sharing(embedder), "made from an open backend, which cannot be pickled"),
        (Client(url, api_key="s3cret"), "api_key is a secret, so this Client cannot be pickled"),
    ]:
        with pytest.raises(TypeError, match=words) as raised:
            pickle.dumps(value)
        assert "s3cret" not in str(raised.value)
