"""Bad sources and outputs: each has one clear error, or the policy that was chosen, and finished parts are kept."""

import errno
import gzip
import json
import os
import shutil
import sqlite3
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from embergem.bulk import durable_files, embed_table
from embergem.bulk.manifest import VERSION
from embergem.errors import EmptyInput, InputTooLong, InvalidText, JobError, UnsupportedOption

OPTIONS = {"on_error": "skip", "too_long": "truncate"}


@pytest.fixture
def computes_nothing(embedder, monkeypatch):
    """Fail if the model is asked for anything."""
    for name in ("submit", "submit_rows", "prepare", "prepare_packed"):
        monkeypatch.setattr(embedder._backend, name, lambda *given, **options: pytest.fail("the model was used"))


def refused(embedder, source, output, error, words, **options):
    with pytest.raises(error, match=words):
        embed_table(source, output, embedder, **options)
    assert not output.exists()
    assert not list(output.parent.glob("*.report.jsonl"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b""), ("a.csv", b""), ("a.csv", b"text,id\n"), ("a.jsonl", b"\n\n"), ("a.txt.gz", gzip.compress(b""))],
)
def test_an_empty_file(embedder, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(embedder, tmp_path / name, tmp_path / "out.npy", EmptyInput, rf"{name} is empty")
    assert not (tmp_path / "out.npy.job").exists()


def test_an_empty_parquet_file(embedder, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    refused(embedder, tmp_path / "a.parquet", tmp_path / "out.npy", EmptyInput, r"a\.parquet is empty")
    (tmp_path / "b.parquet").write_bytes(b"")
    refused(embedder, tmp_path / "b.parquet", tmp_path / "out.npy", InvalidText, r"b\.parquet is damaged")


@pytest.mark.usefixtures("computes_nothing")
@pytest.mark.parametrize(
    ("columns", "words", "options"),
    [
        ({"text": [1, 2]}, "the column 'text' has the type int64, and texts are strings", {}),
        ({"text": [["a"], ["b"]]}, r"the column 'text' is nested \(list<", {}),
        ({"text": [{"a": "b"}]}, r"the column 'text' is nested \(struct<", {}),
        ({"text": pa.nulls(2)}, "the column 'text' has the type null", {}),
        ({"texts": ["a"]}, "has no column 'text'. Did you mean 'texts'", {}),
        ({"text": ["a"]}, "has no column 'uid'", {"id": "uid"}),
        ({"text": ["a"], "title": [1]}, "the column 'title' has the type int64", {"title": "title"}),
        ({"text": ["a"], "embedding": ["b"]}, "two columns called 'embedding'", {"keep": ["embedding"]}),
    ],
)
def test_wrong_columns_are_refused_before_anything_is_computed(embedder, tmp_path, columns, words, options):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    refused(embedder, tmp_path / "a.parquet", tmp_path / "out.parquet", UnsupportedOption, words, **options)


@pytest.mark.usefixtures("computes_nothing")
def test_files_of_different_schemas_are_refused_before_anything_is_computed(embedder, tmp_path):
    pq.write_table(pa.table({"text": ["a"], "year": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "year": ["1"]}), tmp_path / "b.parquet")
    words = r"b\.parquet: the column 'year' has the type string, and in .*a\.parquet it has int64"
    refused(embedder, tmp_path, tmp_path / "out.parquet", UnsupportedOption, words, keep=["year"])
    (tmp_path / "c.csv").write_text("body\na\n")
    refused(embedder, tmp_path, tmp_path / "out.npy", UnsupportedOption, r"c\.csv has no column 'text'")


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_parquet_file_cut_off_in_the_middle(embedder, corpus, tmp_path, kept):
    data = corpus.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: int(len(data) * kept)])
    refused(embedder, tmp_path / "cut.parquet", tmp_path / "out.npy", InvalidText, r"cut\.parquet is damaged")


def test_a_parquet_file_with_a_damaged_page(embedder, corpus, tmp_path):
    data = bytearray(corpus.read_bytes())
    place = pq.ParquetFile(corpus).metadata.row_group(2).column(1).data_page_offset
    data[place : place + 40] = b"\xff" * 40
    (tmp_path / "page.parquet").write_bytes(data)
    options = {"on_error": "skip", "too_long": "truncate"}
    refused(
        embedder, tmp_path / "page.parquet", tmp_path / "out.npy", InvalidText, r"page\.parquet is damaged", **options
    )


def test_a_compressed_file_cut_off_in_the_middle(embedder, tmp_path):
    data = gzip.compress(os.urandom(3000).hex().encode())
    (tmp_path / "a.txt.gz").write_bytes(data[: len(data) // 2])
    refused(embedder, tmp_path / "a.txt.gz", tmp_path / "out.npy", InvalidText, "not a complete compressed file")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_ten_megabytes_in_one_cell(embedder, tmp_path, suffix):
    text = "graphene " * (10 * 2**20 // 9)
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": ["a", text, "b"]}), path)
    else:
        lines = {".txt": ["a", text, "b"], ".jsonl": [json.dumps(t) for t in ("a", text, "b")]}
        path.write_text("\n".join(lines.get(suffix, ["text", "a", f'"{text}"', "b"])))
    refused(embedder, path, tmp_path / "out.npy", InputTooLong, rf"a{suffix}, (line|row) \d has more than the 128")
    assert (tmp_path / "out.npy.job").exists()  # with the row before it
    summary = embed_table(path, tmp_path / "out.npy", embedder, too_long="truncate")
    assert (summary.continued, summary.counts.rows, summary.counts.truncated) == (1, 3, 1)
    assert np.array_equal(np.load(tmp_path / "out.npy")[[0, 2]], embedder.embed(["a", "b"]))


@pytest.mark.usefixtures("computes_nothing")
def test_the_header_of_a_csv_file_is_bounded_and_its_claims_are_not_believed(embedder, tmp_path):
    (tmp_path / "claim.csv").write_text("# rows=1000000000\n")
    refused(embedder, tmp_path / "claim.csv", tmp_path / "out.npy", UnsupportedOption, "has no column 'text'")
    (tmp_path / "long.csv").write_text("text," + "c," * 2**20)
    refused(embedder, tmp_path / "long.csv", tmp_path / "out.npy", InvalidText, "line 1: is longer than 1 MiB")


def test_a_csv_file_with_an_open_quote(embedder, tmp_path, monkeypatch):
    monkeypatch.setattr("embergem.bulk.record_readers.MAX_LINE", 1000)
    (tmp_path / "a.csv").write_text('text\na\n"open\n' + "b\n" * 2000)
    refused(embedder, tmp_path / "a.csv", tmp_path / "out.npy", InvalidText, r"a\.csv, line \d+: is no CSV: .*quotes")


BAD = {
    "a.txt": (b"a\n\xff\xfe\nb", ["not_utf8"], ["line 2"]),
    "a.csv": (b"id,text\n1,a\n2,\xff\n3\n4,b", ["not_utf8", "no_value"], ["line 3", "line 4"]),
    "a.jsonl": (
        b'{"text": "a"}\n{"text": null}\nnope\n\xff\n{"text": 5}\n"\\ud800"\n{"text": "b"}',
        ["null", "not_json", "not_json", "not_text", "not_utf8"],
        [f"line {number}" for number in range(2, 7)],
    ),
}


@pytest.mark.parametrize("policy", ["stop", "null", "skip"])
@pytest.mark.parametrize("name", BAD)
def test_bad_rows_follow_the_policy_and_are_listed(embedder, tmp_path, name, policy):
    content, kinds, places = BAD[name]
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "out.npy"
    if policy == "stop":
        refused(embedder, tmp_path / name, output, InvalidText, rf"{name}, line 2|line 3.*--on-error skip")
        policy = "skip"  # the job continues with another policy
    summary = embed_table(tmp_path / name, output, embedder, on_error=policy)
    report = [json.loads(line) for line in summary.report.read_text().splitlines()]
    assert [problem["kind"] for problem in report] == kinds
    assert [problem["place"] for problem in report] == places
    vectors = np.load(output)
    rows = [0, -1] if policy == "null" else slice(None)
    assert np.array_equal(vectors[rows], embedder.embed(["a", "b"]))
    assert len(vectors) == (2 + len(kinds) if policy == "null" else 2)
    assert np.isnan(vectors[1:-1]).all()


def test_strings_of_parquet_that_are_not_utf8(embedder, tmp_path):
    column = pa.array([b"a", b"\xff", b"b", None], pa.binary())
    pq.write_table(pa.table({"text": column}), tmp_path / "bytes.parquet")
    buffers = [None, *column.buffers()[1:]]
    text = pa.Array.from_buffers(pa.string(), 3, buffers)
    with pa.ipc.new_file(tmp_path / "strings.arrow", pa.schema({"text": pa.string()})) as writer:
        writer.write_batch(pa.record_batch([text], names=["text"]))
    for name in ("bytes.parquet", "strings.arrow"):
        summary = embed_table(tmp_path / name, tmp_path / f"{name}.npy", embedder, on_error="skip")
        assert summary.problems["not_utf8"] == (1, ["row 1"])
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), embedder.embed(["a", "b"]))


# Faults while the job runs.


def stopping_at(rows, action):
    """Return a progress function that calls `action` once so many rows are embedded."""
    done = []

    def check(progress):
        if progress.counts.source_rows >= rows and not done:
            done.append(True)
            action()

    return check


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("change", ["deleted", "appended", "rewritten"])
def test_a_source_that_changes_while_it_is_read(embedder, corpus, tmp_path, change):
    data = corpus.read_bytes()
    changes = {
        "deleted": corpus.unlink,
        "appended": lambda: corpus.write_bytes(data + b"x"),
        "rewritten": lambda: os.utime(corpus, ns=(1, 1)),
    }
    output = tmp_path / "out.npy"
    before = corpus.stat()
    with pytest.raises(InvalidText, match=r"corpus\.parquet was changed or deleted since the job began"):
        embed_table(corpus, output, embedder, on_progress=stopping_at(200, changes[change]), **OPTIONS)
    assert not output.exists()
    if change == "rewritten":
        with pytest.raises(InvalidText, match="was changed or deleted since the job began"):
            embed_table(corpus, output, embedder, **OPTIONS)
    corpus.write_bytes(data)
    os.utime(corpus, ns=(before.st_atime_ns, before.st_mtime_ns))
    summary = embed_table(corpus, output, embedder, **OPTIONS)
    assert summary.continued > 0
    assert summary.counts.source_rows == 900


@pytest.mark.usefixtures("small_parts")
def test_a_disk_that_fills(embedder, corpus, tmp_path, monkeypatch):
    real = durable_files.open_new
    room = [40_000]

    class Disk:
        def __init__(self, path):
            self.file = real(path)

        def write(self, data):
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    embed_table(corpus, whole, embedder, **OPTIONS)
    monkeypatch.setattr(durable_files, "open_new", Disk)
    with pytest.raises(JobError, match=r"The disk of .* is full.*run the same command again"):
        embed_table(corpus, output, embedder, **OPTIONS)
    room[0] = 10**9
    summary = embed_table(corpus, output, embedder, **OPTIONS)
    assert summary.continued > 0
    assert output.read_bytes() == whole.read_bytes()


def test_an_output_that_cannot_be_written(embedder, corpus, tmp_path, monkeypatch):
    def refuse(self, *given, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    words = r"out\.npy\.job cannot be written: Read-only file system\. Check the disk"
    refused(embedder, corpus, tmp_path / "out.npy", JobError, words, **OPTIONS)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", [".out.parquet.partial", ".00000002.vectors.partial", ".00000002.rows.partial"])
@pytest.mark.parametrize("fault", [errno.EROFS, errno.EIO])
def test_a_disk_that_becomes_read_only(embedder, corpus, tmp_path, monkeypatch, name, fault):
    """The output and the parts are written by different threads; the parts that were finished before are kept."""
    real = durable_files.open_new

    def opened(path):
        if path.name == name:
            raise OSError(fault, os.strerror(fault), str(path))
        return real(path)

    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    embed_table(corpus, whole, embedder, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "open_new", opened)
        with pytest.raises(JobError, match=rf"{name} cannot be written: {os.strerror(fault)}.*the same command"):
            embed_table(corpus, output, embedder, **OPTIONS)
    assert not output.exists()
    assert not list(tmp_path.glob(".out*"))
    continued = embed_table(corpus, output, embedder, **OPTIONS).continued
    assert continued > 0 or name == ".out.parquet.partial"  # which is opened before the first part
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_a_manifest_of_a_newer_version(embedder, corpus, tmp_path):
    output = tmp_path / "out.npy"
    with pytest.raises(InvalidText):
        embed_table(corpus, output, embedder)
    with sqlite3.connect(tmp_path / "out.npy.job" / "manifest.sqlite") as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    words = rf"has version {VERSION + 1}, and this embergem reads up to version {VERSION}"
    refused(embedder, corpus, output, JobError, words, **OPTIONS)
    assert embed_table(corpus, output, embedder, overwrite=True, **OPTIONS).continued == 0


@pytest.mark.usefixtures("small_parts")
def test_a_clock_that_jumps(embedder, corpus, tmp_path, monkeypatch):
    """No time of the clock of the day is used: it goes backwards and forwards by days between all calls."""
    jumps = iter(range(0, 10**9, 86_400))
    monkeypatch.setattr(time, "time", lambda: 1e9 + next(jumps) * (-1) ** next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    summary = embed_table(corpus, tmp_path / "out.npy", embedder, **OPTIONS)
    assert summary.counts.source_rows == 900


@pytest.mark.usefixtures("small_parts")
def test_a_second_job_on_the_same_output_is_refused(embedder, corpus, tmp_path):
    output = tmp_path / "out.npy"
    refusals = []

    def second():
        with pytest.raises(JobError, match=r"Another process is writing .*out\.npy") as refusal:
            embed_table(corpus, output, embedder, **OPTIONS)
        refusals.append(refusal)

    embed_table(corpus, output, embedder, on_progress=stopping_at(1, second), **OPTIONS)
    assert len(refusals) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_that_ends_while_its_directory_is_locked_by_the_next_one(embedder, corpus, tmp_path, monkeypatch, when):
    directory = tmp_path / "out.npy.job"
    acquire = FileLock.acquire
    ends = [True]

    def acquired(self, *given, **options):
        if ends and when == "before":
            ends.clear()
            directory.rmdir()
        acquire(self, *given, **options)
        if ends:
            ends.clear()
            shutil.rmtree(directory)

    monkeypatch.setattr(FileLock, "acquire", acquired)
    assert embed_table(corpus, tmp_path / "out.npy", embedder, **OPTIONS).counts.source_rows == 900
    assert not ends


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".vectors", ".rows"])
def test_a_damaged_part_is_noticed(embedder, corpus, tmp_path, suffix):
    output = tmp_path / "out.npy"
    with pytest.raises(InvalidText):
        embed_table(corpus, output, embedder)
    [part] = (tmp_path / "out.npy.job").glob(f"00000000{suffix}")
    part.write_bytes(part.read_bytes()[:-1] + b"\x01")
    words = rf"00000000{suffix} is damaged: its checksum is another one"
    refused(embedder, corpus, output, JobError, words, **OPTIONS)
