"""A bulk job that writes a Lance dataset."""

import json

import lance
import numpy as np
import pyarrow as pa
import pytest

from embergem.bulk import embed_table
from embergem.errors import JobError, UnsupportedOption


@pytest.mark.parametrize("dtype", ["float32", "binary"])
def test_a_lance_dataset_has_the_rows_and_the_space(embedder, tmp_path, dtype):
    output = tmp_path / "out.lance"
    table = pa.table({"text": ["a", None, "b", "a"], "id": ["1", "2", "3", "4"]})
    embed_table(table, output, embedder, id="id", on_error="null", output_dtype=dtype)
    found = lance.dataset(str(output)).to_table()
    assert found["id"].to_pylist() == ["1", "2", "3", "4"]
    vectors = found["embedding"].to_pylist()
    assert vectors[1] is None
    expected = embedder.embed(["a", "b", "a"], output="array" if dtype == "float32" else dtype)
    assert np.array_equal(np.array([vectors[0], *vectors[2:]], dtype=expected.dtype), expected)
    assert json.loads(found.schema.metadata[b"embergem"])["fingerprint"] == embedder.fingerprint
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name or path.name.endswith(".job")] == []


def test_a_dataset_of_another_job_is_replaced_only_when_told(embedder, tmp_path):
    output, corpus = tmp_path / "out.lance", tmp_path / "a.txt"
    corpus.write_text("a\nb\n")
    embed_table(corpus, output, embedder)
    assert embed_table(corpus, output, embedder).complete
    with pytest.raises(JobError, match="written by another job"):
        embed_table(corpus, output, embedder, output_dtype="int8")
    embed_table(corpus, output, embedder, output_dtype="int8", overwrite=True)
    assert lance.dataset(str(output)).count_rows() == 2


def described(output):
    return json.loads(lance.dataset(str(output)).schema.metadata[b"embergem"])


@pytest.mark.parametrize("stop", [None, "append", "metadata"])
def test_rows_are_appended_once_and_old_versions_stay(embedder, tmp_path, monkeypatch, stop):
    """Also after a stop before the rows are added, and between the rows and the metadata."""
    output, first, second = tmp_path / "out.lance", tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("a\nb\n")
    second.write_text("c\na\n")
    embed_table(first, output, embedder, append=True)
    if stop is not None:

        def stopped(*given, **options):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(lance.LanceDataset, "commit" if stop == "append" else "update_schema_metadata", stopped)
            with pytest.raises(KeyboardInterrupt):
                embed_table(second, output, embedder, append=True)
        assert lance.dataset(str(output)).count_rows() == (2 if stop == "append" else 4)
        assert described(output)["rows"] == 2
    embed_table(second, output, embedder, append=True)
    assert embed_table(second, output, embedder, append=True).complete
    dataset = lance.dataset(str(output))
    vectors = np.float32(dataset.to_table()["embedding"].to_pylist())
    assert np.array_equal(vectors, embedder.embed(["a", "b", "c", "a"]))
    assert (described(output)["rows"], len(described(output)["jobs"])) == (4, 2)
    assert lance.dataset(str(output), version=1).count_rows() == 2


def test_appending_another_space_or_to_a_changed_dataset_is_refused(embedder, tmp_path):
    output, corpus = tmp_path / "out.lance", tmp_path / "a.txt"
    corpus.write_text("a\nb\n")
    embed_table(corpus, output, embedder)
    with pytest.raises(UnsupportedOption, match="has vectors of another form"):
        embed_table(corpus, output, embedder, append=True, output_dtype="int8")
    with pytest.raises(JobError, match=r"has the columns index, .* and this job writes index, text"):
        embed_table(corpus, output, embedder, append=True, keep=["text"])
    (tmp_path / "b.txt").write_text("c\n")
    lance.dataset(str(output)).delete("index = 0")
    with pytest.raises(JobError, match="has 1 rows, and its metadata says 2"):
        embed_table(tmp_path / "b.txt", output, embedder, append=True)
