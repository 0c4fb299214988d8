"""What is no text and no list of token ids is refused with what to give, and no inputs at all give no vectors."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from embergem import AsyncEmbedder, Client
from embergem.errors import InvalidType


class DataFrame:
    """Iterates as the tables of pandas and polars do: over the names of its columns."""

    def __init__(self, *columns):
        self.columns = list(columns)

    def __iter__(self):
        return iter(self.columns)


class NAType:
    """The missing value of pandas."""

    def __repr__(self):
        return "<NA>"


CONTAINERS = [
    (DataFrame("id", "text"), r"texts is of type DataFrame\. Give one of its columns, such as texts\['text'\]"),
    (DataFrame("id", "body"), r"such as texts\['id'\]\. It has: id, body"),
    (SimpleNamespace(column_names=["passage"], columns=[[]]), r"texts\['passage'\]"),
    (
        {"a": "one", "b": "two"},
        r"texts is of type dict\. Its elements are the keys\. Give the texts: list\(texts\.values",
    ),
    (b"one", r"texts is of type bytes\. Decode it to str first: texts\.decode"),
    (5, r"texts is of type int\. Give a string"),
    (None, r"texts is of type NoneType\. Give a string"),
]
INPUTS = [
    (b"one", r"^Input 2 is of type bytes\. Decode it to str first: text\.decode"),
    (float("nan"), r"^Input 2 is nan, a missing value\. Leave it out"),
    (np.float64("nan"), r"^Input 2 is nan, a missing value"),
    (None, r"^Input 2 is None, a missing value"),
    (NAType(), r"^Input 2 is <NA>, a missing value"),
    (("a", "b"), r"^Input 2 is a tuple of strings\. Give each string as an input of its own"),
    (["a", "b"], r"^Input 2 is a list of strings"),
    ({"text": "a", "id": 5}, r"^Input 2 is a dict with the keys 'text', 'id'\. Give its text"),
    (5, r"^Input 2 is of type int\. Give strings only"),
    ([5], r"^Input 2 is a list, and the first input is a text"),
]


def ways(embedder):
    """Return the calls that take texts, as functions of the texts."""
    shared = AsyncEmbedder.sharing(embedder)

    async def stream(texts):
        return [vector async for vector in shared.embed_stream(texts)]

    return [
        embedder.embed,
        embedder.embed_documents,
        embedder.count_tokens,
        lambda texts: list(embedder.embed_stream(texts)),
        lambda texts: embedder.rank("a", texts),
        lambda texts: asyncio.run(shared.embed(texts)),
        lambda texts: asyncio.run(stream(texts)),
    ]


@pytest.mark.parametrize(("texts", "words"), CONTAINERS, ids=[type(texts).__name__ for texts, _ in CONTAINERS])
def test_a_container_of_something_else_is_refused(embedder, texts, words):
    for call in ways(embedder):
        with pytest.raises(InvalidType, match=words):
            call(texts)


@pytest.mark.parametrize(("value", "words"), INPUTS, ids=[str(value) for value, _ in INPUTS])
def test_an_input_of_another_kind_is_named_with_its_index(embedder, value, words):
    for call in ways(embedder):
        with pytest.raises(InvalidType, match=words) as caught:
            call(["a", "b", value])
        assert caught.value.input_index == 2


def test_pairs_are_refused_if_all_inputs_are_pairs(embedder):
    for pairs in ([("a", "b")], [["a", "b"]], np.array([["a", "b"]])):
        with pytest.raises(InvalidType, match=r"^Input 0 is a .* of strings"):
            embedder.embed(pairs)


def test_other_sequences_of_texts_and_ids_are_read(embedder):
    texts = ["a", "b"]
    for same in (
        tuple(texts),
        iter(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        dict.fromkeys(texts).keys(),
    ):
        assert np.array_equal(embedder.embed(same), embedder.embed(texts))
    for ids in ([(5, 6)], np.array([[5, 6]]), [np.array([5, 6])]):
        assert np.array_equal(embedder.embed(ids), embedder.embed([[5, 6]]))


def test_no_texts_give_no_vectors(embedder, url):
    with Client(url) as client:
        shared = AsyncEmbedder.sharing(embedder)
        for call in (embedder.embed, embedder.embed_query, embedder.embed_documents, client.embed):
            vectors = call([])
            assert (vectors.shape, vectors.dtype) == ((0, 96), np.float32)
        assert asyncio.run(shared.embed(iter(()))).shape == (0, 96)
        assert embedder.embed([], output="list") == []
        assert embedder.embed([], output="int8").shape == (0, 96)
        assert embedder.embed([], output="binary").shape == (0, 12)
        assert embedder.embed_documents([], []).shape == (0, 96)
        assert list(embedder.embed_stream([])) == []
        for target in (embedder, client):
            assert target.rank("a", []) == []
            assert target.count_tokens([]) == []
        assert asyncio.run(shared.rank("a", [], top=3)) == []
        assert asyncio.run(shared.count_tokens([])) == []


def test_no_texts_give_vectors_of_the_size_that_is_asked_for(tiny):
    from embergem import Embedder

    with Embedder(tiny.parent / "qwen3") as embedder:
        size = embedder.allowed_dimensions[-1]
        assert embedder.embed([], dimensions=size).shape == (0, size)
