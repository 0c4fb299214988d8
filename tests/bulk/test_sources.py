"""Sources: every format, compressed or not, directories and patterns, the columns that are kept, and memory."""

import bz2
import gzip
import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from embergem.bulk import embed_table
from embergem.bulk.job_store import JobStore
from embergem.bulk.pipeline import read_ahead
from embergem.bulk.rows import Position
from embergem.bulk.source import find_files, open_source
from embergem.bulk.text_readers import Selection
from embergem.errors import UnsupportedOption

TEXTS = [f"text {number}" for number in range(10)]


def write(path):
    """Write `TEXTS` in the format of the suffixes of a path."""
    table = pa.table({"text": TEXTS, "n": range(10)})
    suffixes = path.suffixes
    if suffixes[0] == ".parquet":
        pq.write_table(table, path, row_group_size=4)
    elif suffixes[0] == ".feather":
        pyarrow.feather.write_feather(table, path)
    elif suffixes[0] == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    else:
        separator = "\t" if suffixes[0] == ".tsv" else ","
        lines = {
            ".txt": TEXTS,
            ".jsonl": [json.dumps({"text": text, "n": n}) for n, text in enumerate(TEXTS)],
        }.get(suffixes[0], [separator.join(("text", "n")), *(f"{text}{separator}{n}" for n, text in enumerate(TEXTS))])
        data = "\n".join(lines).encode()
        if suffixes[-1] == ".zst":
            with pa.output_stream(str(path), compression="zstd") as file:
                file.write(data)
        else:
            path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress}.get(suffixes[-1], bytes)(data))
    return path


NAMES = [
    "a.txt",
    "a.txt.gz",
    "a.csv",
    "a.csv.bz2",
    "a.tsv",
    "a.jsonl",
    "a.jsonl.zst",
    "a.parquet",
    "a.feather",
    "a.arrow",
]


def texts_of(source, start=None):
    batches = source.batches() if start is None else source.batches(start)
    return [text for batch in batches for text in batch.texts]


@pytest.mark.parametrize("size", [3, 4096])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_read_from_every_row_on(tmp_path, name, size, monkeypatch):
    for module in ("text_readers", "record_readers", "arrow_readers"):
        monkeypatch.setattr(f"embergem.bulk.{module}.BATCH_ROWS", size)
    monkeypatch.setattr("embergem.bulk.text_readers.BLOCK", 16)
    source = open_source(str(write(tmp_path / name)), Selection())
    assert texts_of(source) == TEXTS
    for row in range(11):
        batches = list(source.batches(Position(row, 0, row)))
        assert [text for batch in batches for text in batch.texts] == TEXTS[row:]
        assert [batch.first_row for batch in batches[:1]] == ([row] if row < 10 else [])
        assert not batches or batches[-1].end == (10, 0, 10)


@pytest.mark.parametrize("name", [name for name in NAMES if ".txt" not in name])
def test_columns_are_kept_with_their_values(embedder, tmp_path, name):
    embed_table(write(tmp_path / name), tmp_path / "out.parquet", embedder, keep=["n", "text"])
    table = pq.read_table(tmp_path / "out.parquet")
    strings = name.startswith(("a.csv", "a.tsv"))
    assert table["n"].to_pylist() == [str(n) if strings else n for n in range(10)]
    assert table["text"].to_pylist() == TEXTS
    assert table["index"].to_pylist() == list(range(10))


def test_a_directory_and_a_pattern_are_their_files_in_order(embedder, tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.csv", "c.jsonl.gz", "deeper/a.parquet", ".hidden.txt", "notes.pdf"):
        write(tmp_path / name) if name != "notes.pdf" else (tmp_path / name).write_text("x")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(str(tmp_path))]
    assert found == ["b.csv", "c.jsonl.gz", "deeper/a.parquet"]
    assert texts_of(open_source(tmp_path, Selection())) == TEXTS * 3
    assert [path.name for path in find_files(str(tmp_path / "*.csv"))] == ["b.csv"]
    with pytest.raises(UnsupportedOption, match="matches no file"):
        find_files(str(tmp_path / "*.tsv"))
    summary = embed_table([tmp_path / "b.csv", tmp_path / "deeper"], tmp_path / "out.npy", embedder)
    assert (summary.counts.rows, summary.counts.duplicates) == (20, 10)


def test_nested_and_mixed_values_of_json_lines_are_kept_as_json(embedder, tmp_path):
    lines = [{"text": "a", "n": {"x": 1}, "m": 1, "f": 1.5}, {"text": "b", "n": [1], "m": "x", "f": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    embed_table(tmp_path / "a.jsonl", tmp_path / "out.parquet", embedder, keep=["n", "m", "f"])
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert (table["n"], table["m"], table["f"]) == (['{"x":1}', "[1]"], ["1", "x"], [1.5, None])


def test_titles_come_from_a_column_or_are_one_for_all(embedder, tmp_path):
    (tmp_path / "a.csv").write_text("text,name\na,One\nb,Two\n")
    options = {"task": "document"}
    embed_table(tmp_path / "a.csv", tmp_path / "out.npy", embedder, title="name", **options)
    assert np.array_equal(np.load(tmp_path / "out.npy"), embedder.embed(["a", "b"], title=["One", "Two"], **options))
    embed_table(tmp_path / "a.csv", tmp_path / "one.npy", embedder, title_text="T", **options)
    assert np.array_equal(np.load(tmp_path / "one.npy"), embedder.embed(["a", "b"], title="T", **options))


def test_text_files_need_no_pyarrow(embedder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in [name for name in sys.modules if name.startswith("embergem.bulk.arrow_")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "a.csv").write_text("text,n\na,1\nb,2\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "b", "n": [2]}\n')
    for source, output in (("a.csv", "a.npy"), ("a.csv", "a.jsonl"), ("b.jsonl", "c.npy"), ("b.jsonl", "d.jsonl")):
        assert embed_table(tmp_path / source, tmp_path / output, embedder).counts.rows == 2
    with pytest.raises(ImportError, match=r"pip install 'embergem\[bulk\]'"):
        embed_table(tmp_path / "a.csv", tmp_path / "out.parquet", embedder)


@pytest.mark.usefixtures("small_parts")
def test_equal_texts_far_apart_are_computed_once_with_little_memory(embedder, tmp_path, monkeypatch):
    """With no memory for recent vectors, keys are found in the manifest and vectors in the files of parts."""
    texts = [f"text {row % 300}" for row in range(900)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    embed_table(tmp_path / "a.parquet", tmp_path / "much.npy", embedder)
    monkeypatch.setattr("embergem.bulk.pipeline.RECENT_BYTES", 0)
    monkeypatch.setattr("embergem.bulk.job_store.OPEN_FILES", 2)
    looked_up = []
    find = "embergem.bulk.job_store.JobStore.find"
    real = JobStore.find
    monkeypatch.setattr(find, lambda self, keys: looked_up.append(found := real(self, keys)) or found)
    summary = embed_table(tmp_path / "a.parquet", tmp_path / "little.npy", embedder)
    assert (summary.counts.computed, summary.counts.duplicates) == (300, 600)
    assert sum(map(len, looked_up)) > 100
    assert (tmp_path / "little.npy").read_bytes() == (tmp_path / "much.npy").read_bytes()


def test_reading_ahead_is_bounded_and_stops():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    with read_ahead(items(), 2) as ahead:
        assert [next(ahead), next(ahead)] == [0, 1]
    assert len(taken) <= 6
    with pytest.raises(ValueError, match="broken"), read_ahead((int("broken") for _ in range(1)), 2) as ahead:
        next(ahead)


def test_stdin_has_lines(embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\r\n")))
    assert embed_table("-", tmp_path / "out.npy", embedder).counts.rows == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "out.npy.json"]
