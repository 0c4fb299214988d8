"""`embed_table`: what goes in comes out, in every format, once, and in order."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embergem.bulk import embed_table
from embergem.bulk.writers import shortest
from embergem.errors import JobError

POLICY = {"on_error": "null", "too_long": "truncate"}


def expected_vectors(embedder, corpus):
    texts = pq.read_table(corpus)["text"].to_pylist()
    vectors = embedder.embed([text or "" for text in texts], truncate=True)
    return texts, vectors


def read(path, into="embedding"):
    """Return the ids and the vectors of an output, None for a row without one."""
    if path.suffix == ".npy":
        ids = [json.loads(line) for line in path.with_name(f"{path.name}.ids.jsonl").read_text().splitlines()]
        return ids, [None if np.isnan(vector).any() else vector for vector in np.load(path)]
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line["id"] for line in lines], [
            None if line[into] is None else np.float32(line[into]) for line in lines
        ]
    table = pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()
    vectors = table[into].to_pylist()
    return table["id"].to_pylist(), [None if vector is None else np.float32(vector) for vector in vectors]


@pytest.mark.filterwarnings("ignore::embergem.TruncationWarning")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npy", ".jsonl"])
def test_every_format_has_the_rows_of_the_source_in_order(embedder, corpus, tmp_path, suffix, small_parts):
    output = tmp_path / f"out{suffix}"
    summary = embed_table(corpus, output, embedder, id="id", **POLICY)
    texts, vectors = expected_vectors(embedder, corpus)
    ids, found = read(output)
    assert ids == [f"r{row}" for row in range(900)]
    for text, vector, one in zip(texts, vectors, found, strict=True):
        assert one is None if text is None else np.array_equal(one, vector)
    assert (summary.counts.rows, summary.counts.null, summary.counts.truncated) == (900, 100, 8)
    assert summary.counts.computed == len({text for text in texts if text is not None})
    assert summary.counts.duplicates == 800 - summary.counts.computed
    report = [json.loads(line) for line in summary.report.read_text().splitlines()]
    assert [problem["kind"] for problem in report].count("null") == 100
    assert report[0] | {"detail": ""} == {
        "row": 4, "file": str(corpus), "place": "row 4", "kind": "null", "detail": "",
    }  # fmt: skip
    assert not output.with_name(f"{output.name}.job").exists()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_are_printed_with_the_fewest_digits(dtype):
    random = np.random.default_rng(3)
    numbers = np.concatenate(
        [random.standard_normal(20_000), random.standard_normal(2000) * 1e-5, [0, 1, -0.5, 1e-7, 3e4, 0.1, 1e-13, 6e4]]
    ).astype(dtype)
    found = [json.dumps(number) for number in shortest(numbers).tolist()]
    assert np.array_equal(np.array([float(text) for text in found], dtype=dtype), numbers)
    wanted = [json.dumps(float(str(number))) for number in numbers]
    assert max(len(text) - len(want) for text, want in zip(found, wanted, strict=True)) <= 0
    assert sum(text != want for text, want in zip(found, wanted, strict=True)) <= 3


class Stop(Exception):
    pass


def stop_after(rows):
    def check(progress):
        if progress.counts.source_rows >= rows:
            raise Stop

    return check


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npy", ".jsonl"])
def test_a_stopped_job_continues_to_the_same_bytes(embedder, corpus, tmp_path, suffix, small_parts):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    options = POLICY | {"id": "id", "keep": [] if suffix == ".npy" else ["year"]}
    embed_table(corpus, whole, embedder, **options)
    for rows in (1, 100, 500):
        with pytest.raises(Stop):
            embed_table(corpus, output, embedder, on_progress=stop_after(rows), **options)
        assert not output.exists()
    summary = embed_table(corpus, output, embedder, **options)
    assert 500 <= summary.continued < 900
    for name in ("", ".json", ".ids.jsonl", ".report.jsonl"):
        first, second = (path.with_name(path.name + name) for path in (whole, output))
        assert first.exists() == second.exists()
        assert not first.exists() or first.read_bytes() == second.read_bytes()
    again = embed_table(corpus, output, embedder, **options)
    assert again.complete
    assert again.counts == summary.counts


def test_another_job_does_not_replace_an_output_or_continue_a_job(embedder, corpus, tmp_path, small_parts):
    output = tmp_path / "out.parquet"
    with pytest.raises(Stop):
        embed_table(corpus, output, embedder, on_progress=stop_after(100), **POLICY)
    with pytest.raises(JobError, match=r"task was None and is now query\. Run the command as it was"):
        embed_table(corpus, output, embedder, task="query", **POLICY)
    summary = embed_table(corpus, output, embedder, task="query", overwrite=True, **POLICY)
    assert (summary.continued, summary.counts.rows) == (0, 900)
    with pytest.raises(JobError, match=r"was written by another job\. --overwrite replaces it"):
        embed_table(corpus, output, embedder, **POLICY)
    embed_table(corpus, output, embedder, overwrite=True, **POLICY)
    assert json.loads(pq.read_schema(output).metadata[b"embergem"])["task"] is None
