"""`input_index` of an error counts in the caller's call, even if the call was split; the message has the same index."""

import asyncio
import pickle

import numpy as np
import pytest

from embergem import AsyncEmbedder, Client, Embedder, EmbeddingModelBuilder, EmbeddingRequest, Runner, Which
from embergem.client import remote
from embergem.client.token_estimate import TokenEstimate
from embergem.errors import (
    EmptyInput,
    InputTooLong,
    InvalidText,
    InvalidType,
    Overloaded,
    TokenOutOfRange,
    without_input_prefix,
)
from embergem.sdk import chunks

LONG = "graphene " * 300
TEXTS = [f"text {number}" for number in range(600)]
TEXTS[577] = LONG


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as connected:
        yield connected


@pytest.fixture
def small_parts(client, monkeypatch):
    """Let the client send requests of at most 50 tokens, and begin with its first estimate."""
    monkeypatch.setattr(remote, "PART_TOKENS", 50)
    monkeypatch.setattr(client._remote, "_estimate", TokenEstimate(client.limit))


def assert_points_to(error, index):
    assert error.input_index == index
    assert error.message.startswith(f"Input {index} ")
    assert str(error) == error.message


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (LONG, InputTooLong),
        ("\ud800", InvalidText),
        (5, InvalidType),
    ],
)
def test_a_bad_text_in_a_later_chunk(embedder, bad, kind):
    texts = ["a"] * 600
    texts[577] = bad
    with pytest.raises(kind) as caught:
        embedder.embed(texts)
    assert_points_to(caught.value, 577)
    with pytest.raises(kind) as caught:
        list(embedder.embed_stream(iter(texts)))
    assert_points_to(caught.value, 577)


def test_a_title_that_is_not_unicode(embedder):
    titles = [None] * 600
    titles[577] = "\udfff"
    with pytest.raises(InvalidText, match="character 0 of its title") as caught:
        embedder.embed_documents(["a"] * 600, titles)
    assert_points_to(caught.value, 577)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ([5, 5000], TokenOutOfRange),
        ([5, 10**30], TokenOutOfRange),
        ([], EmptyInput),
        ([5] * 200, InputTooLong),
        ([5, "a"], InvalidType),
        ([5, True], InvalidType),
    ],
)
def test_bad_token_ids_in_a_later_chunk(embedder, bad, kind):
    rows = [[5, 6]] * 600
    rows[577] = bad
    with pytest.raises(kind) as caught:
        embedder.embed(rows)
    assert_points_to(caught.value, 577)
    with pytest.raises(kind) as caught:
        list(embedder.embed_stream(rows))
    assert_points_to(caught.value, 577)


def test_asyncio(embedder):
    async def main():
        shared = AsyncEmbedder.sharing(embedder)
        with pytest.raises(InputTooLong) as caught:
            await shared.embed(TEXTS)
        assert_points_to(caught.value, 577)
        with pytest.raises(InputTooLong) as caught:
            [vector async for vector in shared.embed_stream(TEXTS)]
        assert_points_to(caught.value, 577)

    asyncio.run(main())


def test_chunks_of_the_call_and_parts_of_the_client(client, small_parts, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_INPUTS", 90)
    with pytest.raises(InputTooLong) as caught:
        client.embed(TEXTS)
    assert_points_to(caught.value, 577)
    rows = [[5, 6]] * 600
    rows[577] = [5, 5000]
    with pytest.raises(TokenOutOfRange) as caught:
        client.embed(rows)
    assert_points_to(caught.value, 577)
    rows[577] = []
    with pytest.raises(EmptyInput) as caught:
        list(client.embed_stream(rows))
    assert_points_to(caught.value, 577)


def test_a_text_that_the_client_cannot_encode(client, small_parts):
    texts = ["a"] * 600
    texts[577] = "\ud800"
    with pytest.raises(InvalidText) as caught:
        client.embed(texts)
    assert_points_to(caught.value, 577)
    with pytest.raises(InvalidText, match="of its title") as caught:
        client.embed_documents(["a", "b"], [None, "\ud800"])
    assert_points_to(caught.value, 1)


@pytest.mark.parametrize(
    "bad", [[5, "a"], [5, True], [5, 1.5], [np.bool_(1)], np.ones((1, 1), int), b"ab", [[5]]], ids=repr
)
def test_token_ids_that_the_client_refuses(client, embedder, small_parts, bad):
    rows = [[5, 6]] * 600
    rows[577] = bad
    messages = []
    for target in (client, embedder):
        with pytest.raises(InvalidType) as caught:
            target.embed(rows)
        assert_points_to(caught.value, 577)
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def test_integers_of_numpy_and_ranges_are_token_ids(client, embedder):
    rows = [[np.int64(5), 6], np.array([5, 6], np.uint16), range(5, 7)]
    assert np.array_equal(client.embed(rows), np.repeat(client.embed([[5, 6]]), 3, axis=0))


def test_the_same_message_from_a_server(url, embedder):
    with Embedder(url) as remote_embedder:
        for arguments in ({"texts": ["a", LONG]}, {"texts": [[5], []]}):
            messages = []
            for target in (embedder, remote_embedder):
                with pytest.raises((InputTooLong, EmptyInput)) as caught:
                    target.embed(**arguments)
                assert_points_to(caught.value, 1)
                messages.append(caught.value.message)
            assert messages[0] == messages[1]


def test_the_server_answers_with_the_index(http):
    answer = http.post("/v1/embeddings", json={"input": ["a", LONG]}).json()["error"]
    assert answer["input_index"] == 1
    assert list(answer) == ["message", "type", "param", "code", "input_index"]
    answer = http.post("/v1/embeddings", json={"input": "a", "task": "sing"}).json()["error"]
    assert list(answer) == ["message", "type", "param", "code"]


def test_requests_of_texts_and_token_ids(tiny):
    request = EmbeddingRequest.builder().add_prompt("a").add_tokens([5]).add_prompt(LONG).build()
    with Runner(Which.Embedding(tiny)) as runner, pytest.raises(InputTooLong) as caught:
        runner.send_embedding_request(request)
    assert_points_to(caught.value, 2)

    async def main():
        request = EmbeddingRequest.builder().add_prompt("a").add_tokens([5]).add_tokens([5, 5000])
        async with await EmbeddingModelBuilder(str(tiny)).build() as model:
            with pytest.raises(TokenOutOfRange) as caught:
                await model.generate_embeddings(request)
            assert_points_to(caught.value, 2)

    asyncio.run(main())


def test_errors_survive_pickling_and_keep_their_input():
    error = InputTooLong("has 900 tokens.", param="input", input_index=3)
    error.renumber_input(range(10, 20))
    error.add_advice("Shorten it.")
    copy = pickle.loads(pickle.dumps(error))
    assert repr(copy) == repr(error) == "InputTooLong('Input 13 has 900 tokens. Shorten it.')"
    assert (copy.param, copy.input_index) == ("input", 13)
    assert without_input_prefix(copy.message, 13) == "has 900 tokens. Shorten it."
    without = Overloaded("The queue is full.", retry_after=2)
    without.renumber_input(range(10, 20))
    assert (without.message, without.input_index) == ("The queue is full.", None)
