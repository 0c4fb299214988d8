"""`reuse`: outputs of earlier jobs, of the same space only; and Arrow data without a file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from embergem.bulk import embed_table
from embergem.bulk.job_identity import describe_space
from embergem.bulk.job_options import JobOptions
from embergem.errors import UnsupportedOption


@pytest.fixture
def make(tmp_path):
    """Return a function that writes texts to a Parquet file and returns its path."""

    def written(name, texts):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": texts}), path)
        return path

    return written


def metadata(path):
    return json.loads(pq.read_schema(path).metadata[b"embergem"])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("dtype", ["float32", "binary"])
def test_vectors_of_unchanged_texts_are_reused(embedder, make, tmp_path, suffix, dtype):
    old, new, fresh = tmp_path / f"old{suffix}", tmp_path / "new.parquet", tmp_path / "fresh.parquet"
    embed_table(make("first", ["a", None, "b", "c"]), old, embedder, on_error="null", output_dtype=dtype)
    corpus = make("second", ["c", "d", "a", "d", "c"])
    summary = embed_table(corpus, new, embedder, reuse=old, output_dtype=dtype)
    assert (summary.counts.reused, summary.counts.computed, summary.counts.duplicates) == (3, 1, 1)
    embed_table(corpus, fresh, embedder, output_dtype=dtype)
    assert pq.read_table(new).equals(pq.read_table(fresh))


def test_reuse_needs_an_output_of_the_same_space(embedder, make, tmp_path):
    corpus, old = make("corpus", ["a"]), tmp_path / "old.parquet"
    embed_table(corpus, old, embedder, output_dtype="int8")
    with pytest.raises(UnsupportedOption, match=r"old\.parquet has vectors of another form: int8.*float32"):
        embed_table(corpus, tmp_path / "new.parquet", embedder, reuse=old)
    with pytest.raises(UnsupportedOption, match="was not written by embergem"):
        embed_table(corpus, tmp_path / "new.parquet", embedder, reuse=corpus)
    with pytest.raises(UnsupportedOption, match="cannot be read"):
        embed_table(corpus, tmp_path / "new.parquet", embedder, reuse=tmp_path / "none.parquet")


def test_the_metadata_names_the_space(embedder, make, tmp_path):
    embed_table(make("corpus", ["a"]), tmp_path / "out.parquet", embedder, task="query")
    found = metadata(tmp_path / "out.parquet")
    space = describe_space(embedder._backend, JobOptions(task="query"))
    assert {name: found[name] for name in space} == space
    assert space["fingerprint"] == embedder.fingerprint
    assert "{content}" in space["prompt"]


def test_arrow_data_goes_in_and_out_without_a_file(embedder, tmp_path):
    table = pa.table({"text": ["a", "b", "a"], "year": [1, 2, 3]})
    reader = embed_table(table, None, embedder, keep=["year"])
    found = reader.read_all()
    assert found["year"].to_pylist() == [1, 2, 3]
    assert np.array_equal(np.float32(found["embedding"].to_pylist()), embedder.embed(["a", "b", "a"]))
    assert json.loads(found.schema.metadata[b"embergem"])["fingerprint"] == embedder.fingerprint
    for source in (
        table.to_reader(),
        pa.dataset.dataset(table),
        found.select(["year"]).append_column("text", table["text"]),
    ):
        summary = embed_table(source, tmp_path / "out.npy", embedder)
        assert summary.counts.rows == 3
        assert np.load(tmp_path / "out.npy").shape == (3, 96)
