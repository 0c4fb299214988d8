"""Texts above the token limit in chunks: parts of the text that fit, one row each or pooled."""

from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from embergem.bulk import embed_table
from embergem.bulk.encoder import make_encoder
from embergem.bulk.job_options import JobOptions
from embergem.bulk.long_texts import Splitter

LONG = " ".join(f"sentence number {number} is about graphene." for number in range(60))
UNBROKEN = "".join(chr(0x4E00 + number % 500) for number in range(900))


@pytest.mark.parametrize("text", [LONG, UNBROKEN, "graphene" * 400, " \n" * 400 + LONG, LONG + " " * 900])
@pytest.mark.parametrize("overlap", [0, 20])
def test_chunks_cover_the_text_and_fit_the_limit(embedder, text, overlap):
    encoder = make_encoder(embedder._backend, JobOptions(task="query"))
    chunks = Splitter(encoder, overlap).split(text, None)
    assert chunks[0][0].start == 0
    assert chunks[-1][0].end == len(text)
    assert [chunk.number for chunk, _ in chunks] == list(range(len(chunks)))
    for (before, _), (after, _) in pairwise(chunks):
        assert before.start < after.start <= before.end < after.end
        assert overlap or after.start == before.end
    lengths = embedder.count_tokens([text[chunk.start : chunk.end] for chunk, _ in chunks], task="query")
    assert max(lengths) <= embedder.limit
    if text == LONG:
        assert min(lengths[:-1]) > embedder.limit - 20  # the chunks are nearly full
        shared = [before.end - after.start for (before, _), (after, _) in pairwise(chunks)]
        assert all(shared) if overlap else not any(shared)


def test_each_chunk_is_a_row(embedder, tmp_path):
    (tmp_path / "a.txt").write_text(f"short\n{LONG}\nlast")
    summary = embed_table(tmp_path / "a.txt", tmp_path / "out.parquet", embedder, too_long="chunk", chunk_overlap=10)
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    count = len(table["index"]) - 2
    assert table["index"] == [0, *[1] * count, 2]
    assert table["chunk"] == [0, *range(count), 0]
    texts = ["short", *[LONG[start:end] for start, end in _spans(table)[1:-1]], "last"]
    assert np.array_equal(np.float32(table["embedding"]), embedder.embed(texts))
    assert _spans(table)[-1] == (0, 4)
    assert (summary.counts.source_rows, summary.counts.rows, summary.counts.chunked) == (3, count + 2, 1)
    assert summary.problems["chunked"] == (1, ["line 2"])


def _spans(table):
    return list(zip(table["chunk_start"], table["chunk_end"], strict=True))


def test_the_mean_of_the_chunks_is_weighted_by_tokens(embedder, tmp_path):
    (tmp_path / "a.txt").write_text(f"short\n{LONG}\n{LONG}")
    summary = embed_table(tmp_path / "a.txt", tmp_path / "out.npy", embedder, too_long="chunk", chunk_pool="mean")
    found = np.load(tmp_path / "out.npy")
    encoder = make_encoder(embedder._backend, JobOptions())
    parts = [LONG[chunk.start : chunk.end] for chunk, _ in Splitter(encoder, 0).split(LONG, None)]
    expected = np.average(embedder.embed(parts), axis=0, weights=embedder.count_tokens(parts))
    expected /= np.linalg.norm(expected)
    assert np.abs(found[1] - expected).max() < 1e-6
    assert np.array_equal(found[1], found[2])
    assert np.array_equal(found[0], embedder.embed("short")[0])
    assert (summary.counts.rows, summary.counts.computed, summary.counts.duplicates) == (3, 2, 1)
