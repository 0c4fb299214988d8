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
    with pytest.raises(UnsupportedOption, match="can be appended"):
        embed_table(corpus, output, embedder, append=True)
