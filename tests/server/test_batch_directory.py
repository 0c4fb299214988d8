"""The directory of files and batches: disks that fail, and directories that cannot be used."""

import errno
import os
import threading

import msgspec
import openai
import pytest
from batching import batch_server, contents, error, finished, jsonl, line, results, start
from serving import QUIET

from embergem.bulk import durable_files
from embergem.errors import UnsupportedOption
from embergem.server.batches import batch_store
from embergem.server.batches.batch_index import BatchIndex
from embergem.server.batches.batch_service import BatchService
from embergem.server.batches.batch_store import BatchStore

CONTENT = jsonl([line(1)])
FORM = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", CONTENT)}}


@pytest.fixture
def server(registry, tmp_path):
    with batch_server(registry, tmp_path / "batches") as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as found:
        yield found


@pytest.fixture
def http(server):
    with server.http() as found:
        yield found


def test_a_full_disk_is_an_error_of_the_upload_and_the_server_goes_on(server, http, monkeypatch):
    def failing(number):
        def fail(_):
            raise OSError(number, os.strerror(number))

        return fail

    with monkeypatch.context() as patched:
        patched.setattr(durable_files.os, "fsync", failing(errno.ENOSPC))
        answer = http.post("/v1/files", **FORM)
        assert error(answer) == (507, "disk_full", None)
        assert str(server.store.directory) not in answer.text
        patched.setattr(durable_files, "open_new", failing(errno.EACCES))
        assert error(http.post("/v1/files", **FORM)) == (500, "storage_failed", None)
    assert contents(server) == []
    assert server.store.totals() == (0, 0)
    assert http.post("/v1/files", **FORM).status_code == 200


def test_a_file_can_be_deleted_on_a_full_disk(server, client, monkeypatch):
    """SQLite needs space for a deletion; the content of the file gives it."""
    file = client.files.create(file=("a", CONTENT), purpose="batch")
    transaction = server.store._index.transaction

    def full():
        if contents(server):
            raise batch_store.storage_full()
        return transaction()

    monkeypatch.setattr(server.store._index, "transaction", full)
    assert client.files.delete(file.id).deleted
    assert (contents(server), list(client.files.list())) == ([], [])


def test_a_batch_waits_while_the_disk_is_full_and_goes_on_to_the_same_result(server, client, monkeypatch):
    append, full = batch_store.append_durably, threading.Event()
    full.set()

    def appended(path, size, data):
        if data and full.is_set():
            append(path, size, data[: len(data) // 2])  # a part is written before the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(path, size, data)

    monkeypatch.setattr(batch_store, "append_durably", appended)
    batch = start(client, [line(number) for number in range(20)])
    while (found := client.batches.retrieve(batch.id)).errors is None:
        threading.Event().wait(0.01)
    assert ([one.code for one in found.errors.data], found.status) == (["disk_full"], "in_progress")
    full.clear()
    batch = finished(client, batch)
    assert (batch.status, batch.errors, batch.request_counts.completed) == ("completed", None, 20)
    output = results(client, batch.output_file_id)
    assert [one["custom_id"] for one in output] == [f"request-{number}" for number in range(20)]


def test_an_input_that_is_gone_from_the_disk_fails_the_batch(server, client):
    file = client.files.create(file=("a", CONTENT), purpose="batch")
    server.store.path(file.id).unlink()
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = finished(client, batch)
    assert ([one.code for one in batch.errors.data], batch.status) == (["input_file_missing"], "failed")
    with pytest.raises(openai.NotFoundError, match="was lost"):
        client.files.content(file.id)


def test_two_servers_cannot_use_one_directory(tmp_path):
    settings = msgspec.structs.replace(QUIET, batch_path=str(tmp_path / "batches"))
    service = BatchService.open(settings)
    with pytest.raises(UnsupportedOption, match="Another server uses") as refused:
        BatchService.open(settings)
    assert refused.value.param == "batch_path"
    service.close()
    BatchService.open(settings).close()


def test_a_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "newer").mkdir()
    BatchStore(tmp_path / "newer").close()
    index = BatchIndex(tmp_path / "newer" / "index.sqlite")
    index.writer.execute("PRAGMA user_version=99")
    index.close()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "index.sqlite").write_bytes(b"no database" * 500)
    for name, words in (("file", "cannot be used"), ("none/x", "Create its parent"), ("newer", "version 99"),
                        ("damaged", "cannot be used")):  # fmt: skip
        with pytest.raises(UnsupportedOption, match=words):
            BatchStore(tmp_path / name)
    assert BatchService.open(QUIET) is None


def test_the_directory_is_private_and_incomplete_uploads_are_deleted_at_the_start(tmp_path):
    BatchStore(tmp_path / "batches").close()
    assert (tmp_path / "batches").stat().st_mode & 0o077 == 0
    files = tmp_path / "batches" / "files"
    (files / f".file-{'a' * 32}.partial").write_bytes(b"a")
    (files / f"file-{'b' * 32}").write_bytes(b"b")
    (files / "notes.txt").write_bytes(b"of somebody else")
    (files / "directory").mkdir()
    BatchStore(tmp_path / "batches").close()
    assert sorted(path.name for path in files.iterdir()) == ["directory", "notes.txt"]


def test_a_directory_with_files_and_without_a_database_is_refused(tmp_path):
    """It belongs to something else, or its database was lost: nothing is deleted."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"file-{'b' * 32}").write_bytes(b"b")
    with pytest.raises(UnsupportedOption, match=r"index\.sqlite does not exist.* or name another one"):
        BatchStore(tmp_path)
    assert [path.name for path in (tmp_path / "files").iterdir()] == [f"file-{'b' * 32}"]
    (tmp_path / "files" / f"file-{'b' * 32}").unlink()
    BatchStore(tmp_path).close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE batches", "no such table"),
        ("INSERT INTO batches (id, owner, record) VALUES ('a', '', '{}')", "missing required field"),
    ],
)
def test_a_database_that_cannot_be_read_is_refused_and_nothing_is_deleted(tmp_path, statement, words):
    BatchStore(tmp_path).close()
    (tmp_path / "files" / f"file-{'b' * 32}").write_bytes(b"b")
    index = BatchIndex(tmp_path / "index.sqlite")
    index.writer.execute(statement)
    index.close()
    for _ in range(2):  # the first attempt releases the lock
        with pytest.raises(UnsupportedOption, match=f"{words}.*Restore the directory"):
            BatchStore(tmp_path)
    assert [path.name for path in (tmp_path / "files").iterdir()] == [f"file-{'b' * 32}"]
