"""Rows are appended to outputs of every format: each row once, after a stop at any step, and only to the same space."""

import json
import os
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embergem.bulk import durable_files, embed_table
from embergem.errors import JobError, UnsupportedOption

SUFFIXES = [".parquet", ".arrow", ".npy", ".jsonl"]


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a Parquet file of texts and ids."""

    def written(name, texts):
        path = tmp_path / f"{name}.parquet"
        ids = [f"{name}{row}" for row in range(len(texts))]
        pq.write_table(pa.table({"text": pa.array(texts, pa.string()), "id": ids}), path)
        return path

    return written


def rows(output):
    """Return ids and vectors of an output."""
    if output.suffix == ".npy":
        ids = [json.loads(line) for line in (output.parent / f"{output.name}.ids.jsonl").read_text().splitlines()]
        return ids, np.load(output)
    if output.suffix == ".jsonl":
        found = [json.loads(line) for line in output.read_text().splitlines()]
        return [line["id"] for line in found], np.float32([line["embedding"] for line in found])
    table = pq.read_table(output) if output.suffix == ".parquet" else pa.ipc.open_file(output).read_all()
    return table["id"].to_pylist(), np.float32(table["embedding"].to_pylist())


def description(output):
    """Return the metadata of an output."""
    if output.suffix in (".npy", ".jsonl"):
        return json.loads((output.parent / f"{output.name}.json").read_text())
    schema = pq.read_schema(output) if output.suffix == ".parquet" else pa.ipc.open_file(output).schema
    return json.loads(schema.metadata[b"embergem"])


def files(output):
    """Return the bytes of all files of an output, by the end of their names."""
    return {path.name.removeprefix(output.name): path.read_bytes() for path in output.parent.glob(f"{output.name}*")}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_appended_once(embedder, make, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    options = {"id": "id", "append": True}
    embed_table(make("first", ["a", "b"]), output, embedder, **options)
    second = make("second", ["c", "a"])
    assert embed_table(second, output, embedder, **options).counts.rows == 2
    assert embed_table(second, output, embedder, **options).complete
    embed_table(make("third", ["d"]), output, embedder, **options)
    ids, vectors = rows(output)
    assert ids == ["first0", "first1", "second0", "second1", "third0"]
    assert np.array_equal(vectors, embedder.embed(["a", "b", "c", "a", "d"]))
    described = description(output)
    assert (described["rows"], described["counts"]["source_rows"], len(described["jobs"])) == (5, 5, 3)


class Stops:
    """Stops a job at one of the steps of writing its files: before and after each rename, and after each flush."""

    def __init__(self, monkeypatch):
        self.left = 10**9
        replace, flush = os.replace, durable_files.flush_directory

        def replaced(source, target):
            self.step()
            replace(source, target)
            self.step()

        def flushed(directory):
            flush(directory)
            self.step()

        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(durable_files, "flush_directory", flushed)

    def step(self):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("present", [True, False])
def test_an_append_that_is_stopped_at_any_step_continues(embedder, make, tmp_path, monkeypatch, suffix, present):
    first, second = make("first", ["a", None, "b"]), make("second", ["c", "a", None])
    options = {"id": "id", "append": True, "on_error": "null"}

    def begun(name):
        (tmp_path / name).mkdir()
        output = tmp_path / name / f"out{suffix}"
        if present:
            embed_table(first, output, embedder, **options)
        return output

    expected = begun("expected")
    embed_table(second, expected, embedder, **options)
    stops = Stops(monkeypatch)
    for step in count(1):
        output, stops.left = begun(f"stopped{step}"), step
        try:
            embed_table(second, output, embedder, **options)
        except KeyboardInterrupt:
            stops.left = 10**9
            assert embed_table(second, output, embedder, **options).counts.rows == 3
        else:
            break
        assert files(output) == files(expected), step
    assert step > 8


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_space_or_other_columns_are_refused_before_anything_is_computed(
    embedder, make, tmp_path, monkeypatch, suffix
):
    output, corpus = tmp_path / f"out{suffix}", make("corpus", ["a"])
    embed_table(corpus, output, embedder, id="id")
    before = files(output)
    monkeypatch.setattr(embedder._backend, "submit_rows", lambda *given: pytest.fail("the model was used"))
    with pytest.raises(UnsupportedOption, match=rf"out\{suffix} has vectors of another form: float32, .* have int8"):
        embed_table(corpus, output, embedder, append=True, id="id", output_dtype="int8")
    with pytest.raises(UnsupportedOption, match=r"has vectors of another number of dimensions: 96, .* have 32"):
        embed_table(corpus, output, embedder, append=True, id="id", dimensions=32)
    words = "has ids, and the rows of this job have none" if suffix == ".npy" else "has the columns id, .* writes index"
    with pytest.raises(JobError, match=words):
        embed_table(corpus, output, embedder, append=True)
    assert files(output) == before


def test_outputs_that_embergem_did_not_write_are_refused(embedder, make, tmp_path):
    corpus = make("corpus", ["a"])
    np.save(tmp_path / "a.npy", np.zeros((1, 96), np.float32))
    (tmp_path / "a.jsonl").write_text("{}\n")
    for output in (corpus, tmp_path / "a.npy", tmp_path / "a.jsonl"):
        before = output.read_bytes()
        with pytest.raises(JobError, match="was not written by embergem, so nothing can be appended"):
            embed_table(corpus, output, embedder, append=True)
        assert output.read_bytes() == before
    with pytest.raises(UnsupportedOption, match="cannot be appended to a table to read"):
        embed_table(corpus, tmp_path / "a.txt", embedder, append=True)
    with pytest.raises(UnsupportedOption, match="append and overwrite are both given"):
        embed_table(corpus, tmp_path / "b.npy", embedder, append=True, overwrite=True)


@pytest.mark.parametrize(
    ("suffix", "damage", "words"),
    [
        (".npy", lambda path: path.write_bytes(path.read_bytes()[:-9]), "has fewer rows than its metadata says"),
        (".npy", lambda path: np.save(path, np.zeros((1, 96), np.float32)), r"has an array of float32 with the shape"),
        (".npy", lambda path: path.write_text("x"), "is no NumPy file"),
        (".jsonl", lambda path: path.write_text("".join(path.read_text().splitlines(True)[:1])), "has fewer rows"),
        (".jsonl", lambda path: path.write_text("x\n"), "line 1: is no JSON object"),
    ],
)
def test_an_output_that_was_damaged_is_refused_and_left_as_it_is(embedder, make, tmp_path, suffix, damage, words):
    output, second = tmp_path / f"out{suffix}", make("second", ["c"])
    embed_table(make("first", ["a", "b"]), output, embedder)
    damage(output)
    before = output.read_bytes()
    with pytest.raises(JobError, match=words):
        embed_table(second, output, embedder, append=True)
    assert output.read_bytes() == before


def test_an_output_that_is_deleted_while_rows_are_appended(embedder, make, tmp_path):
    output = tmp_path / "out.npy"
    embed_table(make("first", ["a"]), output, embedder)
    second = make("second", ["c"])
    with pytest.raises(JobError, match=r"out\.npy cannot be written: No such file"):
        embed_table(second, output, embedder, append=True, on_progress=lambda _: output.unlink(missing_ok=True))
    with pytest.raises(JobError, match=r"out\.npy was deleted since the job began to append to it"):
        embed_table(second, output, embedder, append=True)
