"""Calls with many texts: chunks, streams, progress bars and rankings."""

import itertools
import warnings

import numpy as np
import pytest

from embergem import TruncationWarning
from embergem.errors import InvalidRequest, TokenOutOfRange
from embergem.sdk import chunk_queue, chunks, stream
from embergem.types import Request

TEXTS = [f"text {number}" for number in range(700)]
LONG = "graphene " * 300


@pytest.fixture
def small_chunks(monkeypatch):
    for module in (chunks, stream):
        monkeypatch.setattr(module, "CHUNK_INPUTS", 8)
        monkeypatch.setattr(module, "CHUNK_SIZE", 60)


def test_chunks_are_bounded_and_complete(small_chunks):
    sizes = [5] * 20 + [100] + [30, 30, 1]
    runs = list(chunks.chunk_lengths(sizes))
    assert runs == [8, 8, 4, 1, 2, 1]
    assert sum(runs) == len(sizes)


@pytest.mark.parametrize(
    "texts",
    [["x" * 100], ["x"] * 8, ["x"] * 9, ["x" * 30] * 2, ["x" * 30, "x" * 31], ["x" * 61, "x"], ["", ""]],
    ids=lambda texts: f"{len(texts)} texts",
)
def test_a_request_that_is_one_chunk_is_not_split(texts, small_chunks):
    request = Request(texts=texts)
    split = list(chunks.split_request(request))
    assert chunks.is_one_chunk(request) == (len(split) == 1)
    if len(split) == 1:
        assert split[0][1] is request
    else:
        assert {part.lane for _, part in split} == {"bulk"}


def test_chunks_do_not_change_vectors(embedder, small_chunks):
    texts = TEXTS[:50]
    titles = [f"title {number}" if number % 3 else None for number in range(50)]
    whole = np.concatenate(
        [embedder.embed(text, task="document", title=title) for text, title in zip(texts, titles, strict=True)]
    )
    assert np.array_equal(embedder.embed_documents(texts, titles), whole)
    ids = [[5, 6 + number] for number in range(50)]
    assert np.array_equal(embedder.embed(ids), np.concatenate([embedder.embed([row]) for row in ids]))


def test_truncation_in_several_chunks_is_one_warning(embedder, small_chunks):
    texts = [LONG, *TEXTS[:20], LONG]
    with pytest.warns(TruncationWarning, match="2 of 22 inputs.*indices 0, 21 of") as caught:
        embedder.embed(texts, truncate=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_stream_yields_every_vector_in_order(embedder):
    streamed = list(embedder.embed_stream(iter(TEXTS), task="query"))
    assert np.array_equal(np.stack(streamed), embedder.embed_query(TEXTS))
    assert list(embedder.embed_stream([])) == []
    assert list(embedder.embed_stream(["a"], output="list")) == embedder.embed(["a"], output="list")
    with pytest.warns(TruncationWarning) as caught:
        next(embedder.embed_stream([LONG], truncate=True))
    assert caught[0].filename == __file__


def test_a_stream_reads_a_bounded_number_of_chunks_ahead(embedder):
    read = 0

    def endless():
        nonlocal read
        for number in itertools.count():
            read += 1
            yield f"text {number}"

    vectors = embedder.embed_stream(endless())
    for _ in range(300):
        next(vectors)
    assert read <= 300 + (stream.MAX_PENDING + 1) * chunks.CHUNK_INPUTS
    vectors.close()
    assert embedder.embed("after").shape == (1, 96)


def test_a_stream_of_mixed_kinds_is_refused(embedder):
    with pytest.raises(InvalidRequest, match="Input 1 is a list"):
        list(embedder.embed_stream(["a", [5]]))
    with pytest.raises(InvalidRequest, match="of type int"):
        list(embedder.embed_stream(5))


def test_leaving_a_call_cancels_its_chunks(embedder):
    request = embedder._request(TEXTS)
    with chunk_queue.PendingChunks(embedder._backend) as left:
        left.submit_all(request)
        submitted = tuple(left._chunks)
    assert all(chunk.future.done() for chunk in submitted)
    left.submit(0, request)
    assert left._chunks[-1].future.done()


def test_a_progress_bar_needs_a_terminal_or_progress_true(embedder, capsys):
    embedder.embed(TEXTS)
    assert capsys.readouterr().err == ""
    embedder.embed(TEXTS[:3], progress=True)
    assert "3/3" in capsys.readouterr().err
    list(embedder.embed_stream(TEXTS[:4], progress=True))
    assert "4/4" in capsys.readouterr().err


def test_rank_orders_by_the_cosine_of_both_sides(embedder):
    documents = ["apples", "graphene is a carbon lattice", "bridges"]
    ranked = embedder.rank("graphene", documents, ["Fruit", None, None])
    scores = embedder.similarity(
        embedder.embed_query("graphene"), embedder.embed_documents(documents, ["Fruit", None, None])
    )[0]
    assert [found.index for found in ranked] == list(np.argsort(-scores))
    for found in ranked:
        assert found.text == documents[found.index]
        assert found.score == pytest.approx(scores[found.index], abs=1e-6)
    assert embedder.rank("graphene", iter(documents), ["Fruit", None, None], top=1) == ranked[:1]
    with pytest.raises(ValueError, match="top=0"):
        embedder.rank("a", documents, top=0)
    with pytest.raises(InvalidRequest, match="rank takes documents as texts"):
        embedder.rank("a", [[5]])


def test_tokens_above_the_limit_are_counted(embedder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = embedder.count_tokens(["", LONG, "x"])
    assert counts[0] == 2
    assert counts[1] > embedder.limit
    assert embedder.count_tokens("x", task="query")[0] > counts[2]
    assert embedder.count_tokens([[5, 6, 7]]) == [3]


def test_texts_become_ids_and_back(embedder):
    engine = embedder._backend
    ids = engine.tokenize("What is graphene?")
    assert np.array_equal(embedder.embed([ids]), embedder.embed("What is graphene?"))
    assert engine.tokenize("What is graphene?", special=False) == ids[1:-1]
    assert engine.detokenize(ids) == engine.detokenize(ids[1:-1])
    assert engine.detokenize(ids, skip_special=False).startswith("<bos>")
    for unknown in (999_999, -1):
        with pytest.raises(TokenOutOfRange, match=f"the token id {unknown} at position 1"):
            engine.detokenize([5, unknown])
