"""Disks of batches: results that somebody deletes, a disk that is nearly full, and how much is kept."""

import asyncio
import threading
from collections import namedtuple

import msgspec
import openai
import pytest
from batching import Clock, accepted, batch_server, finished, jsonl, line, results, start

from embergem.server.batches import batch_run, batch_store
from embergem.server.batches.batch_records import OwnerLimits, StorageFailed, new_id
from embergem.server.batches.batch_run import BatchRun
from embergem.server.batches.batch_store import BatchStore
from embergem.server.routes import batches, stored_files

LINES = [line(number) for number in range(3)]


def stopped(directory, output=b"", **fields):
    """Make the directory of a server that stopped while it worked on a batch; return the batch."""
    store = BatchStore(directory)
    content = jsonl(LINES)
    batch = accepted(store, content, total=3)
    store.append(batch, output, b"", lines=1, offset=content.index(b"\n") + 1, completed=1, **fields)
    store.close()
    return batch


@pytest.mark.parametrize("left", [None, b"{}"])
@pytest.mark.parametrize(
    ("status", "end"), [("in_progress", "failed"), ("finalizing", "failed"), ("cancelling", "cancelled")]
)
def test_a_batch_whose_results_are_gone_from_the_disk_ends(registry, tmp_path, status, end, left):
    batch = stopped(tmp_path, b"{}\n", status=status)
    (tmp_path / "files" / batch.output_id).unlink()
    if left is not None:
        (tmp_path / "files" / batch.output_id).write_bytes(left)
    with batch_server(registry, tmp_path) as server, server.client() as client:
        found = finished(client, batch)
        assert (found.status, [error.code for error in found.errors.data]) == (end, ["results_lost"])
        assert (found.output_file_id, found.error_file_id) == (None, None)
        assert [file.id for file in client.files.list()] == [batch.input_file_id]
        assert server.store.used("") == len(jsonl(LINES))
        client.files.delete(batch.input_file_id)
        assert list((tmp_path / "files").iterdir()) == []


def test_a_batch_whose_input_became_shorter_is_not_completed(registry, tmp_path):
    batch = stopped(tmp_path, b"{}\n", status="in_progress")
    (tmp_path / "files" / batch.input_file_id).write_bytes(jsonl(LINES[:2]))
    with batch_server(registry, tmp_path) as server, server.client() as client:
        found = finished(client, batch)
        assert (found.status, [error.code for error in found.errors.data]) == ("failed", ["input_file_changed"])
        assert "has 2 requests now, and had 3" in found.errors.data[0].message
        assert len(results(client, found.output_file_id)) == 2


def test_uploads_and_results_leave_space_to_cancel_and_delete(registry, tmp_path, monkeypatch):
    usage, free = namedtuple("Usage", "free"), [2**30]
    monkeypatch.setattr(batch_store.shutil, "disk_usage", lambda _: usage(free[0]))
    with batch_server(registry, tmp_path) as server, server.client() as client:
        first = finished(client, start(client, LINES))
        second = client.files.create(file=("a", jsonl(LINES)), purpose="batch")
        free[0] = batch_store.SPARE_BYTES + 100
        with pytest.raises(openai.InternalServerError, match="disk of the stored files is full") as refused:
            client.files.create(file=("a", b"x" * 200), purpose="batch")
        assert (refused.value.status_code, refused.value.code) == (507, "disk_full")
        batch, other = (
            client.batches.create(input_file_id=second.id, endpoint="/v1/embeddings", completion_window="24h")
            for _ in range(2)
        )
        while (found := client.batches.retrieve(batch.id)).errors is None:
            threading.Event().wait(0.01)
        assert (found.errors.data[0].code, found.request_counts.completed) == ("disk_full", 0)
        assert client.files.delete(first.output_file_id).deleted
        client.batches.cancel(batch.id)
        assert finished(client, batch).status == "cancelled"
        free[0] = 2**30
        assert len(results(client, finished(client, other).output_file_id)) == 3


def test_a_start_on_a_full_disk_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(BatchStore, "_load", lambda _: (_ for _ in ()).throw(batch_store.storage_full()))
    with pytest.raises(batch_store.UnsupportedOption, match=r"is full\. Free some space, or name another one"):
        BatchStore(tmp_path)


def test_only_the_newest_batches_of_a_key_are_kept(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_store, "MAX_BATCHES", 3)
    with batch_server(registry, tmp_path) as server, server.client() as client:
        made = [finished(client, start(client, [line(1)])) for _ in range(3)]
        file = client.files.create(file=("a", b"no line"), purpose="batch")
        made += [
            finished(
                client,
                client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"),
            )
            for _ in range(2)
        ]
        assert [batch.id for batch in client.batches.list()] == [batch.id for batch in made[:1:-1]]
        assert client.files.content(made[0].output_file_id).text  # its files stay
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.batches.retrieve(made[0].id)


def test_results_on_a_disk_that_cannot_be_read_are_not_lost(tmp_path, monkeypatch):
    batch = stopped(tmp_path, b"{}\n", status="in_progress")
    store = BatchStore(tmp_path)

    def unreadable(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(tmp_path), "stat", unreadable)
    with pytest.raises(StorageFailed, match="Input/output"):
        store.append(store.unfinished[batch.id], b"{}\n", b"")
    monkeypatch.undo()
    store.close()


def test_long_lists_are_encoded_on_a_thread(registry, tmp_path, monkeypatch):
    """10,000 files would stop the event loop for a moment."""
    threads = []
    for module, name in ((stored_files, "describe_file"), (batches, "describe_batch")):
        describe = getattr(module, name)

        def noted(record, *given, describe=describe, **options):
            threads.append(threading.current_thread().name)
            return describe(record, *given, **options)

        monkeypatch.setattr(module, name, noted)
    with batch_server(registry, tmp_path) as server, server.client() as client:
        batch = finished(client, start(client, LINES))
        threads.clear()
        assert len(client.files.list().data) == 2
        assert [one.id for one in client.batches.list().data] == [batch.id]
    assert len(threads) == 3
    assert all(name.startswith("batches_") for name in threads)


def test_many_batches_that_have_expired_leave_threads_to_others(registry, tmp_path, monkeypatch):
    go, running = threading.Event(), []
    expire = BatchRun._expire

    def waiting(run):
        running.append(run)
        assert go.wait(60)
        running.remove(run)
        expire(run)

    monkeypatch.setattr(BatchRun, "_expire", waiting)
    first = stopped(tmp_path, b"{}\n", status="in_progress", expires_at=2)
    store, made = BatchStore(tmp_path), [first]
    for _ in range(2 * batch_store.DISK_THREADS):
        names = {"id": new_id("batch_"), "output_id": new_id("file-"), "error_id": new_id("file-")}
        made.append(msgspec.structs.replace(first, **names, output_bytes=0, lines=0, offset=0, completed=0))
        store.add_batch(made[-1], OwnerLimits(2**30, 100))
    store.close()
    with batch_server(registry, tmp_path) as server, server.client() as client:
        while len(running) < 2:
            threading.Event().wait(0.01)
        assert client.files.create(file=("a", jsonl(LINES)), purpose="batch").id
        assert len(running) == 2
        go.set()
        assert {finished(client, batch).status for batch in made} == {"expired"}


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_check_of_a_large_input_ends_with_the_server_or_the_batch(registry, tmp_path, monkeypatch, cancelled):
    batch = stopped(tmp_path, status="validating")
    with batch_server(registry, tmp_path / "other") as server:
        store = BatchStore(tmp_path)
        record = store.unfinished[batch.id]
        run = BatchRun(
            store, record, server.state, lambda: OwnerLimits(1, 1), lambda: 1.0, Clock(), Clock(), asyncio.Semaphore()
        )
        if cancelled:
            decode = batch_run.split_task
            monkeypatch.setattr(
                batch_run, "split_task", lambda *given: store.request_cancel(batch.id, None, 1) and decode(*given)
            )
        else:
            run.close()
        with pytest.raises(batch_run.Interrupted):
            run._check()
        assert record.status == ("cancelling" if cancelled else "validating")
        store.close()
